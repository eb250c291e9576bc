"""The result store: a folder that is true at every moment, and that a crash cannot spoil.

    RUN/
      run.json               config, fingerprints, versions, device, timing
      scores/part-*.parquet  one row per image, committed part by part
      heatmaps.zarr          [rows, H, W, 3], Zarr v3, a shard per part; a row's number is in the
                             scores

Heatmaps along the way lie beside them: `snapshots.py`.

A part is written once and never touched again, after the shard of its heatmaps: each is a file
that is made durable and then renamed into place. What a killed process leaves, a `.tmp` or a shard
without its part, is removed when the run is opened again. Pandas, DuckDB and xarray read all of it
without us.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from gaxjax.common import (
    RESUME,
    FolderHeader,
    UserError,
    cannot_write,
    counted,
    damaged,
    lock,
    refuse_strangers,
    spelt_out,
)
from gaxjax.results.check import check_run, heatmap_array, remove_leftovers
from gaxjax.results.heatmap_array import heatmap_sha256, read_heatmap_rows
from gaxjax.results.parts import SCHEMA, PartAbout, joined, list_parts, read_part, write_part
from gaxjax.results.run_header import FORMAT, OLD_FORMAT, read_header
from gaxjax.results.solution import Solution

__all__ = ["Result", "Store", "heatmaps_of", "mend", "read_heatmaps", "read_parts", "read_scores"]


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
        num_images: of the run: the most parts that there can be.
        heatmaps_per_part: the most heatmaps of a part; a run begun with another number keeps it.

    Attributes:
        header: run.json.
        done: ids of the images committed so far.

    Raises:
        UserError: the folder holds another run, an older or a damaged one, or something else; it
            is in use, or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        identity: dict[str, Any],
        header: dict[str, Any],
        image_shape: tuple[int, ...],
        heatmap_dtype: str | None,
        num_images: int,
        heatmaps_per_part: int,
    ) -> None:
        self.path = path = path.resolve()
        refuse_strangers(path, "run.json")
        heatmaps = {
            "num_shards": max(1, num_images),
            "rows_per_shard": max(1, heatmaps_per_part),
            "image_shape": list(image_shape),
            "dtype": heatmap_dtype,
        }
        begun = {
            "format": FORMAT,
            "run_id": secrets.token_hex(8),
            "identity": identity,
            "heatmaps": None if heatmap_dtype is None else heatmaps,
            **header,
        }
        self._lock = lock(path)
        try:
            file = path / "run.json"
            self.header = FolderHeader(file, begun, _going_on(path) if file.exists() else None)
            (path / "scores").mkdir(exist_ok=True)
            check = check_run(path, self.header.values)
            check.require_whole(path)
            remove_leftovers(path, self.header.values)
            self.done = set(check.image_ids)
            taken = {part.number for part in check.parts}
            self._free_numbers = (number for number in count() if number not in taken)
            self._heatmaps = heatmap_array(path, self.header.values)
            if self._heatmaps is not None:
                self._heatmaps.create()
        except OSError as error:
            self._lock.close()
            raise cannot_write(f"to {path}", error, RESUME) from error
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def commit(self, results: list[Result]) -> None:
        """Append results as one part, or as several where their heatmaps are too many for one.

        All results of an image go into one commit, one after the other. Results that share a
        heatmap, as the same array, share its row.
        """
        wanted = [result for result in results if result.image_id not in self.done]
        for part in self._parts(wanted):
            self._commit(part)

    def _parts(self, results: Sequence[Result]) -> Iterator[list[Result]]:
        """Divide results into parts that hold all rows of their images."""
        most = self._heatmaps.rows_per_shard if self._heatmaps is not None else None
        part: list[Result] = []
        heatmaps: set[int] = set()
        for _, of_image in groupby(results, attrgetter("image_id")):
            rows = list(of_image)
            own = {id(row.solution.heatmap) for row in rows if row.solution.heatmap is not None}
            if part and most is not None and len(heatmaps | own) > most:
                yield part
                part, heatmaps = [], set()
            part += rows
            heatmaps |= own
        if part:
            yield part

    def _commit(self, results: list[Result]) -> None:
        number = next(self._free_numbers)
        first = 0 if self._heatmaps is None else self._heatmaps.first_row(number)
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
                    placed[id(heatmap)] = first + len(heatmaps), heatmap_sha256(heatmap)
                    heatmaps.append(heatmap)
                values["heatmap_row"], values["heatmap_sha256"] = placed[id(heatmap)]
            for name, column in columns.items():
                column.append(values[name])
        shard = None
        if heatmaps and self._heatmaps is not None:
            shard = self._heatmaps.write_shard(number, np.stack(heatmaps))
        about = PartAbout(self.header["run_id"], number, shard)
        write_part(self.path / "scores", pa.table(columns, schema=SCHEMA), about)
        self.done.update(columns["image_id"])


def _equal(prediction: int | None, label: int) -> bool | None:
    return None if prediction is None else prediction == label


def _going_on(path: Path) -> dict[str, Any]:
    """Return the header of a run that can be gone on with.

    Raises:
        UserError: it cannot.
    """
    header = read_header(path)
    if header["format"] == OLD_FORMAT:
        raise UserError(
            f"{path} was begun by an earlier gaxjax (store format {OLD_FORMAT}): it can be "
            "verified and reported, but not gone on with; choose another --output"
        )
    return header


def read_parts(
    path: Path | str, columns: Iterable[str] | None = None
) -> tuple[pa.Table, dict[Path, str]]:
    """Return the rows of the parts that are whole, and of the others what is wrong with each.

    Raises:
        UserError: there is no run, run.json is damaged, or a file cannot be read.
    """
    path = Path(spelt_out(path, "run"))
    header = read_header(path)
    names = list(SCHEMA.names if columns is None else columns)
    tables: dict[Path, pa.Table] = {}
    faults: dict[Path, str] = {}
    number = None
    for part in list_parts(path, header["format"]):
        try:
            table, about = read_part(part, names)
            if about.run_id != header.get("run_id", ""):
                raise ValueError("it is of another run")
            if part.number == number:
                raise ValueError(f"there is another part {number}")
            tables[part.path] = table
            number = part.number
        except ValueError as error:
            faults[part.path] = str(error)
    return joined(tables.values(), names), faults


def read_scores(path: Path | str, columns: Iterable[str] | None = None) -> pa.Table:
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


def mend(path: Path | str) -> str:
    """Return what a user can do about a run that is damaged."""
    return f"gaxjax inspect {path} lists all that is, and --repair has its images computed again"


def read_heatmaps(path: Path | str, rows: Iterable[int]) -> Float[np.ndarray, "N H W 3"]:
    """Return stored heatmaps by their `heatmap_row`, in the stored type.

    Raises:
        UserError: the run stores none; or one is missing, damaged or not that of its row.
    """
    run = Path(spelt_out(path, "run"))
    if not (run / "heatmaps.zarr").exists():
        raise UserError(f"{path} stores no heatmaps: it was run with --heatmaps none")
    return heatmaps_of(run, list(rows), read_scores(run, ["heatmap_row", "heatmap_sha256"]))


def heatmaps_of(run: Path, rows: Sequence[int], scores: pa.Table) -> Float[np.ndarray, "N H W 3"]:
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
