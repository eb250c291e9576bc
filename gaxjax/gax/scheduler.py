"""The host's side of the engine: it feeds and empties the slots, and the device never waits for it.

One turn of `Scheduler.solutions`, in the order in which it happens:

1. Take in: classify the images that came, ahead of need. One that cannot be read, is not finite,
   or is classified wrongly, has its outcome at once; the others are owed a solution.
2. Enqueue: send owed images to the devices' queues, in blocks of as many as there are slots.
3. Step: launch a refill of free slots from the queue and one image-step of all, and read the
   report of the step before; in a CPU's drain, of this one.
4. Verify: where enough images have ended, copy their heatmaps out and score them again in float32.
5. Settle: hand out what verification has settled; the others are on their way back to their slot.
6. Drain: when no image waits any more, go on with fewer slots.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import jax
import numpy as np

from gaxjax.data import Batch, Prefetch
from gaxjax.gax.objective import Verified
from gaxjax.gax.program import QUEUE_BLOCKS, Program
from gaxjax.gax.setting import Settings
from gaxjax.gax.settled import Ended, Owed, settled_solution
from gaxjax.gax.slots import Report
from gaxjax.gax.stats import EngineStats
from gaxjax.results import Outcome, Solution
from gaxjax.score import Reading

_RECENT = 4  # reports by which the size of a refill is chosen
_PATIENCE = 8  # steps an ended image may wait for a full verification batch


class Scheduler:
    """One pass of a program over the images still to come and still owed.

    There is a second pass only after running out of memory; `arrived` and `owed` outlive a pass.

    Args:
        program: the compiled functions.
        stats: is kept up to date.
        source: batches of images, read ahead.
        arrived: batches that an earlier pass had not yet sorted out.
        owed: images that an earlier pass had not settled.
        settings: those that each image is optimised with.
    """

    def __init__(
        self,
        program: Program,
        stats: EngineStats,
        source: Prefetch[Batch],
        arrived: deque[Batch],
        owed: dict[int, Owed],
        settings: Settings,
    ) -> None:
        self.program, self.stats, self.source = program, stats, source
        self.settings = settings
        self.config = program.objective.config
        self.num_devices = program.num_devices
        self.slots = self.block = program.slots[0]  # per device; only `slots` shrinks in the drain
        self.state = program.empty_state()
        self.owed = owed
        self.arrived = arrived  # not yet sorted out; the first ones are being classified
        unsplit = list(arrived)
        arrived.clear()
        self._arrive(unsplit)
        self.classified: deque[Reading] = deque()
        self.ready = deque(sorted(owed))  # sorted out, not yet on a device
        self.reports: deque[tuple[int, int, Report]] = deque()
        self.verified: deque[tuple[Ended, Verified, jax.Array]] = deque()
        self.step_number = 0
        self.seen = Report(*(np.zeros(self.num_devices, np.int64) for _ in Report._fields))
        self.seen_number = 0
        self.wanting = deque([self.slots], maxlen=_RECENT)  # slots to refill, at most, by report
        self.verified_at: deque[int] = deque()  # steps after which one ran, unknown to `seen`
        self.last_verified = 0
        self.enqueued = np.zeros(self.num_devices, np.int64)
        self.returning = 0  # images sent back to their slot since the last step

    def solutions(self) -> Iterator[Solution]:
        """Run until nothing is owed and nothing is to come; yield solutions as they settle."""
        while True:
            yield from self._take_in()
            self._enqueue()
            if self._have_all_ended():
                self._park()
            elif self._device_has_work():
                self._step()
            self._read_reports(behind=1 if self._may_run_ahead() else 0)
            while self._verification_is_due():
                self._verify()
            yield from self._settle(wait=not self._device_has_work())
            if self._is_idle() and self.source.exhausted and not (self.arrived or self.owed):
                break
            if self._is_draining():
                self._shrink()

    # -- 1 · take in: batch → reading → an outcome, or owed ----------------------------------

    def _take_in(self) -> Iterator[Solution]:
        """Classify images ahead of need, and sort out those that are not optimised."""
        size = self.block * self.num_devices
        while len(self.arrived) < 2 and len(self.ready) < 2 * size:
            batch = self.source.get(wait=self._is_idle() and not self.arrived)
            if batch is None:
                break
            for index, reason in batch.unreadable:
                for number in self._numbers(index):
                    yield Solution(
                        **self._named(number), outcome=Outcome.UNREADABLE, label=-1, reason=reason
                    )
            self._arrive([batch])
        program = self.program
        for batch in islice(self.arrived, len(self.classified), 2):
            reading = program.baseline(
                program.weights, self._spread(batch.images), self._spread(batch.labels)
            )
            self.classified.append(reading)
            self.stats.baselines += 1
        while self.classified:
            busy = self.ready or self._device_has_work()
            if busy and not _is_ready(self.classified[0].prediction):
                break
            reading = jax.device_get(self.classified[0])
            self.classified.popleft()
            yield from self._sort_out(
                self.arrived.popleft(), Reading(*(leaf.T.reshape(-1) for leaf in reading))
            )

    def _arrive(self, batches: Iterable[Batch]) -> None:
        size = self.block * self.num_devices
        for batch in batches:
            self.arrived.extend(batch.split(size))

    def _sort_out(self, batch: Batch, reading: Reading) -> Iterator[Solution]:
        for row, index in enumerate(batch.indices.tolist()):
            label, prediction = int(batch.labels[row]), int(reading.prediction[row])
            weighted = float(reading.weighted[row])
            probability = float(reading.probability[row])
            if not np.isfinite(weighted):
                outcome = Outcome.NOT_FINITE
            elif prediction != label and not self.config.include_misclassified:
                outcome = Outcome.MISCLASSIFIED
            else:
                image = batch.images[row].copy()
                owed = Owed(image, label, weighted, prediction, probability)
                for number in self._numbers(index):
                    self.owed[number] = owed
                    self.ready.append(number)
                continue
            for number in self._numbers(index):
                yield Solution(
                    **self._named(number),
                    outcome=outcome,
                    label=label,
                    prediction=prediction,
                    probability_before=probability,
                )

    def _numbers(self, index: int) -> range:
        """Return the numbers of an image's optimisations, one a setting."""
        count = len(self.settings)
        return range(index * count, (index + 1) * count)

    def _named(self, number: int) -> dict[str, Any]:
        """Return what a solution says of which optimisation it is of."""
        index, setting = divmod(number, len(self.settings))
        return {
            "index": index,
            "operation": self.settings.operations[setting],
            "setting": self.settings.texts[setting],
        }

    # -- 2 · enqueue: owed images → the devices' queues ----------------------------------------

    def _enqueue(self) -> None:
        """Send blocks to the devices: full ones, and at the very end a partly filled one."""
        size = self.block * self.num_devices
        capacity = QUEUE_BLOCKS * self.block
        while self.ready and np.all(self.enqueued + self.block <= self.seen.admitted + capacity):
            if len(self.ready) < size and not (self.source.exhausted and not self.arrived):
                break
            numbers = [self.ready.popleft() for _ in range(min(size, len(self.ready)))]
            images = [self.owed[number] for number in numbers]
            program = self.program
            counts = [
                len(numbers[device :: self.num_devices]) for device in range(self.num_devices)
            ]
            settings = self.settings.rows(np.array(numbers) % len(self.settings))
            self.state = program.enqueue(
                self.state,
                self._spread([image.image for image in images]),
                self._spread(np.array(numbers, np.int32)),
                self._spread(np.array([image.label for image in images], np.int32)),
                self._spread(np.array([image.weighted for image in images], np.float32)),
                jax.tree.map(self._spread, settings),
                program.put(np.array(counts, np.int32)),
            )
            self.enqueued += counts

    def _spread(self, rows: Sequence[np.ndarray] | np.ndarray) -> jax.Array:
        """Deal rows out to the devices in turn, padded with zeros: [devices, block, ...]."""
        dealt = np.zeros((self.num_devices, self.block, *rows[0].shape), rows[0].dtype)
        for device in range(self.num_devices):
            for place, row in enumerate(rows[device :: self.num_devices]):
                dealt[device, place] = row
        return self.program.put(dealt)

    # -- 3 · step and report ------------------------------------------------------------------

    def _device_has_work(self) -> bool:
        """Whether a step would do anything, as far as the last report tells."""
        seen = self.seen
        lanes = seen.running + seen.stalled + seen.wanting + (self.enqueued - seen.admitted)
        return bool(lanes.any()) or self.returning > 0

    def _may_run_ahead(self) -> bool:
        """Whether to launch the next step before a report is read.

        On a CPU not in the drain, where that step would find all lanes ended and cost as much as
        any.
        """
        return self._device_has_work() and not (self.program.on_cpu and self._is_draining())

    def _have_all_ended(self) -> bool:
        """Whether a step would work for nothing: its lanes have ended, and no image can follow."""
        seen = self.seen
        ended = seen.running.any() and np.array_equal(seen.wanting, seen.running)
        waits = self.reports or self.returning or seen.stalled.any()
        return bool(ended and not waits and self._is_draining())

    def _park(self) -> None:
        """Move the lanes to their parked places without a step, and book what it would report."""
        self.state = self.program.refill[self.slots][self.slots](self.state)
        none, pending = np.zeros_like(self.seen.running), self._num_pending() + self.seen.wanting
        self.seen = self.seen._replace(running=none, wanting=none, pending=pending)
        self.verified_at.clear()

    def _is_idle(self) -> bool:
        """Whether nothing is under way on the devices, nor on its way back."""
        return not (
            self._device_has_work() or self.reports or self._num_pending().any() or self.verified
        )

    def _num_pending(self) -> np.ndarray:
        # A report does not yet know of verifications that ran after its step.
        verifying = self.program.verify_size * len(self.verified_at)
        return np.maximum(self.seen.pending - verifying, 0)

    def _step(self) -> None:
        self.stats.clock()
        sizes = self.program.refill[self.slots]
        enough = (size for size in sizes if size >= max(self.wanting))
        self.state = sizes[min(enough, default=self.slots)](self.state)
        self.state, report = self.program.step[self.slots](self.program.fast_weights, self.state)
        for leaf in report:
            leaf.copy_to_host_async()
        self.step_number += 1
        self.returning = 0
        self.reports.append((self.step_number, self.slots, report))

    def _read_reports(self, *, behind: int) -> None:
        """Read reports, waiting for them, but for the last `behind`."""
        while len(self.reports) > behind:
            self.seen_number, slots, report = self.reports.popleft()
            self.seen = Report(*(np.asarray(leaf).astype(np.int64) for leaf in report))
            self.wanting.append(int(self.seen.wanting.max()))
            while self.verified_at and self.verified_at[0] < self.seen_number:
                self.verified_at.popleft()
            stats = self.stats
            stats.steps += 1
            stats.image_steps += int(self.seen.running.sum())
            stats.slot_steps += slots * self.num_devices
            stats.clock()
            if not self._is_draining():
                stats.undrained = (stats.image_steps, stats.slot_steps, stats.seconds)

    # -- 4 · verify ----------------------------------------------------------------------------

    def _verification_is_due(self) -> bool:
        pending = self._num_pending()
        if not pending.any():
            return False
        full = np.any(pending >= self.program.verify_size)
        waited = self.step_number - self.last_verified >= _PATIENCE
        held_up = self.seen.stalled.any() or not self._device_has_work()
        return bool(full or waited or held_up or self._is_draining())

    def _verify(self) -> None:
        program = self.program
        finished = program.collect[self.slots](self.state)
        verified, settled = program.rescore(program.weights, finished)
        self.state = program.resolve[self.slots](self.state, finished.slot, settled)
        ended = Ended(*(getattr(finished, name) for name in Ended._fields))
        for leaf in jax.tree.leaves((ended, verified, settled)):
            leaf.copy_to_host_async()
        self.verified.append((ended, verified, settled))
        self.verified_at.append(self.step_number)
        self.last_verified = self.step_number
        self.stats.verifications += 1

    # -- 5 · settle: a solution, or back to the slot ---------------------------------------------

    def _settle(self, *, wait: bool) -> Iterator[Solution]:
        """Hand out what verification has settled; with `wait`, wait for it."""
        while self.verified and (wait or _is_ready(self.verified[0][2])):
            ended, verified, settled = jax.device_get(self.verified.popleft())
            for place in zip(*np.nonzero(ended.image_index >= 0), strict=True):
                if settled[place]:
                    yield self._solution(
                        *jax.tree.map(lambda leaf, place=place: leaf[place], (ended, verified))
                    )
                else:
                    self.returning += 1
                    self.stats.returned += 1

    def _solution(self, ended: Ended, verified: Verified) -> Solution:
        number = int(ended.image_index)
        self.stats.settled += 1
        return settled_solution(self.owed.pop(number), ended, verified, self._named(number))

    # -- 6 · drain -----------------------------------------------------------------------------

    def _is_draining(self) -> bool:
        """Whether every image has left the queue and none will come."""
        return bool(
            self.source.exhausted
            and not self.arrived
            and not self.ready
            and np.all(self.enqueued == self.seen.admitted)
        )

    def _shrink(self) -> None:
        """Go on with the smallest compiled slot count that holds what is left."""
        size = min(
            (size for size in self.program.slots if np.all(self.seen.occupied <= size)),
            default=self.slots,
        )
        if size < self.slots:
            self.state = self.program.shrink[size](self.state)
            self.slots = size


def _is_ready(array: Any) -> bool:
    return bool(array.is_ready())
