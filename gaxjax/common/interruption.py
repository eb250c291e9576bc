"""Ctrl-C that cannot get lost: Python raises it, and a flag remembers it.

An exception raised by a signal vanishes when it lands in a callback whose errors are only printed,
such as the one JAX runs at garbage collections. Long loops call `check` between images.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_interrupted = threading.Event()


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Remember SIGINT within the block; gives a function that tells whether there was one."""
    _interrupted.clear()
    if threading.current_thread() is not threading.main_thread():
        yield _interrupted.is_set
        return

    def remember(number: int, frame: FrameType | None) -> None:
        _interrupted.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield _interrupted.is_set
    finally:
        signal.signal(signal.SIGINT, before)
        _interrupted.clear()  # or the next call in this process would stop at its first check


def check() -> None:
    """Raise KeyboardInterrupt if an earlier one got lost."""
    if _interrupted.is_set():
        raise KeyboardInterrupt
