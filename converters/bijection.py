"""Torch state dict ↔ Flax model, a bijection: each key used once, each leaf filled once."""

import functools
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from converters.rules import IGNORED, rules
from converters.unsupported import family_of, named_by_user, our_families
from gaxjax import models
from gaxjax.common import UserError
from gaxjax.models import named_weights

__all__ = ["convert_state_dict", "guess_architecture", "head_of", "torch_state_dict"]

_MAX_FAULTS = 20
_ALIKE = 0.5
"""Share of keys and shapes from which a state dict counts as a faulty one of an architecture."""
_EXACT_DTYPES = (np.float32, np.float16)
"""Types whose every value is a float32."""


def convert_state_dict(state_dict: Mapping[str, np.ndarray], architecture: str) -> nnx.Module:
    """Return the Flax classifier with the weights of ``state_dict``.

    The number of classes, and whether the head has a bias, are read off the head's own weights.

    Args:
        state_dict: Arrays by torch key, as `read_state_dict` returns them.
        architecture: A name of `gaxjax.models.architectures`.

    Returns:
        The model in inference mode, float32, batch norm not folded.

    Raises:
        UserError: one line per fault: keys without a place, places without a key, wrong shapes or
            types, weights that are not finite. A state dict of another architecture is named.

    Example:
        >>> from converters.state_dict import read_state_dict
        >>> net = convert_state_dict(read_state_dict("model.pth"), "small_resnet")
    """
    num_classes, head_bias = head_of(state_dict, architecture)
    model = models.abstract(architecture, num_classes=num_classes, head_bias=head_bias)
    state = nnx.state(model)
    leaves = {".".join(map(str, keys)): leaf for keys, leaf in nnx.to_flat_state(state)}
    arrays, faults = _place(
        state_dict, architecture, {name: leaf.get_value().shape for name, leaf in leaves.items()}
    )
    if faults:
        raise UserError(_report(faults, state_dict, architecture))
    for name, leaf in leaves.items():
        leaf.set_value(jnp.asarray(arrays[name]))
    nnx.update(model, state)
    return model


def torch_state_dict(model: nnx.Module, architecture: str) -> dict[str, np.ndarray]:
    """Return the torch state dict of a Flax classifier: the inverse of `convert_state_dict`.

    Args:
        model: What `convert_state_dict` or `gaxjax.models.checkpoint.load` returns, batch norm
            not folded.
        architecture: Its name, one of `gaxjax.models.architectures`.

    Returns:
        Arrays by torch key, in torch's layouts, every bit as in ``model``. Batch norm's counts of
        training batches, which ``model`` does not keep, are zero.

    Example:
        >>> from gaxjax.models.checkpoint import load
        >>> model, metadata = load("model.ckpt")
        >>> torch_state_dict(model, metadata.architecture)["fc.weight"].shape
        (10, 64)
    """
    leaves = named_weights(model)
    state_dict: dict[str, np.ndarray] = {}
    for name, leaf in leaves.items():
        key, array = _torch_array(name, np.asarray(leaf), architecture)
        assert key not in state_dict, f"{key} is filled twice"
        state_dict[key] = array
        if key.endswith(".running_mean"):
            layer = key.removesuffix(".running_mean")
            state_dict[f"{layer}.num_batches_tracked"] = np.zeros((), np.int64)
    num_classes, head_bias = head_of(state_dict, architecture)
    expected = named_weights(
        models.abstract(architecture, num_classes=num_classes, head_bias=head_bias)
    )
    wrong = {(name, leaf.shape) for name, leaf in leaves.items()} ^ {
        (name, leaf.shape) for name, leaf in expected.items()
    }
    assert not wrong, f"not the leaves of {architecture}: {sorted(wrong)[:5]}"
    return state_dict


def head_of(state_dict: Mapping[str, np.ndarray], architecture: str) -> tuple[int, bool]:
    """Return the number of classes and whether the head has a bias.

    Raises:
        UserError: the state dict has no weight where ``architecture`` has its head.
    """
    models.abstract(architecture, num_classes=1)  # raises for an unknown name
    head = models.head_name(architecture)
    weight = state_dict.get(f"{head}.weight")
    if weight is None or weight.ndim not in (2, 4):
        given = "it is not there" if weight is None else f"its shape is {weight.shape}"
        raise UserError(
            _report(
                [f"{head}.weight, the head of {architecture}, is expected; {given}"],
                state_dict,
                architecture,
            )
        )
    return weight.shape[0], f"{head}.bias" in state_dict


def guess_architecture(state_dict: Mapping[str, np.ndarray]) -> str:
    """Return the one architecture whose every leaf ``state_dict`` fills.

    Raises:
        UserError: none fits: it is a network that we do not have, or the closest is named with
            all differences.
    """
    scores = _fits(state_dict)
    best = max(scores, key=lambda name: scores[name])
    if scores[best] == 1.0:
        return best
    family = family_of(state_dict)
    if family is not None:
        raise UserError(named_by_user(family))
    if scores[best] >= _ALIKE:
        convert_state_dict(state_dict, best)  # raises, with all differences
    shown = ", ".join(list(state_dict)[:3])
    raise UserError(
        f"the network is not known by its {len(state_dict)} keys ({shown}, …), as "
        f"{our_families()} are: name it, --architecture NAME (torchvision's) or timm:NAME, or give "
        "the module itself, mynet.py:build --weights FILE"
    )


def _place(
    state_dict: Mapping[str, np.ndarray],
    architecture: str,
    leaves: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Apply the rules to every key; return the filled leaves and all faults."""
    arrays: dict[str, np.ndarray] = {}
    faults: list[str] = []
    unused: list[str] = []
    numbers: dict[str, list[str]] = {}  # keys by a type that is none of weights
    source: dict[str, str] = {}
    table = rules(architecture)
    for key, value in state_dict.items():
        if any(re.fullmatch(pattern, key) for pattern in IGNORED):
            continue
        matches = [
            (target, rule.transform)
            for rule in table
            if (target := rule.target_of(key)) in leaves and target is not None
        ]
        fitting = [match for match in matches if match[1].ndim == value.ndim]
        if not matches:
            unused.append(key)
            continue
        target, transform = (fitting or matches)[0]
        if target in arrays:
            faults.append(f"{key} and {source[target]} both fill {target}")
            continue
        source[target] = key
        array = transform.apply(value) if fitting else value
        arrays[target] = array
        if not fitting or array.shape != leaves[target]:
            faults.append(f"{key} has shape {value.shape}; {target} needs {leaves[target]}")
        elif not np.issubdtype(value.dtype, np.floating):
            numbers.setdefault(str(value.dtype), []).append(key)
        elif value.dtype not in _EXACT_DTYPES:
            faults.append(
                f"{key} is {value.dtype}, which float32 does not hold exactly; save .float()"
            )
        elif not np.isfinite(value).all():
            faults.append(f"{key} holds NaN or infinity")
        elif key.endswith(".running_var") and (value < 0).any():
            faults.append(f"{key} holds a negative variance ({value.min():.3g}); train it anew")
        else:
            arrays[target] = np.ascontiguousarray(array, dtype=np.float32)
    faults += [f"{key} {state_dict[key].shape} has no place in {architecture}" for key in unused]
    for dtype, keys in numbers.items():
        more = f" and {len(keys) - 3} more are" if len(keys) > 3 else " is" * (len(keys) == 1)
        more = more or " are"
        faults.append(f"{', '.join(keys[:3])}{more} {dtype}; a weight is a floating-point number")
    missing = [name for name in leaves if name not in arrays]
    statistics = [name for name in leaves if name.endswith((".mean", ".var"))]
    if statistics and set(statistics) <= set(missing):
        missing = [name for name in missing if name not in statistics]
        faults.append(
            "no norm keeps running statistics: group norm, or track_running_stats=False, which "
            f"{architecture} here does not have yet"
        )
    faults += [f"nothing fills {name} {leaves[name]}" for name in missing]
    return arrays, faults


def _torch_array(name: str, leaf: np.ndarray, architecture: str) -> tuple[str, np.ndarray]:
    """Undo the rule that fills a leaf."""
    for rule in rules(architecture):
        key = rule.key_of(name)
        if key is not None:
            return key, np.ascontiguousarray(rule.transform.undo(leaf))
    raise AssertionError(f"{name} {leaf.shape} has no place in a torch {architecture}")


def _report(faults: list[str], state_dict: Mapping[str, np.ndarray], architecture: str) -> str:
    scores = _fits(state_dict)
    best = max(scores, key=lambda name: scores[name])
    family = family_of(state_dict)
    if family is not None:
        faults = [f"its keys are those of a network of the kind {family}", *faults]
    noun = "fault" if len(faults) == 1 else "faults"
    if best != architecture and scores[best] > max(0.5, scores[architecture]):
        lead = f"this is no {architecture} state dict; it looks like {best}: --architecture {best}"
    else:
        lead = f"this state dict does not fit {architecture}"
    lines = [f"{lead} ({len(faults)} {noun})", *(f"  {fault}" for fault in faults[:_MAX_FAULTS])]
    if len(faults) > _MAX_FAULTS:
        lines.append(f"  and {len(faults) - _MAX_FAULTS} more")
    return "\n".join(lines)


@functools.cache
def _leaf_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    leaves = named_weights(models.abstract(architecture, num_classes=1))
    return {name: leaf.shape for name, leaf in leaves.items()}


def _fits(state_dict: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The share of names and shapes that state dict and architecture have in common, 0 to 1.

    The head counts by name alone, its bias not at all: heads are replaced.
    """
    return {name: _fit(state_dict, name) for name in models.architectures()}


def _fit(state_dict: Mapping[str, np.ndarray], architecture: str) -> float:
    head = models.head_name(architecture)
    if f"{head}.weight" not in state_dict:
        return 0.0  # spares the shapes of ten ResNets where an AlexNet is asked for
    leaves = _leaf_shapes(architecture)
    table = rules(architecture)
    matched: set[str] = set()
    strangers = 0
    for key, value in state_dict.items():
        if key == f"{head}.bias" or any(re.fullmatch(pattern, key) for pattern in IGNORED):
            continue
        targets = [
            target
            for rule in table
            if rule.transform.ndim == value.ndim
            and (target := rule.target_of(key)) in leaves
            and target is not None
            and (key == f"{head}.weight" or leaves[target] == rule.transform.apply(value).shape)
        ]
        matched.update(targets[:1])
        strangers += not targets
    return len(matched) / (len(leaves.keys() - {f"{head}.bias"}) + strangers)
