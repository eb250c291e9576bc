"""A run over the workers of a Ray cluster: one driver that has the run, many that write its parts.

The driver opens model and images, begins the run, and hands out slices of what is left to do. Each
worker is an actor: it holds its devices and a warm engine, and commits parts of numbers that are
its own. Ray starts a worker that died again and gives it its slice once more; what it had committed
of it is not done twice.
"""

import logging
import signal
import socket
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from gaxjax.common import (
    AnyPath,
    RunProgress,
    Timed,
    UserError,
    counted,
    interruption,
    one_line,
)
from gaxjax.config import AxRunConfig, GaxRunConfig, SpreadConfig
from gaxjax.results import drop_snapshots, keep_image_list
from gaxjax.runs.opening import chosen_images, decoded_as_made_for, images_as_begun, open_classifier
from gaxjax.runs.ray_worker import WAITING, Job, Worker
from gaxjax.runs.shell import Plan, RunSummary
from gaxjax.runs.slices import Slice

__all__ = ["FleetStats", "run_on_ray", "slices_of"]

_SLICES_PER_WORKER = 8
_BATCHES_PER_SLICE = 8  # at least: slots stay empty while a slice ends
_RESTARTS = 8
_PATIENCE = 30.0  # seconds for workers to start before it is told that they do
_ANSWER = 10.0  # seconds for a cluster to answer
_POLL = 1.0  # seconds between looks at how far the workers are
_STOPPING = 120.0  # seconds for what was finished to be committed after a signal


@dataclass
class FleetStats(Timed):
    """What all workers did.

    Attributes:
        workers: how many.
        figures: of each worker, by its number: `EngineStats` or `BatchStats` as plain values, its
            process's number and the images that this one has done.
        unit: of the rate.
        restarts: of workers that died.
    """

    workers: int = 0
    figures: dict[int, dict[str, Any]] = field(default_factory=dict)
    unit: str = "image-steps"
    restarts: int = 0

    @property
    def rate(self) -> float:
        """All workers' rates together, in `unit` a second."""
        return float(sum(each.get("rate", 0.0) for each in self.figures.values()))

    def describe(self) -> str:
        """Return the progress line's figures."""
        again = f" · {counted(self.restarts, 'restart')}" if self.restarts else ""
        return f"{self.rate:,.1f} {self.unit}/s · {counted(self.workers, 'worker')}{again}"

    def summary(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        compiling = [each.get("compile_seconds", 0.0) for each in self.figures.values()]
        name = f"{self.unit.replace('-', '_')}_per_second"
        return {
            "workers": self.workers,
            "restarts": self.restarts,
            "seconds": self.seconds,
            "compile_seconds": max(compiling, default=0.0),
            "precision": next((each.get("precision", "") for each in self.figures.values()), ""),
            name: self.rate,
        }


def slices_of(todo: list[int], workers: int, batch_size: int) -> list[list[int]]:
    """Divide what is left to do: several slices a worker, each of several batches where it can be.

    Example:
        >>> [len(each) for each in slices_of(list(range(100)), 2, 2)]
        [16, 17, 17, 16, 17, 17]
    """
    least = max(1, _BATCHES_PER_SLICE * batch_size)
    # The same number for all: with one and a half slices a worker, half of them would idle.
    each = min(_SLICES_PER_WORKER, max(1, len(todo) // (workers * least)))
    count = min(len(todo), workers * each)
    bounds = [Slice(index, count).bounds(len(todo)) for index in range(count)]
    return [todo[begins:ends] for begins, ends in bounds]


def run_on_ray(
    planned: Callable[..., tuple[Plan, Any]],
    config: GaxRunConfig | AxRunConfig,
    output: AnyPath,
    note: Callable[[str], None],
    *,
    given: tuple[Any, ...] = (),
) -> RunSummary:
    """Do a run over the workers of a Ray cluster; the same call resumes it.

    Args:
        planned: opens model, images and engine of a worker: `planned_gax` or `planned_ax`.
        config: the run's, with `spread.ray`.
        output: the folder, which every machine sees under this name, or a URL.
        note: is told what the run rests on.
        given: objects of this process in place of a model or images, of which there may be none.

    Raises:
        UserError: bad input, as by `run_gax` and `run_ax`; an object is given; no Ray, or no
            such cluster; workers that differ, or that die again and again.
    """
    import jax

    if any(each is not None for each in given):
        raise UserError(
            "Ray's workers open model and images by their names: leave classifier and dataset out"
        )
    command = "gax" if isinstance(config, GaxRunConfig) else "ax"
    with suppress(RuntimeError):  # the devices are the workers': here nothing is computed on them
        jax.config.update("jax_platforms", "cpu")
    classifier = open_classifier(config.model, fold=command == "gax")
    config = replace(config, data=decoded_as_made_for(config.data, classifier, note))
    images = images_as_begun(output, config, chosen_images(config, classifier, note), note)
    count = len(images.records)
    job = Job(planned, config, str(output), count, images.fingerprint)
    assert config.spread.ray is not None
    with _connected(config.spread.ray) as ray:
        workers = _started(ray, command, job, config.spread)
        abouts = _answers(ray, [worker.about.remote() for worker in workers], note)
        if any(about["method"] != abouts[0]["method"] for about in abouts):
            raise UserError(
                "the workers' devices are of several kinds, which compute otherwise: give "
                "--precision float32, or workers on one kind alone"
            )
        plan = Plan(command, config, classifier, images, abouts[0]["method"])
        per_image = abouts[0]["heatmaps_per_image"]
        with plan.open_store(output, per_image, writers=len(workers)) as store:
            keep_image_list(output, images)
            resumed = len(store.done)
            order = images.order()
            todo = [i for i in order if images.records[i].image_id not in store.done]
            unit = "image-steps" if command == "gax" else "images"
            stats = FleetStats(workers=len(workers), unit=unit)
            if todo:
                drop_snapshots(output)
                store.begin_session(plan.session(abouts[0]["hardware"], workers=len(workers)))
                interruption.raise_once()
                slices = slices_of(todo, len(workers), abouts[0]["batch_size"])
                try:
                    with RunProgress(command.upper(), count, done=resumed) as progress:
                        _Fleet(ray, workers, slices, stats).work(progress)
                finally:
                    with suppress(UserError):  # what happened first is what is told
                        store.end_session(stats.summary())
            missing = store.complete(count)
            assert not missing, f"{missing} images have no row"
    return RunSummary(output, count, store.outcomes, resumed, stats if todo else None)


class _Fleet:
    """Workers, the slices that wait, and those that are being done."""

    def __init__(
        self, ray: Any, workers: list[Any], slices: list[list[int]], stats: FleetStats
    ) -> None:
        self._ray, self._stats = ray, stats
        self._workers = dict(enumerate(workers))
        self._waiting = deque(slices)
        self._doing: dict[Any, tuple[int, list[int]]] = {}
        self._finished = 0

    def work(self, progress: RunProgress) -> None:
        """Hand out slices until all are done."""
        told = done = 0
        looked = time.monotonic()
        try:
            while self._waiting or self._doing:
                interruption.check()
                self._hand_out()
                doing = list(self._doing)
                ready, _ = self._ray.wait(doing, num_returns=1, timeout=_POLL)
                if ready:  # with it, all that are
                    ready, _ = self._ray.wait(doing, num_returns=len(doing), timeout=0)
                for reference in ready:
                    self._take(reference)
                self._stats.clock()
                if time.monotonic() - looked >= _POLL:
                    done, looked = self._look(), time.monotonic()
                seen = max(done, self._finished)
                progress.advance(self._stats, max(0, seen - told))
                told = max(told, seen)
        except BaseException:
            self._stop()
            raise
        self._look()

    def _hand_out(self) -> None:
        held = [number for number, _ in self._doing.values()]
        for ahead in range(WAITING):
            for number, worker in self._workers.items():
                if self._waiting and held.count(number) <= ahead:
                    slice_ = self._waiting.popleft()
                    name = f"{counted(len(slice_), 'image')} from {slice_[0]}"
                    self._doing[worker.work.options(name=name).remote(slice_)] = number, slice_
                    held.append(number)

    def _take(self, reference: Any) -> None:
        """Take what a worker answers to a slice, or see that it is gone for good."""
        number, slice_ = self._doing.pop(reference)
        try:
            self._finished += self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise _told(error) from None
        except self._ray.exceptions.RayError as error:
            self._workers.pop(number, None)
            self._waiting.appendleft(slice_)
            if not self._workers:
                raise UserError(
                    f"no worker is left ({one_line(error)}): what was committed is safe; mend it "
                    "and give the same command again to resume"
                ) from None

    def _look(self) -> int:
        """Ask the workers how far they are; return the images that they have done, as they say."""
        asked = {worker.progress.remote(): number for number, worker in self._workers.items()}
        ready, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=_POLL)
        for reference in ready:
            with suppress(self._ray.exceptions.RayError):
                process, done, figures = self._ray.get(reference)
                before = self._stats.figures.get(asked[reference], {})
                self._stats.restarts += before.get("process", process) != process
                found = figures | {"process": process, "done": done}
                self._stats.figures[asked[reference]] = found
        return sum(each["done"] for each in self._stats.figures.values())

    def _stop(self) -> None:
        """Have the workers commit what they have finished, and wait for it."""
        for worker in self._workers.values():
            with suppress(self._ray.exceptions.RayError):
                worker.stop.remote()
        deadline = time.monotonic() + _STOPPING
        while self._doing and time.monotonic() < deadline:
            _, rest = self._ray.wait(list(self._doing), num_returns=1, timeout=_POLL)
            self._doing = {each: self._doing[each] for each in rest}


# --- Ray -----------------------------------------------------------------------------------------


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, `auto` or an address, or start one of this machine; give `ray`.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray: pip install 'gaxjax[ray]'") from None
    ours = not ray.is_initialized()
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    if ours:
        try:
            if address != "auto":
                _require_answer(address)
            given = None if address == "auto" else address
            with warnings.catch_warnings():
                # It starts processes of other programs: none goes on as a copy of this one.
                warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                ray.init(address=given, logging_level=logging.ERROR, log_to_driver=False)
        except OSError as error:  # ConnectionError and TimeoutError among them
            raise UserError(
                f"--ray {address}: no Ray cluster answers ({one_line(error)})"
            ) from None
    if main:
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end us in the middle
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address where nobody listens, for which Ray itself waits for minutes.

    Raises:
        OSError: there is none, or it does not answer.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray must be auto or host:port, such as head:6379; got {address}")
    socket.create_connection((host, int(port)), _ANSWER).close()


def _started(ray: Any, command: str, job: Job, spread: SpreadConfig) -> list[Any]:
    """Start the workers, as many as are asked for, else as there are devices for."""
    there = ray.cluster_resources()
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 1))
    each = spread.devices_per_worker
    if each is not None or gpus:
        each = each or 1
        count = spread.workers or gpus // each
        if not count:
            raise UserError(
                f"--devices-per-worker {each}: the cluster has {counted(gpus, 'GPU')}; give fewer, "
                "or --workers for one that grows"
            )
        resources = {"num_gpus": each, "num_cpus": 1}
    else:
        machines = sum(node["Alive"] for node in ray.nodes())
        count = spread.workers or machines  # a process takes all cores of its machine
        resources = {"num_cpus": max(1, cpus // count), "num_gpus": 0}
    actor = ray.remote(Worker)
    return [
        actor.options(
            name=f"gaxjax {command} worker {number}",
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
            max_concurrency=WAITING + 2,  # with questions, and a stop
            **resources,
        ).remote(job, number)
        for number in range(count)
    ]


def _answers(ray: Any, asked: list[Any], note: Callable[[str], None]) -> list[Any]:
    """Wait for all answers; say what is waited for."""
    waiting, told = asked, False
    while waiting:
        interruption.check()
        patience = _POLL if told else _PATIENCE
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=patience)
        if waiting and not told:
            note(
                f"{counted(len(waiting), 'worker')} of {len(asked)} still start, or wait for a "
                f"machine; the cluster has {_resources(ray)}"
            )
            told = True
    try:
        answers: list[Any] = ray.get(asked)
    except ray.exceptions.RayTaskError as error:
        raise _told(error) from None
    except ray.exceptions.RayError as error:
        raise UserError(f"the workers do not start ({one_line(error)})") from None
    return answers


def _resources(ray: Any) -> str:
    there = ray.cluster_resources()
    return " and ".join(counted(int(there.get(name, 0)), name) for name in ("CPU", "GPU"))


def _told(error: Any) -> BaseException:
    """Return what a worker met: a user's mistake as it is, else all that Ray tells of it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, UserError) else error
