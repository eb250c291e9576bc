"""GAX and AX for notebooks: arrays or a dataset in, a solution per image out."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from gaxjax.ax import AxEngine, what_to_know
from gaxjax.common import UserError, described, own_numbers
from gaxjax.config import (
    AxConfig,
    BatchConfig,
    EngineConfig,
    GaxConfig,
    Method,
    Operation,
    require_config,
)
from gaxjax.data import Batch, Prefetch
from gaxjax.gax import GaxEngine, Generator
from gaxjax.models import Classifier, as_unit_range, check_outputs
from gaxjax.results import Solution, Solutions
from gaxjax.runs.arguments import opened


@own_numbers()
def explain(
    model: Classifier | Callable[[Any], Any] | str | Path,
    images: Any,
    labels: Any = None,
    config: GaxConfig | None = None,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    engine: EngineConfig | None = None,
    generator: Generator | None = None,
) -> Solutions:
    """Optimise a heatmap for every image that the model classifies correctly.

    Args:
        model: a checkpoint's folder, a `Classifier`, any JAX callable
            `images [B, H, W, 3] -> logits [B, C]`, such as a Flax NNX module or a function, or a
            torch module `images [B, 3, H, W] -> logits [B, C]`, which is imported for images of
            this size in each call (`converters.convert_module` keeps it).
        images: [N, H, W, 3], RGB: uint8, or floats in [0, 1]. Or a dataset, which is read in its
            order and never whole in memory: a Hugging Face `Dataset` or `IterableDataset`, a torch
            `Dataset` or `DataLoader`, or any iterable of (image, label) or of batches of both. Its
            PIL images are resized as the model wants files (a torch module or a function: to the
            paper's 256 × 256); tensors [3, H, W] and arrays [H, W, 3] are taken as they are, uint8
            or floats in [0, 1], without Normalize.
        labels: [N], groundtruth classes in [0, C); left out for a dataset, which has its own.
        config: the method's settings.
        mean: of the model's normalisation, per channel, in [0, 1] pixel units; in place of its own
            where it is a checkpoint or a `Classifier`.
        std: likewise.
        engine: precision, slots, devices.
        generator: makes the heatmaps, in place of `config.generator`: any function of JAX.

    Returns:
        One solution per image, in order; heatmaps are float32.

    Raises:
        UserError: shapes, ranges or labels that do not fit; a dataset that is empty, raises, or
            has an item of another form; a model that cannot be one, that returns no logits, or
            whose outputs for an image depend on the images beside it; a generator that cannot be
            one. What another library said is its cause.

    An iterable without an end is read for ever: `itertools.islice(dataset, 1000)` ends it.

    A second call with the same model, shapes and settings compiles nothing, also where the model's
    weights have changed.

    Example:
        >>> solutions = gaxjax.explain("model.ckpt", images, labels)
        >>> len(solutions), solutions[0].heatmap.shape
        (4, (16, 16, 3))
        >>> dataset = torch.utils.data.TensorDataset(
        ...     torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
        ... )
        >>> len(gaxjax.explain("model.ckpt", dataset))
        4
    """
    config, engine = _or_default(config, GaxConfig), _or_default(engine, EngineConfig)
    require_config(config, GaxConfig, "config")
    require_config(engine, EngineConfig, "engine")
    given = opened(model, images, labels, mean, std, fold=True)
    doubts = check_outputs(given.classifier, given.sample)
    if generator is not None:
        _check_generator(generator, config, np.asarray(as_unit_range(jnp.asarray(given.sample[0]))))
    worker = GaxEngine(
        given.classifier,
        config,
        engine,
        image_shape=given.sample.shape[1:],
        image_dtype=given.sample.dtype,
        num_images=given.num_images,
        generator=generator,
    )
    _warn(doubts)
    batches = given.batches(worker.batch_size)
    found = [solution for solutions in worker.run(batches) for solution in solutions]
    solutions = sorted(found, key=lambda solution: solution.index)
    assert [solution.index for solution in solutions] == list(range(len(solutions)))
    return Solutions(tuple(solutions))


@own_numbers()
def attribute(
    model: Classifier | Callable[[Any], Any] | str | Path,
    images: Any,
    labels: Any = None,
    config: AxConfig | None = None,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    batch: BatchConfig | None = None,
) -> dict[tuple[Method, str | None, Operation], Solutions]:
    """Make and score the heatmaps of existing methods (AX) for every image.

    Args:
        model: as for `explain`. Methods that change ReLU's gradient need a network made of
            `gaxjax.ops`, as every checkpoint is; layer_grad_cam needs a Flax NNX or torch module. A
            `Classifier` whose batch norm is folded gives layer_grad_cam folded layers.
        images: as for `explain`: an array, or a dataset.
        labels: [N], groundtruth classes in [0, C); left out for a dataset, which has its own.
        config: methods, operations, score space.
        mean: as for `explain`.
        std: likewise.
        batch: batch size, devices, precision.

    Returns:
        By method, layer and operation, one solution per image, in order; heatmaps are float32, of
        the predicted class, divided by their largest magnitude.

    Raises:
        UserError: as `explain`; a method that the model cannot have.

    Example:
        >>> found = gaxjax.attribute("model.ckpt", images, labels)
        >>> found["saliency", None, "sum"].co_score.shape
        (4,)
    """
    config, batch = _or_default(config, AxConfig), _or_default(batch, BatchConfig)
    require_config(config, AxConfig, "config")
    require_config(batch, BatchConfig, "batch")
    given = opened(model, images, labels, mean, std, fold=False)
    doubts = check_outputs(given.classifier, given.sample)
    worker = AxEngine(
        given.classifier,
        config,
        batch,
        image_shape=given.sample.shape[1:],
        image_dtype=given.sample.dtype,
    )
    graph = given.classifier.graph
    _warn(doubts if graph is None else (*doubts, *what_to_know(config, graph)))
    found: dict[tuple[Any, Any, Any], list[Solution]] = {}
    for solutions in worker.run(_read_ahead(given.batches(worker.batch_size))):
        for solution in solutions:
            key = (solution.method, solution.layer, solution.operation)
            found.setdefault(key, []).append(solution)
    for items in found.values():
        assert [item.index for item in items] == list(range(len(items)))
    return {key: Solutions(tuple(items)) for key, items in found.items()}


_Config = TypeVar("_Config")


def _or_default(config: _Config | None, kind: type[_Config]) -> _Config:
    return kind() if config is None else config


def _check_generator(generator: Any, config: GaxConfig, image: np.ndarray) -> None:
    if not isinstance(generator, Generator):
        raise UserError(
            f"generator: {described(generator)}; expected gaxjax.Generator(function, initial)"
        )
    if config.generator != "pixel" or config.bias:
        raise UserError(
            "generator: it makes the whole heatmap; leave generator and bias out of config"
        )
    generator.check(image)


def _warn(doubts: tuple[str, ...]) -> None:
    for doubt in doubts:
        warnings.warn(doubt, stacklevel=3)


def _read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Read batches in a thread, as `GaxEngine` does by itself."""
    with Prefetch(batches) as source:
        while (batch := source.get(wait=True)) is not None:
            yield batch
