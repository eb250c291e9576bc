"""GAX and AX over arrays, for notebooks: a batch of images in, a solution per image out."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.ax import AxEngine
from gaxjax.common import UserError, own_numbers
from gaxjax.config import AxConfig, BatchConfig, EngineConfig, GaxConfig, Method, Operation
from gaxjax.data import Batch
from gaxjax.gax import GaxEngine
from gaxjax.models import Classifier, as_classifier, load_classifier
from gaxjax.results import Solution, Solutions


@own_numbers()
def explain(
    model: Classifier | Callable[[Any], Any] | str | Path,
    images: Any,
    labels: Any,
    config: GaxConfig | None = None,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    engine: EngineConfig | None = None,
) -> Solutions:
    """Optimise a heatmap for every image that the model classifies correctly.

    Args:
        model: a checkpoint's folder, a `Classifier`, or any JAX callable
            `images [B, H, W, 3] -> logits [B, C]`, such as a Flax NNX module or a function.
        images: [N, H, W, 3], RGB: uint8, or floats in [0, 1].
        labels: [N], groundtruth classes in [0, C).
        config: the method's settings.
        mean: of the callable's normalisation, per channel, in [0, 1] pixel units; a checkpoint
            knows its own.
        std: likewise.
        engine: precision, slots, devices.

    Returns:
        One solution per image, in order; heatmaps are float32.

    Raises:
        UserError: shapes, ranges or labels that do not fit.

    Example:
        >>> solutions = gaxjax.explain("model.ckpt", images, labels)
        >>> len(solutions), solutions[0].heatmap.shape
        (4, (16, 16, 3))
    """
    pixels, classes = _checked(images, labels)
    classifier = _opened(model, pixels, classes, mean, std, fold=True)
    worker = GaxEngine(
        classifier,
        config or GaxConfig(),
        engine or EngineConfig(),
        image_shape=pixels.shape[1:],
        image_dtype=pixels.dtype,
        num_images=len(pixels),
    )

    batches = _batches(pixels, classes, worker.batch_size)
    found = [solution for solutions in worker.run(batches) for solution in solutions]
    solutions = sorted(found, key=lambda solution: solution.index)
    assert [solution.index for solution in solutions] == list(range(len(pixels)))
    return Solutions(tuple(solutions))


@own_numbers()
def attribute(
    model: Classifier | Callable[[Any], Any] | str | Path,
    images: Any,
    labels: Any,
    config: AxConfig | None = None,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    batch: BatchConfig | None = None,
) -> dict[tuple[Method, str | None, Operation], Solutions]:
    """Make and score the heatmaps of existing methods (AX) for every image.

    Args:
        model: as for `explain`. Methods that change ReLU's gradient need a network made of
            `gaxjax.ops`, as every checkpoint is; layer_grad_cam needs a Flax NNX module. A
            `Classifier` whose batch norm is folded gives layer_grad_cam folded layers.
        images: [N, H, W, 3], RGB: uint8, or floats in [0, 1].
        labels: [N], groundtruth classes in [0, C).
        config: methods, operations, score space.
        mean: as for `explain`.
        std: likewise.
        batch: batch size, devices, precision.

    Returns:
        By method, layer and operation, one solution per image, in order; heatmaps are float32, of
        the predicted class, divided by their largest magnitude.

    Raises:
        UserError: shapes, ranges or labels that do not fit; a method that the model cannot have.

    Example:
        >>> found = gaxjax.attribute("model.ckpt", images, labels)
        >>> found["saliency", None, "sum"].co_score.shape
        (4,)
    """
    pixels, classes = _checked(images, labels)
    worker = AxEngine(
        _opened(model, pixels, classes, mean, std, fold=False),
        config or AxConfig(),
        batch or BatchConfig(),
        image_shape=pixels.shape[1:],
        image_dtype=pixels.dtype,
    )
    found: dict[tuple[Any, Any, Any], list[Solution]] = {}
    for solutions in worker.run(_batches(pixels, classes, worker.batch_size)):
        for solution in solutions:
            key = (solution.method, solution.layer, solution.operation)
            found.setdefault(key, []).append(solution)
    for items in found.values():
        assert [item.index for item in items] == list(range(len(pixels)))
    return {key: Solutions(tuple(items)) for key, items in found.items()}


def _batches(pixels: np.ndarray, classes: np.ndarray, size: int) -> Iterator[Batch]:
    return Batch(np.arange(len(pixels), dtype=np.int32), pixels, classes, ()).split(size)


def _opened(
    model: Any, pixels: np.ndarray, classes: np.ndarray, mean: Any, std: Any, *, fold: bool
) -> Classifier:
    """Make a classifier of what a user may give, and hold the labels against it."""
    if (mean, std) != (None, None) and isinstance(model, str | Path | Classifier):
        raise UserError("mean and std belong to the model here: leave them out")
    if isinstance(model, str | Path):
        classifier = load_classifier(Path(model), fold=fold)
    elif isinstance(model, Classifier):
        classifier = model
    else:
        classifier = as_classifier(model, num_classes=2, mean=mean, std=std)
        shape = jax.ShapeDtypeStruct((1, *pixels.shape[1:]), jnp.float32)
        logits = jax.eval_shape(classifier.apply, classifier.weights, shape)
        if len(getattr(logits, "shape", ())) != 2 or logits.shape[0] != 1:
            raise UserError(
                f"the model turns images [1, H, W, 3] into {logits}; expected logits [1, C]"
            )
        classifier = dataclasses.replace(classifier, num_classes=logits.shape[1])
    if len(classes) and not (classes.min() >= 0 and classes.max() < classifier.num_classes):
        raise UserError(
            f"labels run from {classes.min()} to {classes.max()}; the model has classes 0 to "
            f"{classifier.num_classes - 1}"
        )
    return classifier


def _checked(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    pixels, classes = np.asarray(images), np.asarray(labels)
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.size == 0:
        raise UserError(
            f"images have shape {pixels.shape}; expected [N, H, W, 3] (channels last, RGB), N ≥ 1"
        )
    if pixels.dtype != np.uint8:
        if not np.issubdtype(pixels.dtype, np.floating):
            raise UserError(f"images have type {pixels.dtype}; expected uint8, or floats in [0, 1]")
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError(
                f"float images run from {pixels.min():g} to {pixels.max():g}; expected [0, 1]: "
                "give pixels before normalisation, and the model's mean and std"
            )
        pixels = pixels.astype(np.float32)
    if classes.shape != pixels.shape[:1] or not np.issubdtype(classes.dtype, np.integer):
        raise UserError(
            f"labels have shape {classes.shape} and type {classes.dtype}; expected one integer "
            f"for each of the {len(pixels)} images"
        )
    return pixels, classes.astype(np.int32)
