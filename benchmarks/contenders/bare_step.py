"""The jitted JAX step with nothing around it: the ceiling for the engine."""

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contenders.engine import objective_of, peak_device_bytes
from benchmarks.measure.measurement import (
    CHECKED_IMAGES,
    CHECKED_UPDATES,
    Fields,
    Measurement,
    Turn,
)
from benchmarks.measure.problem import Problem
from gaxjax.common import compiler_options
from gaxjax.gax import Objective, initial_weights, optimizer
from gaxjax.models import as_unit_range


class BareStep:
    """Loss, score, input gradient and Adam for static images: no queue, refill, report, checks.

    A turn calls the step as often as `num_images` images would need; the images stay the same.
    """

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        self._measurement, self._problem = measurement, problem
        self._objective: Objective
        self._state: Any = None
        self._constant: Any = None
        self._network: Any = None
        self._step: Any = None

    def prepare(self) -> Fields:
        """Compile, and take the first steps for the scores."""
        started = time.perf_counter()
        objective = self._objective = objective_of(self._measurement, self._problem)
        images, classes = self._problem.batch(np.arange(self._measurement.slots))
        labels = jnp.asarray(classes)
        weights = objective.classifier.weights
        classify = jax.jit(objective.baseline)
        self._network = jax.device_put(objective.fast_weights())
        start = jax.vmap(partial(initial_weights, config=objective.config))
        pixels = jnp.asarray(images)
        baseline = classify(weights, as_unit_range(pixels), labels).weighted
        trained = start(as_unit_range(pixels))
        self._state = trained, jax.vmap(optimizer(objective.config).init)(trained)
        self._constant = pixels, labels, baseline
        lowered = jax.jit(self._one_step, donate_argnums=1).lower(
            self._network, self._state, *self._constant
        )
        self._step = lowered.compile(compiler_options=compiler_options(jax.local_devices()[0]))
        compile_seconds = time.perf_counter() - started
        curves = np.stack([self._call() for _ in range(CHECKED_UPDATES + 1)], axis=1).tolist()
        absent: list[list[float]] = [[] for _ in range(CHECKED_IMAGES - len(curves))]
        return {
            "compile_seconds": compile_seconds,
            "scores": curves[:CHECKED_IMAGES] + absent,
        }

    def turn(self) -> Turn:
        """Call the step again and again, waiting at the end only."""
        measurement = self._measurement
        calls = -(-measurement.num_images // measurement.slots) * (measurement.max_steps + 1)
        started = time.perf_counter()
        for _ in range(calls):
            self._state, score = self._step(self._network, self._state, *self._constant)
        jax.block_until_ready((self._state, score))
        seconds = time.perf_counter() - started
        return Turn(seconds, calls * measurement.slots, measurement.num_images)

    def finish(self) -> Fields:
        """Return the memory used."""
        return {"peak_device_bytes": peak_device_bytes()}

    def _call(self) -> np.ndarray:
        self._state, score = self._step(self._network, self._state, *self._constant)
        return np.asarray(score)

    def _one_step(self, network: Any, state: Any, image: Any, label: Any, baseline: Any) -> Any:
        weights, moments = state
        objective = self._objective
        score, gradients = objective.scores_and_gradients(
            weights, network, as_unit_range(image), label, baseline
        )
        updates, moments = jax.vmap(optimizer(objective.config).update)(gradients, moments)
        return (jax.tree.map(jnp.add, weights, updates), moments), score
