"""Histograms of AX scores of correct and of wrong predictions, as in the paper's Figs. 2 and 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from gaxjax.report.figures.figure import Drawing, Figure, all_rows, as_rows, finish, new_figure
from gaxjax.report.figures.kinds import kind_handles, scores_by_kind
from gaxjax.report.figures.style import CORRECT, INK, OPERATIONS, WRONG, styled, title_of
from gaxjax.results import Run, Statistics

__all__ = ["Histogram", "draw_histograms", "histogram_figures", "histograms_of"]

_BINS = 40


@dataclass(frozen=True)
class Histogram:
    """How often a method's scores fall between `edges`; the outer bins hold all beyond them."""

    method: str
    layer: str | None
    operation: str
    edges: Float[np.ndarray, " B1"]
    correct: Int[np.ndarray, " B"]
    wrong: Int[np.ndarray, " B"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per bin."""
        return as_rows(
            {
                "from": self.edges[:-1],
                "to": self.edges[1:],
                "correct": self.correct,
                "wrong": self.wrong,
            },
            method=self.method,
            layer=self.layer,
            operation=self.operation,
        )


def histograms_of(scores: pa.Table, statistics: Statistics) -> list[Histogram]:
    """Return one histogram per method, layer and operation that has scores.

    The edges span all but the outermost half percent of each kind, which goes to the outer bins.
    """
    found = []
    for method in statistics.methods:
        kinds = scores_by_kind(scores, method)
        ends = [np.quantile(values, [0.005, 0.995]) for values in kinds.values() if len(values)]
        if not ends:
            continue
        low, high = np.min(ends), np.max(ends)
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, _BINS + 1)
        counts = {
            kind: np.histogram(np.clip(values, low, high), edges)[0]
            for kind, values in kinds.items()
        }
        found.append(Histogram(method.method, method.layer, method.operation, edges, **counts))
    return found


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
                axis.set_title(f"{title_of(*column)} [{operation}]", loc="left", fontsize=9)
        for axis in panels[-1]:
            axis.set_xlabel("CO score")
        for row in panels:
            row[0].set_ylabel("share", fontsize=8)
        figure.legend(handles=kind_handles(), loc="outside lower center", ncols=2)
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


def histogram_figures(run: Run) -> list[Figure]:
    """Draw the histograms of a run's methods, where any has scores."""
    histograms = histograms_of(run.scores, run.statistics)
    if not histograms:
        return []
    return [
        Figure(
            f"{run.key}-histograms",
            f"Histograms of CO scores, {run.name}",
            "Shares of the correct and of the wrong predictions, each adding up to 1. The outer "
            "bins hold the half percent beyond them, too.",
            draw_histograms(histograms),
            all_rows(histograms),
        )
    ]
