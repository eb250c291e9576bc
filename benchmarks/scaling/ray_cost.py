"""What Ray itself costs on this machine: workers that do nothing."""

import contextlib
import io
import logging
import os
import time
import warnings
from typing import Any

from benchmarks.scaling.costs import spread
from gaxjax.common import RunProgress
from gaxjax.runs.ray_run import FleetStats, _Fleet


class Nothing:
    """A worker that has done its slice when it is asked to."""

    def __init__(self) -> None:
        self._done = 0

    def work(self, slice_: list[int]) -> int:
        """Do nothing."""
        self._done += len(slice_)
        return len(slice_)

    def progress(self) -> tuple[int, int, dict[str, Any]]:
        """Tell so."""
        return os.getpid(), self._done, {}


def ray_cost(workers: tuple[int, ...] = (1, 2, 4), calls: int = 300, slices: int = 300) -> Any:
    """Measure a call's round trip, calls side by side, and the driver's loop over real workers."""
    import ray

    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    begun = time.perf_counter()
    ray.init(
        num_cpus=max(workers),
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    started = time.perf_counter() - begun
    try:
        actor: Any = ray.remote(Nothing)
        actors: list[Any] = [actor.options(num_cpus=0).remote() for _ in range(max(workers))]
        ray.get([each.progress.remote() for each in actors])
        trips = []
        for _ in range(calls):
            begun = time.perf_counter()
            ray.get(actors[0].work.remote([0]))
            trips.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        ray.get([each.progress.remote() for _ in range(calls) for each in actors])
        together = (time.perf_counter() - begun) / (calls * len(actors))
        loops = {str(count): _loop(ray, actors[:count], slices) for count in workers}
    finally:
        ray.shutdown()
    return {
        "start_seconds": started,
        "round_trip_seconds": spread(trips),
        "call_seconds": together,
        "slices_per_s": loops,
    }


def _loop(ray: Any, actors: list[Any], slices: int) -> float:
    """Return how many slices a second the driver hands out and takes back."""
    todo = [[number] for number in range(slices)]
    with (
        contextlib.redirect_stderr(io.StringIO()),
        RunProgress("GAX", slices) as progress,
    ):
        begun = time.perf_counter()
        _Fleet(ray, actors, todo, FleetStats(workers=len(actors))).work(progress)
        return slices / (time.perf_counter() - begun)
