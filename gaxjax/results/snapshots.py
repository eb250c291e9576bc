"""Heatmaps along the way of a few images, as a run keeps them.

RUN/
snapshots.zarr     [rows, H, W, 3], float16, Zarr v3
snapshots.parquet  one row per snapshot; written last, so that it stands for all of it
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from gaxjax.common import AnyPath, UserError, is_url, one_line, replacing
from gaxjax.results.heatmap_array import read_heatmap_rows
from gaxjax.results.sealed import open_sealed

__all__ = [
    "SNAPSHOT_ABOUT",
    "SNAPSHOT_ARRAY",
    "SNAPSHOT_SCHEMA",
    "SNAPSHOT_TABLE",
    "SnapshotSummary",
    "drop_snapshots",
    "has_snapshots",
    "read_snapshot_about",
    "read_snapshot_heatmaps",
    "read_snapshots",
    "summarise_snapshots",
    "write_snapshots",
]

SNAPSHOT_TABLE, SNAPSHOT_ARRAY = "snapshots.parquet", "snapshots.zarr"
SNAPSHOT_ABOUT = b"gaxjax"
"""Key of the table's metadata: what was asked for, and what is missing."""

SNAPSHOT_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("co_score", pa.float32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("top_classes", pa.list_(pa.int32()), nullable=False),
        pa.field("top_probabilities", pa.list_(pa.float32()), nullable=False),
        pa.field("heatmap_sha256", pa.string()),
    ]
)
"""One row per snapshot, by image and step: the heatmap after `step` updates lies at `row` of
snapshots.zarr, and `co_score` is verified, in float32, of the heatmap as it lies there. The
classes are the most probable ones of the augmented image, up to five; probabilities in [0, 1].
`heatmap_sha256` is as in the scores; earlier versions kept none."""


class SnapshotAbout(TypedDict):
    """What a table of snapshots knows beside its rows.

    `asked` are the settings, `sha256` is of the rows and of all else here.
    """

    asked: dict[str, Any]
    left_out: dict[str, str]
    class_names: dict[str, str]
    difference: float
    sha256: NotRequired[str]


@dataclass(frozen=True)
class SnapshotSummary:
    """Which snapshots a run has.

    Attributes:
        image_ids: images that have some, in order.
        rows: snapshots in all.
        left_out: why a chosen image has none, by its id.
        difference: largest difference between a replayed and a stored curve, as a CO score; 0 on
            a CPU.
    """

    image_ids: tuple[str, ...]
    rows: int
    left_out: dict[str, str]
    difference: float


def has_snapshots(run: AnyPath | str) -> bool:
    """Return whether a run has snapshots; one by URL never has."""
    return not is_url(run) and (Path(run) / SNAPSHOT_TABLE).exists()


def drop_snapshots(run: AnyPath) -> None:
    """Remove a run's snapshots, if it has some; a run by URL never has."""
    if is_url(run):
        return
    (run / SNAPSHOT_TABLE).unlink(missing_ok=True)
    shutil.rmtree(run / SNAPSHOT_ARRAY, ignore_errors=True)


def read_snapshots(run: AnyPath | str) -> pa.Table:
    """Return a run's snapshots, one row each, ordered by image and step.

    Columns are those of `SNAPSHOT_SCHEMA`.

    Raises:
        UserError: the run has none, or the table is damaged.

    Example:
        >>> frame = read_snapshots("gax-run").to_pandas()
    """
    path = Path(run) / SNAPSHOT_TABLE
    if not path.exists():
        raise UserError(
            f"{run} has no snapshots: give its gaxjax gax command again with --snapshots 8"
        )
    try:
        with open_sealed(path) as file:
            table = file.read()
        metadata = table.schema.metadata or {}
        about = json.loads(metadata[SNAPSHOT_ABOUT])
        msgspec.convert(about, SnapshotAbout)
        if "heatmap_sha256" not in table.column_names:  # of an earlier version
            field = SNAPSHOT_SCHEMA.field("heatmap_sha256")
            table = table.append_column(field, pa.nulls(len(table), field.type))
        table = table.cast(SNAPSHOT_SCHEMA.with_metadata(metadata))
        if about.get("sha256", _checksum(table, about)) != _checksum(table, about):
            raise ValueError("it is not what was written, by its own checksum")
        return table
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}): delete it and give the run's command again"
        ) from None


def write_snapshots(run: AnyPath, table: pa.Table, about: SnapshotAbout) -> pa.Table:
    """Write the table of a run's snapshots, durable and whole, when their array is there.

    Raises:
        OSError: it cannot be written.
    """
    known = {**about, "sha256": _checksum(table, dict(about))}
    table = table.replace_schema_metadata({SNAPSHOT_ABOUT: json.dumps(known)})
    with replacing(run / SNAPSHOT_TABLE) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    return table


def _checksum(table: pa.Table, about: dict[str, Any]) -> str:
    rest = {name: value for name, value in about.items() if name != "sha256"}
    text = json.dumps([rest, table.to_pydict()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_snapshot_heatmaps(run: AnyPath | str, rows: Iterable[int]) -> Float[np.ndarray, "N H W 3"]:
    """Return heatmaps by the column `row` of `read_snapshots`: float16, values in [-1, 1].

    Raises:
        UserError: they are missing or damaged.
    """
    table = read_snapshots(run)
    known = dict(zip(*(table[name].to_pylist() for name in ("row", "heatmap_sha256")), strict=True))
    try:
        return read_heatmap_rows(Path(run) / SNAPSHOT_ARRAY, {row: known.get(row) for row in rows})
    except ValueError as error:
        raise UserError(
            f"{run}/{SNAPSHOT_ARRAY} is damaged ({error}): delete {SNAPSHOT_TABLE} beside it, and "
            "give the run's command again to have them anew"
        ) from None


def read_snapshot_about(table: pa.Table) -> dict[str, Any]:
    """Return what the table's metadata tells: `asked`, `left_out`, `class_names`, `difference`."""
    about: dict[str, Any] = json.loads(table.schema.metadata[SNAPSHOT_ABOUT])
    return about


def summarise_snapshots(table: pa.Table) -> SnapshotSummary:
    """Return what a table of snapshots holds."""
    about = read_snapshot_about(table)
    image_ids = tuple(sorted(set(table["image_id"].to_pylist())))
    return SnapshotSummary(image_ids, len(table), about["left_out"], about["difference"])
