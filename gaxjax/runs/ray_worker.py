"""A worker of a run over a Ray cluster: an engine and a writer of its own, in Ray's process."""

import os
import platform
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from gaxjax.common import AnyPath, UserError, keep_compiled_programs, own_numbers, path_to_write
from gaxjax.config import AxRunConfig, GaxRunConfig
from gaxjax.results import PartWriter, joined_run
from gaxjax.runs.shell import Engine, Plan, work

__all__ = ["WAITING", "Job", "Worker"]

WAITING = 2
"""Slices that a worker has at a time: one that it does, one so that it never waits."""


@dataclass(frozen=True)
class Job:
    """What every worker is told.

    Attributes:
        planned: opens model, images and engine: `planned_gax` or `planned_ax`.
        config: the run's, with decoding as the driver chose it.
        output: the run's folder.
        num_images: of the run.
        fingerprint: of the driver's image set: the workers must see the same.
    """

    planned: Callable[..., tuple[Plan, Any]]
    config: GaxRunConfig | AxRunConfig
    output: str
    num_images: int
    fingerprint: str

    def opened(self) -> tuple[Plan, Engine]:
        """Open model, images and engine.

        Raises:
            UserError: bad input, or other images than the driver's.
        """
        config = replace(self.config, first_correct=None)
        with own_numbers():
            plan, engine = self.planned(config, self.place(), note=lambda _: None)
        images = plan.images
        if images.fingerprint != self.fingerprint:
            raise UserError(
                f"{config.data.data} holds other images on {platform.node()} than where the "
                "command was given: every machine must see the same"
            )
        return replace(plan, images=images.first(self.num_images)), engine  # of --first-correct

    def place(self) -> AnyPath:
        """Return the run's folder."""
        return path_to_write(self.output, "--output", urls=True)


class _Stopped(Exception):
    """The driver asked for it."""


class Worker:
    """An engine and a writer of its own, in a process of Ray's.

    Args:
        job: what to do.
        number: which worker, from 0.
    """

    def __init__(self, job: Job, number: int) -> None:
        self._job, self._number = job, number
        self._busy, self._stopping = threading.Lock(), threading.Event()
        self._kept = ExitStack()
        self._plan: Plan | None = None
        self._engine: Engine | None = None
        self._writer: PartWriter | None = None
        self._done = 0

    def _opened(self) -> tuple[Plan, Engine]:
        if self._plan is None or self._engine is None:
            keep_compiled_programs(note=lambda _: None)
            self._plan, self._engine = self._job.opened()
        return self._plan, self._engine

    def about(self) -> dict[str, Any]:
        """Return what the run's description holds of a worker's engine."""
        with self._busy:
            plan, engine = self._opened()
        return {
            "method": plan.method,
            "heatmaps_per_image": engine.heatmaps_per_image,
            "batch_size": engine.batch_size,
            "hardware": engine.hardware,
        }

    def work(self, slice_: list[int]) -> int:
        """Do a slice; return the number of its images, done now or before a restart."""
        with self._busy:
            plan, engine = self._opened()
            if self._writer is None:
                joined = joined_run(self._job.place(), self._number, self._job.num_images)
                self._writer = self._kept.enter_context(joined)
            records, done = plan.images.records, self._writer.done
            todo = [position for position in slice_ if records[position].image_id not in done]
            self._done += len(slice_) - len(todo)
            if todo and not self._stopping.is_set():
                work(plan, engine, todo, self._writer.commit, self._advance)
        return len(slice_)

    def _advance(self) -> None:
        self._done += 1
        if self._stopping.is_set():
            raise _Stopped

    def progress(self) -> tuple[int, int, dict[str, Any]]:
        """Return this process's number, the images it has done, and its engine's figures."""
        if self._engine is None:
            return os.getpid(), 0, {}
        stats = self._engine.stats
        return os.getpid(), self._done, stats.summary() | {"rate": stats.rate}

    def stop(self) -> None:
        """Have `work` end after what is finished is committed."""
        self._stopping.set()
