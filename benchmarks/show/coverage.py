"""The table of imported networks: how far their numbers are torch's."""

from collections.abc import Iterable
from typing import Any

from benchmarks.measure.rows import Row
from benchmarks.show.cells import NONE, error, markdown, number
from benchmarks.show.comparison import failed

__all__ = ["coverage", "coverage_summary", "reason"]

EXACT = 1e-12
_ROUNDINGS = 30
"""Roundings on the way that a difference may amount to, of the image's pixels alone."""
_FULL, _LOWER = ("float64", "float32"), ("float32", "bfloat16")
_THIRDS = frozenset(("hardsigmoid", "hardswish"))
_TITLES = ["network", "size", "operations", "numbers, M"]
_TITLES += ["float64: logits, gradient", "float32: logits, gradient", "bfloat16: logits", "remarks"]


def coverage(rows: list[Row]) -> str:
    """Return a line for each network, torchvision's before timm's, by name."""
    return markdown(_TITLES, [_cells(row) for row in _sorted(rows)]) if _sorted(rows) else ""


def coverage_summary(rows: list[Row]) -> str:
    """Return how many networks of each library were tried, imported, and equal to torch."""
    lines = []
    for library in ("torchvision", "timm"):
        tried = [row for row in _sorted(rows) if row["model"].startswith(f"{library}:")]
        imported = [row for row in tried if not failed(row)]
        exact = [row for row in imported if _worst(row["float64"]) <= EXACT]
        explained = [row for row in imported if row not in exact and _is_explained(row)]
        single, half = ([row[name]["logits"] for row in imported] for name in _LOWER)
        if tried:
            lines.append(
                [
                    library,
                    *(str(len(each)) for each in (tried, imported, exact, explained)),
                    *(_spread(values) for values in (single, half)),
                    str(sum(row["float32_products"] for row in imported)),
                ]
            )
    titles = ["library", "networks", "imported", "equal to 1e-12", "equal but for what is named"]
    titles += ["float32: logits, median (most)", "bfloat16: logits, median (most)"]
    return markdown([*titles, "float32 products in bfloat16"], lines) if lines else ""


def reason(row: Row) -> str:
    """Say why a network's float64 differs from torch's, or "" where it does not."""
    if _worst(row["float64"]) <= EXACT:
        return ""
    rest = _worst(row.get("float64_throughout", row["float64"]))
    if rest > EXACT:
        twice = _worst(row.get("of_two_images", row["float64"]))
        if twice <= EXACT:
            return f"torch contradicts itself: {twice:.1e} from it with the image twice in a batch"
        rounding = _worst(row.get("one_rounding", {"logits": 0.0}))
        if rest <= _ROUNDINGS * rounding:
            return f"torch's own numbers move by {rounding:.1e} if each pixel does by one rounding"
        return "unexplained"
    thirds = sorted(_THIRDS & row["operations"].keys())
    casts = any("cast" in note for note in row["notes"])
    causes = [f"torch's gradient of {' and '.join(thirds)} holds 1/6 in float32"] * bool(thirds)
    causes += ["its own code casts to float32"] * casts
    return f"{'; '.join(causes) or 'float32 in its own code'}: {rest:.1e} without"


def _sorted(rows: Iterable[Row]) -> list[Row]:
    found = [row for row in rows if row.get("workload") == "coverage"]
    return sorted(found, key=lambda row: (not row["model"].startswith("torchvision"), row["model"]))


def _cells(row: Row) -> list[str]:
    network, size = row["model"], f"{row['size']} × {row['size']}"
    if failed(row):
        return [network, size, *[NONE] * (len(_TITLES) - 3), error(row)]
    return [
        network,
        size,
        f"{row['nodes']} of {len(row['operations'])} kinds",
        number(row["numbers"], 1e6),
        *(f"{row[name]['logits']:.1e}, {row[name]['gradient']:.1e}" for name in _FULL),
        f"{row['bfloat16']['logits']:.1e}",
        reason(row) or NONE,
    ]


def _worst(differences: Any) -> float:
    return max(differences.values())


def _is_explained(row: Row) -> bool:
    return reason(row) not in ("", "unexplained")


def _spread(values: list[float]) -> str:
    if not values:
        return NONE
    return f"{sorted(values)[len(values) // 2]:.1e} ({max(values):.1e})"
