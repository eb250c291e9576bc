"""Whether an image's result depends on the order of the images, or on its neighbours."""

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.contenders.engine import TARGET, jax_precision, peak_device_bytes
from benchmarks.measurement import CHECKED_IMAGES, CHECKED_UPDATES, Fields, Measurement, Turn
from benchmarks.problem import Problem
from gaxjax.classifier import load_classifier
from gaxjax.config import EngineConfig, GaxConfig
from gaxjax.data import Batch
from gaxjax.engine import Engine
from gaxjax.solution import Solution
from gaxjax.stats import EngineStats

_SEED = 0


class Permutation:
    """One compiled program, the same images three times: in order, in order again, permuted.

    The second run tells kernels that are not deterministic from neighbours that matter. Heatmaps
    are compared in float32, before the rounding of a store.
    """

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        self._measurement, self._problem = measurement, problem
        count = measurement.num_images
        self._in_order = np.arange(count, dtype=np.int32)
        self._permuted = np.random.default_rng(_SEED).permutation(self._in_order)
        self._engine: Engine
        self._known: dict[int, Solution] = {}
        self._again: Fields = {}
        self._found: Fields = {}

    def prepare(self) -> Fields:
        """Compile, and run the images in order twice."""
        measurement = self._measurement
        self._engine = Engine(
            load_classifier(self._problem.checkpoint),
            GaxConfig(
                score_space=measurement.score_space,
                target=TARGET,
                max_steps=measurement.max_steps,
                include_misclassified=True,
            ),
            EngineConfig(
                precision=jax_precision(measurement),
                slots=measurement.slots,
                devices=measurement.devices,
            ),
            image_shape=(measurement.size, measurement.size, 3),
        )
        self._engine.warm_up()
        self._known = self._run(self._in_order)
        self._again = compare(self._known, self._run(self._in_order))
        curves = [self._known[index].curve for index in range(CHECKED_IMAGES)]
        return {
            "compile_seconds": self._engine.stats.compile_seconds,
            "scores": [
                [] if curve is None else curve[: CHECKED_UPDATES + 1].tolist() for curve in curves
            ],
        }

    def turn(self) -> Turn:
        """Run the images permuted; comparing them is not timed."""
        self._engine.stats = EngineStats()
        started = time.perf_counter()
        found = self._run(self._permuted)
        seconds = time.perf_counter() - started
        self._found = compare(self._known, found)
        return Turn(seconds, self._engine.stats.image_steps, len(found))

    def finish(self) -> Fields:
        """Return how many results are the same to the last bit, permuted and run again."""
        return {
            **self._found,
            "rerun_equal": self._again["differing"] == 0,
            "rerun_differing": self._again["differing"],
            "rerun_worst": self._again["worst"],
            "peak_device_bytes": peak_device_bytes(),
        }

    def _run(self, order: np.ndarray) -> dict[int, Solution]:
        return {item.index: item for item in self._engine.run(self._batches(order))}

    def _batches(self, order: np.ndarray) -> Iterator[Batch]:
        size = self._engine.batch_size
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            yield Batch(indices, *self._problem.batch(indices), ())


def compare(known: dict[int, Solution], found: dict[int, Solution]) -> Fields:
    """Count the images whose results are equal to the last bit.

    Returns:
        `equal` and `differing` images, and `worst`: the largest difference of two heatmaps' pixels.
    """
    assert known.keys() == found.keys(), "an image has no result, or two"
    equal, worst = 0, 0.0
    for index, one in known.items():
        other = found[index]
        equal += _bits(one) == _bits(other)
        if one.heatmap is not None and other.heatmap is not None:
            worst = max(worst, float(np.abs(one.heatmap - other.heatmap).max()))
    return {"equal": equal, "differing": len(known) - equal, "worst": worst}


def _bits(solution: Solution) -> tuple[object, ...]:
    score = None if solution.co_score is None else np.float32(solution.co_score).tobytes()
    arrays = (solution.curve, solution.heatmap)
    return (
        *(solution.outcome, solution.steps, score),
        *(None if array is None else np.ascontiguousarray(array).tobytes() for array in arrays),
    )
