"""Whether an image's result depends on the order of the images, or on its neighbours."""

import time

import jax
import numpy as np

from benchmarks.contenders.engine import first_scores, make_engine, peak_device_bytes
from benchmarks.measure.measurement import TARGET, Fields, Measurement, Turn
from benchmarks.measure.problem import Problem
from gaxjax.config import GaxConfig
from gaxjax.gax import EngineStats, GaxEngine
from gaxjax.results import Solution

_SEED = 0


class Permutation:
    """One compiled program, the same images three times: in order, in order again, permuted.

    The second run tells kernels that are not deterministic from neighbours that matter. Heatmaps
    are compared in float32, before the rounding of a store. On a GPU, where each of the drain's
    smaller programs takes long to compile, the last images are not drained through them.
    """

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        self._measurement, self._problem = measurement, problem
        count = measurement.num_images
        self._in_order = np.arange(count, dtype=np.int32)
        self._permuted = np.random.default_rng(_SEED).permutation(self._in_order)
        self._engine: GaxEngine
        self._known: dict[int, Solution] = {}
        self._again: Fields = {}
        self._found: Fields = {}

    def prepare(self) -> Fields:
        """Compile, and run the images in order twice."""
        measurement = self._measurement
        started = time.perf_counter()
        gax = GaxConfig(
            score_space=measurement.score_space,
            target=TARGET,
            max_steps=measurement.max_steps,
            include_misclassified=True,
        )
        self._engine = make_engine(
            measurement,
            self._problem,
            gax,
            drain=jax.default_backend() == "cpu",
            heatmap_dtype=np.float32,
        )
        self._engine.warm_up()
        compile_seconds = time.perf_counter() - started
        self._known = self._run(self._in_order)
        self._again = compare(self._known, self._run(self._in_order))
        return {"compile_seconds": compile_seconds, "scores": first_scores(self._known)}

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
            "slots_used": self._engine.slots,
        }

    def _run(self, order: np.ndarray) -> dict[int, Solution]:
        batches = self._problem.batches(order, self._engine.batch_size)
        return {item.index: item for [item] in self._engine.run(batches)}


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
