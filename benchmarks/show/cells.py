"""How values of rows are written in a table's cells, and what stands under a table."""

import math
from collections.abc import Iterable
from typing import Any

from benchmarks.measure.rows import Row
from benchmarks.show.comparison import Ratio, Spread, arithmetic_of, arithmetic_order, failed

NONE = "–"


def number(value: float | None, unit: float = 1.0) -> str:
    """Write a number, divided by `unit`, to three digits or to the ones, whichever is more.

    Example:
        >>> number(15.357), number(12_345.6), number(1.5e9, 1e9)
        ('15.4', '12,346', '1.50')
    """
    if value is None or not math.isfinite(value):
        return NONE
    value /= unit
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def percent(share: float | None) -> str:
    """Write a share of one in percent."""
    if share is None:
        return NONE
    return f"{100 * share:.{1 if share >= 0.01 else 2}f}%"


def spread(found: Spread | None, unit: float = 1.0) -> str:
    """Write the median, with the least and the most in parentheses where they differ."""
    if found is None:
        return NONE
    middle, low, high = (number(value, unit) for value in (found.median, found.low, found.high))
    return f"{middle} ({low}–{high})" if found.low < found.high else middle


def times(found: Ratio | None) -> str:
    """Write a ratio, with ≈ where turns were not paired.

    Three decimals below one, so that a small loss is not rounded away.
    """
    if found is None:
        return NONE

    def written(value: float) -> str:
        return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else number(value)

    about = "" if found.by_turns else "≈"
    ends = f" ({written(found.low)}–{written(found.high)})" if found.low < found.high else ""
    return f"{about}{written(found.median)}×{ends}"


def error(row: Row) -> str:
    """Write why a measurement failed, so that a table survives it."""
    return "failed: " + " ".join(str(row["error"]).split()).replace("|", "\\|")


def slots(row: Row) -> str:
    """Write the slots, and how many were left where they did not fit the memory."""
    used = row.get("slots_used", row["slots"])
    return f"{row['slots']:,}" + (f" ({used:,} fitted)" if used != row["slots"] else "")


def problem(row: Row) -> str:
    """Name the network and what its images and scores are."""
    return f"{row['model']}, {row['size']} × {row['size']}, {row['score_space']}"


def markdown(titles: list[str], lines: list[list[str]]) -> str:
    """Write a table, without the columns in which nothing stands."""
    kept = [i for i in range(len(titles)) if any(line[i] != NONE for line in lines)]
    chosen = [[line[i] for i in kept] for line in (titles, *lines)]
    chosen.insert(1, ["---"] * len(kept))
    return "".join(f"| {' | '.join(line)} |\n" for line in chosen)


def captioned(table: str, rows: list[Row]) -> str:
    """Put under a table what its rows were measured on, and how."""
    about = "≈: ratio of medians; each ran alone, one after another." if "≈" in table else ""
    sentences = _machine(rows), _data(rows), _turns(rows), _agreement(rows), about
    return f"{table}\n{' '.join(filter(None, sentences))}\n"


def _machine(rows: list[Row]) -> str:
    where = _join(f"{row.get('suite', '')} on {row['device']}".strip() for row in rows)
    processors = _join(
        f"{row['processor']}, {row['cores']} core{'s' * (row['cores'] != 1)}"
        for row in rows
        if row.get("processor") and row.get("cores")
    )
    versions = [
        f", {package} {found}"
        for package in ("jax", "torch")
        if (found := _join(row.get("versions", {}).get(package) for row in rows))
    ]
    commits = _join(row.get("commit") for row in rows)
    return (
        f"Suite {where}"
        + (f" ({processors})" if processors else "")
        + "".join(versions)
        + (f", commit {commits}" if commits else "")
        + "."
    )


def _data(rows: list[Row]) -> str:
    """Say which weights and images were real; of which models, where that differs."""
    models: dict[str, set[str]] = {}
    for row in rows:
        if row.get("weights"):
            kind = f"{row['weights']} weights and {row['images_are']} images"
            models.setdefault(kind, set()).add(row["model"])
    if len(models) < 2:
        return "".join(f"{kind.capitalize()}." for kind in models)
    kinds = [f"{kind} ({', '.join(sorted(models[kind]))})" for kind in sorted(models)]
    return f"{'; '.join(kinds).capitalize()}."


def _turns(rows: list[Row]) -> str:
    counts = {len(row["turn_seconds"]) for row in rows if row.get("turn_seconds")}
    if not counts or counts == {1}:
        return "One turn." * len(counts)
    several = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    return f"Median (least–most) of {several} turns."


def _agreement(rows: list[Row]) -> str:
    """Say how far scores were from the yardstick before anything was timed."""
    differences: dict[str, list[dict[str, float]]] = {}
    for row in sorted(rows, key=arithmetic_order):
        if row.get("score_difference") and not failed(row):
            differences.setdefault(arithmetic_of(row), []).append(row["score_difference"])
    if not differences:
        return ""
    worst = [
        f"{name} {max(one['first'] for one in found):.1e} / "
        f"{max(one['later'] for one in found):.1e}"
        for name, found in differences.items()
    ]
    return (
        "Largest difference of scores from torch's in float64, before / after updates, over the "
        f"largest score: {', '.join(worst)}."
    )


def _join(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values) if value)
