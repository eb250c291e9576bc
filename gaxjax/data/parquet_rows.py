"""Rows of Parquet files, read in order: each page once, and a few rows ahead of who asks."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from gaxjax.common import UserError, one_line, remote_reason
from gaxjax.data.decode import UnreadableImageError
from gaxjax.data.image_source import StorageError
from gaxjax.data.shards import Shard

BYTES = "image.bytes"
"""The column of the encoded images."""

_BATCH = 16  # rows that are decompressed together
_BUFFER = 2**20  # without it pyarrow reads a whole column of a row group at once
_MOST_ROWS = 256  # that wait for whoever wants them
_MOST_BYTES = 2**28


@contextmanager
def opened(shard: Shard, block: int = 2**22) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file to be read in order.

    Args:
        shard: the file.
        block: bytes that are asked for at once where it is far away.

    Raises:
        UserError: it is none, or cannot be had.
    """
    try:
        parquet = _parquet(shard, block)
    except Exception as error:  # storages raise what they like, pyarrow nearly as much
        raise unreadable_file(shard, error) from None
    with parquet:
        yield parquet


def unreadable_file(shard: Shard, error: Exception) -> UserError:
    """Return the one line for a file that cannot be had, or that is none."""
    if _of_the_storage(error):
        return UserError(f"--data {shard.name} cannot be read: {remote_reason(error)}")
    said = one_line(error)
    return UserError(f"--data {shard.name} is damaged or no Parquet file ({said}); get it again")


def _of_the_storage(error: Exception) -> bool:
    """Tell whether bytes could not be had, and not that they are wrong."""
    return isinstance(error, StorageError) or getattr(error, "errno", None) is not None


def _parquet(shard: Shard, block: int = 2**22) -> pq.ParquetFile:
    return pq.ParquetFile(
        shard.path if shard.system is None else shard.open(block),
        pre_buffer=False,
        buffer_size=_BUFFER,
        page_checksum_verification=True,
    )


def row_sizes(shard: Shard, rows: Sequence[int], sizes: Int64[np.ndarray, " N"]) -> None:
    """Fill in the bytes of the images in the row groups of some rows; what is damaged stays as is.

    Args:
        shard: the file.
        rows: of the file.
        sizes: of all its rows; -1 where a row has no image.

    Raises:
        UserError: the file cannot be had.
    """
    with opened(shard) as file:
        starts = _starts(file)
        for group in sorted({_group(starts, row) for row in rows}):
            row = starts[group]
            try:
                for batch in _batches(file, group):
                    length = pc.fill_null(pc.binary_length(batch), -1).to_numpy(
                        zero_copy_only=False
                    )
                    sizes[row : row + len(length)] = length
                    row += len(length)
            except Exception as error:  # pyarrow and storages raise nearly every type
                if _of_the_storage(error):
                    raise UserError(f"--data {shard.name}: {remote_reason(error)}") from None


class RowReader:
    """Gives the images of rows to the threads that ask for them, which do so nearly in order.

    One thread at a time reads on; the others find their rows in the window that it leaves. Whoever
    asks for a row that is far from there has the row's group read from its start.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._reading = threading.Lock()
        self._wanted: set[tuple[int, int]] = set()
        self._window: dict[tuple[int, int], tuple[bytes | None]] = {}
        self._bad: dict[tuple[int, int], tuple[int, str]] = {}
        self._open: tuple[int, pq.ParquetFile, list[int]] | None = None
        self._stream: Iterator[pa.Array] | None = None
        self._at = (0, 0, 0)  # shard, row group and row that the stream gives next

    def row(self, shard: int, row: int) -> bytes | None:
        """Return the bytes of a row's image, None where it has none.

        Raises:
            UnreadableImageError: the file is damaged there.
            StorageError: the file cannot be had.
        """
        place = (shard, row)
        self._wanted.add(place)
        try:
            found = self._window.pop(place, None)
            if found is None:
                with self._reading:  # it may have come meanwhile
                    while (found := self._window.pop(place, None)) is None:
                        self._wanted.add(place)  # whoever asks for it too may have had it
                        self._read_to(shard, row)
            return found[0]
        finally:
            self._wanted.discard(place)

    def _read_to(self, shard: int, row: int) -> None:
        try:
            self._require_open(shard)
        except UserError as error:
            raise StorageError(str(error)) from error
        assert self._open is not None
        _, parquet, starts = self._open
        group = _group(starts, row)
        first_bad, reason = self._bad.get((shard, group), (row + 1, ""))
        if row >= first_bad:
            raise UnreadableImageError(reason)
        if self._stream is None or self._at[:2] != (shard, group) or row < self._at[2]:
            if self._shards[shard].system is None:  # it may be written over while it is open
                self._shards[shard].require_unchanged()
            self._stream = _batches(parquet, group)
            self._at = (shard, group, starts[group])
        try:
            while self._at[2] <= row:
                batch = next(self._stream)
                self._keep(batch)
        except Exception as error:  # pyarrow and storages raise nearly every type
            self._stream = None
            here = self._at[2]
            if _of_the_storage(error):
                self._close()
                raise StorageError(remote_reason(error)) from error
            said = "the rows end too soon" if isinstance(error, StopIteration) else one_line(error)
            reason = f"{self._shards[shard].file} is damaged there ({said})"
            self._bad[shard, group] = here, reason
            raise UnreadableImageError(reason) from None

    def _keep(self, batch: pa.Array) -> None:
        """Put rows into the window; what nobody wants leaves it, the first that came first."""
        shard, group, row = self._at
        for value in batch:
            self._window[shard, row] = (value.as_py(),)
            row += 1
        self._at = (shard, group, row)
        places = list(self._window)
        left, size = len(places), sum(len(one or b"") for (one,) in list(self._window.values()))
        for place in places:
            if left <= _MOST_ROWS and size <= _MOST_BYTES:
                break
            if place not in self._wanted:
                (dropped,) = self._window.pop(place, (None,))
                left, size = left - 1, size - len(dropped or b"")

    def _require_open(self, shard: int) -> None:
        if self._open is not None and self._open[0] == shard:
            return
        self._close()
        self._shards[shard].require_unchanged()
        try:
            parquet = _parquet(self._shards[shard])
        except Exception as error:  # storages raise what they like
            raise StorageError(remote_reason(error)) from error
        self._open = (shard, parquet, _starts(parquet))

    def _close(self) -> None:
        self._stream = None
        if self._open is not None:
            self._open[1].close()
        self._open = None


def _batches(file: pq.ParquetFile, group: int) -> Iterator[pa.Array]:
    """Yield the images' bytes of a row group, some rows at a time."""
    found = file.iter_batches(
        batch_size=_BATCH, row_groups=[group], columns=[BYTES], use_threads=False
    )
    for batch in found:
        yield pc.struct_field(batch.column(0), "bytes")


def _starts(file: pq.ParquetFile) -> list[int]:
    """Return the first row of every row group, and the number of rows."""
    groups = (file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups))
    return np.cumsum([0, *groups]).tolist()


def _group(starts: Sequence[int], row: int) -> int:
    return int(np.searchsorted(starts, row, side="right")) - 1
