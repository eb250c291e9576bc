"""From image records to batches of pixels, decoded ahead of the device in Grain's threads."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int32

from gaxjax.common import HostImages, UserError
from gaxjax.data.decode import UnreadableImageError
from gaxjax.data.image_set import ImageSet

_MAX_BYTES_AHEAD = 2**28
_MOST_TOGETHER = 16  # images that a thread decodes at a time


@dataclass(frozen=True)
class Batch:
    """Some decoded images, in the order of reading, and what could not be decoded on the way."""

    indices: Int32[np.ndarray, " B"]
    """Position of each image in `ImageSet.records`."""
    images: HostImages
    """Pixels, 0 to 255; from a notebook also floats in [0, 1]."""
    labels: Int32[np.ndarray, " B"]
    """Class indices in [0, C)."""
    unreadable: tuple[tuple[int, str], ...]
    """(position, one-line reason) of the images that failed while this batch was filled."""

    def split(self, size: int) -> Iterator["Batch"]:
        """Yield the images in batches of at most `size`, without the unreadable ones."""
        for start in range(0, len(self.indices), size):
            rows = slice(start, start + size)
            yield Batch(self.indices[rows], self.images[rows], self.labels[rows], ())


def batches(
    images: ImageSet,
    *,
    batch_size: int,
    threads: int,
    only: Sequence[int] | None = None,
    by_name: bool = False,
) -> Generator[Batch, None, None]:
    """Yield the images, decoded ahead by threads while the caller works.

    They come in the order in which reading them is cheapest, which results must not depend on.

    Every batch is full except the last, which may even hold no image when the remaining ones
    were unreadable: an unreadable image never takes a row, and each is reported exactly once.
    Closing the iterator, or dropping it, ends the threads.

    Args:
        images: the image set.
        batch_size: images per batch, at least 1.
        threads: decoding threads, at least 1; more where the images are far away.
        only: positions of the images to read, in this order; all when not given.
        by_name: keep to the order of the records.

    Raises:
        UserError: the images' source is gone.

    Yields:
        Batches of `batch_size` images; about one further batch is decoded ahead.

    Example:
        >>> from gaxjax.config import DataConfig
        >>> from gaxjax.data import open_images
        >>> digits = open_images(DataConfig(data="digits", size=32))
        >>> next(batches(digits, batch_size=8, threads=2)).images.shape
        (8, 32, 32, 3)
    """
    assert batch_size >= 1, batch_size
    assert threads >= 1, threads
    positions = images.order(by_name=by_name) if only is None else only
    return _filled(images, positions, batch_size, max(threads, images.readers))


def _filled(
    images: ImageSet, positions: Sequence[int], batch_size: int, threads: int
) -> Generator[Batch, None, None]:
    indices: list[int] = []
    unreadable: list[tuple[int, str]] = []
    pixels = _no_pixels(images, batch_size)

    def batch() -> Batch:
        labels = [images.records[i].label for i in indices]
        return Batch(
            indices=np.array(indices, np.int32),
            images=pixels[: len(indices)],
            labels=np.array(labels, np.int32),
            unreadable=tuple(unreadable),
        )

    decoded = _decoded_ahead(images, positions, batch_size, threads)
    try:
        for position, image in decoded:
            if isinstance(image, UserError):
                raise image
            if isinstance(image, str):
                unreadable.append((position, image))
                continue
            pixels[len(indices)] = image
            indices.append(position)
            if len(indices) == batch_size:
                yield batch()
                # A new buffer each time: the caller keeps the one it was given.
                indices, unreadable, pixels = [], [], _no_pixels(images, batch_size)
        if indices or unreadable:
            yield batch()
    finally:
        decoded.close()


def _no_pixels(images: ImageSet, batch_size: int) -> np.ndarray:
    return np.empty((batch_size, images.size, images.size, 3), np.uint8)


def _decoded_ahead(
    images: ImageSet, positions: Sequence[int], batch_size: int, threads: int
) -> Generator[tuple[int, np.ndarray | str | UserError], None, None]:
    """Yield (position, pixels, or why there are none: a reason, or what ends it all) in order."""
    if not positions:
        return
    import grain  # a third of a second beyond jax, which commands without images need not pay

    def decode(position: int) -> tuple[int, np.ndarray | str | UserError]:
        try:
            return position, images.load(position)
        except UnreadableImageError as error:
            return position, str(error)
        except UserError as error:  # handed on as a value: it is raised where batches are asked for
            return position, error

    ahead = max(threads, min(batch_size, _MAX_BYTES_AHEAD // (3 * images.size**2)))
    # At each element Grain counts those that are ready: 256 took 0.2 ms of Python, 1365 took 0.8.
    several = max(1, min(_MOST_TOGETHER, ahead // (4 * threads)))
    groups = [positions[start : start + several] for start in range(0, len(positions), several)]
    decoded = iter(
        grain.MapDataset.source(groups)
        .map(lambda group: [decode(position) for position in group])
        .to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead // several)
        )
    )
    try:
        for group in decoded:
            yield from group
    finally:
        decoded.close()


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
