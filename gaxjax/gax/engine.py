"""The engine: thousands of images through a fixed number of slots, each to its own end.

The host only feeds and empties: it classifies new images, keeps the device's queue filled, reads
each step's report one step late, has ended images verified in float32, and hands out solutions as
they settle. The device never waits for it. What happens in a step is in `lanes.py`.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.common.devices import is_out_of_memory, local_devices
from gaxjax.common.errors import UserError
from gaxjax.config.base import Precision
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig
from gaxjax.data.batching import Batch, Prefetch
from gaxjax.gax.capacity import choose_slots
from gaxjax.gax.objective import Objective
from gaxjax.gax.program import QUEUE_BLOCKS, Program
from gaxjax.gax.slots import NOT_FINITE, REACHED, STEP_LIMIT, Report
from gaxjax.gax.stats import EngineStats
from gaxjax.models.classifier import Classifier
from gaxjax.models.rewriting import fast_form
from gaxjax.results.solution import Outcome, Solution
from gaxjax.score import Baseline, Verified

_PATIENCE = 8  # steps an ended image may wait for a full verification batch


class _Owed(NamedTuple):
    """An image that the engine owes a solution; kept on the host until it is settled."""

    image: np.ndarray
    label: int
    weighted_logits: float
    prediction: int
    probability: float


class _Ended(NamedTuple):
    """What the host reads of a `lanes.Finished`."""

    number: Any
    heatmap: Any
    status: Any
    step: Any
    heatmap_step: Any
    curve: Any


_OUTCOMES = {
    REACHED: Outcome.REACHED,
    STEP_LIMIT: Outcome.STEP_LIMIT,
    NOT_FINITE: Outcome.NOT_FINITE,
}


def resolve_precision(
    precision: Precision, device: jax.Device, classifier: Classifier
) -> Precision:
    """Turn `auto` into bfloat16 on a GPU and float32 elsewhere.

    Raises:
        UserError: bfloat16 is asked of a function that holds its weights itself.
    """
    castable = any(
        jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(classifier.weights)
    )
    if precision == "bfloat16" and not castable:
        raise UserError(
            f"{classifier.name} holds its weights itself, so they cannot be cast to bfloat16: "
            "pass a module, or jax.tree_util.Partial(function, weights)"
        )
    if precision != "auto":
        return precision
    return "bfloat16" if device.platform == "gpu" and castable else "float32"


def make_objective(
    classifier: Classifier, gax: GaxConfig, precision: Precision, device: jax.Device
) -> Objective:
    """Return the objective in the form that suits the device.

    Raises:
        UserError: as `resolve_precision`.
    """
    precision = resolve_precision(precision, device, classifier)
    return Objective(classifier, gax, precision, fast_form(classifier, precision, device.platform))


class Engine:
    """Optimises heatmaps for a stream of images.

    Args:
        classifier: the frozen model.
        gax: what to optimise.
        config: how fast.
        image_shape: (H, W, 3).
        image_dtype: uint8, or float32 for pixels already in [0, 1].
        heatmap_dtype: type of the heatmaps handed out; scores are verified after that rounding.
        num_images: how many will come, where known; slots past it would stay empty.

    Example:
        >>> engine = Engine(classifier, GaxConfig(), EngineConfig(), image_shape=(256, 256, 3))
        >>> for solution in engine.run(batches):
        ...     print(solution.index, solution.outcome, solution.co_score)
    """

    def __init__(
        self,
        classifier: Classifier,
        gax: GaxConfig,
        config: EngineConfig,
        *,
        image_shape: tuple[int, ...],
        image_dtype: Any = np.uint8,
        heatmap_dtype: Any = np.float32,
        num_images: int | None = None,
    ) -> None:
        self.devices = local_devices(config.devices)
        self.objective = make_objective(classifier, gax, config.precision, self.devices[0])
        self._image = jax.ShapeDtypeStruct(image_shape, image_dtype)
        self.heatmap_dtype = jnp.dtype(heatmap_dtype)
        self._drain = config.drain
        self.slots = choose_slots(self.objective, config, self._image, self.devices, num_images)
        self.stats = EngineStats()
        self.program: Program | None = None

    @property
    def batch_size(self) -> int:
        """Images per batch that `run` works on best."""
        return self.slots * len(self.devices)

    def warm_up(self) -> Program:
        """Compile everything; `run` does it when it was not done before.

        Slots are halved until the program fits the memory.
        """
        while self.program is None:
            try:
                self.program = Program(
                    self.objective,
                    devices=self.devices,
                    slots=self.slots,
                    drain=self._drain,
                    image=self._image,
                    heatmap_dtype=self.heatmap_dtype,
                )
            except jax.errors.JaxRuntimeError as error:
                self._halve(error)
            else:
                self.stats.compile_seconds += self.program.compile_seconds
        self.stats.slots, self.stats.devices = self.slots, len(self.devices)
        self.stats.verify_size = self.program.verify_size
        self.stats.precision = self.objective.precision
        return self.program

    def run(self, batches: Iterable[Batch]) -> Generator[Solution, None, None]:
        """Yield one solution per image of `batches`, as they settle, in no particular order.

        An image that is classified wrongly, or could not be read, gets its outcome without being
        optimised. `batches` is read in a thread and must not wait for solutions.

        Raises:
            UserError: even a single slot does not fit the memory.
        """
        arrived: deque[Batch] = deque()
        owed: dict[int, _Owed] = {}
        with Prefetch(batches) as source:
            while True:
                program = self.warm_up()
                try:
                    yield from _Pass(program, self.stats, source, arrived, owed).solutions()
                    return
                except jax.errors.JaxRuntimeError as error:
                    if error is source.error:  # the images' own trouble, not the engine's
                        raise
                    self._halve(error)

    def _halve(self, error: jax.errors.JaxRuntimeError) -> None:
        """Out of memory: forget the program and go on with half the slots."""
        if not is_out_of_memory(error):
            raise error
        if self.slots == 1:
            raise UserError(
                "out of device memory with a single slot: use smaller images (--size) or "
                "a smaller model"
            ) from error
        self.program = None
        self.slots //= 2
        self.stats.halvings += 1


class _Pass:
    """One pass of a program over the images still to come and still owed.

    There is a second pass only after running out of memory; `arrived` and `owed` outlive a pass.
    """

    def __init__(
        self,
        program: Program,
        stats: EngineStats,
        source: Prefetch[Batch],
        arrived: deque[Batch],
        owed: dict[int, _Owed],
    ) -> None:
        self.program, self.stats, self.source = program, stats, source
        self.config = program.objective.config
        self.num_devices = program.num_devices
        self.slots = self.block = program.slots[0]  # per device; only `slots` shrinks in the drain
        self.state = program.empty_state()
        self.owed = owed
        self.arrived = arrived  # not yet sorted out; the first ones are being classified
        unsplit = list(arrived)
        arrived.clear()
        self._arrive(unsplit)
        self.classified: deque[Baseline] = deque()
        self.ready = deque(sorted(owed))  # sorted out, not yet on a device
        self.reports: deque[tuple[int, int, Report]] = deque()
        self.verified: deque[tuple[_Ended, Verified, jax.Array]] = deque()
        self.step_number = 0
        self.seen = Report(*(np.zeros(self.num_devices, np.int64) for _ in Report._fields))
        self.seen_number = 0
        self.verified_at: deque[int] = deque()  # steps after which one ran, unknown to `seen`
        self.last_verified = 0
        self.enqueued = np.zeros(self.num_devices, np.int64)
        self.returning = 0  # images sent back to their slot since the last step

    def solutions(self) -> Iterator[Solution]:
        """Run until nothing is owed and nothing is to come."""
        while True:
            yield from self._take_in()
            self._enqueue()
            if self._device_has_work():
                self._step()
                self._read_reports(behind=1)
            else:
                self._read_reports(behind=0)
            while self._verification_is_due():
                self._verify()
            yield from self._settle(wait=not self._device_has_work())
            if self._is_idle() and self.source.exhausted and not (self.arrived or self.owed):
                break
            if self._is_draining():
                self._shrink()

    # -- in: batch → baseline → an outcome, or the queue -------------------------------------

    def _take_in(self) -> Iterator[Solution]:
        """Classify images ahead of need, and sort out those that are not optimised."""
        size = self.block * self.num_devices
        while len(self.arrived) < 2 and len(self.ready) < 2 * size:
            batch = self.source.get(wait=self._is_idle() and not self.arrived)
            if batch is None:
                break
            for index, reason in batch.unreadable:
                yield Solution(
                    index,
                    Outcome.UNREADABLE,
                    label=-1,
                    operation=self.config.operation,
                    reason=reason,
                )
            self._arrive([batch])
        program = self.program
        for batch in islice(self.arrived, len(self.classified), 2):
            baseline = program.baseline(
                program.weights, self._spread(batch.images), self._spread(batch.labels)
            )
            self.classified.append(baseline)
            self.stats.baselines += 1
        while self.classified:
            busy = self.ready or self._device_has_work()
            if busy and not _is_ready(self.classified[0].prediction):
                break
            baseline = jax.device_get(self.classified[0])
            self.classified.popleft()
            yield from self._sort_out(
                self.arrived.popleft(), Baseline(*(leaf.T.reshape(-1) for leaf in baseline))
            )

    def _arrive(self, batches: Iterable[Batch]) -> None:
        size = self.block * self.num_devices
        for batch in batches:
            self.arrived.extend(batch.split(size))

    def _sort_out(self, batch: Batch, baseline: Baseline) -> Iterator[Solution]:
        for row, index in enumerate(batch.indices.tolist()):
            label, prediction = int(batch.labels[row]), int(baseline.prediction[row])
            weighted_logits = float(baseline.weighted_logits[row])
            probability = float(baseline.probability[row])
            if not np.isfinite(weighted_logits):
                outcome = Outcome.NOT_FINITE
            elif prediction != label and not self.config.include_misclassified:
                outcome = Outcome.MISCLASSIFIED
            else:
                self.owed[index] = _Owed(
                    batch.images[row].copy(), label, weighted_logits, prediction, probability
                )
                self.ready.append(index)
                continue
            yield Solution(
                index,
                outcome,
                label,
                operation=self.config.operation,
                prediction=prediction,
                probability_before=probability,
            )

    def _enqueue(self) -> None:
        """Send blocks to the devices: full ones, and at the very end a partly filled one."""
        size = self.block * self.num_devices
        capacity = QUEUE_BLOCKS * self.block
        while self.ready and np.all(self.enqueued + self.block <= self.seen.admitted + capacity):
            if len(self.ready) < size and not (self.source.exhausted and not self.arrived):
                break
            indices = [self.ready.popleft() for _ in range(min(size, len(self.ready)))]
            images = [self.owed[index] for index in indices]
            program = self.program
            counts = [
                len(indices[device :: self.num_devices]) for device in range(self.num_devices)
            ]
            self.state = program.enqueue(
                self.state,
                self._spread(np.stack([image.image for image in images])),
                self._spread(np.array(indices, np.int32)),
                self._spread(np.array([image.label for image in images], np.int32)),
                self._spread(np.array([image.weighted_logits for image in images], np.float32)),
                program.put(np.array(counts, np.int32)),
            )
            self.enqueued += counts

    def _spread(self, rows: np.ndarray) -> jax.Array:
        """Deal rows out to the devices in turn, padded with zeros: [devices, block, ...]."""
        padded = np.zeros((self.block * self.num_devices, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        dealt = padded.reshape(self.block, self.num_devices, *rows.shape[1:]).swapaxes(0, 1)
        return self.program.put(dealt)

    # -- the step and its report -------------------------------------------------------------

    def _device_has_work(self) -> bool:
        """Whether a step would do anything, as far as the last report tells."""
        seen = self.seen
        lanes = seen.running + seen.stalled + (self.enqueued - seen.admitted)
        return bool(lanes.any()) or self.returning > 0

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
            while self.verified_at and self.verified_at[0] < self.seen_number:
                self.verified_at.popleft()
            stats = self.stats
            stats.steps += 1
            stats.image_steps += int(self.seen.running.sum())
            stats.slot_steps += slots * self.num_devices
            stats.clock()
            if not self._is_draining():
                stats.undrained = (stats.image_steps, stats.slot_steps, stats.seconds)

    # -- out: verification, then a solution, or back to the slot -----------------------------

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
        ended = _Ended(*(getattr(finished, name) for name in _Ended._fields))
        for leaf in (*ended, *verified, settled):
            leaf.copy_to_host_async()
        self.verified.append((ended, verified, settled))
        self.verified_at.append(self.step_number)
        self.last_verified = self.step_number
        self.stats.verifications += 1

    def _settle(self, *, wait: bool) -> Iterator[Solution]:
        """Hand out what verification has settled; with `wait`, wait for it."""
        while self.verified and (wait or _is_ready(self.verified[0][2])):
            ended, verified, settled = jax.device_get(self.verified.popleft())
            for place in zip(*np.nonzero(ended.number >= 0), strict=True):
                if settled[place]:
                    yield self._solution(
                        _Ended(*(leaf[place] for leaf in ended)),
                        Verified(*(leaf[place] for leaf in verified)),
                    )
                else:
                    self.returning += 1
                    self.stats.returned += 1

    def _solution(self, ended: _Ended, verified: Verified) -> Solution:
        known = self.owed.pop(int(ended.number))
        self.stats.settled += 1
        curve = ended.curve[: int(ended.step) + 1].copy()
        start: dict[str, Any] = {
            "index": int(ended.number),
            "label": known.label,
            "operation": self.config.operation,
            "prediction": known.prediction,
            "probability_before": known.probability,
            "co_score_start": float(curve[0]),
            "curve": curve,
        }
        outcome = _OUTCOMES[int(ended.status)]
        if int(ended.heatmap_step) < 0:  # no score was ever finite
            return Solution(outcome=outcome, **start)
        return Solution(
            outcome=outcome,
            **start,
            steps=int(ended.heatmap_step),
            co_score=float(verified.co_score),
            similarity_loss=float(verified.similarity_loss),
            probability_after=float(verified.probability),
            prediction_after=int(verified.prediction),
            heatmap=np.array(ended.heatmap),
        )

    # -- the drain ---------------------------------------------------------------------------

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
