"""Heatmaps along the way of a few images, as a run keeps them.

RUN/
snapshots.zarr     [rows, H, W, 3], float16, Zarr v3
snapshots.parquet  one row per snapshot; written last, so that it stands for all of it
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from gaxjax.common import UserError, one_line
from gaxjax.results.store import read_heatmap_rows

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
    ]
)
"""One row per snapshot, by image and step: the heatmap after `step` updates lies at `row` of
snapshots.zarr, and `co_score` is verified, in float32, of the heatmap as it lies there. The
classes are the most probable ones of the augmented image, up to five; probabilities in [0, 1]."""


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


def has_snapshots(run: Path | str) -> bool:
    """Return whether a run has snapshots."""
    return (Path(run) / SNAPSHOT_TABLE).exists()


def drop_snapshots(run: Path) -> None:
    """Remove a run's snapshots, if it has some."""
    (run / SNAPSHOT_TABLE).unlink(missing_ok=True)
    shutil.rmtree(run / SNAPSHOT_ARRAY, ignore_errors=True)


def read_snapshots(run: Path | str) -> pa.Table:
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
        table = pq.read_table(path, partitioning=None)
        json.loads(table.schema.metadata[SNAPSHOT_ABOUT])
        return table.cast(SNAPSHOT_SCHEMA.with_metadata(table.schema.metadata))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}): delete it and give the run's command again"
        ) from None


def read_snapshot_heatmaps(run: Path | str, rows: Iterable[int]) -> Float[np.ndarray, "N H W 3"]:
    """Return heatmaps by the column `row` of `read_snapshots`: float16, values in [-1, 1].

    Raises:
        UserError: they are missing or damaged.
    """
    try:
        found = read_heatmap_rows(Path(run).resolve() / SNAPSHOT_ARRAY, rows)
        if np.isfinite(found).all():
            return found
        reason = "a snapshot is missing"
    except UserError as error:
        reason = str(error)
    raise UserError(
        f"{run}/{SNAPSHOT_ARRAY} is damaged ({reason}): delete {SNAPSHOT_TABLE} beside it, and "
        "give the run's command again to have them anew"
    )


def read_snapshot_about(table: pa.Table) -> dict[str, Any]:
    """Return what the table's metadata tells: `asked`, `left_out`, `class_names`, `difference`."""
    about: dict[str, Any] = json.loads(table.schema.metadata[SNAPSHOT_ABOUT])
    return about


def summarise_snapshots(table: pa.Table) -> SnapshotSummary:
    """Return what a table of snapshots holds."""
    about = read_snapshot_about(table)
    image_ids = tuple(sorted(set(table["image_id"].to_pylist())))
    return SnapshotSummary(image_ids, len(table), about["left_out"], about["difference"])
