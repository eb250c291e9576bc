"""What a step's time goes into: convolutions, elementwise work, copies, or nothing at all."""

import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.contenders.device_trace import summarise
from benchmarks.contenders.engine import filled_state, make_engine, peak_device_bytes
from benchmarks.measure.measurement import (
    CHECKED_IMAGES,
    CHECKED_UPDATES,
    UNREACHABLE,
    Fields,
    Measurement,
    Turn,
)
from benchmarks.measure.problem import Problem
from gaxjax.config import GaxConfig
from gaxjax.gax import Program
from gaxjax.gax import slots as lanes

_TRACED_STEPS = 10


class Profile:
    """The engine's own step, all slots at work, called back to back.

    A turn is `max_steps + 1` steps without a profiler, so that a row shows what tracing costs.
    """

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        self._measurement, self._problem = measurement, problem
        self._program: Program
        self._state: Any = None
        self._seconds: list[float] = []

    def prepare(self) -> Fields:
        """Compile, fill the slots, and take the first steps for the scores."""
        measurement = self._measurement
        started = time.perf_counter()
        # At the default limit of updates no image ends while it is watched.
        gax = GaxConfig(score_space=measurement.score_space, target=UNREACHABLE)
        engine = make_engine(measurement, self._problem, gax)
        self._program = engine.warm_up()
        images, labels = self._problem.batch(np.arange(engine.batch_size))
        self._state = filled_state(self._program, images, labels)
        self._state, _ = time_steps(self._program, self._state, CHECKED_UPDATES + 1)
        seconds = time.perf_counter() - started
        return {"compile_seconds": seconds, "scores": _scores(self._state.lanes)}

    def turn(self) -> Turn:
        """Take steps without a profiler."""
        steps = self._measurement.max_steps + 1
        self._state, seconds = time_steps(self._program, self._state, steps)
        self._seconds.append(seconds / steps)
        slots = self._program.slots[0] * self._program.num_devices
        return Turn(seconds, steps * slots, images=0)

    def finish(self) -> Fields:
        """Trace some steps, and return what they were spent on."""
        peak = peak_device_bytes()
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder, profiler_options=options):
                self._state, seconds = time_steps(self._program, self._state, _TRACED_STEPS)
            found = summarise(Path(folder))
        return {
            **found,
            "step_seconds": float(np.median(self._seconds)),
            "traced_step_seconds": seconds / _TRACED_STEPS,
            "peak_device_bytes": peak,
            "slots_used": self._program.slots[0],
        }


def time_steps(program: Program, state: lanes.State, count: int) -> tuple[lanes.State, float]:
    """Take steps without waiting in between; return the state and the seconds of all of them."""
    jax.block_until_ready(state)
    step = program.step[program.slots[0]]
    started = time.perf_counter()
    for _ in range(count):
        state, report = step(program.fast_weights, state)
    jax.block_until_ready((state, report))
    return state, time.perf_counter() - started


def _scores(lane: lanes.Lane) -> list[list[float]]:
    """Return the first images' curves, empty for those beyond the slots."""
    numbers = np.asarray(lane.image_index).reshape(-1).tolist()
    curves = np.asarray(lane.curve).reshape(len(numbers), -1)[:, : CHECKED_UPDATES + 1]
    known = dict(zip(numbers, curves.tolist(), strict=True))
    return [known.get(index, []) for index in range(CHECKED_IMAGES)]
