"""What lies in a run's folder, whether all of it is whole, and the repair of what is not."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from gaxjax.common import AnyPath, FolderHeader, UserError, counted, in_bytes, lock, path_to_read
from gaxjax.results.check import Check, check_run, drop_damaged, heatmap_array, remove_leftovers
from gaxjax.results.class_patterns import read_class_means, read_class_patterns
from gaxjax.results.heatmap_array import read_heatmap_rows
from gaxjax.results.image_list import image_list_fault
from gaxjax.results.part_writer import refuse_writers
from gaxjax.results.parts import list_parts
from gaxjax.results.reading import read_parts
from gaxjax.results.robustness import read_robustness
from gaxjax.results.run_header import OLD_FORMAT, read_header
from gaxjax.results.snapshots import (
    drop_snapshots,
    has_snapshots,
    read_snapshot_heatmaps,
    read_snapshots,
)

__all__ = ["Inspection", "inspect_run"]


@dataclass(frozen=True)
class Inspection:
    """What `inspect_run` found.

    Attributes:
        facts: what the run is and holds, by name.
        damages: what is not whole, a line each; empty where all is.
        notes: what is no damage, such as leftovers of a killed process.
        repaired: what was done about it.
        missing: images of the run that have no rows now.
    """

    facts: dict[str, str]
    damages: tuple[str, ...]
    notes: tuple[str, ...]
    repaired: tuple[str, ...]
    missing: int


def inspect_run(
    path: AnyPath, *, repair: bool = False, progress: Callable[[int, int], None] = lambda *_: None
) -> Inspection:
    """Read all that a run holds and hold it against its digests.

    Args:
        path: the run's folder, finished or not.
        repair: drop the parts that are damaged, so that the run's command computes their images
            again, and what a killed process left; needs the folder's lock.
        progress: called with the number of parts read, and of all.

    Raises:
        UserError: there is no run, or its run.json is damaged; to repair, it is in use or of the
            old format.

    Example:
        >>> inspect_run(Path("run")).damages  # doctest: +SKIP
        ()
    """
    path = path_to_read(path, "run", urls=True)
    header = read_header(path)
    if not repair:
        return _inspect(path, header, _checked(path, header, progress))
    if header["format"] == OLD_FORMAT:
        raise UserError(
            f"{path} is of store format {OLD_FORMAT}, whose parts depend on one another: it can "
            "be read, but not repaired"
        )
    with closing(lock(path)):
        refuse_writers(path)
        check = check_run(path, header, progress)
        found = _inspect(path, header, check)
        done = _repair(path, header, check)
    return Inspection(found.facts, found.damages, found.notes, done, found.missing)


def _checked(
    path: AnyPath, header: dict[str, Any], progress: Callable[[int, int], None]
) -> Check | None:
    """Check a run's parts; None for one of the old format, which has no digests."""
    return None if header["format"] == OLD_FORMAT else check_run(path, header, progress)


def _inspect(path: AnyPath, header: dict[str, Any], check: Check | None) -> Inspection:
    notes: list[str] = []
    if check is None:
        found, num_parts, damages = _check_old(path)
    else:
        found, num_parts = len(check.image_ids), len(check.parts)
        damages = [str(damage) for damage in check.damages]
        array = heatmap_array(path, header)
        if array is not None and not array.is_described():
            damages.append("heatmaps.zarr/zarr.json is missing or is not what was written")
        for what, paths in (
            ("not committed, by a process that was killed or is at work", check.leftovers),
            ("not of this run, and never read", check.strangers),
        ):
            if paths:
                more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
                notes.append(f"{paths[0].relative_to(path)}{more}: {what}")
    if reason := image_list_fault(path):
        damages.append(f"images-*.parquet: {reason}")
    if reason := _snapshots_fault(path):
        damages.append(reason)
    damages += _later_faults(path)
    wanted = header["data"]["num_images"]
    facts = {
        "Command": f"gaxjax {header['command']}",
        "Model": header["model"]["name"],
        "Images": header["data"]["name"],
        "Done": f"{found:,} of {wanted:,} images, {header['status']}",
        "Parts": f"{num_parts:,}",
        "Sessions": f"{len(header['sessions']):,}",
        "On disk": in_bytes(sum(f.stat().st_size for f in path.rglob("*") if f.is_file())),
        "Format": str(header["format"]),
    }
    return Inspection(facts, tuple(damages), tuple(notes), (), wanted - found)


def _check_old(path: AnyPath) -> tuple[int, int, list[str]]:
    """Read all rows and heatmaps of a run without digests of its files."""
    table, faults = read_parts(path, ["image_id", "heatmap_row", "heatmap_sha256"])
    damages = [f"{part.name}: {reason}" for part, reason in faults.items()]
    hashes = dict(zip(*(table[n].to_pylist() for n in table.column_names[1:]), strict=True))
    hashes.pop(None, None)
    for row, expected in sorted(hashes.items()):
        try:
            read_heatmap_rows(path / "heatmaps.zarr", {row: expected})
        except ValueError as error:
            damages.append(f"heatmaps.zarr, row {row}: {error}")
    parts = len(list((path / "scores").glob("part-*.parquet")))
    return len(table["image_id"].unique()), parts, damages


def _snapshots_fault(path: AnyPath) -> str:
    """Return what is wrong with a run's snapshots, or an empty text."""
    if not has_snapshots(path):
        return ""
    try:
        read_snapshot_heatmaps(path, read_snapshots(path)["row"].to_pylist())
    except UserError as error:
        return str(error)
    return ""


def _later_faults(path: AnyPath) -> list[str]:
    """Return what is wrong with the tables that were computed from the run."""
    faults = []
    for read in (read_robustness, read_class_patterns, read_class_means):
        try:
            read(path)
        except UserError as error:
            faults.append(str(error))
    return faults


def _repair(path: AnyPath, header: dict[str, Any], check: Check) -> tuple[str, ...]:
    """Drop what is damaged; return what was done, a line each."""
    done = []
    if check.damages:
        # First said, then done: a kill in between leaves a run that is not called complete.
        FolderHeader(path / "run.json", header, header).write(status="running")
        drop_damaged(check)
        done.append(f"dropped {counted(len(check.damages), 'part')}")
    remove_leftovers(path, list_parts(path, header["format"]))
    array = heatmap_array(path, header)
    if array is not None and not array.is_described():
        array.create()
        done.append("wrote heatmaps.zarr/zarr.json anew")
    if image_list_fault(path):
        for file in path.glob("images-*.parquet"):
            file.unlink()
        done.append("dropped the list of images, which the run's command makes again")
    if _snapshots_fault(path):
        drop_snapshots(path)
        done.append("dropped the snapshots, which the run's command makes again")
    return tuple(done)
