"""Ours: the engine, with all that a run gets: classification, refill, float32 verification."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.measure.measurement import (
    CHECKED_IMAGES,
    CHECKED_UPDATES,
    TARGET,
    UNREACHABLE,
    Fields,
    Measurement,
    Turn,
)
from benchmarks.measure.problem import Problem
from gaxjax.config import EngineConfig, GaxConfig, Precision
from gaxjax.gax import EngineStats, GaxEngine, Objective, Program, make_objective
from gaxjax.gax import slots as lanes
from gaxjax.models import load_classifier
from gaxjax.results import Solution

_FORWARD_CALLS = 5


def gax_config(measurement: Measurement) -> GaxConfig:
    """Return the method's settings: only `to_target` stops at a score, or skips wrong images."""
    to_target = measurement.workload == "to_target"
    return GaxConfig(
        score_space=measurement.score_space,
        target=TARGET if to_target else UNREACHABLE,
        max_steps=measurement.max_steps,
        include_misclassified=not to_target,
    )


def make_engine(
    measurement: Measurement,
    problem: Problem,
    gax: GaxConfig,
    *,
    drain: bool = False,
    heatmap_dtype: Any = np.float16,
) -> GaxEngine:
    """Return the engine of a measurement; a drain's smaller steps would only compile longer."""
    return GaxEngine(
        load_classifier(problem.checkpoint),
        gax,
        EngineConfig(
            precision=jax_precision(measurement),
            slots=measurement.slots,
            devices=measurement.devices,
            drain=drain,
        ),
        image_shape=(measurement.size, measurement.size, 3),
        heatmap_dtype=heatmap_dtype,
    )


def first_scores(found: Mapping[int, Solution]) -> list[list[float]]:
    """Return the first images' first scores; none of an image that was not optimised."""
    curves = [found[index].curve for index in range(CHECKED_IMAGES)]
    return [[] if curve is None else curve[: CHECKED_UPDATES + 1].tolist() for curve in curves]


def objective_of(measurement: Measurement, problem: Problem) -> Objective:
    """Return what a step computes, for contestants that call it themselves."""
    return make_objective(
        load_classifier(problem.checkpoint),
        gax_config(measurement),
        jax_precision(measurement),
        jax.local_devices()[0],
    )


def jax_precision(measurement: Measurement) -> Precision:
    """Return the precision as the engine names it.

    Raises:
        ValueError: tf32, which is JAX's float32 on a GPU that has it.
    """
    if measurement.precision == "tf32":
        raise ValueError("JAX has no precision tf32: its float32 is that on a GPU")
    return measurement.precision


def peak_device_bytes() -> int | None:
    """Return the most memory that an accelerator held; None on a CPU."""
    statistics = jax.local_devices()[0].memory_stats()
    return statistics.get("peak_bytes_in_use") if statistics else None


class EngineRun:
    """The engine over arrays in memory; heatmaps are rounded to float16, as runs store them."""

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        self._measurement, self._problem = measurement, problem
        self._engine: GaxEngine
        self._outcomes: Counter[str] = Counter()
        self._steps: list[int] = []
        self._hashes: dict[int, str] = {}
        self._compilations = 0
        self._undrained: list[float] = []  # of every turn, warm-up turns included

    def prepare(self) -> Fields:
        """Compile everything, and run the first images for their scores."""
        measurement = self._measurement
        started = time.perf_counter()
        self._engine = make_engine(
            measurement,
            self._problem,
            gax_config(measurement),
            # At fixed steps all images end together: there is nothing to drain.
            drain=measurement.workload in ("to_target", "devices"),
        )
        self._engine.warm_up()
        compile_seconds = time.perf_counter() - started
        found = {item.index: item for item in self._solutions(CHECKED_IMAGES)}
        jax.monitoring.register_event_duration_secs_listener(self._count_compilation)
        return {"compile_seconds": compile_seconds, "scores": first_scores(found)}

    def turn(self) -> Turn:
        """Run all images; solutions are counted, not kept."""
        engine, count = self._engine, self._measurement.num_images
        engine.stats = EngineStats()
        self._outcomes.clear()
        self._steps.clear()
        started = time.perf_counter()
        for solution in self._solutions(count):
            self._outcomes[str(solution.outcome)] += 1
            if solution.outcome == "reached" and solution.steps is not None:
                self._steps.append(solution.steps)
            if self._measurement.workload == "devices":
                self._hashes[solution.index] = _sha256(solution)
        seconds = time.perf_counter() - started
        self._undrained.append(engine.stats.rate)
        if self._measurement.workload == "to_target":
            count = self._outcomes["reached"] + self._outcomes["step_limit"]
        return Turn(seconds, engine.stats.image_steps, count)

    def finish(self) -> Fields:
        """Return what the last turn did, and at fixed steps what the two forward passes cost."""
        stats = self._engine.stats
        forwards = self._forward_seconds() if self._measurement.workload == "fixed_steps" else {}
        everything = hashlib.sha256(
            "".join(self._hashes[index] for index in sorted(self._hashes)).encode()
        )
        return {
            "peak_device_bytes": peak_device_bytes(),
            "slots_used": self._engine.slots,
            "outcomes": dict(self._outcomes),
            "steps": sorted(self._steps),
            "occupancy": stats.occupancy,
            "turn_undrained_image_steps_per_s": self._undrained,
            **forwards,
            "verify_batches": stats.verifications,
            "verify_batch_size": stats.verify_size,
            "classify_batches": stats.baselines,
            "returned": stats.returned,
            "compilations_after_warm_up": self._compilations,
            "results_sha256": everything.hexdigest() if self._hashes else None,
        }

    def _forward_seconds(self) -> Fields:
        """Time classification and verification alone, in seconds per image."""
        program, batch_size = self._engine.warm_up(), self._engine.batch_size
        seconds = forward_seconds(program, *self._problem.batch(np.arange(batch_size)))
        return {
            "classify_image_seconds": seconds["classify"] / batch_size,
            "verify_image_seconds": seconds["verify"] / (program.verify_size * program.num_devices),
        }

    def _solutions(self, count: int) -> Iterator[Solution]:
        batches = self._problem.batches(np.arange(count), self._engine.batch_size)
        return (solution for [solution] in self._engine.run(batches))

    def _count_compilation(self, event: str, duration_secs: float, **_: str | int) -> None:
        self._compilations += event == "/jax/core/compile/backend_compile_duration"


def deal(program: Program, rows: np.ndarray) -> jax.Array:
    """Put one row for each slot on the devices: [devices, slots, ...]."""
    return program.put(rows.reshape(program.num_devices, program.slots[0], *rows.shape[1:]))


def filled_state(program: Program, images: np.ndarray, labels: np.ndarray) -> lanes.State:
    """Return a state with an image in each slot."""
    devices, slots = program.num_devices, program.slots[0]
    block = deal(program, images), deal(program, labels)
    baseline = program.baseline(program.weights, *block)
    state = program.enqueue(
        program.empty_state(),
        block[0],
        deal(program, np.arange(devices * slots, dtype=np.int32)),
        block[1],
        baseline.weighted,
        {},
        program.put(np.full(devices, slots, np.int32)),
    )
    filled: lanes.State = program.refill[slots][slots](state)
    return filled


def forward_seconds(program: Program, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the median seconds of one call of classification, and of verification."""
    state = filled_state(program, images, labels)
    block = deal(program, images), deal(program, labels)
    finished = program.collect[program.slots[0]](state)
    calls: dict[str, Callable[[], Any]] = {
        "classify": lambda: program.baseline(program.weights, *block),
        "verify": lambda: program.rescore(program.weights, finished),
    }
    seconds = {}
    for name, call in calls.items():
        jax.block_until_ready(call())
        took = []
        for _ in range(_FORWARD_CALLS):
            started = time.perf_counter()
            jax.block_until_ready(call())
            took.append(time.perf_counter() - started)
        seconds[name] = float(np.median(took))
    return seconds


def _sha256(solution: Solution) -> str:
    assert solution.heatmap is not None
    assert solution.curve is not None
    digest = hashlib.sha256(np.ascontiguousarray(solution.heatmap).tobytes())
    digest.update(solution.curve.tobytes())
    digest.update(repr((solution.steps, solution.co_score)).encode())
    return digest.hexdigest()
