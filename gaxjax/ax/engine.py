"""AX in bulk: images in, one solution per image, method and operation out.

Two compiled functions: one makes all heatmaps of a batch, the other scores one of them. The
attribution methods run together because they share their forward pass; the scores one by one
because they share nothing, and a batch at a time keeps the memory small.
"""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.ax.objective import AxObjective, AxScored, Explained, wanted_of
from gaxjax.ax.plan import AxPlan
from gaxjax.ax.stats import BatchStats
from gaxjax.common import (
    UserError,
    affordable,
    free_bytes,
    half_as_many,
    hardware,
    is_out_of_memory,
    local_devices,
    own_numbers,
    pad_rows,
    yielding_own_numbers,
)
from gaxjax.config import AxConfig, BatchConfig, Operation, Wanted, require_config
from gaxjax.data import Batch
from gaxjax.models import Classifier, check_engine, checked_first, gradient_bytes
from gaxjax.results import Outcome, Solution

__all__ = ["AxEngine", "ScoredBatch", "ax_solutions", "unreadable_solutions"]

_CPU_BATCH, _ACCELERATOR_BATCH = 16, 64


class ScoredBatch(NamedTuple):
    """What AX found for a batch, on the host or on its way there; arrays lead with the image.

    Attributes:
        explained: classification and heatmaps.
        scores: by method and layer, and operation.
    """

    explained: Explained
    scores: dict[tuple[Wanted, Operation], AxScored]


class AxEngine:
    """Scores the heatmaps of existing methods for a stream of images.

    Args:
        classifier: the frozen model, batch norm not folded (`load_classifier(path, fold=False)`).
        config: methods, operations, score space.
        batch: batch size, devices, precision.
        image_shape: (H, W, 3).
        image_dtype: uint8, or float32 for pixels already in [0, 1].
        heatmap_dtype: type of the heatmaps; scores are those after that rounding.
        keep_heatmaps: hand the heatmaps out; else they never leave the device.

    Attributes:
        wanted: methods, with a layer each for layer_grad_cam.
        stats: what was done.

    Raises:
        UserError: arguments of another kind; a function that is no classifier; no such layer,
            method or devices for this model.

    Example:
        >>> engine = AxEngine(classifier, AxConfig(), BatchConfig(), image_shape=(16, 16, 3))
        >>> for solutions in engine.run(image_batches):
        ...     scores = [(s.method, s.operation, s.co_score) for s in solutions]
    """

    backend = "jax"

    @own_numbers()
    def __init__(
        self,
        classifier: Classifier,
        config: AxConfig,
        batch: BatchConfig,
        *,
        image_shape: tuple[int, ...],
        image_dtype: Any = np.uint8,
        heatmap_dtype: Any = np.float32,
        keep_heatmaps: bool = True,
    ) -> None:
        require_config(config, AxConfig, "config")
        require_config(batch, BatchConfig, "batch")
        check_engine(classifier, image_shape, image_dtype)
        if config.backend != "jax":
            raise UserError(
                f"this engine is JAX's; for the backend {config.backend} use `gaxjax ax` or "
                "gaxjax.reference.captum_engine"
            )
        self.devices = local_devices(batch.devices)
        self.config = config
        self._keep_heatmaps = keep_heatmaps
        self._image = jax.ShapeDtypeStruct(image_shape, image_dtype)
        self.wanted = wanted_of(config, classifier, self._image)
        self.objective = AxObjective(
            classifier, config, self.wanted, batch.precision, jnp.dtype(heatmap_dtype)
        )
        kept = (2 + len(self.wanted)) * 4 * math.prod(image_shape)  # gradient, image, heatmaps
        each = gradient_bytes(classifier, image_shape) + kept
        self._per_device = _batch_that_fits(batch, each, image_shape, self.devices)
        self._explain: Callable[..., Explained] | None = None
        self._score: dict[Operation, Callable[..., AxScored]] = {}
        self.stats = BatchStats(devices=len(self.devices), precision=batch.precision)

    @property
    def batch_size(self) -> int:
        """Images per batch, over all devices."""
        return self._per_device * len(self.devices)

    @property
    def heatmaps_per_image(self) -> int:
        """One for each method, and of layer_grad_cam one for each layer."""
        return len(self.wanted)

    @property
    def hardware(self) -> dict[str, str]:
        """On what it runs, for a run's header."""
        return hardware(self.devices)

    @own_numbers()
    def warm_up(self) -> None:
        """Compile everything; `run` does it when it was not done before.

        The batch is halved until the programs fit the memory.

        Raises:
            UserError: even a single image does not fit.
        """
        while self._explain is None:
            try:
                self._compile()
            except jax.errors.JaxRuntimeError as error:
                self._halve(error)

    @yielding_own_numbers
    def run(self, batches: Iterable[Batch]) -> Generator[list[Solution], None, None]:
        """Yield one list of solutions per image, in the order of the batches.

        An image that could not be read gets solutions that say so, as soon as its batch comes.

        Raises:
            UserError: even a single image does not fit the memory; the model returns no logits.
        """
        pending: deque[tuple[Batch, ScoredBatch | None]] = deque()
        for batch in checked_first(self.objective.classifier, batches):
            for index, reason in batch.unreadable:
                yield unreadable_solutions(
                    index, reason, self.wanted, self.config.operations, self.backend
                )
            for part in batch.split(self.batch_size):
                pending.append((part, self._dispatch(part)))
                if len(pending) > 1:  # the device works on the next while this one is read
                    yield from self._settled(*pending.popleft())
        while pending:
            yield from self._settled(*pending.popleft())

    def _dispatch(self, batch: Batch) -> ScoredBatch | None:
        """Start a batch, padded to the batch size; None where it must be split for memory."""
        self.warm_up()
        if len(batch.indices) > self.batch_size:
            return None
        self.stats.clock()
        try:
            return self._start(batch)
        except jax.errors.JaxRuntimeError as error:
            self._halve(error)
            return None

    def _start(self, batch: Batch) -> ScoredBatch:
        assert self._explain is not None
        images = self._put(batch.images)
        labels = self._put(batch.labels)
        explained = self._explain(self._weights, images, labels)
        reading = explained.reading
        of_label = labels, reading.weighted
        of_prediction = reading.prediction, explained.weighted_at_prediction
        scores = {
            (key, operation): self._score[operation](
                self._weights, images, explained.heatmaps[key], *of_label, *of_prediction
            )
            for key, operation in itertools.product(self.wanted, self.config.operations)
        }
        if not self._keep_heatmaps:
            explained = explained._replace(heatmaps={})
        return ScoredBatch(explained, scores)

    def _settled(self, batch: Batch, started: ScoredBatch | None) -> Iterator[list[Solution]]:
        if started is not None:
            try:
                found: ScoredBatch = jax.device_get(started)
            except jax.errors.JaxRuntimeError as error:
                if started.explained.reading.prediction.shape[0] == self.batch_size:
                    self._halve(error)
                elif not is_out_of_memory(error):
                    raise
                started = None  # of a larger batch, in flight when the batch was halved
            else:
                self.stats.images += len(batch.indices)
                self.stats.heatmaps += len(batch.indices) * len(self.wanted)
                self.stats.clock()
                yield from ax_solutions(
                    batch, found, self.wanted, self.config.operations, self.backend
                )
                return
        for part in batch.split(self.batch_size):  # out of memory: again, in smaller batches
            yield from self._settled(part, self._dispatch(part))

    def _put(self, rows: np.ndarray) -> jax.Array:
        """Pad with the last row to the batch size, and spread over the devices."""
        padded = pad_rows(rows, self.batch_size, "last")
        return jax.device_put(padded, self._spread)

    def _compile(self) -> None:
        started = time.perf_counter()
        plan = AxPlan(
            self.objective,
            devices=self.devices,
            batch_size=self.batch_size,
            image=self._image,
        )
        weights = self.objective.classifier.weights
        self._spread, self._weights = plan.spread, jax.device_put(weights, plan.places)
        self._score = {operation: plan.score(operation) for operation in self.config.operations}
        self._explain = plan.explain()
        self.stats.batch_size = self._per_device
        self.stats.compile_seconds += time.perf_counter() - started

    def _halve(self, error: jax.errors.JaxRuntimeError) -> None:
        """Out of memory: forget the programs and go on with half the batch."""
        self._per_device = half_as_many(
            self._per_device,
            error,
            "a single image: use smaller images (--size), fewer --methods, or a smaller model",
        )
        self._explain, self._score = None, {}
        self.stats.halvings += 1


def _batch_that_fits(
    batch: BatchConfig, each: int, shape: tuple[int, ...], devices: list[jax.Device]
) -> int:
    """Return the images side by side on each device: as asked, or as many as the memory takes.

    Args:
        batch: what is asked for.
        each: bytes that an image needs, at least.
        shape: of an image.
        devices: where.

    Raises:
        UserError: so many, or even one, need more than is free.
    """
    on_cpu = devices[0].platform == "cpu"
    free = free_bytes(devices)
    if batch.batch_size is None:
        count = _CPU_BATCH if on_cpu else _ACCELERATOR_BATCH
        while count > 1 and count * each > free:
            count //= 2
        return affordable(count, each, free, "--batch-size", shape, halves=True)
    return affordable(batch.batch_size, each, free, "--batch-size", shape, halves=not on_cpu)


def ax_solutions(
    batch: Batch,
    found: ScoredBatch,
    wanted: Sequence[Wanted],
    operations: Sequence[Operation],
    backend: str,
) -> Iterator[list[Solution]]:
    """Turn what was found for a batch, on the host, into a list of solutions per image.

    Solutions of one method and layer share their heatmap, as the same array.
    """
    explained = found.explained
    for row, index in enumerate(batch.indices.tolist()):
        sure = explained.confidence._asdict()
        confidence = {name: _finite(values, row) for name, values in sure.items()}
        heatmaps = {key: np.array(rows[row]) for key, rows in explained.heatmaps.items()}
        solutions = []
        for key, operation in itertools.product(wanted, operations):
            scored = found.scores[key, operation]
            scale = float(explained.scales[key][row])
            co_score = float(scored.co_score[row])
            common: dict[str, Any] = {
                "index": index,
                "label": int(batch.labels[row]),
                "prediction": int(explained.reading.prediction[row]),
                "probability_before": float(explained.reading.probability[row]),
                "method": key[0],
                "layer": key[1],
                "operation": operation,
                "backend": backend,
                "heatmap_scale": scale,
                "completeness_gap": _finite(explained.gaps.get(key), row),
                **confidence,
            }
            if not np.isfinite([scale, co_score, common["probability_before"]]).all():
                solutions.append(Solution(outcome=Outcome.NOT_FINITE, **common))
            elif scale == 0:
                solutions.append(Solution(outcome=Outcome.ZERO_HEATMAP, **common))
            else:
                solutions.append(
                    Solution(
                        outcome=Outcome.SCORED,
                        **common,
                        co_score=co_score,
                        co_score_predicted=_finite(scored.co_score_predicted, row),
                        probability_after=float(scored.probability[row]),
                        prediction_after=int(scored.prediction[row]),
                        heatmap=heatmaps.get(key),
                    )
                )
        yield solutions


def _finite(values: Any, row: int) -> float | None:
    value = None if values is None else float(values[row])
    return value if value is not None and math.isfinite(value) else None


def unreadable_solutions(
    index: int,
    reason: str,
    wanted: Sequence[Wanted],
    operations: Sequence[Operation],
    backend: str,
) -> list[Solution]:
    """Return an unreadable image's solutions: one per method, layer and operation."""
    return [
        Solution(
            index,
            Outcome.UNREADABLE,
            label=-1,
            method=method,
            layer=layer,
            operation=operation,
            backend=backend,
            reason=reason,
        )
        for (method, layer), operation in itertools.product(wanted, operations)
    ]
