"""The pictures of the suite, from stored rows alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.bars import (
    BAR_INCHES,
    OTHERS,
    WIDTH,
    Bar,
    Panel,
    add_legend,
    bar_colour,
    bar_figure,
    draw_panel,
)
from benchmarks.cells import number, percent, problem
from benchmarks.comparison import (
    Spread,
    Unit,
    arithmetic_of,
    by_group,
    failed,
    fixed_steps,
    method_of,
    milliseconds_per_image,
    of_workload,
    rate,
    read_rows,
)
from benchmarks.curves import draw_curves, draw_steps
from benchmarks.rows import Row

__all__ = ["write_plots"]

_DPI = 200  # twice what a README shows, so that it is sharp on any screen
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
}


def write_plots(results: Path, output: Path) -> list[Path]:
    """Draw what there are rows of.

    Args:
        results: a file of rows, or a folder of such files.
        output: folder of the PNG files; made when missing.

    Returns:
        What was written.
    """
    rows, written = read_rows(results), []
    for name, (workload, draw) in _PLOTS.items():
        chosen = of_workload(rows, workload)
        if all(map(failed, chosen)):
            continue
        output.mkdir(parents=True, exist_ok=True)
        written.append(output / f"{name}.png")
        with rc_context(_STYLE):
            # Without matplotlib's version, so that the same rows give the same bytes.
            draw(chosen).savefig(written[-1], dpi=_DPI, metadata={"Software": None})
    return written


def _fixed_steps(rows: list[Row]) -> Figure:
    parts = sorted(by_group(rows), key=lambda part: (part[0]["suite"], -len(part)))
    panels = [Panel(_title(part), _by_contender(part, "image_steps")) for part in parts]
    return bar_figure(panels, "image-steps/s", rows, "peers in torch")


def _to_target_steps(rows: list[Row]) -> Figure:
    """Draw a line for each network: the histogram of steps of ours, and rates by contender."""
    parts = by_group(rows)
    panels = [Panel(_title(part), _by_contender(part, "images")) for part in parts]
    heights = [max(9.0, panel.height) for panel in panels]
    inches = BAR_INCHES * sum(heights) + 0.9 * len(parts) + 0.35
    figure = Figure(figsize=(WIDTH, inches), layout="constrained")
    axes = figure.subplots(len(parts), 2, squeeze=False, height_ratios=heights)
    for part, panel, height, (left, right) in zip(parts, panels, heights, axes, strict=True):
        draw_steps(left, part)
        draw_panel(right, panel, "images/s to target", height)
    add_legend(figure, rows, "peers in torch")
    return figure


def _end_to_end(rows: list[Row]) -> Figure:
    panels = []
    for row in rows:
        if failed(row):
            continue
        wall = row["wall_seconds"]
        groups = {"wall clock": [_seconds_bar(OTHERS, wall, f"{number(wall)} s")]} | {
            part.replace("_", " "): [
                _seconds_bar(bar_colour(row), busy, f"{number(busy)} s, {percent(busy / wall)}")
            ]
            for part, busy in row["seconds_by_part"].items()
        }
        what = f"{row['num_images']:,} images, {arithmetic_of(row)}, on {row['device']}"
        panels.append(Panel(f"{problem(row)}\n{what}", groups))
    return bar_figure(panels, "seconds busy (parts overlap)", [], "")


def _seconds_bar(colour: str, seconds: float, text: str) -> Bar:
    return Bar(colour, Spread(seconds, seconds, seconds), text)


def _attribution(rows: list[Row]) -> Figure:
    panels = []
    for part in by_group(rows):
        groups: dict[str, list[Bar]] = {}
        for row in part:
            bar = Bar(bar_colour(row), milliseconds_per_image(row))
            groups.setdefault(method_of(row).replace("_", " "), []).append(bar)
        panels.append(Panel(_title(part), groups))
    return bar_figure(panels, "milliseconds per image (shorter is faster)", rows, "Captum")


def _slots(rows: list[Row]) -> Figure:
    return draw_curves(
        rows,
        over=("slots", "images side by side (slots)", 2),
        unit=("image_steps", "image-steps/s"),
        memory="peak_device_bytes",
    )


def _images(rows: list[Row]) -> Figure:
    return draw_curves(
        rows,
        over=("num_images", "images", 10),
        unit=("images", "images/s"),
        memory="peak_host_bytes",
    )


_PLOTS: dict[str, tuple[str, Callable[[list[Row]], Figure]]] = {
    "fixed_steps": ("fixed_steps", _fixed_steps),
    "to_target_steps": ("to_target", _to_target_steps),
    "end_to_end": ("end_to_end", _end_to_end),
    "attribution": ("attribution", _attribution),
    "slots": ("slots", _slots),
    "images": ("images", _images),
}


def _by_contender(rows: list[Row], unit: Unit) -> dict[str, list[Bar]]:
    groups: dict[str, list[Bar]] = {}
    for row in rows:
        groups.setdefault(row["contender"], []).append(Bar(bar_colour(row), rate(row, unit)))
    return groups


def _title(rows: list[Row]) -> str:
    words = fixed_steps(rows[0]), rows[0]["device"]
    return f"{problem(rows[0])}\n{', '.join(filter(None, words))}"
