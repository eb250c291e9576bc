"""Batched torch as an expert writes it: static batches, or slots that are refilled."""

import copy
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.contenders.torch_results import Heatmaps, Reports
from benchmarks.contenders.torch_source import Source
from benchmarks.contenders.torch_step import (
    SlotStep,
    fast_call,
    fold,
    load_network,
    peak_device_bytes,
    require_form,
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


class TorchBatched:
    """Eval mode, folded batch norms, channels_last, weights cast once, cudnn.benchmark.

    Contenders: torch-eager; torch-compile, torch-compile-reduce-overhead and
    torch-compile-max-autotune, with torch's modes; torch-graph and torch-compile-graph, the whole
    step in one CUDA graph. Without a suffix `slots` images go together until the last is done.
    With +refill a slot that is done gives its heatmap away and takes the next image, as ours do.

    A turn uploads images from pinned memory, classifies them, optimises them, and copies float16
    heatmaps to the host. It does less than ours: scores are not verified in float32, and an image
    that misses the target keeps its last heatmap, not its best. On a GPU a slot's end is noticed
    one step late, so each image, or each static batch, costs one idle step, which is not counted.

    Args:
        target: where `to_target` stops.
    """

    def __init__(
        self, measurement: Measurement, problem: Problem, *, target: float = TARGET
    ) -> None:
        self._form, _, suffix = measurement.contender.partition("+")
        if suffix not in ("", "refill"):
            raise ValueError(f"contender {measurement.contender}: the only suffix is +refill")
        require_form(self._form)
        require_precision(measurement.precision, ("float32", "tf32", "bfloat16"))
        self._measurement, self._problem = measurement, problem
        self._refills = suffix == "refill"
        self._to_target = measurement.workload == "to_target"
        self._target = target if self._to_target else UNREACHABLE
        self._network = fold(load_network(problem))
        count = max(measurement.num_images, CHECKED_IMAGES)
        self._images, self._labels = problem.batch(np.arange(count))
        self._step: SlotStep
        self._call: Callable[[], Any]
        self._steps: list[int] = []
        self._outcomes: Counter[str] = Counter()

    @torch.no_grad()
    def prepare(self) -> Fields:
        """Move everything to the device, compile, and take the first steps for the scores."""
        started = time.perf_counter()
        measurement, problem = self._measurement, self._problem
        self._device = device = target_device()
        torch.backends.cudnn.benchmark = True
        network = self._network.to(device)
        fast = network
        if measurement.precision == "bfloat16":
            fast = copy.deepcopy(network).bfloat16()
        self._step = SlotStep(fast, measurement, problem, self._target).to(device)
        self._source = Source(network, measurement, problem, self._images, self._labels, device)
        self._reports = Reports(self._step.report)
        self.heatmaps = Heatmaps(self._step.w)
        with tf32(measurement.precision == "tf32"):
            self._source.begin(CHECKED_IMAGES, only_correct=False)
            numbers = self._source.take(measurement.slots, wait=True)
            self._start(list(range(len(numbers))), numbers)
            self._call = fast_call(self._step, self._form)
            synchronize()
            compile_seconds = time.perf_counter() - started
            return {"compile_seconds": compile_seconds, "scores": self._first_scores()}

    @torch.no_grad()
    def turn(self) -> Turn:
        """Optimise all images."""
        measurement = self._measurement
        self._steps.clear()
        self._outcomes.clear()
        synchronize()
        with tf32(measurement.precision == "tf32"):
            started = time.perf_counter()
            self._source.begin(measurement.num_images, only_correct=self._to_target)
            if self._to_target or self._refills:
                image_steps = self._run_slots()
            else:
                image_steps = self._run_fixed_batches()
            synchronize()
            seconds = time.perf_counter() - started
        self._outcomes["misclassified"] += self._source.misclassified
        optimised = measurement.num_images - self._source.misclassified
        return Turn(seconds, image_steps, optimised)

    @torch.no_grad()
    def finish(self) -> Fields:
        """Return what the last turn did, and the rate of the step alone at fixed steps."""
        fields: Fields = {"peak_device_bytes": peak_device_bytes()}
        if self._form.startswith("torch-compile"):
            from torch._dynamo.utils import counters

            # Not zero: CUDA graphs were asked for, and Inductor went without.
            fields["cudagraph_skips"] = counters["inductor"]["cudagraph_skips"]
        if self._to_target:
            fields |= {"steps": sorted(self._steps), "outcomes": dict(self._outcomes)}
        if self._measurement.workload == "fixed_steps":
            fields["step_image_steps_per_s"] = self._step_rate()
        return fields

    def _step_rate(self) -> float:
        """Time as many calls as one image needs, with nothing around them; done slots work too."""
        calls = self._measurement.max_steps + 1
        with tf32(self._measurement.precision == "tf32"):
            synchronize()
            started = time.perf_counter()
            for _ in range(calls):
                self._call()
            synchronize()
        return calls * self._measurement.slots / (time.perf_counter() - started)

    def _run_fixed_batches(self) -> int:
        """Run batches whose number of steps is known: the host only launches."""
        slots, calls = self._measurement.slots, self._measurement.max_steps + 1
        image_steps = 0
        while numbers := self._source.take(slots, wait=True):
            filled = list(range(len(numbers)))
            self._start(filled, numbers)
            for _ in range(calls):
                self._call()
                self._source.look_ahead()
            self._hand_out(filled, numbers)
            image_steps += calls * len(numbers)
        return image_steps

    def _run_slots(self) -> int:
        """Run until every image is done; a static batch gives way only as a whole."""
        slots, max_steps = self._measurement.slots, self._measurement.max_steps
        occupants: dict[int, int] = {}  # slot → number of the image that is running there
        since = [0] * slots  # the first step of a slot's image
        batch: list[int] = []
        image_steps = step = 0
        self._reports.clear()
        while True:
            if not occupants or (self._refills and len(occupants) < slots):
                free = [slot for slot in range(slots) if slot not in occupants]
                batch = self._source.take(len(free), wait=not occupants)
                self._start(free[: len(batch)], batch)
                for slot, number in zip(free, batch):  # noqa: B905 - the last images are fewer
                    occupants[slot], since[slot] = number, step
            if not occupants:
                return image_steps
            self._call()
            self._reports.send(step)
            step += 1
            self._source.look_ahead()
            for reported, (counts, scores) in self._reports.receive():
                done = (scores >= self._target) | (counts >= max_steps)
                ended = [slot for slot in occupants if done[slot] and since[slot] <= reported]
                numbers = [occupants.pop(slot) for slot in ended]
                for slot in ended:
                    self._book(int(counts[slot]), reached=bool(scores[slot] >= self._target))
                    image_steps += int(counts[slot]) + 1
                if self._refills:
                    self._hand_out(ended, numbers)
                elif ended and not occupants:
                    self._hand_out(list(range(len(batch))), batch)

    def _start(self, slots: list[int], numbers: list[int]) -> None:
        if numbers:
            rows, source = self._on_device(numbers), self._source
            self._step.fill(
                self._on_device(slots),
                source.images[rows],
                source.labels[rows],
                source.baseline[rows],
            )

    def _hand_out(self, slots: list[int], numbers: list[int]) -> None:
        if numbers:
            self.heatmaps.hand_out(numbers, self._step.heatmaps(self._on_device(slots)))

    def _book(self, steps: int, *, reached: bool) -> None:
        self._outcomes["reached" if reached else "step_limit"] += 1
        if reached:
            self._steps.append(steps)

    def _on_device(self, indices: list[int]) -> Tensor:
        found = torch.tensor(indices)
        if self._device.type == "cuda":  # from pageable memory the copy would wait for the device
            found = found.pin_memory()
        return found.to(self._device, non_blocking=True)

    def _first_scores(self) -> list[list[float]]:
        """Return the first scores of the first images, by the step that is timed."""
        step, slots = self._step, self._measurement.slots
        step.target.fill_(UNREACHABLE)
        step.last_step.fill_(CHECKED_UPDATES)
        curves: list[list[float]] = []
        self._source.begin(CHECKED_IMAGES, only_correct=False)
        while numbers := self._source.take(slots, wait=True):
            self._start(list(range(len(numbers))), numbers)
            scores = []
            for _ in range(CHECKED_UPDATES + 1):
                self._call()
                scores.append(step.report[1].tolist())
            curves += np.array(scores).T[: len(numbers)].tolist()
        step.target.fill_(self._target)
        step.last_step.fill_(self._measurement.max_steps)
        return curves
