"""The large files that hold many images each: one shard, how its bytes are read, and its index."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from gaxjax.common import (
    StepProgress,
    UserError,
    place_in_cache,
    remote_reason,
    replacing,
    trying_again,
)
from gaxjax.data.image_source import READERS_OF_URLS, StorageError

_BLOCK = 2**22  # bytes that are asked for at once from afar
_ON_A_DISK = 2  # threads that index files here
_DIGEST = 32
_INDEX_FORM = 1  # another number makes every index anew

_STAMPS = (
    *("ETag", "etag", "LastModified", "last_modified", "Last-Modified", "mtime", "updated"),
    *("created", "blob_id", "last_commit"),
)


@dataclass(frozen=True)
class Shard:
    """One file of many images, as it was when it was found.

    Attributes:
        name: its path or URL, for people.
        system: its fsspec file system; None on a disk.
        path: where it is in that system.
        size: in bytes.
        stamp: what is another one when the file was written anew; empty where nobody knows.
    """

    name: str
    system: Any
    path: str
    size: int
    stamp: str

    @property
    def file(self) -> str:
        """The file's own name, without folders and an address's query."""
        return self.name.partition("?")[0].rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The file's own name without its suffix."""
        return self.file.rpartition(".")[0]

    def read(self, start: int, length: int) -> bytes:
        """Return some bytes of the file, fewer where it ends.

        Raises:
            Exception: whatever the system or the storage raises, after several attempts.
        """
        if self.system is None:
            with open(self.path, "rb", buffering=0) as file:  # os.pread is not on every system
                file.seek(start)
                return file.read(length)
        end = min(start + length, self.size)
        if end <= start:
            return b""
        found = trying_again(lambda: self.system.cat_file(self.path, start=start, end=end))
        return bytes(found)

    def open(self, block: int = _BLOCK) -> io.BufferedReader:
        """Open the file to be read in order, in pieces of so many bytes where it is far away."""
        if self.system is None:
            return open(self.path, "rb")
        return io.BufferedReader(_Ranges(self), block)

    def now(self) -> "Shard":
        """Ask for the file again.

        Raises:
            Exception: it is gone; whatever the system or the storage raises.
        """
        if self.system is None:
            return local_shard(Path(self.path))
        self.system.invalidate_cache()
        info = trying_again(lambda: self.system.info(self.path))
        return url_shard(self.name, self.system, info)

    def require_unchanged(self) -> None:
        """Refuse to read a file that was written anew, whose index is that of another one.

        Raises:
            StorageError: it is not as it was, or cannot be had.
        """
        try:
            now = self.now()
        except Exception as error:  # storages raise what they like
            raise StorageError(remote_reason(error)) from error
        if (now.size, now.stamp) != (self.size, self.stamp):
            raise StorageError(f"{self.file} has changed since it was opened")


def local_shard(path: Path) -> Shard:
    """Return a file on a disk as a shard.

    Raises:
        OSError: there is none.
    """
    status = path.stat()
    return Shard(str(path), None, os.path.abspath(path), status.st_size, str(status.st_mtime_ns))


def url_shard(name: str, system: Any, info: dict[str, Any]) -> Shard:
    """Return a file behind a URL as a shard, by what its storage tells of it."""
    stamp = next((info[key] for key in _STAMPS if info.get(key)), "")
    if isinstance(stamp, datetime):  # of which a listing may have the seconds
        stamp = stamp.timestamp()
    return Shard(name, system, info["name"], int(info.get("size") or 0), str(stamp))


class _Ranges(io.RawIOBase):
    """A file behind a URL, read by ranges; each is tried again."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._shard.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        try:
            found = self._shard.read(self._at, len(buffer))
        except Exception as error:  # told apart from what a reader finds wrong in the bytes
            raise StorageError(remote_reason(error)) from error
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def probe_shards(shards: Sequence[Shard]) -> None:
    """Ask for some of the files.

    Raises:
        Exception: none is there; whatever the system or the storage raises of the last.
    """
    some = list(dict.fromkeys((shards[0], shards[len(shards) // 2], shards[-1])))
    for shard in some[:-1]:
        with suppress(Exception):
            shard.now()
            return
    some[-1].now()


# --- The index -----------------------------------------------------------------------------------


def indexed(
    shards: Sequence[Shard], kind: str, make: Callable[[Shard], pa.Table]
) -> list[pa.Table]:
    """Return the index of every shard, from the cache folder where it has a whole and fitting one.

    Args:
        shards: in order.
        kind: of index, such as `tar`.
        make: reads a shard and returns its index.

    Raises:
        UserError: what `make` raises of the first shard that it cannot read.
    """
    found = {shard: _kept(shard, kind) for shard in shards}
    lacking = [shard for shard in shards if found[shard] is None]
    if lacking:
        for shard, table in zip(lacking, _made(lacking, make), strict=True):
            keep_index(shard, kind, table)
            found[shard] = table
    return [table for table in found.values() if table is not None]


def _made(shards: Sequence[Shard], make: Callable[[Shard], pa.Table]) -> Iterator[pa.Table]:
    threads = READERS_OF_URLS if shards[0].system is not None else _ON_A_DISK
    with (
        ThreadPoolExecutor(min(threads, len(shards)), "index") as pool,
        StepProgress("Indexing", len(shards), "files") as progress,
    ):
        futures = [pool.submit(make, shard) for shard in shards]
        try:
            for done, future in enumerate(futures, start=1):
                yield future.result()
                progress.advance(done, "indexed")
        finally:
            for future in futures:
                future.cancel()


def keep_index(shard: Shard, kind: str, table: pa.Table) -> None:
    """Keep an index in the cache folder, which is not there for what nobody can tell a change of.

    It only spares work: where the folder cannot be written, nothing is kept and nothing said.
    """
    if not shard.stamp:
        return
    sink = pa.BufferOutputStream()
    metadata = {**(table.schema.metadata or {}), b"of": _key(shard, kind).encode()}
    schema = table.schema.with_metadata(metadata)
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table.cast(schema))
    content = sink.getvalue().to_pybytes()
    with suppress(OSError, UserError):
        place = _place(shard, kind)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)


def _kept(shard: Shard, kind: str) -> pa.Table | None:
    if not shard.stamp:
        return None
    try:
        content = _place(shard, kind).read_bytes()
    except (OSError, UserError):
        return None
    if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        return None
    table = pa.ipc.open_stream(content[_DIGEST:]).read_all()
    fits = (table.schema.metadata or {}).get(b"of") == _key(shard, kind).encode()
    return table if fits else None


def _place(shard: Shard, kind: str) -> Path:
    name = shard.path if shard.system is None else shard.system.unstrip_protocol(shard.path)
    digest = hashlib.sha256(f"{kind} {name}".encode("utf-8", "surrogateescape")).hexdigest()
    return place_in_cache("indexes") / f"{digest}.arrow"


def _key(shard: Shard, kind: str) -> str:
    return f"{kind} {_INDEX_FORM} {shard.size} {shard.stamp}"
