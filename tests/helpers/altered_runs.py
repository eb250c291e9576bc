"""Stored runs changed on purpose, with digests that fit what they hold then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from gaxjax.common.header import FolderHeader
from gaxjax.results.parts import SCHEMA, list_parts, read_part, write_part
from gaxjax.results.run_header import FORMAT


def part_paths(run: Path) -> list[Path]:
    """The files of a run's parts, by their numbers."""
    return [part.path for part in list_parts(run, FORMAT)]


def change_parts(run: Path, change) -> None:
    """Change the table of each part."""
    for part in list_parts(run, FORMAT):
        table, about = read_part(part)
        part.path.unlink()
        write_part(part.path.parent, change(table), about)


def change_rows(run: Path, change) -> None:
    """Change the rows of each part: `change` takes a row, and gives the rows to write for it."""

    def changed(table):
        rows = [new for row in table.to_pylist() for new in change(row)]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    change_parts(run, changed)


def edit_header(run: Path, change) -> None:
    """Change run.json's values in place."""
    values = json.loads((run / "run.json").read_text())
    change(values)
    write_header(run / "run.json", values)


def write_header(file: Path, values: dict) -> None:
    """Write a header with the checksum that fits it."""
    same = {"identity": values.get("identity", {})}
    FolderHeader(file, same, {"identity": {}, **values}).write()


def to_old_format(run: Path) -> None:
    """Turn a run into one of format 2: rows of heatmaps one after the other, and no digests."""
    header = json.loads((run / "run.json").read_text())
    array = zarr.open_array(run / "heatmaps.zarr", mode="r")
    heatmaps: list[np.ndarray] = []
    for part in list_parts(run, FORMAT):
        rows = read_part(part)[0].to_pylist()
        moved: dict[int, int] = {}
        for row in rows:
            number = row["heatmap_row"]
            if number is not None and number not in moved:
                moved[number] = len(heatmaps)
                heatmaps.append(array[number])
            row["heatmap_row"] = moved.get(number)
        part.path.unlink()
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        pq.write_table(table, part.path.with_name(f"part-{part.number:05d}.parquet"))
    shutil.rmtree(run / "heatmaps.zarr")
    shape = (max(1, len(heatmaps)), *array.shape[1:])
    old = zarr.create_array(
        run / "heatmaps.zarr",
        shape=shape,
        shards=(64, *shape[1:]),
        chunks=(1, *shape[1:]),
        dtype=array.dtype,
        fill_value=np.nan,
    )
    old[: len(heatmaps)] = np.stack(heatmaps)
    new = ("run_id", "heatmaps", "sha256")
    kept = {name: value for name, value in header.items() if name not in new}
    (run / "run.json").write_text(json.dumps(kept | {"format": 2}))
