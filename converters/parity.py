"""Do converted weights compute the same function? Logits and input gradients, side by side."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from converters.torch_models import torch_model
from gaxjax.common import host_free_bytes, require_memory
from gaxjax.models import as_classifier, fold_batch_norm, gradient_bytes

__all__ = ["check_parity", "module_parity", "parity_report", "require_room_for_proof"]

_MAX_LOGIT_DIFFERENCE = 1e-3
"""Relative; float32 rounding stays a hundred times below it, a wrong conversion far above."""

Values = tuple[np.ndarray, np.ndarray]


def parity_report(
    model: nnx.Module,
    state_dict: Mapping[str, np.ndarray],
    architecture: str,
    *,
    num_classes: int,
    head_bias: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Compare ``model`` with torch's on the same random images, at highest matmul precision.

    The images are uniform in [0, 1], normalised where ``mean`` and ``std`` are given. The gradient
    is that of ``sum(p * logits)`` with respect to them, ``p`` drawn once from a normal.

    Args:
        model: The converted model, batch norm not folded.
        state_dict: The weights it came from, for the torch model.
        architecture: A name of `gaxjax.models.architectures`.
        num_classes: Length of the logits.
        head_bias: Whether the last layer has a bias.
        settings: ``mean``, ``std``, ``size`` and others, as for `module_parity`.

    Returns:
        JSON values: the settings, and under each of ``forms``, for ``logits`` and
        ``input_gradient``: ``max_abs``; ``max_rel``, the same over the largest torch value;
        ``rel_l2``, the norm of the difference over the norm of torch's.
        In float32 a ReLU input that rounds to the other side of 0 switches one unit's gradient on
        or off, which shows as up to a few percent at the pixels it sees. In float64 such inputs
        are too rare to meet, so there the gradients agree or the conversion is wrong.
    """
    reference = torch_model(architecture, num_classes, head_bias, state_dict)
    parity = module_parity(model, reference, num_classes=num_classes, **settings)
    return {"architecture": architecture} | parity


def module_parity(
    model: nnx.Module,
    reference: torch.nn.Module,
    *,
    num_classes: int,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    size: int = 256,
    num_images: int = 2,
    seed: int = 0,
    dtype: Literal["float32", "float64"] = "float32",
    forms: tuple[str, ...] = ("unfolded", "folded"),
) -> dict[str, Any]:
    """Compare ``model`` with a torch module, as `parity_report` does it.

    Args:
        model: the converted network, batch norm not folded.
        reference: [B, 3, H, W] → logits [B, C], in eval mode; it is brought to ``dtype``.
        num_classes: length of the logits.
        mean: RGB mean of the normalisation, or None.
        std: RGB standard deviation, likewise.
        size: height and width of the images, in pixels.
        num_images: how many images.
        seed: of images and projection.
        dtype: arithmetic of both sides.
        forms: ``unfolded``: the model as given. ``folded``: with batch norm folded, as the engine
            uses it.
    """
    rng = np.random.default_rng(seed)
    images = rng.random((num_images, size, size, 3)).astype(dtype)
    if mean is not None and std is not None:
        images = (images - np.asarray(mean, dtype)) / np.asarray(std, dtype)
    projection = rng.standard_normal((num_images, num_classes)).astype(dtype)
    expected = _torch_values(reference.to(getattr(torch, dtype)), images, projection)
    report: dict[str, Any] = {
        "images": num_images,
        "size": size,
        "seed": seed,
        "precision": f"{dtype}, highest",
    }
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        ours = _in_dtype(model, dtype)
        for name in forms:
            form = fold_batch_norm(ours) if name == "folded" else ours
            values = _jax_values(form, images, projection)
            report[name] = {
                what: _differences(given, wanted)
                for what, given, wanted in zip(
                    ("logits", "input_gradient"), values, expected, strict=True
                )
            }
    return report


def require_room_for_proof(model: nnx.Module, num_classes: int, size: int) -> None:
    """Refuse images too large for the gradients that a proof computes, two side by side.

    Raises:
        UserError: they need more than the memory that is free.
    """
    classifier = as_classifier(model, num_classes=num_classes)
    require_memory(
        2 * gradient_bytes(classifier, (size, size, 3)),
        host_free_bytes(),
        f"--input-size {size}",
        "give a smaller one: the proof against torch computes images of that size",
    )


def check_parity(report: Mapping[str, Any], name: str, against: str) -> None:
    """Refuse a network whose logits are not torch's.

    Raises:
        RuntimeError: they differ by more than float32's rounding explains.
    """
    for form in ("unfolded", "folded"):
        worst = report[form]["logits"]["max_rel"]
        if not worst < _MAX_LOGIT_DIFFERENCE:
            raise RuntimeError(
                f"the converted {name} ({form}) disagrees with {against}: logits differ by "
                f"{worst:.1e} of the largest; nothing was written"
            )


def _in_dtype(model: nnx.Module, dtype: str) -> nnx.Module:
    """Return a copy whose weights, but for whole numbers and truth values, are of a type."""
    ours = nnx.clone(model)
    state = nnx.state(ours)
    nnx.update(
        ours,
        jax.tree.map(
            lambda w: w.astype(dtype) if jnp.issubdtype(w.dtype, jnp.floating) else w, state
        ),
    )
    return ours


def _torch_values(model: torch.nn.Module, images: np.ndarray, projection: np.ndarray) -> Values:
    model.requires_grad_(False)
    x = torch.tensor(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    logits = model(x)
    (gradient,) = torch.autograd.grad((logits * torch.tensor(projection)).sum(), x)
    return logits.detach().numpy(), gradient.numpy().transpose(0, 2, 3, 1)


def _jax_values(model: nnx.Module, images: np.ndarray, projection: np.ndarray) -> Values:
    graph, state = nnx.split(model)

    # The weights are an argument: closed over, they would be compiled in as constants.
    def projected(x: jax.Array, state: Any, projection: jax.Array) -> tuple[Any, Any]:
        logits = nnx.merge(graph, state)(x)
        return jnp.sum(logits * projection), logits

    gradient, logits = jax.jit(jax.grad(projected, has_aux=True))(images, state, projection)
    return np.asarray(logits), np.asarray(gradient)


def _differences(given: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    difference = given.astype(np.float64) - wanted
    tiny = np.finfo(np.float32).tiny
    return {
        "max_abs": float(np.abs(difference).max()),
        "max_rel": float(np.abs(difference).max() / max(np.abs(wanted).max(), tiny)),
        "rel_l2": float(np.linalg.norm(difference) / max(np.linalg.norm(wanted), tiny)),
    }
