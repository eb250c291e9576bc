"""The paper's released way: one image at a time, torch's own Adam, nothing clever."""

import time
from collections import Counter
from dataclasses import replace

import numpy as np

from benchmarks.contenders.torch_step import (
    load_network,
    peak_device_bytes,
    require_precision,
    synchronize,
    target_device,
    tf32,
)
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
from gaxjax.config import GaxConfig
from gaxjax.reference import ReferenceResult, reference_gax

_CONTENDERS = ("released", "released-input-only")


class Released:
    """The reference's loop as it is: float32 in NCHW, batch norms not folded, every score read.

    Contenders: in `released` the network's parameters require gradients, which are computed at
    every step, added up and never used, as in the released code; `released-input-only` spares
    them. An image's last score is followed by its backward pass and update, as there, so every
    image-step is a whole one. Left out, in its favour: the released code also stores the heatmap
    of every step, about 0.8 MB.

    Args:
        target: where `to_target` stops.
    """

    def __init__(
        self, measurement: Measurement, problem: Problem, *, target: float = TARGET
    ) -> None:
        if measurement.contender not in _CONTENDERS:
            raise ValueError(
                f"no contender {measurement.contender}; there are {', '.join(_CONTENDERS)}"
            )
        if measurement.slots != 1:
            raise ValueError(f"{measurement.contender} has 1 slot; got {measurement.slots}")
        require_precision(measurement.precision, ("float32", "tf32"))
        self._measurement, self._problem = measurement, problem
        self._to_target = measurement.workload == "to_target"
        self._config = GaxConfig(
            score_space=measurement.score_space,
            target=target if self._to_target else UNREACHABLE,
            max_steps=measurement.max_steps,
        )
        self._network = load_network(problem)
        count = max(measurement.num_images, CHECKED_IMAGES)
        self._images, self._labels = problem.batch(np.arange(count))
        self._steps: list[int] = []
        self._outcomes: Counter[str] = Counter()
        self.heatmaps: list[np.ndarray] = []  # [H, W, 3] each, of the last turn

    def prepare(self) -> Fields:
        """Move the network to the device, and take the first steps for the scores."""
        started = time.perf_counter()
        self._network.to(target_device())
        with tf32(self._measurement.precision == "tf32"):
            self._optimize(0, replace(self._config, target=UNREACHABLE, max_steps=0))
            synchronize()
            compile_seconds = time.perf_counter() - started
            checked = replace(self._config, target=UNREACHABLE, max_steps=CHECKED_UPDATES)
            curves = [
                self._optimize(number, checked).curve.tolist() for number in range(CHECKED_IMAGES)
            ]
        return {"compile_seconds": compile_seconds, "scores": curves}

    def turn(self) -> Turn:
        """Optimise all images, one after the other."""
        measurement = self._measurement
        self._steps.clear()
        self._outcomes.clear()
        self.heatmaps.clear()
        image_steps = 0
        synchronize()
        with tf32(measurement.precision == "tf32"):
            started = time.perf_counter()
            for number in range(measurement.num_images):
                found = self._optimize(number, self._config, only_correct=self._to_target)
                image_steps += len(found.curve)
                self._book(found)
            synchronize()
            seconds = time.perf_counter() - started
        optimised = measurement.num_images - self._outcomes["misclassified"]
        return Turn(seconds, image_steps, optimised)

    def finish(self) -> Fields:
        """Return what the last turn did."""
        fields: Fields = {"peak_device_bytes": peak_device_bytes()}
        if self._to_target:
            fields |= {"steps": sorted(self._steps), "outcomes": dict(self._outcomes)}
        return fields

    def _optimize(
        self, number: int, config: GaxConfig, *, only_correct: bool = False
    ) -> ReferenceResult:
        return reference_gax(
            self._network,
            self._images[number].astype(np.float32) / 255,
            int(self._labels[number]),
            config,
            mean=self._problem.mean,
            std=self._problem.std,
            weight_gradients=self._measurement.contender == "released",
            only_correct=only_correct,
        )

    def _book(self, found: ReferenceResult) -> None:
        if not len(found.curve):
            self._outcomes["misclassified"] += 1
            return
        self.heatmaps.append(found.heatmap.astype(np.float16))
        self._outcomes["reached" if found.reached else "step_limit"] += 1
        if found.reached:
            self._steps.append(found.steps)
