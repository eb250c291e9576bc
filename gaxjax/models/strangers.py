"""What people give as a model that is none here, and what to give instead.

Nothing foreign is imported: objects are known by the names of their classes.
"""

import inspect
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import jax
from flax import nnx

from gaxjax.common import UserError, comes_from, described

__all__ = ["check_arrays", "check_callable", "is_torch_module"]

_WANTED = "expected a JAX function `images [B, H, W, 3] -> logits [B, C]` or a Flax NNX module"
_TORCH = (
    "gaxjax computes in JAX: gaxjax.explain and gaxjax.attribute take a torch module as it is, and "
    "converters.convert_module(module, 'model.ckpt', size=…) makes a checkpoint of it"
)


def is_torch_module(value: Any) -> bool:
    """Tell whether a value is a torch network (not its class, nor its weights)."""
    homes = ((kind.__module__, kind.__name__) for kind in type(value).__mro__)
    return ("torch.nn.modules.module", "Module") in homes


def check_callable(model: Any) -> None:
    """Refuse what cannot be a classifier, before it is called.

    Raises:
        UserError: says what it is, and what to give instead.
    """
    given = f"model: {described(model)}"
    if isinstance(model, type):
        raise UserError(f"{given} itself is no model: give an instance of it, {model.__name__}(…)")
    if isinstance(model, str | PurePath):
        raise UserError(f"{given} is a name: load_classifier(path) opens a checkpoint")
    if comes_from(model, "torch") or (isinstance(model, Mapping) and _holds_torch(model)):
        raise UserError(f"{given} is PyTorch's, and {_TORCH}")
    if isinstance(model, tuple | list):
        raise UserError(f"{given} is several things, {_WANTED}: {_joined(model)}")
    if isinstance(model, nnx.GraphDef):
        raise UserError(f"{given} is a graph without weights: give nnx.merge(graphdef, state)")
    if isinstance(model, Mapping | nnx.State):
        raise UserError(
            f"{given} is weights without a function: give jax.tree_util.Partial(function, "
            "weights), where function(weights, images) returns the logits"
        )
    if _is_linen(model) and getattr(model, "scope", None) is None:
        raise UserError(
            f"{given} is a Flax Linen module without its variables: give a function, "
            "`lambda images: module.apply(variables, images)`"
        )
    if comes_from(model, "tensorflow"):
        raise UserError(f"{given} is TensorFlow's, and gaxjax computes in JAX: {_WANTED}")
    if not callable(model):
        raise UserError(f"{given} cannot be called, {_WANTED}{_mend(model)}")
    if inspect.iscoroutinefunction(model) or inspect.isgeneratorfunction(model):
        raise UserError(f"{given} does not return logits but waits or yields: {_WANTED}")


def _is_linen(model: Any) -> bool:
    return any(kind.__module__.startswith("flax.linen") for kind in type(model).__mro__)


def _holds_torch(weights: Mapping) -> bool:
    return any(comes_from(value, "torch") for value in list(weights.values())[:8])


def _joined(parts: tuple | list) -> str:
    """Say how a module and its weights become one."""
    if any(comes_from(part, "torch") for part in parts):
        return _TORCH
    if any(isinstance(part, nnx.GraphDef) for part in parts):
        return "give nnx.merge(graphdef, state)"
    if any(_is_linen(part) for part in parts):
        return "give `lambda images: module.apply(variables, images)`"
    names = getattr(parts, "_fields", ())
    if "apply" in names:  # Haiku's Transformed
        return "give `lambda images: network.apply(params, None, images)`"
    return (
        "give jax.tree_util.Partial(function, weights), where function(weights, images) returns "
        "the logits"
    )


def _mend(model: Any) -> str:
    if hasattr(model, "apply_fn") and hasattr(model, "params"):
        return ": give `lambda images: state.apply_fn({'params': state.params}, images)`"
    for name in ("call", "apply", "predict", "forward"):
        if callable(getattr(model, name, None)):
            return f": has it one in its method {name!r}?"
    return ""


def check_arrays(weights: Any) -> None:
    """Refuse weights that hold no numbers.

    Raises:
        UserError: they are shapes alone, or were given away.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        name = jax.tree_util.keystr(path)
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise UserError(f"model: its weight {name} is a shape without values: load them first")
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
            if leaf.is_deleted():
                raise UserError(f"model: its weight {name} was donated or deleted: load it again")
        elif isinstance(leaf, jax.core.Tracer):
            raise UserError(
                f"model: its weight {name} is being traced: call gaxjax outside jit, grad and vmap"
            )
