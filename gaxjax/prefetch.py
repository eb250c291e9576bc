"""A thread that keeps a few items of an iterator ready."""

import queue
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Generic, TypeVar

_T = TypeVar("_T")
_END = object()


class Prefetch(Generic[_T]):
    """Read an iterable ahead in a thread; an exception there is raised by `get`.

    Use it as a context manager: leaving it stops the thread.

    Attributes:
        exhausted: whether the end has been seen by `get`.
        error: what the iterable raised, once `get` has passed it on.
    """

    def __init__(self, items: Iterable[_T], depth: int = 2) -> None:
        self.exhausted = False
        self.error: BaseException | None = None
        self._queue: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(items,), daemon=True)

    def __enter__(self) -> "Prefetch[_T]":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(timeout=5)

    def get(self, *, wait: bool) -> _T | None:
        """Return the next item; None at the end, or when there is none yet and not `wait`."""
        if self.exhausted:
            return None
        try:
            item = self._queue.get(block=wait)
        except queue.Empty:
            return None
        if item is _END:
            self.exhausted = True
            return None
        if isinstance(item, _Raised):
            self.exhausted = True
            self.error = item.error
            raise item.error
        return item  # type: ignore[return-value]

    def _read(self, items: Iterable[_T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._put(_Raised(error))
        else:
            self._put(_END)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error
