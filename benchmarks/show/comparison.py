"""Rows read back from files of JSON lines, and what may be compared with what.

A row is told apart by suite, device and key. Rows of one session were measured side by side: the
machine's drift met both, and cancels in the ratio of each turn. On an accelerator every row has a
session of its own, and medians are compared; on a CPU, which drifts, rows of two sessions are not.
"""

import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure.rows import Row, read_lines
from benchmarks.measure.suites import METHODS
from gaxjax.common import UserError

Unit = Literal["image_steps", "images"]

ARITHMETICS = ("float32", "tf32", "bfloat16")
CONTENDERS = (
    *("released", "released-input-only"),
    *("torch-eager", "torch-compile", "torch-compile-reduce-overhead"),
    *("torch-compile-max-autotune", "torch-graph", "torch-compile-graph"),
    *("captum", "cold", "warm", "ours", "native", "bare"),
)
"""In the order in which they are shown."""


@dataclass(frozen=True)
class Spread:
    """Median of the turns, and their ends."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratio(Spread):
    """How many times a peer's rate another one is.

    Attributes:
        by_turns: of each turn's ratio; otherwise the ratio of the medians, and its ends when each
            of the two was at its own.
    """

    by_turns: bool


def read_rows(path: Path) -> list[Row]:
    """Read rows of a file, or of all `*.jsonl` of a folder, the latest of each kind only.

    Failed rows are kept. Lines of other benchmarks are left out; a line that a crash tore is
    skipped, and said on stderr.

    Raises:
        UserError: there is no such file or folder.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; measure with: python -m benchmarks run")
    latest: dict[tuple[str, str, str], Row] = {}
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        rows = [row for row in read_lines(file) if "workload" in row and "key" in row]
        for row in _with_devices(rows):
            identity = row.get("suite", ""), row["device"], row["key"]
            latest.pop(identity, None)
            latest[identity] = row
    return list(latest.values())


def _with_devices(rows: list[Row]) -> list[Row]:
    """Give a row that failed before it knew its device that of the row before it."""
    device = next((row["device"] for row in rows if row.get("device")), "unknown device")
    for row in rows:
        device = row.setdefault("device", device)
    return rows


def of_workload(rows: Iterable[Row], workload: str) -> list[Row]:
    """Return a workload's rows, without those that only repeat one to show the noise."""
    chosen = [row for row in rows if row["workload"] == workload and not row.get("repeat")]
    return sorted(chosen, key=_order)


def by_machine(rows: Iterable[Row]) -> list[list[Row]]:
    """Divide rows by suite and device."""
    return _divide(rows, lambda row: (row.get("suite", ""), row["device"]))


def by_group(rows: Iterable[Row]) -> list[list[Row]]:
    """Divide rows by suite, device, network with its images, and at fixed steps their number."""
    return _divide(
        rows, lambda row: (row.get("suite", ""), row["device"], row["group"], fixed_steps(row))
    )


def fixed_steps(row: Row) -> str:
    """Return how many steps each image takes, in words; nothing where that is not fixed."""
    return f"{row['max_steps'] + 1} steps an image" if row["workload"] == "fixed_steps" else ""


def _divide(rows: Iterable[Row], name: Any) -> list[list[Row]]:
    parts: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        parts.setdefault(name(row), []).append(row)
    return [parts[key] for key in sorted(parts)]


def _order(row: Row) -> tuple[Any, ...]:
    name = name_of(row)
    contender = CONTENDERS.index(name) if name in CONTENDERS else len(CONTENDERS)
    return (
        *(row["model"], row["size"], row["score_space"]),
        METHODS.index(method) if (method := method_of(row)) in METHODS else len(METHODS),
        *(contender, row["contender"], arithmetic_order(row)),
        *(row["devices"], row["slots"], row["num_images"]),
    )


def name_of(row: Row) -> str:
    """Return who the contender is, without `+refill` and the method after a colon."""
    return re.split("[+:]", row["contender"])[0]


def method_of(row: Row) -> str:
    """Return the AX method of a contender such as `captum:saliency`; empty where there is none."""
    return row["contender"].partition(":")[2]


def arithmetic_of(row: Row) -> str:
    """Return the arithmetic; a row that failed early knows only what it was asked for."""
    return row.get("arithmetic") or row["precision"]


def arithmetic_order(row: Row) -> int:
    """Return the arithmetic's place: the most exact first."""
    name = arithmetic_of(row)
    return ARITHMETICS.index(name) if name in ARITHMETICS else len(ARITHMETICS)


def failed(row: Row) -> bool:
    """Tell whether the measurement ended in an error."""
    return "error" in row


def is_ours(row: Row) -> bool:
    """Tell whether the row is of this project's engine or methods."""
    return name_of(row) in ("ours", "native")


def rate(row: Row, unit: Unit) -> Spread | None:
    """Return the stored rate in units per second, None where there is none."""
    stored = None if failed(row) else row.get(f"{unit}_per_s")
    return Spread(stored["median"], stored["min"], stored["max"]) if stored else None


def ratio(row: Row, peer: Row, unit: Unit) -> Ratio | None:
    """Return how many times the peer's rate the row's is.

    Returns:
        None where one has no rate, and for two sessions on a CPU.
    """
    mine, its = rate(row, unit), rate(peer, unit)
    if mine is None or its is None:
        return None
    if row["session"] == peer["session"]:
        pairs = zip(_turn_rates(row, unit), _turn_rates(peer, unit), strict=False)
        found = [one / other for one, other in pairs]
        return Ratio(statistics.median(found), min(found), max(found), by_turns=True)
    if row["device"] == "cpu" or row["device"] != peer["device"]:
        return None
    return Ratio(mine.median / its.median, mine.low / its.high, mine.high / its.low, by_turns=False)


def _turn_rates(row: Row, unit: Unit) -> list[float]:
    return [
        count / seconds
        for count, seconds in zip(row[f"turn_{unit}"], row["turn_seconds"], strict=True)
    ]


def fastest(rows: Iterable[Row], unit: Unit) -> Row | None:
    """Return the row of the highest median rate, None where none has a rate."""
    rated = [(found.median, row) for row in rows if (found := rate(row, unit))]
    return max(rated, key=lambda pair: pair[0])[1] if rated else None


def milliseconds_per_image(row: Row) -> Spread | None:
    """Return the inverse of a row's images per second."""
    found = rate(row, "images")
    return found and Spread(1e3 / found.median, 1e3 / found.high, 1e3 / found.low)


def counterpart(
    peer: Row, rows: Iterable[Row], unit: Unit, *, any_arithmetic: bool = False
) -> Row | None:
    """Choose the row of ours to hold against a peer.

    Of the peer's arithmetic where there is one, unless any will do; then of its slots; then the
    fastest.
    """
    mine = [row for row in rows if is_ours(row) and ratio(row, peer, unit)]
    mine = [row for row in mine if method_of(row) == method_of(peer)]
    if any_arithmetic:
        return fastest(mine, unit)
    for name in ("arithmetic", "slots"):
        mine = [row for row in mine if row[name] == peer[name]] or mine
    return fastest(mine, unit)


def original(again: Row, rows: Iterable[Row]) -> Row | None:
    """Return the row that another one repeats."""
    key, machine = again["key"].removesuffix("/again"), (again.get("suite"), again["device"])
    found = (row for row in rows if row["key"] == key)
    return next((row for row in found if (row.get("suite"), row["device"]) == machine), None)


def unit_of(row: Row) -> Unit:
    """Return the unit of a row's rate: image-steps where it has some."""
    return "image_steps" if row.get("image_steps_per_s") else "images"
