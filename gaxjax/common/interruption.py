"""Signals to stop that cannot get lost: each raises KeyboardInterrupt, and a flag remembers it.

An exception raised by a signal vanishes when it lands in a callback whose errors are only printed,
such as the one JAX runs at garbage collections. Long loops call `check` between images.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
"""Ctrl-C, the system's shutdown, a closed terminal, and what schedulers send before the time limit;
Windows has the first two."""

_interrupted = threading.Event()
_once = threading.Event()


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[], signal.Signals | None]]:
    """Have every signal of `STOPPING` raise KeyboardInterrupt within the block, and remember it.

    Gives a function that tells the first one there was. A signal that is ignored from the start
    stays so, as SIGHUP is under nohup; SIGINT alone does not, which shells have every job in the
    background ignore.
    """
    received: list[signal.Signals] = []
    _interrupted.clear()
    _once.clear()

    def first() -> signal.Signals | None:
        return received[0] if received else None

    if threading.current_thread() is not threading.main_thread():
        yield first
        return

    def remember(number: int, _: FrameType | None) -> None:
        again = bool(received)
        received.append(signal.Signals(number))
        _interrupted.set()
        if not (again and _once.is_set()):
            raise KeyboardInterrupt

    before = {number: signal.signal(number, remember) for number in _taken()}
    try:
        yield first
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _interrupted.clear()  # or the next call in this process would stop at its first check


def _taken() -> list[signal.Signals]:
    return [
        number
        for number in STOPPING
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]


def absorb() -> None:
    """Have signals do nothing outside of `interruptions`, for a process that ends with its block.

    One that comes while it ends would change its exit status.
    """
    for number in _taken():
        signal.signal(number, _nothing)  # ignored ones would be so in other processes too


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


def raise_once() -> None:
    """Have only the first signal raise from here on: further ones cannot cut the ending short."""
    _once.set()


def check() -> None:
    """Raise KeyboardInterrupt if an earlier one got lost."""
    if _interrupted.is_set():
        raise KeyboardInterrupt
