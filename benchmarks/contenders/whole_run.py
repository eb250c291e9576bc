"""From JPEG files to verified, stored heatmaps: `run_gax` as a whole, and where its time goes."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.contenders.engine import (
    filled_state,
    forward_seconds,
    jax_precision,
    peak_device_bytes,
)
from benchmarks.contenders.first_result import image_files
from benchmarks.contenders.profile import time_steps
from benchmarks.measure.measurement import Fields, Measurement, Turn
from benchmarks.measure.problem import Problem
from gaxjax.config import DataConfig, EngineConfig, GaxConfig, GaxRunConfig, ModelConfig
from gaxjax.data import ImageSet
from gaxjax.gax import EngineStats, GaxEngine
from gaxjax.results import Store
from gaxjax.runs import RunSummary, opening, run_gax
from gaxjax.runs import gax as gax_run

_CALLS = 5


class WholeRun:
    """A user's run: open, decode, classify, optimise, verify, store.

    Every run compiles anew; that is taken off a turn's seconds and stands in a field of its own.
    A compilation cache, filled by the first run, keeps it short: the programs are the same.

    The parts' seconds are those in which each was busy. They overlap (decoding and storing have
    their own threads), so their sum is not the wall clock. Decoding and storing are timed where
    the core calls them, over all threads; the device's parts are the engine's counts times the
    seconds of one call, measured alone after the run.
    """

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        self._measurement, self._problem = measurement, problem
        self._folder: tempfile.TemporaryDirectory[str]
        self._images = Path()
        self._engine: GaxEngine
        self._last: Fields = {}
        self._host_seconds: dict[str, list[float]] = {}

    def prepare(self) -> Fields:
        """Write images where there are no real ones; run as many as there are slots."""
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._images = image_files(self._problem, self._measurement.num_images, folder)
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        slots = self._measurement.slots * self._measurement.devices
        _, stats, _ = self._run(min(slots, self._measurement.num_images))
        return {"compile_seconds": stats.compile_seconds}

    def turn(self) -> Turn:
        """Run all images into a new folder."""
        summary, stats, wall_seconds = self._run(self._measurement.num_images)
        count = sum(summary.outcomes.values())
        if count != self._measurement.num_images:
            raise ValueError(f"{count} outcomes of {self._measurement.num_images} images")
        seconds = wall_seconds - stats.compile_seconds
        self._last |= {
            "wall_seconds": seconds,
            "compile_seconds_of_a_turn": stats.compile_seconds,
            "images_per_second": count / seconds,
            "outcomes": dict(summary.outcomes),
            "occupancy": stats.occupancy,
        }
        return Turn(seconds, stats.image_steps, count)

    def finish(self) -> Fields:
        """Time the device's parts alone, and return where the last run's time went."""
        stats, program = self._engine.stats, self._engine.warm_up()
        peak = peak_device_bytes()
        block = self._problem.batch(np.arange(self._engine.batch_size))
        seconds = forward_seconds(program, *block)
        _, optimising = time_steps(program, filled_state(program, *block), _CALLS)
        seconds["optimise"] = optimising / _CALLS
        full_steps = stats.slot_steps / self._engine.batch_size  # the drain's are smaller
        self._folder.cleanup()
        return self._last | {
            "seconds_by_part": {
                "open": sum(self._host_seconds["open"]),
                "decode": sum(self._host_seconds["decode"]),
                "classify": stats.baselines * seconds["classify"],
                "optimise": full_steps * seconds["optimise"],
                "verify": stats.verifications * seconds["verify"],
                "store": sum(self._host_seconds["store"]),
            },
            "seconds_of_one_call": seconds,
            "peak_device_bytes": peak,
            "slots_used": self._engine.slots,
        }

    def _run(self, count: int) -> tuple[RunSummary, EngineStats, float]:
        measurement = self._measurement
        config = GaxRunConfig(
            model=ModelConfig(model=str(self._problem.checkpoint)),
            data=DataConfig(data=str(self._images), size=measurement.size, num_images=count),
            gax=GaxConfig(
                score_space=measurement.score_space,
                max_steps=measurement.max_steps,
                # A random network's labels are its predictions, and some change with the JPEG.
                include_misclassified=self._problem.weights != "real",
            ),
            engine=EngineConfig(
                precision=jax_precision(measurement),
                slots=measurement.slots,
                devices=measurement.devices,
            ),
        )
        with tempfile.TemporaryDirectory() as folder, self._watched():
            output = Path(folder) / "run"
            started = time.perf_counter()
            summary = run_gax(config, output, make_engine=self._make_engine)
            seconds = time.perf_counter() - started
            self._last["stored_bytes"] = sum(
                path.stat().st_size for path in output.rglob("*") if path.is_file()
            )
        assert isinstance(summary.stats, EngineStats)
        return summary, summary.stats, seconds

    def _make_engine(self, *args: Any, **settings: Any) -> GaxEngine:
        self._engine = GaxEngine(*args, **settings)
        return self._engine

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Time the core's calls at its borders."""
        busy = self._host_seconds = {"open": [], "decode": [], "store": []}
        with (
            _timed(gax_run, "open_classifier", busy["open"]),
            _timed(opening, "open_images", busy["open"]),
            _timed(ImageSet, "load", busy["decode"]),
            _timed(Store, "commit", busy["store"]),
        ):
            yield


def _timed(owner: Any, name: str, seconds: list[float]) -> contextlib.AbstractContextManager[None]:
    """Note how long each call of `owner.name` takes; appending to a list is safe in threads."""
    original = getattr(owner, name)

    def timed(*args: Any, **settings: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(*args, **settings)
        finally:
            seconds.append(time.perf_counter() - started)

    return _replaced(owner, name, timed)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, other: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, original)
