"""Images on their way into slots: uploaded, classified ahead of need, kept on the device."""

from collections import deque

import numpy as np
import torch
from torch import nn

from benchmarks.contenders.torch_step import class_weights, tf32, unit_range
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.problem import Problem


class Source:
    """Hands out the numbers of images to optimise; their pixels wait on the device as uint8.

    Images are classified as many at a time as there are slots, in float32 whatever the precision
    of the step. Where only correctly classified images count, the host learns which they are from
    an asynchronous copy.

    Args:
        network: in float32, on the device.
        images, labels: uint8 [N, H, W, 3] and int [N], on the host.
        device: where to classify.

    Attributes:
        images, labels, baseline: on the device, by number: pixels, class, κ·f(x).
        misclassified: images passed over since `begin`.
    """

    def __init__(
        self,
        network: nn.Module,
        measurement: Measurement,
        problem: Problem,
        images: np.ndarray,
        labels: np.ndarray,
        device: torch.device,
    ) -> None:
        on_gpu = device.type == "cuda"
        self._network, self._block = network, measurement.slots
        self._normalized = measurement.score_space == "normalized"
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (problem.mean, problem.std))
        self._scale, self._shift = (1 / std).to(device), (-mean / std).to(device)
        self._num_classes = problem.num_classes
        self._host_images = torch.from_numpy(images)
        if on_gpu:
            self._host_images = self._host_images.pin_memory()
        rows = -(-len(images) // self._block) * self._block  # whole blocks: one shape for cuDNN
        self.images = torch.zeros((rows, *images.shape[1:]), dtype=torch.uint8, device=device)
        self.labels = torch.zeros(rows, dtype=torch.int64, device=device)
        self.labels[: len(labels)] = torch.from_numpy(labels.astype(np.int64))
        self.baseline = torch.zeros(rows, device=device)
        self._host_correct = torch.zeros(self._block, dtype=torch.bool, pin_memory=on_gpu)
        self._event = torch.cuda.Event() if on_gpu else None
        self.begin(0, only_correct=False)

    def begin(self, num_images: int, *, only_correct: bool) -> None:
        """Start again at the first of `num_images` images."""
        self._num_images, self._only_correct = num_images, only_correct
        self._next = 0
        self._in_flight: range | None = None  # numbers whose predictions the host awaits
        self._ready: deque[int] = deque()
        self.misclassified = 0

    @property
    def exhausted(self) -> bool:
        """Whether no image will come any more."""
        return self._next >= self._num_images and self._in_flight is None and not self._ready

    def look_ahead(self) -> None:
        """Classify the next block, when less than a block is ready; never waits."""
        if self._in_flight is not None and (self._event is None or self._event.query()):
            self._sort_out(self._in_flight)
        if self._in_flight is None and len(self._ready) < self._block:
            self._classify_next()

    def take(self, count: int, *, wait: bool) -> list[int]:
        """Return the numbers of up to `count` images; with `wait`, fewer only at the end."""
        while wait and len(self._ready) < count and not self.exhausted:
            if self._in_flight is not None:
                if self._event is not None:
                    self._event.synchronize()
                self._sort_out(self._in_flight)
            elif self._next < self._num_images:
                self._classify_next()
            else:
                break
        return [self._ready.popleft() for _ in range(min(count, len(self._ready)))]

    def _classify_next(self) -> None:
        numbers = range(self._next, min(self._next + self._block, self._num_images))
        if not numbers:
            return
        self._next = numbers.stop
        given = slice(numbers.start, numbers.stop)
        self.images[given].copy_(self._host_images[given], non_blocking=True)
        block = slice(numbers.start, numbers.start + self._block)
        pixels = unit_range(self.images[block])
        if self._normalized:
            pixels = torch.addcmul(self._shift, pixels, self._scale)
        with tf32(False):
            logits = self._network(pixels)
        labels = self.labels[block]
        self.baseline[block] = (class_weights(labels, self._num_classes) * logits).sum(1)
        if not self._only_correct:
            self._ready.extend(numbers)
            return
        self._host_correct.copy_(logits.argmax(1) == labels, non_blocking=True)
        if self._event is not None:
            self._event.record()
        self._in_flight = numbers

    def _sort_out(self, numbers: range) -> None:
        correct = [n for n, right in zip(numbers, self._host_correct.tolist()) if right]  # noqa: B905
        self._ready.extend(correct)
        self.misclassified += len(numbers) - len(correct)
        self._in_flight = None
