"""Runs of many workers with simulated devices: processes, commits and driver are the real ones.

A device sleeps for as long as it would compute. Start-up is left out: the clock begins when every
process is ready. `side_by_side` is `--shard i/n`, `under_one_driver` is `--ray` with a stand-in for
Ray, whose actors are processes of this machine.
"""

import contextlib
import io
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.managers import BaseManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.scaling.fake import FakeEngine, fake_images, fake_plan
from gaxjax.common import AnyPath, RunProgress
from gaxjax.results import keep_image_list
from gaxjax.runs.ray_run import FleetStats, _Fleet, slices_of
from gaxjax.runs.ray_worker import WAITING, Worker
from gaxjax.runs.shell import Plan, run_engine

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__, "grain", "rich.progress", "tensorstore"])
_READY = 300.0  # seconds


@dataclass(frozen=True)
class Scene:
    """A run that is simulated.

    Attributes:
        workers: how many.
        images: of each.
        rate: of each one's device, images a second.
        part_size: images a commit.
        size: height and width of the heatmaps.
        drain: seconds in which slots empty at the end of a slice.
    """

    workers: int
    images: int
    rate: float
    part_size: int
    size: int = 8
    drain: float = 0.0

    @property
    def total(self) -> int:
        """Images of the run."""
        return self.workers * self.images

    @property
    def ideal_seconds(self) -> float:
        """What the devices take."""
        return self.images / self.rate

    def plan(self, shard: str | None = None) -> Plan:
        """Return the run."""
        images = fake_images(self.total, self.size)
        return fake_plan(images, part_size=self.part_size, shard=shard)

    def engine(self) -> FakeEngine:
        """Return a worker's device."""
        return FakeEngine(
            self.size, rate=self.rate, batch_size=max(1, self.part_size // 4), drain=self.drain
        )


def side_by_side(scene: Scene, folder: Path, *, again: bool = False) -> dict[str, Any]:
    """Simulate processes that each do a slice.

    Args:
        scene: the run.
        folder: where it is written.
        again: whether the run is there, complete, and is only opened by all at once.
    """
    barrier = _PROCESSES.Barrier(scene.workers)
    pipes = [_PROCESSES.Pipe(duplex=False) for _ in range(scene.workers)]
    processes = [
        _PROCESSES.Process(target=_shard, args=(scene, str(folder), number, barrier, there))
        for number, (_, there) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    told = []
    for here, there in pipes:
        there.close()
        try:
            told.append(here.recv())
        except EOFError:
            told.append({"error": "the process died"})
    for process in processes:
        process.join()
    errors = [each["error"] for each in told if "error" in each]
    whole = [each for each in told if "error" not in each]
    found: dict[str, Any] = {"errors": len(errors)}
    if errors:
        found["error"] = errors[0]
    if whole:
        seconds = max(each["ended"] for each in whole) - min(each["begun"] for each in whole)
        slowest = {name: max(each[name] for each in whole) for name in ("start", "work", "end")}
        found |= {"seconds": seconds, "slowest": slowest}
    return found if again else _with_rate(scene, found)


def _shard(scene: Scene, folder: str, number: int, barrier: Any, told: Any) -> None:
    plan, engine = scene.plan(f"{number}/{scene.workers}"), scene.engine()
    import grain  # noqa: F401 (not the store's time)

    barrier.wait(_READY)
    begun = time.monotonic()
    clock = time.perf_counter()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            run_engine(plan, Path(folder), engine)
    except BaseException as error:
        told.send({"error": f"{type(error).__name__}: {error}"})
        return
    ended = time.monotonic()
    started = engine.stats._started
    start = (started - clock) if started is not None else ended - begun
    work = engine.stats.seconds
    told.send(
        {
            **{"begun": begun, "ended": ended, "start": start, "work": work},
            "end": ended - begun - start - work,
        }
    )


# --- Under one driver ----------------------------------------------------------------------------


@dataclass(frozen=True)
class FakeJob:
    """What a worker opens: as `Job`, of simulated devices."""

    scene: Scene
    output: str

    @property
    def num_images(self) -> int:
        """Of the run."""
        return self.scene.total

    def opened(self) -> tuple[Plan, FakeEngine]:
        """Return the run and an engine."""
        import grain  # noqa: F401 (not the driver's time)

        return self.scene.plan(), self.scene.engine()

    def place(self) -> AnyPath:
        """Return the run's folder."""
        return Path(self.output)


class _Machine(BaseManager):
    """A process that holds a worker."""


_Machine.register("Worker", Worker)


class StandIn:
    """What of Ray the driver uses, over futures."""

    exceptions = SimpleNamespace(RayError=EOFError, RayTaskError=RuntimeError)

    def wait(
        self, references: list[Any], *, num_returns: int, timeout: float
    ) -> tuple[list[Any], list[Any]]:
        """Wait for so many, or until the time is over."""
        every = num_returns >= len(references)
        when = futures.ALL_COMPLETED if every else futures.FIRST_COMPLETED
        done, _ = futures.wait(references, timeout, when)
        ready = [each for each in references if each in done][:num_returns]
        return ready, [each for each in references if each not in ready]

    def get(self, reference: Any) -> Any:
        """Return the answer, or raise what was raised."""
        return reference.result()


class Actor:
    """A worker whose methods are called in threads."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._threads = futures.ThreadPoolExecutor(WAITING + 2)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._worker, name)
        return _Method(lambda *given: self._threads.submit(call, *given))


@dataclass(frozen=True)
class _Method:
    remote: Callable[..., Any]

    def options(self, **_: Any) -> "_Method":
        return self


@contextlib.contextmanager
def _machines(scene: Scene, folder: Path) -> Iterator[list[Actor]]:
    with ExitStack() as until:
        workers = []
        for number in range(scene.workers):
            machine = _Machine(ctx=_PROCESSES)
            machine.start()
            until.callback(machine.shutdown)
            workers.append(machine.Worker(FakeJob(scene, str(folder)), number))  # type: ignore[attr-defined]
        actors = [Actor(worker) for worker in workers]
        futures.wait([actor.about.remote() for actor in actors])
        yield actors


def under_one_driver(scene: Scene, folder: Path) -> dict[str, Any]:
    """Simulate workers to which a driver hands slices."""
    plan, engine = scene.plan(), scene.engine()
    with _machines(scene, folder) as actors, contextlib.redirect_stderr(io.StringIO()):
        begun, used = time.monotonic(), time.process_time()
        stats = FleetStats(workers=scene.workers)
        with plan.open_store(folder, 1, writers=scene.workers) as store:
            keep_image_list(folder, plan.images)
            todo = plan.images.order()
            slices = slices_of(todo, scene.workers, engine.batch_size)
            store.begin_session({"device": "none"})
            working = time.monotonic()
            with RunProgress("GAX", scene.total) as progress:
                _Fleet(StandIn(), list(actors), slices, stats).work(progress)
            worked = time.monotonic()
            store.end_session(stats.summary())
            missing = store.complete(scene.total)
        ended = time.monotonic()
    assert not missing, f"{missing} images are missing"
    found = {
        "errors": 0,
        "seconds": ended - begun,
        "slowest": {"start": working - begun, "work": worked - working, "end": ended - worked},
        "slices": len(slices),
        "driver_cpu_seconds": time.process_time() - used,
    }
    return _with_rate(scene, found)


def _with_rate(scene: Scene, found: dict[str, Any]) -> dict[str, Any]:
    if "seconds" in found:
        found["images_per_s"] = scene.total / found["seconds"]
        found["of_ideal"] = scene.ideal_seconds / found["seconds"]
    return found


# --- The driver alone ----------------------------------------------------------------------------


class VirtualRay:
    """Workers that do nothing and answer at once by a clock of their own: no time passes."""

    exceptions = StandIn.exceptions

    def __init__(self, rate: float) -> None:
        self.rate, self.now, self.calls = rate, 0.0, 0

    def wait(
        self, references: list[Any], *, num_returns: int, timeout: float
    ) -> tuple[list[Any], list[Any]]:
        """Go on to when the next one is ready."""
        ordered = sorted(references, key=lambda each: each.due)
        if timeout and num_returns == 1:
            self.now = max(self.now, ordered[0].due)
        ready = [each for each in ordered if each.due <= self.now][:num_returns]
        return ready, [each for each in references if each not in ready]

    def get(self, reference: Any) -> Any:
        """Return the answer."""
        return reference.answer


class VirtualWorker:
    """A worker of `VirtualRay`."""

    def __init__(self, ray: VirtualRay, number: int) -> None:
        self._ray, self._number, self._free, self._done = ray, number, 0.0, 0
        self.work = _Method(self._work)
        self.progress = _Method(self._progress)

    def _work(self, slice_: list[int]) -> Any:
        self._ray.calls += 1
        self._free = max(self._free, self._ray.now) + len(slice_) / self._ray.rate
        self._done += len(slice_)
        return _Reference(self._free, len(slice_))

    def _progress(self) -> Any:
        self._ray.calls += 1
        return _Reference(0.0, (self._number, self._done, {"rate": self._ray.rate}))


@dataclass(frozen=True, eq=False)
class _Reference:
    due: float
    answer: Any


def driver_cost(workers: int, *, slices: int = 8, images: int = 2048, rate: float = 333.0) -> Any:
    """Measure what the driver itself computes for each slice, and how many calls it makes."""
    ray = VirtualRay(rate)
    fleet = [VirtualWorker(ray, number) for number in range(workers)]
    todo = [list(range(images)) for _ in range(workers * slices)]
    stats = FleetStats(workers=workers)
    with contextlib.redirect_stderr(io.StringIO()):
        progress = RunProgress("GAX", workers * slices * images)
        with progress:
            begun = time.process_time()
            _Fleet(ray, list(fleet), todo, stats).work(progress)
            used = time.process_time() - begun
    return {
        "workers": workers,
        "seconds_per_slice": used / len(todo),
        "calls_per_slice": ray.calls / len(todo),
        "virtual_seconds": ray.now,
        "ideal_seconds": slices * images / rate,
    }
