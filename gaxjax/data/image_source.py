"""Where encoded images lie, and what is asked of such a place: sizes, bytes, and is it still there.

One class a kind of place: files on a disk here, files behind a URL in `url_files`, Parquet files in
`parquet`, tar archives in `tar_shards`. Whatever the place, one image that cannot be had is that
image's outcome, and a place that is gone ends the run.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from gaxjax.common import UserError, reason_of, remote_reason
from gaxjax.config import DataConfig
from gaxjax.data.decode import HostImage, UnreadableImageError, decode

READERS_OF_URLS = 16
"""Threads that read from afar, at least: each waits most of its time."""

Encoded = Path | bytes
"""An image as it is stored: its file, or the bytes of one."""


class StorageError(UnreadableImageError):
    """An image whose bytes could not be had."""


class SourceGoneError(UserError):
    """The place that images are read from is gone, so that none of the others could be read."""


@runtime_checkable
class ImageSource(Protocol):
    """Where the encoded images of a set lie."""

    name: str
    """What the user called it."""
    readers: int
    """Threads that should read at the same time, at least."""

    def sizes(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the bytes of each encoded image, -1 where there is no such image."""
        ...

    def encoded(self, image_id: str) -> Encoded:
        """Return an encoded image; threads call it at the same time.

        Raises:
            UnreadableImageError: it cannot be had; the message says why in one line.
        """
        ...

    def reading_order(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the positions of the ids in the order in which reading is cheapest."""
        ...

    def probe(self) -> None:
        """Ask for the place as a whole.

        Raises:
            Exception: it is gone, or does not answer; whatever the system or the storage raises.
        """
        ...


def reader(source: ImageSource, config: DataConfig) -> Callable[[str], HostImage]:
    """Return the function that reads and decodes an image of a source by its id.

    It raises `UnreadableImageError` for an image, and `SourceGoneError` where that failed because
    the whole source is gone. What failed while the source is there is tried once more: it may have
    been away for an instant.
    """
    settings = {**asdict(config.decoding), "pixel_max": config.pixel_max}

    def read(image_id: str) -> HostImage:
        try:
            return decode(source.encoded(image_id), **settings)
        except UnreadableImageError as error:
            if not _of_the_storage(error):
                raise
        _require_there(source)
        return decode(source.encoded(image_id), **settings)

    return read


def _of_the_storage(error: UnreadableImageError) -> bool:
    """Tell whether the bytes could not be had, and not that they are no image."""
    cause = error.__cause__
    if getattr(cause, "errno", None) is not None:  # what Pillow itself raises has no number
        return True
    return isinstance(error, StorageError)


def _require_there(source: ImageSource) -> None:
    try:
        source.probe()
    except Exception as error:  # storages raise what they like
        reason = reason_of(error) if isinstance(error, OSError) else remote_reason(error)
        raise SourceGoneError(
            f"--data {source.name} cannot be read any more ({reason}): everything committed is "
            "kept; bring it back, and the same command resumes"
        ) from error


class FolderSource:
    """Image files under a folder on a disk.

    Args:
        root: the folder that ids are paths under.
        name: what the user called it.
    """

    readers = 1

    def __init__(self, root: Path, name: str | None = None) -> None:
        self.root = root
        self.name = str(root) if name is None else name
        self._ids_of: dict[tuple[int, int], list[str]] = {}
        self._probed = root

    def sizes(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the bytes of each file; remember which files are one by a link."""
        return np.array([self._size(image_id) for image_id in image_ids], np.int64)

    def _size(self, image_id: str) -> int:
        status = _status(self.root, image_id)
        if status is None:
            return -1
        self._ids_of.setdefault((status.st_dev, status.st_ino), []).append(image_id)
        return status.st_size

    def encoded(self, image_id: str) -> Path:
        """Return the file, which is opened only when it is decoded."""
        return self.root / image_id

    def reading_order(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the order of the names."""
        return np.arange(len(image_ids), dtype=np.int64)

    def probe(self) -> None:
        """Look whether the folder is there and holds anything, as the place of no disk does not."""
        with os.scandir(self._probed) as entries:
            if next(entries, None) is None:
                raise FileNotFoundError(f"{self._probed} is empty: is its disk mounted?")

    def probe_where_they_lie(self, image_ids: Sequence[str]) -> None:
        """Probe the folder that holds all the images, wherever a table's paths lead."""
        folders = {os.path.dirname(os.path.abspath(self.root / each)) for each in image_ids}
        try:
            self._probed = Path(os.path.commonpath(folders))
        except ValueError:  # on several drives
            return

    def shared(self) -> set[str]:
        """Return the ids of which another leads to the same file."""
        return {each for ids in self._ids_of.values() if len(ids) > 1 for each in ids}


def _status(root: Path, image_id: str) -> os.stat_result | None:
    try:
        return (root / image_id).stat()
    except (OSError, ValueError):  # ValueError: a NUL character in a manifest's path
        return None
