"""Is a run's folder whole? Every part and every shard is held against its digest."""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gaxjax.common import AnyPath, UserError
from gaxjax.results.heatmap_array import HeatmapArray, shard_number
from gaxjax.results.parts import (
    DONE_COLUMNS,
    Part,
    at_once,
    ids_and_outcomes,
    list_parts,
    read_part,
)

__all__ = [
    "Check",
    "Damage",
    "check_run",
    "drop_damaged",
    "heatmap_array",
    "remove_files",
    "remove_leftovers",
]


@dataclass(frozen=True)
class Damage:
    """A part that is not what was written, or whose heatmaps are not.

    Attributes:
        part: its file.
        reason: what is wrong.
    """

    part: Part
    reason: str

    def __str__(self) -> str:
        return f"{self.part.path.name}: {self.reason}"


@dataclass(frozen=True)
class Check:
    """What a run's folder holds.

    Attributes:
        image_ids: images that have their rows in a part that is whole.
        outcomes: how many of these rows ended how.
        parts: all parts, whole or not.
        damages: those that are not whole.
        leftovers: what a killed process left: files half written, and shards without their part.
        strangers: what else lies there; it is never read.
    """

    image_ids: frozenset[str]
    outcomes: Counter[str]
    parts: tuple[Part, ...]
    damages: tuple[Damage, ...]
    leftovers: tuple[AnyPath, ...]
    strangers: tuple[AnyPath, ...]

    def require_whole(self, run: AnyPath) -> None:
        """Refuse damage.

        Raises:
            UserError: there is some; the message names the first and says how to mend all.
        """
        if self.damages:
            more = len(self.damages) - 1
            raise UserError(
                f"{run} is damaged ({self.damages[0]}{f'; and {more} more' if more else ''}): "
                f"`gaxjax inspect {run} --repair` drops what is, and the run's command then "
                "computes its images again"
            )


def heatmap_array(run: AnyPath, header: dict[str, Any]) -> HeatmapArray | None:
    """Return the array of a run's heatmaps; None where it keeps none."""
    values = header["heatmaps"]
    if values is None:
        return None
    shape = tuple(values["image_shape"])
    return HeatmapArray(run / "heatmaps.zarr", **{**values, "image_shape": shape})


def check_run(
    run: AnyPath,
    header: dict[str, Any],
    progress: Callable[[int, int], None] = lambda *_: None,
    *,
    ours: range | None = None,
    shards: bool = True,
) -> Check:
    """Read every part, and every byte of every shard.

    Args:
        run: a folder of the present format.
        header: its run.json.
        progress: called with the number of parts checked, and of all.
        ours: part numbers whose shards and leftovers are looked at; all when not given. Those of
            others are being written.
        shards: whether every byte of the shards is read, or their sizes alone.

    Raises:
        UserError: the system does not let a file be read.
    """
    array = heatmap_array(run, header)
    parts = list_parts(run, header["format"])
    numbers = Counter(part.number for part in parts)
    ids: dict[str, Part] = {}
    outcomes: Counter[str] = Counter()
    damages = []

    def read(part: Part) -> tuple[frozenset[str], Counter[str], str]:
        mine = ours is None or part.number in ours
        return _read(run, header["run_id"], array, part, looked_at=mine, whole=shards)

    for done, (part, (image_ids, counts, reason)) in enumerate(
        zip(parts, at_once(read, parts), strict=True), 1
    ):
        if not reason and numbers[part.number] > 1:
            reason = f"there is another part {part.number}"
        if not reason and (twice := image_ids & ids.keys()):
            reason = f"{min(twice)} is in {ids[min(twice)].path.name} too"
        if reason:
            damages.append(Damage(part, reason))
        else:
            ids.update(dict.fromkeys(image_ids, part))
            outcomes += counts
        progress(done, len(parts))
    leftovers, strangers = _others(run, parts, ours)
    return Check(frozenset(ids), outcomes, tuple(parts), tuple(damages), leftovers, strangers)


def _read(
    run: AnyPath,
    run_id: str,
    array: HeatmapArray | None,
    part: Part,
    *,
    looked_at: bool,
    whole: bool,
) -> tuple[frozenset[str], Counter[str], str]:
    """Return a part's image ids, how its rows ended, and what is wrong with it or an empty text."""
    try:
        table, about = read_part(part, DONE_COLUMNS)
    except ValueError as error:
        return frozenset(), Counter(), str(error)
    reason = ""
    if about.run_id != run_id:
        reason = "it is of another run"
    elif about.shard is not None and looked_at:
        fault = array.shard_fault(about.shard, whole=whole) if array else "the run keeps none"
        reason = f"its heatmaps are lost: {fault}" if fault else ""
    return *ids_and_outcomes(table), reason


def _others(
    run: AnyPath, parts: Sequence[Part], ours: range | None
) -> tuple[tuple[AnyPath, ...], tuple[AnyPath, ...]]:
    """Return leftovers and strangers among parts and shards."""
    leftovers, strangers = [], []
    known = {part.path for part in parts}
    numbers = {part.number for part in parts}
    for folder in (run / "scores", run / "heatmaps.zarr"):
        for path in sorted(folder.iterdir(), key=_name) if folder.is_dir() else ():
            shard = shard_number(path.name)
            if path.name.endswith(".tmp") or (shard is not None and shard not in numbers):
                if ours is None or _number(path.name) in ours:
                    leftovers.append(path)
            elif path not in known and shard is None and path.name != "zarr.json":
                strangers.append(path)
    return tuple(leftovers), tuple(strangers)


def _name(path: AnyPath) -> str:
    return path.name


def _number(name: str) -> int:
    """Return the number of a part's or shard's file, or of one half written; -1 for others."""
    found = re.match(r"\.?(?:part-|c\.)(\d+)", name)
    return int(found[1]) if found else -1


def remove_leftovers(run: AnyPath, parts: Sequence[Part], ours: range | None = None) -> None:
    """Remove what a killed process left, where the lock of its part numbers is held.

    Args:
        run: the run's folder.
        parts: that it has, all of them.
        ours: the part numbers; all when not given.
    """
    remove_files(_others(run, parts, ours)[0])


def remove_files(paths: Iterable[AnyPath]) -> None:
    """Remove files, or folders in their places."""
    for path in paths:
        _remove(path)


def drop_damaged(check: Check) -> None:
    """Remove the parts that are damaged; without them their shards are leftovers."""
    remove_files(damage.part.path for damage in check.damages)


def _remove(path: AnyPath) -> None:
    """Remove a file, or a folder in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
