"""From what contestants answer to rows, and files of rows: JSON lines, appended."""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure.measurement import Fields

Row = dict[str, Any]


def append_row(row: Row, path: Path) -> None:
    """Append a row to a file, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_lines(path: Path) -> list[Row]:
    """Read all rows of a file; a line that a crash tore is skipped, and said on stderr."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}:{number}: skipped a torn line", file=sys.stderr)
    return rows


def score_difference(
    scores: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Return the largest difference before the first update, and after it, over the largest score.

    An image that ended early, or was not optimised, has a shorter list, or an empty one.

    Raises:
        ValueError: not a single score to compare.
    """
    largest = max(abs(value) for curve in expected for value in curve)
    differences: dict[str, list[float]] = {"first": [], "later": [0.0]}
    for curve, wanted in zip(scores, expected, strict=True):
        for update, (value, right) in enumerate(zip(curve, wanted, strict=False)):
            name = "later" if update else "first"
            differences[name].append(abs(value - right) / largest)
    if not differences["first"]:
        raise ValueError("the contestant gave no score to compare")
    # A NaN must not pass: max() could step over it.
    return {
        name: max(values) if all(value == value for value in values) else float("nan")
        for name, values in differences.items()
    }


def rates(turns: Sequence[Fields]) -> Fields:
    """Return what the timed turns amount to: each turn's figures, and median, least and most."""

    def spread(name: str) -> Fields | None:
        values = [turn[name] / turn["seconds"] for turn in turns]
        if not any(values):
            return None
        return {"median": statistics.median(values), "min": min(values), "max": max(values)}

    return {
        "turn_seconds": [turn["seconds"] for turn in turns],
        "turn_image_steps": [turn["image_steps"] for turn in turns],
        "turn_images": [turn["images"] for turn in turns],
        "image_steps_per_s": spread("image_steps"),
        "images_per_s": spread("images"),
    }


def describe(row: Fields) -> str:
    """Return a row's outcome in a few words."""
    if "error" in row:
        return f"failed: {row['error']}"
    if "matmul_tflops" in row:
        return f"{row['matmul_tflops']:,.3g} TFLOP/s, {row['copy_gb_per_s']:,.3g} GB/s"
    words = [
        f"{rate['median']:,.2f} {name} ({rate['min']:,.2f}–{rate['max']:,.2f})"
        for name, rate in (
            ("image-steps/s", row["image_steps_per_s"]),
            ("images/s", row["images_per_s"]),
        )
        if rate
    ]
    return ", ".join(words)


def rounded(value: Any) -> Any:
    """Return JSON values with six significant digits: people read rows too."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
