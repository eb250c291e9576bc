"""Results on their way out of slots, without holding the device up."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

_KEPT = 4  # copies of heatmaps that stay on the host


class Reports:
    """What steps reported, read one step late on a GPU, which meanwhile does the next.

    Args:
        report: the tensor that every step overwrites, [2, S]: steps so far, and scores.
    """

    def __init__(self, report: Tensor) -> None:
        self._report = report
        self._late = 1 if report.is_cuda else 0
        self._places = deque(
            torch.empty(report.shape, pin_memory=report.is_cuda) for _ in range(self._late + 1)
        )
        self._events = deque(torch.cuda.Event() for _ in self._places) if report.is_cuda else None
        self._under_way: deque[int] = deque()

    def clear(self) -> None:
        """Forget what was not read."""
        self._under_way.clear()

    def send(self, number: int) -> None:
        """Start the copy of a step's report to the host."""
        self._places.rotate(-1)
        self._places[-1].copy_(self._report, non_blocking=True)
        if self._events is not None:
            self._events.rotate(-1)
            self._events[-1].record()
        self._under_way.append(number)

    def receive(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number and report of the step that is due, if one is; it may have to wait."""
        while len(self._under_way) > self._late:
            if self._events is not None:
                self._events[0].synchronize()
            yield self._under_way.popleft(), self._places[0].numpy()


class Heatmaps:
    """Copies heatmaps to the host, on a stream of their own, into pinned memory that is reused.

    Args:
        slots: a tensor like the heatmaps of all slots, [S, 3, H, W].

    Attributes:
        handed_out: the last image numbers and heatmaps, [N, 3, H, W]; the copies may be under way.
    """

    def __init__(self, slots: Tensor) -> None:
        self._stream = torch.cuda.Stream() if slots.is_cuda else None
        self._places = deque(
            torch.empty_like(slots, dtype=torch.float16, device="cpu", pin_memory=True)
            for _ in range(_KEPT if slots.is_cuda else 0)
        )
        self.handed_out: deque[tuple[list[int], Tensor]] = deque(maxlen=_KEPT)

    def hand_out(self, numbers: list[int], heatmaps: Tensor) -> None:
        """Start the copy of some images' heatmaps."""
        if self._stream is None:
            self.handed_out.append((numbers, heatmaps))
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._places.rotate(-1)
            copies = self._places[-1][: len(numbers)].copy_(heatmaps, non_blocking=True)
        heatmaps.record_stream(self._stream)
        self.handed_out.append((numbers, copies))
