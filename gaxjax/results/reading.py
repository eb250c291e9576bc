"""What a run's folder holds, read: rows of its parts, heatmaps by their rows."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from gaxjax.common import AnyPath, UserError, counted, damaged, path_to_read
from gaxjax.results.heatmap_array import read_heatmap_rows
from gaxjax.results.parts import SCHEMA, Part, at_once, joined, list_parts, read_part
from gaxjax.results.run_header import read_header

__all__ = ["heatmaps_of", "mend", "read_heatmaps", "read_parts", "read_scores"]


def read_parts(
    path: AnyPath | str, columns: Iterable[str] | None = None
) -> tuple[pa.Table, dict[AnyPath, str]]:
    """Return the rows of the parts that are whole, and of the others what is wrong with each.

    Raises:
        UserError: there is no run, run.json is damaged, or a file cannot be read.
    """
    path = path_to_read(path, "run", urls=True)
    header = read_header(path)
    names = list(SCHEMA.names if columns is None else columns)
    tables: dict[AnyPath, pa.Table] = {}
    faults: dict[AnyPath, str] = {}
    number = None

    def read(part: Part) -> pa.Table | ValueError:
        try:
            table, about = read_part(part, names)
        except ValueError as error:
            return error
        ours = about.run_id == header.get("run_id", "")
        return table if ours else ValueError("it is of another run")

    parts = list_parts(path, header["format"])
    for part, found in zip(parts, at_once(read, parts), strict=True):
        if not isinstance(found, ValueError) and part.number == number:
            found = ValueError(f"there is another part {number}")
        if isinstance(found, ValueError):
            faults[part.path] = str(found)
        else:
            tables[part.path] = found
            number = part.number
    return joined(tables.values(), names), faults


def read_scores(path: AnyPath | str, columns: Iterable[str] | None = None) -> pa.Table:
    """Return the committed rows of a run, in the order in which they were committed.

    Raises:
        UserError: there is no run, or a part is damaged.

    Example:
        >>> frame = read_scores("gax-run").to_pandas()  # doctest: +SKIP
    """
    table, faults = read_parts(path, columns)
    if faults:
        (first, reason), *others = faults.items()
        more = f", and {counted(len(others), 'part')} more" if others else ""
        raise UserError(f"{first} is damaged ({reason}){more}: {mend(path)}")
    return table


def mend(path: AnyPath | str) -> str:
    """Return what a user can do about a run that is damaged."""
    return f"gaxjax inspect {path} lists all that is, and --repair has its images computed again"


def read_heatmaps(path: AnyPath | str, rows: Iterable[int]) -> Float[np.ndarray, "N H W 3"]:
    """Return stored heatmaps by their `heatmap_row`, in the stored type.

    Raises:
        UserError: the run stores none; or one is missing, damaged or not that of its row.
    """
    run = path_to_read(path, "run", urls=True)
    if not (run / "heatmaps.zarr").exists():
        raise UserError(f"{path} stores no heatmaps: it was run with --heatmaps none")
    return heatmaps_of(run, list(rows), read_scores(run, ["heatmap_row", "heatmap_sha256"]))


def heatmaps_of(
    run: AnyPath, rows: Sequence[int], scores: pa.Table
) -> Float[np.ndarray, "N H W 3"]:
    """Return stored heatmaps of a run whose scores are read already.

    Args:
        run: the run.
        rows: their `heatmap_row`.
        scores: with the columns heatmap_row and heatmap_sha256.

    Raises:
        UserError: one is missing, damaged or not that of its row.
    """
    mine = scores.filter(pc.is_in(scores["heatmap_row"], pa.array(rows, pa.int64())))
    names = ("heatmap_row", "heatmap_sha256")
    hashes = dict(zip(*(mine[name].to_pylist() for name in names), strict=True))
    folder = run / "heatmaps.zarr"
    unique = {row: hashes.get(row) for row in rows}
    try:
        found = read_heatmap_rows(folder, unique)
    except ValueError as error:
        raise damaged(folder, error, mend(run)) from None
    place = {row: number for number, row in enumerate(unique)}
    return found[[place[row] for row in rows]]
