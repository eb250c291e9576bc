"""Image files behind a URL: listed once with their sizes, read by many threads."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from gaxjax.common import remote_reason, trying_again
from gaxjax.data.image_source import READERS_OF_URLS, StorageError

_START = 2**16  # bytes by which a file without a suffix is known


class RemoteFile(NamedTuple):
    """A file in a file system."""

    path: str
    size: int


class UrlSource:
    """Image files behind a URL.

    Args:
        name: the URL, as the user gave it.
        system: its fsspec file system.
        root: what was listed, or the table that names the files: it is probed.
        files: the files by image id.
    """

    readers = READERS_OF_URLS

    def __init__(self, name: str, system: Any, root: str, files: Mapping[str, RemoteFile]) -> None:
        self.name = name
        self._system = system
        self._root = root
        self._files = files

    def sizes(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the bytes of each file, as the listing has them."""
        return np.array([self._files[image_id].size for image_id in image_ids], np.int64)

    def encoded(self, image_id: str) -> bytes:
        """Return a file's bytes."""
        return self._read(self._files[image_id])

    def start_of(self, image_id: str) -> bytes:
        """Return a file's first bytes, by which an image is known."""
        return self._read(self._files[image_id], end=_START)

    def _read(self, file: RemoteFile, **piece: int) -> bytes:
        if file.size == 0:
            return b""
        try:
            found = trying_again(lambda: self._system.cat_file(file.path, **piece))
        except Exception as error:  # storages raise what they like
            raise StorageError(remote_reason(error)) from error
        return bytes(found)

    def reading_order(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the order of the names."""
        return np.arange(len(image_ids), dtype=np.int64)

    def probe(self) -> None:
        """Ask for what was listed."""
        self._system.invalidate_cache()
        trying_again(lambda: self._system.info(self._root))


def sized(system: Any, paths: Iterable[str]) -> dict[str, int]:
    """Ask for the sizes of single files, many at a time; -1 where there is no such file.

    Raises:
        Exception: whatever the storage raises of one that may be there.
    """

    def size(path: str) -> int:
        try:
            return int(trying_again(lambda: system.info(path)).get("size") or 0)
        except (FileNotFoundError, IsADirectoryError):
            return -1

    wanted = list(paths)
    with ThreadPoolExecutor(READERS_OF_URLS, "sizes") as pool:
        return dict(zip(wanted, pool.map(size, wanted), strict=True))


def listed_sizes(system: Any, folder: str) -> dict[str, int]:
    """Return the sizes of all files below a folder, by one listing.

    Raises:
        Exception: whatever the storage raises.
    """
    found = trying_again(lambda: system.find(folder, detail=True))
    return {name: int(info["size"]) for name, info in found.items() if info.get("size") is not None}
