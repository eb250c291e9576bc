"""The paper's released way: one image at a time, torch's own Adam, nothing clever."""

import time
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from benchmarks.contenders.torch_step import (
    class_weights,
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
from gaxjax.config.methods import GaxConfig

_CONTENDERS = ("released", "released-input-only")


class Released:
    """Float32 in NCHW, batch norms as they are, the score read by the host at every step.

    Contenders: in `released` the network's parameters require gradients, which are computed at
    every step, added up and never used, as in the released code; `released-input-only` spares
    them. As there, an image's last evaluation is followed by its backward pass and update, so
    every image-step is a whole one; the heatmap handed out is the one before that update. Left
    out, in its favour: the released code also stores the heatmap of every step, about 0.8 MB.

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
        self._target = target if self._to_target else UNREACHABLE
        self._network = load_network(problem)
        self._network.requires_grad_(measurement.contender == "released")
        count = max(measurement.num_images, CHECKED_IMAGES)
        self._images, self._labels = problem.batch(np.arange(count))
        self._steps: list[int] = []
        self._outcomes: Counter[str] = Counter()
        self.heatmaps: list[Tensor] = []

    def prepare(self) -> Fields:
        """Move the network to the device, and take the first steps for the scores."""
        started = time.perf_counter()
        self._device = device = target_device()
        self._network.to(device)
        mean, std = (
            torch.tensor(value, device=device).view(1, 3, 1, 1)
            for value in (self._problem.mean, self._problem.std)
        )
        self._mean, self._std = mean, std
        with tf32(self._measurement.precision == "tf32"):
            self._optimize(*self._image(0), UNREACHABLE, 0)
            synchronize()
            compile_seconds = time.perf_counter() - started
            curves = [
                self._optimize(*self._image(number), UNREACHABLE, CHECKED_UPDATES)
                for number in range(CHECKED_IMAGES)
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
                curve = self._optimize(*self._image(number), self._target, measurement.max_steps)
                image_steps += len(curve)
                self._book(curve)
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

    def _image(self, number: int) -> tuple[Tensor, Tensor]:
        """Return pixels in [0, 1], [1, 3, H, W], and the class, [1]."""
        pixels = torch.from_numpy(self._images[number].astype(np.float32) / 255)
        label = torch.tensor([int(self._labels[number])], device=self._device)
        return pixels.permute(2, 0, 1)[None].contiguous().to(self._device), label

    def _optimize(self, x: Tensor, label: Tensor, target: float, max_steps: int) -> list[float]:
        """Return the scores after 0, 1, ... updates; none where the image is misclassified."""
        config = GaxConfig()
        with torch.no_grad():
            baseline = self._logits(x)
        if target < UNREACHABLE and baseline.argmax(1) != label:
            return []
        kappa = class_weights(label, baseline.shape[1])
        w = torch.full_like(x, config.initial_weight, requires_grad=True)
        adam = torch.optim.Adam(
            [w],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.adam_eps,
        )
        curve: list[float] = []
        while True:
            h = torch.tanh(w * x)
            score = (kappa * (self._logits(x + h) - baseline)).sum()
            eps = config.similarity_eps
            distance = ((h - x + eps) ** 2 / (x + eps)).mean()
            loss = -score + config.similarity_factor / distance
            adam.zero_grad()
            loss.backward()
            adam.step()
            curve.append(score.item())
            if curve[-1] >= target or len(curve) > max_steps:
                self.heatmaps.append(h.detach().half().cpu())
                return curve

    def _logits(self, pixels: Tensor) -> Tensor:
        if self._measurement.score_space == "normalized":
            pixels = (pixels - self._mean) / self._std
        return self._network(pixels)

    def _book(self, curve: list[float]) -> None:
        if not curve:
            self._outcomes["misclassified"] += 1
        elif curve[-1] >= self._target:
            self._outcomes["reached"] += 1
            self._steps.append(len(curve) - 1)
        else:
            self._outcomes["step_limit"] += 1
