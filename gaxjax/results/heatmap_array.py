"""Heatmaps as a Zarr v3 array whose shards are written once, each as one file, by us.

    heatmaps.zarr/zarr.json    what the array is
    heatmaps.zarr/c.N.0.0.0    shard N: rows N x rows_per_shard and on; those not written are NaN

A shard's bytes are made in memory by TensorStore; the file is ours to make durable. Every heatmap
in it has a checksum of its own, which all readers of Zarr check.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import tensorstore as ts
from jaxtyping import Float

from gaxjax.common import (
    AnyPath,
    file_sha256,
    file_system,
    in_bytes,
    is_url,
    one_line,
    reason_of,
    remote_errors,
    remote_reason,
    replacing,
    trying_again,
)

__all__ = ["HeatmapArray", "Shard", "heatmap_sha256", "read_heatmap_rows", "shard_number"]

_INDEX_BYTES, _CRC_BYTES = 16, 4
_LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}


@dataclass(frozen=True)
class Shard:
    """A shard's file: its name in the array's folder, its length in bytes, and their SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class HeatmapArray:
    """An array [num_shards x rows_per_shard, H, W, 3] in a folder.

    Attributes:
        folder: such as RUN/heatmaps.zarr.
        num_shards: the most shards that there can be.
        rows_per_shard: the most heatmaps in one.
        image_shape: (H, W, 3).
        dtype: float16 or float32; float16 halves the disk, at 2^-11 relative.
    """

    folder: AnyPath
    num_shards: int
    rows_per_shard: int
    image_shape: tuple[int, ...]
    dtype: Literal["float16", "float32"]

    def create(self) -> None:
        """Make the folder and its zarr.json, where it is missing or another.

        Raises:
            OSError: it cannot be written.
        """
        if not is_url(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not self.is_described():
            with replacing(self.folder / "zarr.json") as temporary:
                temporary.write_text(json.dumps(self._description(self.num_shards), indent=2))

    def is_described(self) -> bool:
        """Tell whether zarr.json is there and says what the array is."""
        try:
            text = (self.folder / "zarr.json").read_text(encoding="utf-8")
            return bool(json.loads(text) == self._description(self.num_shards))
        except (OSError, ValueError, RecursionError):
            return False

    def write_shard(self, number: int, heatmaps: Float[np.ndarray, "N H W 3"]) -> Shard:
        """Write shard `number`, durable and whole; row i of it is row `first_row(number) + i`.

        Raises:
            OSError: it cannot be written.
        """
        one = self._description(1)
        spec = {"driver": "zarr3", "kvstore": "memory://", "metadata": one}
        array: Any = ts.open(spec, create=True).result()
        array[: len(heatmaps)].write(heatmaps).result()
        data = array.kvstore.read(_shard_name(0)).result().value
        name = _shard_name(number)
        with replacing(self.folder / name) as temporary:
            temporary.write_bytes(data)
        return Shard(name, len(data), hashlib.sha256(data).hexdigest())

    def shard_fault(self, shard: Shard, *, whole: bool = True) -> str:
        """Return what is wrong with a shard's file, or an empty text.

        Args:
            shard: as it was written.
            whole: whether every byte is read, or the size alone.
        """
        file = self.folder / shard.name
        try:
            with remote_errors():
                size = file.stat().st_size
            if size != shard.size:
                return f"{shard.name} takes {in_bytes(size)} and not {in_bytes(shard.size)}"
            if whole and file_sha256(file) != shard.sha256:
                return f"{shard.name} is not what was written"
        except OSError as error:
            return f"{shard.name} cannot be read: {reason_of(error)}"
        return ""

    def first_row(self, number: int) -> int:
        """Return the row at which a shard begins."""
        return number * self.rows_per_shard

    def _description(self, num_shards: int) -> dict[str, Any]:
        rows = self.rows_per_shard
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [num_shards * rows, *self.image_shape],
            "data_type": self.dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [rows, *self.image_shape]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [1, *self.image_shape],
                        "codecs": [
                            _LITTLE_ENDIAN,
                            {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
                            {"name": "crc32c"},
                        ],
                        "index_codecs": [_LITTLE_ENDIAN, {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ],
            "fill_value": "NaN",
            "attributes": {},
            "dimension_names": ["row", "height", "width", "channel"],
        }


def _shard_name(number: int) -> str:
    return f"c.{number}.0.0.0"


def shard_number(name: str) -> int | None:
    """Return the number of a shard by its file's name; None where it is no shard's."""
    match = re.fullmatch(r"c\.(\d+)\.0\.0\.0", name)
    return int(match[1]) if match else None


def heatmap_sha256(heatmap: Float[np.ndarray, "H W 3"]) -> str:
    """Return the SHA-256 of a heatmap's bytes as they are stored, as hexadecimal."""
    little_endian = heatmap.astype(heatmap.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little_endian).data).hexdigest()


def read_heatmap_rows(
    folder: AnyPath, hashes: Mapping[int, str | None]
) -> Float[np.ndarray, "N H W 3"]:
    """Return rows of an array of heatmaps, in the stored type.

    Args:
        folder: of the array.
        hashes: the rows, in order, and of each the `heatmap_sha256`, where it is known.

    Raises:
        ValueError: the array is missing or damaged, or one of the rows is; the message says how.
    """
    rows = list(hashes)
    found = _rows_by_url(folder, rows) if is_url(folder) else _rows(folder, rows)
    if found.ndim != 4 or found.dtype not in (np.float16, np.float32):
        raise ValueError(f"it holds {found.dtype} {list(found.shape)}, no heatmaps")
    for row, heatmap in zip(rows, found, strict=True):
        if np.isnan(heatmap).any():
            raise ValueError(f"row {row} is missing")
        if hashes[row] not in (None, heatmap_sha256(heatmap)):
            raise ValueError(f"row {row} is not what was written")
    return found


def _rows(folder: AnyPath, rows: list[int]) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": folder.resolve().as_posix()}}
    try:
        array = ts.open(spec, open=True, read=True).result()
        found: np.ndarray = np.asarray(array[rows].read().result())
    except (ValueError, IndexError, OverflowError) as error:
        raise ValueError(one_line(error)) from None
    return found


def _rows_by_url(folder: AnyPath, rows: list[int]) -> np.ndarray:
    """Read rows by the ranges of bytes that they take, which TensorStore does of few storages.

    A shard ends with where each of its rows is (https://zarr-specs.readthedocs.io, sharding). That
    a row is what was written its SHA-256 tells; the CRC32C is left aside.
    """
    system, root = file_system(str(folder), "run")
    try:
        described = json.loads(trying_again(lambda: system.cat_file(f"{root}/zarr.json")))
        per_shard = int(described["chunk_grid"]["configuration"]["chunk_shape"][0])
        shape, dtype = tuple(described["shape"][1:]), np.dtype(described["data_type"])
        size = int(np.prod(shape)) * dtype.itemsize
        files = {row // per_shard: f"{root}/{_shard_name(row // per_shard)}" for row in rows}
        ends = [-(_INDEX_BYTES * per_shard + _CRC_BYTES)] * len(files)
        found = trying_again(lambda: system.cat_ranges([*files.values()], ends, [None] * len(ends)))
        indexes = dict(zip(files, found, strict=True))
        places = [_place(indexes[row // per_shard], row % per_shard, row) for row in rows]
        paths = [files[row // per_shard] for row in rows]
        begins, stops = ([each[i] for each in places] for i in (0, 1))
        data = trying_again(lambda: system.cat_ranges(paths, begins, stops))
        plain = [pa.decompress(each[:-_CRC_BYTES], size, "zstd", asbytes=True) for each in data]
    except ValueError as error:
        raise ValueError(one_line(error)) from None
    except Exception as error:  # file systems and pyarrow raise what they like
        raise ValueError(remote_reason(error)) from None
    little_endian = dtype.newbyteorder("<")
    heatmaps = [np.frombuffer(each, little_endian).reshape(shape) for each in plain]
    return np.stack(heatmaps).astype(dtype) if heatmaps else np.empty((0, *shape), dtype)


def _place(index: bytes, position: int, row: int) -> tuple[int, int]:
    """Return where in its shard a row begins and ends."""
    begins, size = np.frombuffer(index, "<u8", 2, _INDEX_BYTES * position).tolist()
    if size == 2**64 - 1:
        raise ValueError(f"row {row} is missing")
    return begins, begins + size
