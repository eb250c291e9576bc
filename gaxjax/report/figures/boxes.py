"""Box plots of AX scores of correct and of wrong predictions: the paper's Figs. 2, 3, 7 and 8."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from gaxjax.report.figures.figure import Drawing, Figure, all_rows, finish, new_figure
from gaxjax.report.figures.kinds import kind_handles, scores_by_kind
from gaxjax.report.figures.style import CORRECT, INK, OPERATIONS, WRONG, styled, title_of
from gaxjax.results import MethodStatistics, Run, Statistics

__all__ = ["Box", "box_figures", "boxes_of", "draw_boxes"]

_CAPTION = (
    "Boxes hold the middle half, whiskers reach to the furthest score within 1.5 box heights, "
    "dots and crosses lie beyond. The arrow leads from the median of the wrong predictions to "
    "that of the correct ones. Scores above 0 favour the right class."
)
_GAP = "gap, wrong to correct median"


@dataclass(frozen=True)
class Box:
    """The box of one method's scores over the images predicted correctly, or wrongly.

    Whiskers reach to the furthest score within 1.5 interquartile ranges of the box (Tukey); what
    lies beyond is in `outliers`.
    """

    method: str
    layer: str | None
    operation: str
    kind: str
    count: int
    low_whisker: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high_whisker: float
    outliers: Float[np.ndarray, " O"]

    def rows(self) -> list[dict[str, Any]]:
        """Return the box in one row and each outlier in another."""
        values = dict(vars(self))
        outliers = values.pop("outliers")
        key = {name: values[name] for name in ("method", "layer", "operation", "kind")}
        return [
            values | {"outlier": None},
            *(key | {"outlier": outlier} for outlier in outliers.tolist()),
        ]


def boxes_of(scores: pa.Table, statistics: Statistics) -> list[Box]:
    """Return one box per method, layer, operation and kind of prediction that has scores."""
    from matplotlib.cbook import boxplot_stats

    found = []
    for method in statistics.methods:
        for kind, values in scores_by_kind(scores, method).items():
            if not len(values):
                continue
            (box,) = boxplot_stats(values)  # quartiles interpolated, whiskers by Tukey
            found.append(
                Box(
                    method.method,
                    method.layer,
                    method.operation,
                    kind,
                    len(values),
                    float(box["whislo"]),
                    float(box["q1"]),
                    float(box["med"]),
                    float(box["q3"]),
                    float(box["whishi"]),
                    np.sort(box["fliers"]),
                )
            )
    return found


def draw_boxes(boxes: Sequence[Box], methods: Sequence[MethodStatistics]) -> Drawing:
    """Draw boxes of correct and wrong predictions side by side, one panel per operation.

    An arrow leads from the median of the wrong ones to that of the correct ones: the gap. Above it
    stands the AUROC, and how many images have a score where others have more.
    """
    from matplotlib.lines import Line2D

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
            axis.set_xticks(range(len(columns)), [title_of(*column, "\n") for column in columns])
            axis.set_xlim(-0.6, len(columns) - 0.4)
            axis.set_ylabel(f"CO score, {OPERATIONS[operation]}")
            axis.margins(y=0.06)
        gap = Line2D([], [], color=INK, marker="^", linewidth=1.2, label=_GAP)
        figure.legend(
            handles=[*kind_handles(), gap], loc="outside lower center", ncols=3, fontsize=9
        )
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


def box_figures(run: Run) -> list[Figure]:
    """Draw the boxes of a run's methods, and, where a method has several layers, those alone."""
    boxes, methods = boxes_of(run.scores, run.statistics), run.statistics.methods
    if not boxes:
        return []
    layers = {box.layer for box in boxes if box.layer}
    # Several layers have a figure to themselves, as in the paper; the first stands for the method.
    first = next((method.layer for method in methods if method.layer in layers), None)
    shown = [box for box in boxes if box.layer in (None, first)]
    figures = [
        Figure(
            f"{run.key}-scores",
            f"CO scores of existing methods, {run.name}",
            _CAPTION,
            draw_boxes(shown, [m for m in methods if m.layer in (None, first)]),
            all_rows(shown),
        )
    ]
    if len(layers) > 1:
        layered = [box for box in boxes if box.layer]
        figures.append(
            Figure(
                f"{run.key}-layers",
                f"CO scores by layer, {run.name}",
                f"Layer Grad-CAM at several layers. {_CAPTION}",
                draw_boxes(layered, [m for m in methods if m.layer]),
                all_rows(layered),
            )
        )
    return figures
