"""The result store: a folder that is true at every moment, and that a crash cannot spoil.

    RUN/
      run.json               config, fingerprints, versions, device, timing
      scores/part-*.parquet  one row per image, committed part by part
      heatmaps.zarr          [rows, H, W, 3], Zarr v3, sharded; a row's number is in the scores

Heatmaps along the way lie beside them: `snapshots.py`.

A part is written after its heatmaps are durable, and renamed into place; a heatmap row without a
part is overwritten by the next one. Pandas, DuckDB and xarray read all of it without us.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorstore as ts
from jaxtyping import Float

from gaxjax.common import (
    FolderHeader,
    UserError,
    cannot_read,
    damaged,
    lock,
    one_line,
    path_to_read,
    read_values,
    refuse_strangers,
    replacing,
    spelt_out,
)
from gaxjax.results.solution import Solution

FORMAT = 2
_SHARD = 64  # heatmaps per file

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("label_name", pa.string()),
        pa.field("method", pa.string(), nullable=False),
        pa.field("layer", pa.string()),
        pa.field("operation", pa.string(), nullable=False),
        pa.field("backend", pa.string(), nullable=False),
        pa.field("prediction", pa.int32()),
        pa.field("correct", pa.bool_()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("steps", pa.int32()),
        pa.field("co_score", pa.float32()),
        pa.field("co_score_start", pa.float32()),
        pa.field("similarity_loss", pa.float32()),
        pa.field("probability_before", pa.float32()),
        pa.field("probability_after", pa.float32()),
        pa.field("prediction_after", pa.int32()),
        pa.field("correct_after", pa.bool_()),
        pa.field("curve", pa.list_(pa.float32())),
        pa.field("heatmap_scale", pa.float32()),
        pa.field("completeness_gap", pa.float32()),
        pa.field("heatmap_row", pa.int64()),
        pa.field("heatmap_sha256", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
"""One row per image, in AX per image, method, layer and operation; what an outcome does not have
is null. `heatmap_sha256` is of the stored heatmap's bytes, in C order."""

_ADDED = frozenset({"completeness_gap"})
"""Columns that older runs lack; there they are null."""


@dataclass(frozen=True)
class Result:
    """A solution with what names its image."""

    image_id: str
    label: int
    label_name: str
    solution: Solution


class Store:
    """A run's folder, open for appending; a context manager that holds the folder's lock.

    Args:
        path: the folder; made when missing.
        identity: what makes two runs the same: settings, model and data fingerprints. A run with
            another identity is refused.
        header: the rest of run.json, for people and reports.
        image_shape: (H, W, 3).
        heatmap_dtype: float16 or float32; None stores no heatmaps.
        num_heatmaps: upper bound of heatmap rows.

    Attributes:
        header: run.json.
        done: ids of the images committed so far.

    Raises:
        UserError: the folder holds another run or something else, or is in use.
    """

    def __init__(
        self,
        path: Path,
        *,
        identity: dict[str, Any],
        header: dict[str, Any],
        image_shape: tuple[int, ...],
        heatmap_dtype: str | None,
        num_heatmaps: int,
    ) -> None:
        path = path.resolve()  # TensorStore takes no ".." in a path
        self.path = path
        refuse_strangers(path, "run.json")
        self._lock = lock(path)
        try:
            self._open(identity, header)
            if heatmap_dtype is not None:
                _check_shards(path / "heatmaps.zarr", self._next_row)
            self._heatmaps: Any = (
                None
                if heatmap_dtype is None
                else open_heatmap_array(
                    path / "heatmaps.zarr", (num_heatmaps, *image_shape), heatmap_dtype
                )
            )
        except BaseException:
            self._lock.close()
            raise

    def _open(self, identity: dict[str, Any], header: dict[str, Any]) -> None:
        path = self.path
        file = path / "run.json"
        there = read_header(path) if file.exists() else None
        begun = {"format": FORMAT, "identity": identity, **header}
        self.header = FolderHeader(file, begun, there)
        (path / "scores").mkdir(exist_ok=True)
        for leftover in (path / "scores").glob("*.tmp"):
            leftover.unlink()
        parts = part_paths(path)
        self._next_part = int(parts[-1].stem.removeprefix("part-")) + 1 if parts else 0
        table = read_scores(path, columns=["image_id", "heatmap_row"])
        self.done: set[str] = set(table["image_id"].to_pylist())
        rows = table["heatmap_row"].drop_null().to_numpy()
        self._next_row = int(rows.max()) + 1 if len(rows) else 0

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def commit(self, results: list[Result]) -> None:
        """Append results as one part: heatmaps first, made durable, then the rows.

        All results of an image go into one commit. Results that share a heatmap, as the same
        array, share its row.
        """
        results = [result for result in results if result.image_id not in self.done]
        if not results:
            return
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        heatmaps: list[np.ndarray] = []
        placed: dict[int, tuple[int, str]] = {}  # row and hash, by the array's identity
        for result in results:
            solution = result.solution
            values = vars(solution) | vars(result) | {"outcome": str(solution.outcome)}
            values["correct"] = _equal(solution.prediction, result.label)
            values["correct_after"] = _equal(solution.prediction_after, result.label)
            values["heatmap_row"] = values["heatmap_sha256"] = None
            heatmap = solution.heatmap
            if heatmap is not None and self._heatmaps is not None:
                if id(heatmap) not in placed:
                    row = self._next_row + len(heatmaps)
                    placed[id(heatmap)] = row, heatmap_sha256(heatmap)
                    heatmaps.append(heatmap)
                values["heatmap_row"], values["heatmap_sha256"] = placed[id(heatmap)]
            for name, column in columns.items():
                column.append(values[name])
        if heatmaps and self._heatmaps is not None:
            rows = slice(self._next_row, self._next_row + len(heatmaps))
            self._heatmaps[rows].write(np.stack(heatmaps)).result()
        part = self.path / "scores" / f"part-{self._next_part:05d}.parquet"
        table = pa.table(columns, schema=SCHEMA)
        with replacing(part) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        self._next_part += 1
        self._next_row += len(heatmaps)
        self.done.update(columns["image_id"])


def heatmap_sha256(heatmap: Float[np.ndarray, "H W 3"]) -> str:
    """Return the SHA-256 of a heatmap's bytes as they are stored, as hexadecimal."""
    little_endian = heatmap.astype(heatmap.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little_endian.tobytes()).hexdigest()


def _equal(prediction: int | None, label: int) -> bool | None:
    return None if prediction is None else prediction == label


def _check_shards(folder: Path, rows: int) -> None:
    """Refuse to go on beside committed heatmaps that are gone.

    Raises:
        UserError: a file of the first `rows` heatmaps is missing.
    """
    wanted = [folder / "zarr.json"] if rows else []
    wanted += [folder / "c" / f"{shard}" / "0/0/0" for shard in range(-(-rows // _SHARD))]
    missing = [path for path in wanted if not path.exists()]
    if missing:
        raise UserError(
            f"{missing[0]} is missing, but {rows} scores have their heatmap in {folder}: restore "
            "it, or delete the run to compute it again"
        )


def part_paths(path: Path) -> list[Path]:
    """Return the committed parts of a run, oldest first."""
    return sorted((path / "scores").glob("part-*.parquet"))


def read_header(path: Path | str) -> dict[str, Any]:
    """Return a run's run.json.

    Raises:
        UserError: there is no run, or run.json is damaged or of a newer format.
    """
    path = path_to_read(path, "run")
    file = path / "run.json"
    try:
        header = read_values(file, "format")
    except (FileNotFoundError, NotADirectoryError):
        what = "is a file, not a run's folder" if path.is_file() else "has no run.json"
        raise UserError(f"{path} holds no gaxjax run: it {what}") from None
    if header["format"] != FORMAT:
        raise UserError(
            f"{path} has store format {header['format']}; this gaxjax reads format {FORMAT}"
        )
    for name in ("config", "identity"):
        if name not in header:
            raise damaged(file, f"it lacks {name}")
    return header


def read_scores(path: Path | str, columns: Iterable[str] | None = None) -> pa.Table:
    """Return the committed rows of a run, in the order in which they were committed.

    Raises:
        UserError: a part is damaged.

    Example:
        >>> frame = read_scores("gax-run").to_pandas()
    """
    path = Path(spelt_out(path, "run"))
    names = list(SCHEMA.names if columns is None else columns)
    tables = [pa.table({name: [] for name in names}, schema=pa.schema(map(SCHEMA.field, names)))]
    for part in part_paths(path):
        try:
            there = set(pq.read_schema(part).names)
            lacking = [name for name in names if name in _ADDED - there]
            table = pq.read_table(
                part, columns=[name for name in names if name not in lacking], partitioning=None
            )
            for name in lacking:
                field = SCHEMA.field(name)
                table = table.add_column(names.index(name), field, pa.nulls(len(table), field.type))
            tables.append(table.cast(tables[0].schema))
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None):  # a damaged file's has none
                raise cannot_read(part, error) from None
            raise UserError(
                f"{part} is damaged ({one_line(error)}): restore it, or delete it to have "
                "its images computed again"
            ) from None
    return pa.concat_tables(tables)


def read_heatmaps(path: Path | str, rows: Iterable[int]) -> Float[np.ndarray, "N H W 3"]:
    """Return stored heatmaps by their `heatmap_row`, in the stored type.

    Raises:
        UserError: the run stores none.
    """
    folder = Path(spelt_out(path, "run")).resolve() / "heatmaps.zarr"
    if not folder.exists():
        raise UserError(f"{path} stores no heatmaps: it was run with --heatmaps none")
    return read_heatmap_rows(folder, rows)


def read_heatmap_rows(folder: Path, rows: Iterable[int]) -> Float[np.ndarray, "N H W 3"]:
    """Return rows of a Zarr array of heatmaps, in the stored type.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        array = ts.open(_spec(folder), open=True, read=True).result()
        return np.asarray(array[list(rows)].read().result())
    except ValueError as error:
        raise damaged(folder, one_line(error)) from None


def _spec(folder: Path) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": folder.as_posix()}}


def open_heatmap_array(folder: Path, shape: tuple[int, ...], dtype: str) -> Any:
    """Open a heatmap array, made when missing; `float16` halves the disk, at 2^-11 relative."""
    metadata = {
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [_SHARD, *shape[1:]]},
        },
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [1, *shape[1:]],
                    "codecs": [
                        {"name": "bytes", "configuration": {"endian": "little"}},
                        {"name": "zstd", "configuration": {"level": 1}},
                    ],
                    "index_codecs": [
                        {"name": "bytes", "configuration": {"endian": "little"}},
                        {"name": "crc32c"},
                    ],
                },
            }
        ],
        "fill_value": "NaN",
        "dimension_names": ["row", "height", "width", "channel"],
    }
    spec = {**_spec(folder), "metadata": metadata}
    try:
        return ts.open(spec, open=True, create=True).result()
    except ValueError as error:
        raise damaged(folder, one_line(error)) from None
