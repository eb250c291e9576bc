"""Appends parts to a run: of numbers that are this writer's alone, so that many write at once.

Writer w of a run of N images has the part numbers from w x N up to (w + 1) x N, which are enough
for any images that it may be given: a part holds at least one.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from gaxjax.common import AnyPath, UserError, held_locks, is_url
from gaxjax.results.heatmap_array import HeatmapArray, heatmap_sha256
from gaxjax.results.parts import SCHEMA, PartAbout, write_part
from gaxjax.results.solution import Solution

__all__ = ["PartWriter", "Result", "part_numbers", "refuse_writers"]

_MOST_PARTS = 10**12
_DYING = 15.0  # seconds in which the workers of a killed driver end


@dataclass(frozen=True)
class Result:
    """A solution with what names its image."""

    image_id: str
    label: int
    label_name: str
    solution: Solution


def part_numbers(writer: int, num_images: int) -> range:
    """Return the part numbers of a writer, from 0, of a run of so many images.

    Raises:
        UserError: there are no numbers left for so many writers.
    """
    count = max(1, num_images)
    if (writer + 1) * count >= _MOST_PARTS:
        raise UserError(f"{writer + 1} writers for {num_images:,} images are too many")
    return range(writer * count, (writer + 1) * count)


def refuse_writers(path: AnyPath, *, but: str = "", wait: float | None = None) -> None:
    """Refuse a run that writers have side by side; wait for those that are ending.

    Args:
        path: the run, whose lock is held.
        but: the name of one that does not count.
        wait: seconds; those that the workers of a killed driver take to end when not given.

    Raises:
        UserError: some are at work.
    """
    deadline = time.monotonic() + (_DYING if wait is None else wait)
    while at_work := [name for name in held_locks(path, "writer-") if name != but]:
        if time.monotonic() >= deadline:
            numbers = ", ".join(name.removeprefix("writer-") for name in at_work[:8])
            raise UserError(
                f"{path} is in use by others that write it side by side (slices or workers "
                f"{numbers}): give the same division of it, or wait"
            )
        time.sleep(0.2)


class PartWriter:
    """Commits results as parts.

    Args:
        run: the run's folder, made and described.
        header: its run.json.
        numbers: the part numbers that are ours.
        taken: those of them that are in use.
        done: ids of images that have rows, from anybody; results for them are passed over.
        array: where heatmaps go; None keeps none.
        still_ours: called before anything is written; raises where the lock was lost.

    Attributes:
        done: with those that were committed here.
        outcomes: how many rows that were committed here ended how.
        written: files of the parts that were.
    """

    def __init__(
        self,
        run: AnyPath,
        header: Mapping[str, Any],
        *,
        numbers: range,
        taken: Collection[int],
        done: Collection[str],
        array: HeatmapArray | None,
        still_ours: Callable[[], None] = lambda: None,
    ) -> None:
        self.done = set(done)
        self.outcomes: Counter[str] = Counter()
        self.written: set[AnyPath] = set()
        self._scores = run / "scores"
        self._run_id = header["run_id"]
        self._array = array
        self._still_ours = still_ours
        self._free_numbers = (number for number in numbers if number not in taken)
        if not is_url(run):
            self._scores.mkdir(exist_ok=True)

    def commit(self, results: Sequence[Result]) -> None:
        """Append results as one part, or as several where their heatmaps are too many for one.

        All results of an image go into one commit, one after the other. Results that share a
        heatmap, as the same array, share its row.

        Raises:
            OSError, ValueError: they cannot be written.
            NotWrittenError: the lock was lost.
        """
        wanted = [result for result in results if result.image_id not in self.done]
        for part in self._parts(wanted):
            self._still_ours()
            self._commit(part)

    def _parts(self, results: Sequence[Result]) -> Iterator[list[Result]]:
        """Divide results into parts that hold all rows of their images."""
        most = self._array.rows_per_shard if self._array is not None else None
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
        first = 0 if self._array is None else self._array.first_row(number)
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
            if heatmap is not None and self._array is not None:
                if id(heatmap) not in placed:
                    placed[id(heatmap)] = first + len(heatmaps), heatmap_sha256(heatmap)
                    heatmaps.append(heatmap)
                values["heatmap_row"], values["heatmap_sha256"] = placed[id(heatmap)]
            for name, column in columns.items():
                column.append(values[name])
        shard = None
        if heatmaps and self._array is not None:
            shard = self._array.write_shard(number, np.stack(heatmaps))
        about = PartAbout(self._run_id, number, shard)
        part = write_part(self._scores, pa.table(columns, schema=SCHEMA), about)
        self.written.add(part.path)
        self.outcomes.update(columns["outcome"])
        self.done.update(columns["image_id"])


def _equal(prediction: int | None, label: int) -> bool | None:
    return None if prediction is None else prediction == label
