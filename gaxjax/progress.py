"""Progress of a long run: a live line on a terminal, a plain line now and then elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from gaxjax.stats import BatchStats, EngineStats

_PLAIN_SECONDS = 15.0


class RunProgress:
    """Shows images done, the work's own figures and the time left.

    Args:
        name: what is running, such as GAX.
        total: images in all.
        done: images done before, by an earlier session of the run.
        console: where to show it; stderr by default.
    """

    def __init__(
        self, name: str, total: int, done: int = 0, console: Console | None = None
    ) -> None:
        self._console = console or Console(stderr=True)
        self._total, self._done, self._first = total, done, done
        self._started = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn(name),
            MofNCompleteColumn(),
            TextColumn("images, left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
            speed_estimate_period=120,
        )
        self._task = self._bar.add_task(name, total=total, completed=done, rate="compiling")

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if not self._console.is_terminal:
            self._console.print(f"{self._done:,} of {self._total:,} images", highlight=False)

    def advance(self, stats: EngineStats | BatchStats, count: int = 1) -> None:
        """Count images as done and bring the figures up to date."""
        self._done += count
        rate = stats.describe()
        self._bar.update(self._task, completed=self._done, rate=rate)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= _PLAIN_SECONDS:
            self._said = now
            if isinstance(stats, BatchStats):  # a batch's images are counted one by one
                pace, done = stats.rate, self._first + stats.images
            else:
                pace, done = (self._done - self._first) / (now - self._started), self._done
            left = (self._total - done) / pace if pace else float("inf")
            self._console.print(
                f"{self._done:,} of {self._total:,} images · {rate} · about {left:,.0f} s left",
                highlight=False,
            )


class StepProgress:
    """Shows steps of a known number done, with figures beside them; a context manager.

    Args:
        name: what is running, such as Training.
        total: steps in all.
        unit: what a step is, in the plural.
        done: steps done before.
    """

    def __init__(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self._console = Console(stderr=True)
        self._name, self._total, self._unit = name, total, unit
        self._said = time.monotonic()
        self._bar = Progress(
            TextColumn(name),
            MofNCompleteColumn(),
            TextColumn(f"{unit}, {{task.fields[figures]}}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=total, completed=done, figures="starting")

    def __enter__(self) -> "StepProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, done: int, figures: str) -> None:
        """Say how many steps are done, and the figures to show beside."""
        self._bar.update(self._task, completed=done, figures=figures)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= _PLAIN_SECONDS:
            self._said = now
            self._console.print(
                f"{self._name}: {done:,} of {self._total:,} {self._unit} · {figures}",
                highlight=False,
            )
