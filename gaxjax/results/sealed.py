"""Parquet files that are written once, and named for their own bytes.

    NAME-5f0c1e62a9d3b874.parquet

The name ends in the first 16 digits of the file's SHA-256, so that a file which is not what was
written shows it, and a copy under another name is not taken for one.
"""

import hashlib
import io
import re

import pyarrow as pa
import pyarrow.parquet as pq

from gaxjax.common import AnyPath, cannot_read, one_line, remote_errors, replacing

__all__ = ["SEALED", "open_sealed", "write_sealed"]

SEALED = re.compile(r"(.+)-([0-9a-f]{16})\.parquet")
"""Name and digest of a sealed file, by its file name."""


def write_sealed(folder: AnyPath, name: str, table: pa.Table) -> AnyPath:
    """Write a table, durable and whole; return its file.

    Raises:
        OSError: it cannot be written.
    """
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    data = buffer.getvalue()
    path = folder / f"{name}-{_digest(data)}.parquet"
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return path


def open_sealed(path: AnyPath) -> pq.ParquetFile:
    """Open a table whose bytes are those that were written; one without a digest, as it is.

    Raises:
        ValueError: it is damaged; the message says how.
        UserError: the system does not let it be read.
    """
    try:
        with remote_errors():
            data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError("it is missing") from None
    except IsADirectoryError:
        raise ValueError("it is a folder") from None
    except OSError as error:
        raise cannot_read(path, error) from None
    sealed = SEALED.fullmatch(path.name)
    if sealed and sealed[2] != _digest(data):
        raise ValueError("its bytes are not those that were written")
    try:
        return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(one_line(error)) from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
