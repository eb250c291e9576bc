"""What a run's folder holds, as its readers see it, and what differs between two such looks."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gaxjax.common import UserError
from gaxjax.results import heatmap_sha256, read_heatmaps, read_scores

__all__ = ["FAULTS", "Look", "faults_since", "look"]

FAULTS = ("lost", "doubled", "differing", "unreadable", "refused")
"""What must not happen. Lost: a row, or a committed file, is gone or another than before the kill.
Differing: not as in the undisturbed run. Refused: the same command does not go on."""

_KEY = ("image_id", "method", "layer", "operation")


@dataclass(frozen=True)
class Look:
    """Rows by what names them, each as text with its heatmap's hash; the parts' hashes by name."""

    rows: dict[tuple[str, ...], str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    doubled: int = 0
    unreadable: int = 0


def look(run: Path) -> Look:
    """Read all scores and all heatmaps of a run; one that is not there yet is empty.

    Each heatmap is held against its row's hash.
    """
    if not (run / "run.json").exists():
        return Look()
    parts = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (run / "scores").glob("*.parquet")
    }
    try:
        rows = read_scores(run).to_pylist()
    except UserError:
        return Look(parts=parts, unreadable=1)
    found, unreadable = [], 0
    stored = sorted({row["heatmap_row"] for row in rows if row["heatmap_row"] is not None})
    hashes = _hashes(run, stored)
    for row in rows:
        number = row.pop("heatmap_row")
        unreadable += number is not None and hashes[number] != row["heatmap_sha256"]
        found.append((tuple(str(row[name]) for name in _KEY), repr(row)))
    return Look(dict(found), parts, len(found) - len(dict(found)), unreadable)


def _hashes(run: Path, rows: list[int]) -> dict[int, str]:
    if not rows:
        return {}
    try:
        return dict(zip(rows, map(heatmap_sha256, read_heatmaps(run, rows)), strict=True))
    except UserError:
        if len(rows) == 1:
            return {rows[0]: "unreadable"}
        return {row: sha256 for each in rows for row, sha256 in _hashes(run, [each]).items()}


def faults_since(before: Look, now: Look, whole: Look) -> Counter[str]:
    """Count what a kill, or going on after one, did to a run.

    Args:
        before: the run as it was then.
        now: as it is now.
        whole: the same run, undisturbed.
    """
    return Counter(
        lost=_not_in(before.rows.items(), now.rows.items())
        + _not_in(before.parts.items(), now.parts.items()),
        doubled=now.doubled,
        differing=_not_in(now.rows.items(), whole.rows.items()),
        unreadable=now.unreadable,
    )


def _not_in(items: Iterable, others: Iterable) -> int:
    return len(set(items) - set(others))
