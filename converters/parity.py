"""Do converted weights compute the same function? Logits and input gradients, side by side."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from converters.torch_models import torch_model
from gaxjax.models import fold_batch_norm

__all__ = ["parity_report"]

Values = tuple[np.ndarray, np.ndarray]


def parity_report(
    model: nnx.Module,
    state_dict: Mapping[str, np.ndarray],
    architecture: str,
    *,
    num_classes: int,
    head_bias: bool = True,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    size: int = 256,
    num_images: int = 2,
    seed: int = 0,
    dtype: Literal["float32", "float64"] = "float32",
    forms: tuple[str, ...] = ("unfolded", "folded"),
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
        mean: RGB mean of the normalisation, or None.
        std: RGB standard deviation, likewise.
        size: Height and width of the images, in pixels.
        num_images: How many images.
        seed: Seed of images and projection.
        dtype: Arithmetic of both sides.
        forms: ``unfolded``: the model as given. ``folded``: with batch norm folded, as the engine
            uses it.

    Returns:
        JSON values: the settings, and under each of ``forms``, for ``logits`` and
        ``input_gradient``: ``max_abs``; ``max_rel``, the same over the largest torch value;
        ``rel_l2``, the norm of the difference over the norm of torch's.
        In float32 a ReLU input that rounds to the other side of 0 switches one unit's gradient on
        or off, which shows as up to a few percent at the pixels it sees. In float64 such inputs
        are too rare to meet, so there the gradients agree or the conversion is wrong.
    """
    rng = np.random.default_rng(seed)
    images = rng.random((num_images, size, size, 3)).astype(dtype)
    if mean is not None and std is not None:
        images = (images - np.asarray(mean, dtype)) / np.asarray(std, dtype)
    projection = rng.standard_normal((num_images, num_classes)).astype(dtype)
    reference = torch_model(architecture, num_classes, head_bias, state_dict)
    expected = _torch_values(reference.to(getattr(torch, dtype)), images, projection)
    report: dict[str, Any] = {
        "architecture": architecture,
        "images": num_images,
        "size": size,
        "seed": seed,
        "precision": f"{dtype}, highest",
    }
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        ours = nnx.clone(model)
        nnx.update(ours, jax.tree.map(lambda w: w.astype(dtype), nnx.state(ours)))
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
