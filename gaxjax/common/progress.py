"""Progress of a long run: a live line on a terminal, a plain line now and then elsewhere."""

import threading
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

from gaxjax.common.text import printable

_PLAIN_SECONDS = 15.0


_L = TypeVar("_L", bound="_Live")


class _Live:
    """A line that lives while the work does; where nobody sees it, plain lines. A context manager.

    Plain lines begin with what is done before the first result, and repeat it until that comes:
    compiling takes minutes, and a log in which nothing stands looks like a process that hangs.

    Args:
        console: where to show it.
        waiting: what is done before the first result, such as "GAX: compiling".
        columns: of the line.
        options: of rich's `Progress`.
    """

    def __init__(
        self, console: Console, waiting: str, *columns: ProgressColumn, **options: Any
    ) -> None:
        self._console, self._waiting = console, printable(waiting)
        self._said = self._began = time.monotonic()
        self._come = threading.Event()
        self._bar = Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
            transient=True,
            **options,
        )

    def __enter__(self: _L) -> _L:
        self._bar.start()
        if not self._console.is_terminal:
            self._say(f"{self._waiting} …")
            threading.Thread(target=self._wait, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._come.set()
        self._bar.stop()

    def _wait(self) -> None:
        while not self._come.wait(_PLAIN_SECONDS):
            self._say(f"{self._waiting} … {time.monotonic() - self._began:,.0f} s so far")

    def _say(self, text: str) -> None:
        self._console.print(printable(text), highlight=False, markup=False)

    def _plain_line_is_due(self) -> bool:
        """Return whether a plain line is wanted now, once in so many seconds; a result has come."""
        self._come.set()
        now = time.monotonic()
        due = not self._console.is_terminal and now - self._said >= _PLAIN_SECONDS
        self._said = now if due else self._said
        return due


def time_left(todo: int, done: int, seconds: float) -> str:
    """Say how long the rest takes, at the pace so far, where there is one.

    Example:
        >>> time_left(90, 10, 2.0), time_left(90, 0, 2.0)
        ('about 18 s left', 'time left unknown')
    """
    if done <= 0 or not 0 < seconds < float("inf"):
        return "time left unknown"
    return f"about {max(0, todo) * seconds / done:,.0f} s left"


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
            f"{name}: compiling",
            TextColumn(printable(name), markup=False),
            MofNCompleteColumn(),
            TextColumn("images, left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            speed_estimate_period=120,
        )
        self._total, self._done, self._first = total, done, done
        self._started = time.monotonic()
        self._task = self._bar.add_task(name, total=total, completed=done, rate="compiling")

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if not self._console.is_terminal:
            self._say(f"{self._done:,} of {self._total:,} images")

    def advance(self, stats: Timed, count: int = 1) -> None:
        """Count images as done and bring the figures up to date."""
        self._done += count
        rate = printable(stats.describe())
        self._bar.update(self._task, completed=self._done, rate=rate)
        if self._plain_line_is_due():
            if stats.images_done is not None:  # a batch's images are counted one by one
                seconds, new = stats.seconds, stats.images_done
            else:
                seconds, new = time.monotonic() - self._started, self._done - self._first
            left = time_left(self._total - self._first - new, new, seconds)
            self._say(f"{self._done:,} of {self._total:,} images · {rate} · {left}")


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
            f"{name}: starting",
            TextColumn(printable(name), markup=False),
            MofNCompleteColumn(),
            TextColumn(f"{unit}, {{task.fields[figures]}}", markup=False),
        )
        self._name, self._total, self._unit = name, total, unit
        self._task = self._bar.add_task(name, total=total, completed=done, figures="starting")

    def advance(self, done: int, figures: str) -> None:
        """Say how many steps are done, and the figures to show beside."""
        self._bar.update(self._task, completed=done, figures=printable(figures))
        if self._plain_line_is_due():
            self._say(f"{self._name}: {done:,} of {self._total:,} {self._unit} · {figures}")
