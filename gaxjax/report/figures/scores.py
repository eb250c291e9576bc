"""Draws AX scores of correct and of wrong predictions: the paper's Figs. 2, 3, 7 and 8."""

from collections.abc import Sequence
from typing import Any

from gaxjax.report.figures.figure_data import Box, Histogram
from gaxjax.report.figures.style import (
    CORRECT,
    INK,
    OPERATIONS,
    WRONG,
    Drawing,
    finish,
    new_figure,
    styled,
    title_of,
)
from gaxjax.results.statistics import MethodStatistics

__all__ = ["draw_boxes", "draw_histograms"]


def draw_boxes(boxes: Sequence[Box], methods: Sequence[MethodStatistics]) -> Drawing:
    """Draw boxes of correct and wrong predictions side by side, one panel per operation.

    An arrow leads from the median of the wrong ones to that of the correct ones: the gap. Above it
    stands the AUROC, and how many images have a score where others have more.
    """
    operations = [name for name in OPERATIONS if any(b.operation == name for b in boxes)]
    columns = list(dict.fromkeys((m.method, m.layer) for m in methods))
    areas = {(m.method, m.layer, m.operation): m for m in methods}
    most = max((method.num_scored for method in methods), default=0)
    with styled():
        figure = new_figure(max(6.0, 1.35 * len(columns) + 1.5), 3.4 * len(operations))
        panels = figure.subplots(len(operations), 1, squeeze=False)[:, 0]
        for axis, operation in zip(panels, operations, strict=True):
            axis.axhline(0, color=INK, linewidth=0.6, alpha=0.5)
            for place, column in enumerate(columns):
                mine = {
                    box.kind: box
                    for box in boxes
                    if (box.method, box.layer, box.operation) == (*column, operation)
                }
                _draw_pair(axis, place, mine)
                found = areas.get((*column, operation))
                if found is not None and found.gap.auroc is not None:
                    fewer = f"\n{found.num_scored:,} images" * (found.num_scored < most)
                    axis.annotate(
                        f"AUROC {found.gap.auroc:.2f}{fewer}",
                        (place, 1.0),
                        xycoords=("data", "axes fraction"),
                        ha="center",
                        va="bottom",
                        fontsize=8,
                    )
            axis.set_xticks(range(len(columns)), [title_of(*column) for column in columns])
            axis.set_xlim(-0.6, len(columns) - 0.4)
            axis.set_ylabel(f"CO score, {OPERATIONS[operation]}")
            axis.margins(y=0.06)
        figure.legend(handles=_kind_handles(), loc="outside lower center", ncols=3, fontsize=9)
        return finish(figure)


def _draw_pair(axis: Any, place: int, mine: dict[str, Box]) -> None:
    for kind, color, shift in (("correct", CORRECT, -0.2), ("wrong", WRONG, 0.2)):
        box = mine.get(kind)
        if box is None:
            continue
        statistics = {
            "med": box.median,
            "q1": box.lower_quartile,
            "q3": box.upper_quartile,
            "whislo": box.low_whisker,
            "whishi": box.high_whisker,
            "fliers": box.outliers,
        }
        line = {"color": color, "linewidth": 1.3}
        # Told apart without colour, too: the correct ones' boxes are filled.
        face = {"facecolor": color if kind == "correct" else "none", "alpha": 0.45}
        edges = axis.bxp(
            [statistics],
            positions=[place + shift],
            widths=0.3,
            patch_artist=True,
            boxprops={"edgecolor": "none", **face},
            medianprops=line | {"linewidth": 2.4},
            whiskerprops=line,
            capprops=line,
            flierprops={
                "marker": "o" if kind == "correct" else "x",
                "markersize": 2.6,
                "markerfacecolor": color,
                "markeredgecolor": color,
                "markeredgewidth": 0.7,
                "alpha": 0.5,
            },
            manage_ticks=False,
        )
        for flier in edges["fliers"]:
            flier.set_rasterized(True)  # thousands of them
        low, high = box.lower_quartile, box.upper_quartile
        x = place + shift
        axis.plot(
            [x - 0.15, x + 0.15, x + 0.15, x - 0.15, x - 0.15],
            [low, low, high, high, low],
            color=color,
            linewidth=1.3,
        )
    if len(mine) == 2:
        axis.annotate(
            "",
            xy=(place, mine["correct"].median),
            xytext=(place, mine["wrong"].median),
            arrowprops={
                "arrowstyle": "-|>",
                "color": INK,
                "linewidth": 1.2,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def _kind_handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=CORRECT, alpha=0.6, label="correct prediction"),
        Patch(facecolor="none", edgecolor=WRONG, linewidth=1.3, label="wrong prediction"),
        Line2D([], [], color=INK, marker="^", linewidth=1.2, label="gap, wrong to correct median"),
    ]


def draw_histograms(histograms: Sequence[Histogram]) -> Drawing:
    """Draw one panel per method and operation, as shares of each kind's images."""
    operations = [name for name in OPERATIONS if any(h.operation == name for h in histograms)]
    columns = list(dict.fromkeys((h.method, h.layer) for h in histograms))
    found = {(h.method, h.layer, h.operation): h for h in histograms}
    with styled():
        figure = new_figure(5.2 * len(operations), 1.5 * len(columns) + 0.6)
        panels = figure.subplots(len(columns), len(operations), squeeze=False)
        for row, column in zip(panels, columns, strict=True):
            for axis, operation in zip(row, operations, strict=True):
                histogram = found.get((*column, operation))
                if histogram is None:
                    axis.set_axis_off()
                    continue
                _draw_kinds(axis, histogram)
                axis.set_title(
                    f"{title_of(*column)} [{operation}]".replace("\n", " "), loc="left", fontsize=9
                )
        for axis in panels[-1]:
            axis.set_xlabel("CO score")
        for row in panels:
            row[0].set_ylabel("share", fontsize=8)
        figure.legend(handles=_kind_handles()[:2], loc="outside lower center", ncols=2)
        return finish(figure)


def _draw_kinds(axis: Any, histogram: Histogram) -> None:
    edges = histogram.edges
    for counts, color, fill in (
        (histogram.correct, CORRECT, True),
        (histogram.wrong, WRONG, False),
    ):
        if not counts.sum():
            continue
        shares = counts / counts.sum()
        if fill:
            axis.stairs(shares, edges, color=color, fill=True, alpha=0.45)
        axis.stairs(shares, edges, color=color, linewidth=1.3)
    axis.axvline(0, color=INK, linewidth=0.6, alpha=0.5)
