"""The scores of GAX while its images were optimised: the paper's Fig. 4."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from gaxjax.report.figures.figure import Drawing, Figure, all_rows, as_rows, finish, new_figure
from gaxjax.report.figures.style import INK, colors_of, styled
from gaxjax.report.sampling import spread
from gaxjax.results import Run

__all__ = ["Curves", "curve_figures", "curves_of", "draw_curves"]

_BAND = (0.1, 0.9)  # quantiles between which the curves' band lies
_SHOWN_STEPS = 1000
_MOST_LINES = 10_000  # a million would take minutes, and be one patch of colour


@dataclass(frozen=True)
class Curves:
    """The scores of a GAX run's images while they were optimised.

    Attributes:
        run: its name. target: where an image stops.
        lines: one curve per image, of any length; `lines[i][t]` is the score after t updates.
        steps: numbers of updates at which the quantiles are taken: all of them, up to 1,000.
        low, median, high: quantiles over all images. One that has stopped keeps its last score.
        running: images that had not stopped before that step.
    """

    run: str
    target: float
    lines: tuple[Float[np.ndarray, " _"], ...]
    steps: Int[np.ndarray, " S"]
    low: Float[np.ndarray, " S"]
    median: Float[np.ndarray, " S"]
    high: Float[np.ndarray, " S"]
    running: Int[np.ndarray, " S"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per step; the single curves are in the run's column `curve`."""
        names = ("running", "low", "median", "high")
        return as_rows(
            {"step": self.steps} | {name: getattr(self, name) for name in names}, run=self.run
        )


def curves_of(run: str, scores: pa.Table, target: float) -> Curves | None:
    """Return a GAX run's curves with their quantiles; None where no image has a curve."""
    lines = []
    for values in scores["curve"].to_pylist():
        line = np.array(values or [], np.float32)
        finite = np.isfinite(line)
        if finite.any():
            # From the first score that is not finite the optimisation went nowhere.
            lines.append(line if finite.all() else line[: int(np.argmin(finite))])
    lines = [line for line in lines if len(line)]
    if not lines:
        return None
    longest = max(map(len, lines))
    places = np.linspace(0, longest - 1, min(longest, _SHOWN_STEPS)).round().astype(int)
    places = np.unique(places)
    held = np.stack([line[np.minimum(places, len(line) - 1)] for line in lines])
    low, median, high = np.quantile(held, [_BAND[0], 0.5, _BAND[1]], axis=0)
    lengths = np.sort([len(line) for line in lines])
    running = len(lines) - np.searchsorted(lengths, places, side="right")
    return Curves(run, target, tuple(lines), places, low, median, high, running)


def draw_curves(runs: Sequence[Curves]) -> Drawing:
    """Draw every image's curve thinly, and each run's median and band (paper, Fig. 4).

    The axis ends soon after 95 of 100 images of the slowest run have stopped.
    """
    from matplotlib import patheffects
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MaxNLocator

    with styled():
        figure = new_figure(8.6, 4.4)
        axis = figure.subplots()
        end = 1.0
        for run, color in zip(runs, colors_of(len(runs)), strict=True):
            shown = spread(run.lines, _MOST_LINES)
            lines = [np.column_stack([np.arange(len(y)), y]) for y in shown]
            alpha = float(np.clip(60 / len(lines), 0.04, 0.6))
            axis.add_collection(
                LineCollection(
                    lines,
                    colors=color,
                    linewidths=0.7,
                    alpha=alpha,
                    rasterized=True,  # ten thousand lines would make the SVG tens of MB
                )
            )
            taken = [len(y) - 1 for y in run.lines]
            end = max(end, min(max(taken), 1.2 * float(np.quantile(taken, 0.95))))
            axis.fill_between(run.steps, run.low, run.high, color=color, alpha=0.14, linewidth=0)
            half = int(np.searchsorted(-run.running, -len(run.lines) / 2, side="right"))
            axis.plot(run.steps[half:], run.median[half:], ":", color=color, linewidth=1.6)
            axis.plot(
                run.steps[: half + 1],
                run.median[: half + 1],
                color=color,
                linewidth=2.2,
                label=f"{run.run}, median of {len(run.lines):,} images",
                path_effects=[patheffects.withStroke(linewidth=4, foreground="white", alpha=0.7)],
            )
        for target in sorted({run.target for run in runs}):
            axis.axhline(target, color=INK, linewidth=1, linestyle="--")
            axis.annotate(
                f"target\n{target:g}",
                (1.01, target),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
            )
        axis.set_xlim(0, end)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        lowest = min(float(np.quantile([y.min() for y in r.lines], 0.01)) for r in runs)
        highest = max(r.target for r in runs)
        highest = max(highest, *(float(np.quantile(r.high, 0.99)) for r in runs))
        axis.set_ylim(lowest - 0.05 * (highest - lowest), highest + 0.12 * (highest - lowest))
        axis.set_xlabel("updates")
        axis.set_ylabel("CO score")
        low, high = (f"{100 * q:g}" for q in _BAND)
        figure.legend(
            loc="outside lower center",
            ncols=min(2, len(runs)),
            title=f"{_said(runs)}; band from the {low}th to the {high}th percentile",
            title_fontsize=8,
        )
        return finish(figure)


def _said(runs: Sequence[Curves]) -> str:
    """Say whose lines are drawn."""
    if max(len(run.lines) for run in runs) <= _MOST_LINES:
        return "one line an image"
    return f"one line an image, of {_MOST_LINES:,} evenly taken"


def curve_figures(runs: Sequence[Run]) -> list[Figure]:
    """Draw the curves of GAX runs in one figure, where any image has one."""
    found = [curves_of(run.name, run.scores, run.target or 0.0) for run in runs]
    curves = [part for part in found if part]
    if not curves:
        return []
    longest = max(len(line) - 1 for part in curves for line in part.lines)
    return [
        Figure(
            "curves",
            "CO score while optimising",
            f"{_said(curves).replace('one', 'One thin', 1)}, as measured while optimising; an "
            "image stops where it reaches the target, and counts with its last score from there "
            "on; the median is dotted where fewer than half still run. The axes end soon after 95 "
            "of 100 images of the slowest run have stopped, and below 99 of 100 lines; the "
            f"longest has {longest:,} updates.",
            draw_curves(curves),
            all_rows(curves),
        )
    ]
