"""Progress of a long run: a live line on a terminal, a plain line now and then elsewhere."""

import time
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

_PLAIN_SECONDS = 15.0


_L = TypeVar("_L", bound="_Live")


class _Live:
    """A line that lives while the work does; where nobody sees it, plain lines. A context manager.

    Args:
        console: where to show it.
        columns: of the line.
        options: of rich's `Progress`.
    """

    def __init__(self, console: Console, *columns: ProgressColumn, **options: Any) -> None:
        self._console = console
        self._said = time.monotonic()
        self._bar = Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
            transient=True,
            **options,
        )

    def __enter__(self: _L) -> _L:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def _plain_line_is_due(self) -> bool:
        """Return whether a plain line is wanted now, once in so many seconds."""
        now = time.monotonic()
        due = not self._console.is_terminal and now - self._said >= _PLAIN_SECONDS
        self._said = now if due else self._said
        return due


@dataclass
class Timed:
    """What some work did, with a clock that starts when the work does.

    Attributes:
        compile_seconds: before the work. seconds: since it started.
    """

    compile_seconds: float = 0.0
    seconds: float = 0.0
    _started: float | None = field(default=None, repr=False)

    def clock(self) -> None:
        """Start the clock at the first call; bring `seconds` up to date at every other."""
        now = time.perf_counter()
        if self._started is None:
            self._started = now
        self.seconds = now - self._started

    @property
    def images_done(self) -> int | None:
        """Images finished since the clock started; None where the caller's count is exact."""
        return None

    def describe(self) -> str:
        """Return the progress line's figures."""
        raise NotImplementedError


class RunProgress(_Live):
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
        super().__init__(
            console or Console(stderr=True),
            TextColumn(name),
            MofNCompleteColumn(),
            TextColumn("images, left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            speed_estimate_period=120,
        )
        self._total, self._done, self._first = total, done, done
        self._started = time.monotonic()
        self._task = self._bar.add_task(name, total=total, completed=done, rate="compiling")

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if not self._console.is_terminal:
            self._console.print(f"{self._done:,} of {self._total:,} images", highlight=False)

    def advance(self, stats: Timed, count: int = 1) -> None:
        """Count images as done and bring the figures up to date."""
        self._done += count
        rate = stats.describe()
        self._bar.update(self._task, completed=self._done, rate=rate)
        if self._plain_line_is_due():
            if stats.images_done is not None:  # a batch's images are counted one by one
                pace, done = stats.images_done / stats.seconds, self._first + stats.images_done
            else:
                seconds = time.monotonic() - self._started
                pace, done = (self._done - self._first) / seconds, self._done
            left = (self._total - done) / pace if pace else float("inf")
            self._console.print(
                f"{self._done:,} of {self._total:,} images · {rate} · about {left:,.0f} s left",
                highlight=False,
            )


class StepProgress(_Live):
    """Shows steps of a known number done, with figures beside them.

    Args:
        name: what is running, such as Training.
        total: steps in all.
        unit: what a step is, in the plural.
        done: steps done before.
    """

    def __init__(self, name: str, total: int, unit: str, done: int = 0) -> None:
        super().__init__(
            Console(stderr=True),
            TextColumn(name),
            MofNCompleteColumn(),
            TextColumn(f"{unit}, {{task.fields[figures]}}"),
        )
        self._name, self._total, self._unit = name, total, unit
        self._task = self._bar.add_task(name, total=total, completed=done, figures="starting")

    def advance(self, done: int, figures: str) -> None:
        """Say how many steps are done, and the figures to show beside."""
        self._bar.update(self._task, completed=done, figures=figures)
        if self._plain_line_is_due():
            self._console.print(
                f"{self._name}: {done:,} of {self._total:,} {self._unit} · {figures}",
                highlight=False,
            )
