"""Draws the course of GAX over many images: the paper's Fig. 4, updates and probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gaxjax.report.figures.figure_data import BAND, Curves, Probabilities, Steps
from gaxjax.report.figures.style import INK, SERIES, Drawing, finish, new_figure, styled

__all__ = ["draw_curves", "draw_probabilities", "draw_steps"]


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
        for run, color in zip(runs, _cycled(len(runs)), strict=True):
            lines = [np.column_stack([np.arange(len(y)), y]) for y in run.lines]
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
            half = int(np.searchsorted(-run.running, -len(lines) / 2, side="right"))
            axis.plot(run.steps[half:], run.median[half:], ":", color=color, linewidth=1.6)
            axis.plot(
                run.steps[: half + 1],
                run.median[: half + 1],
                color=color,
                linewidth=2.2,
                label=f"{run.run}, median of {len(lines):,} images",
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
        axis.set_xlabel("Adam updates")
        axis.set_ylabel("CO score")
        low, high = (f"{100 * q:g}" for q in BAND)
        figure.legend(
            loc="outside lower center",
            ncols=min(2, len(runs)),
            title=f"one line an image; band from the {low}th to the {high}th percentile",
            title_fontsize=8,
        )
        return finish(figure)


def _panels(names: Sequence[str]) -> tuple[Any, list[Any]]:
    """Return a figure with a panel per run, for numbers of images."""
    figure = new_figure(8.6, 2.1 * len(names) + 0.4)
    panels = list(figure.subplots(len(names), 1, squeeze=False)[:, 0])
    for axis, name in zip(panels, names, strict=True):
        axis.set_title(name, loc="left", fontsize=9)
        axis.set_ylabel("images")
    return figure, panels


def _cycled(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]


def draw_steps(runs: Sequence[Steps]) -> Drawing:
    """Draw how many updates the images took, a panel per run."""
    from matplotlib.ticker import MaxNLocator

    with styled():
        figure, panels = _panels([run.run for run in runs])
        for axis, run, color in zip(panels, runs, _cycled(len(runs)), strict=True):
            axis.stairs(run.reached, run.edges, color=color, fill=True, alpha=0.85, label="reached")
            if run.not_reached.any():
                axis.stairs(
                    run.reached + run.not_reached,
                    run.edges,
                    baseline=run.reached,
                    color=INK,
                    hatch="////",
                    linewidth=0.8,
                    label="best of those that did not reach the target",
                )
            if run.median is not None:
                axis.axvline(
                    run.median,
                    color=INK,
                    linestyle="--",
                    linewidth=1,
                    label=f"median of the reached, {run.median:g}",
                )
            axis.set_xlim(run.edges[0], run.edges[-1])
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            axis.legend(fontsize=8)
        panels[-1].set_xlabel("Adam updates")
        return finish(figure)


def draw_probabilities(runs: Sequence[Probabilities]) -> Drawing:
    """Draw the right class's probability before and after, a panel per run."""
    with styled():
        figure, panels = _panels([run.run for run in runs])
        for axis, run, color in zip(panels, runs, _cycled(len(runs)), strict=True):
            axis.stairs(run.after, run.edges, color=color, fill=True, alpha=0.85, label="after")
            axis.stairs(run.before, run.edges, color=INK, linewidth=1.4, label="before")
            axis.legend(fontsize=8, loc="upper center")
        panels[-1].set_xlabel("probability of the right class")
        return finish(figure)
