"""How many updates the heatmaps of GAX took."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from gaxjax.report.figures.figure import Drawing, Figure, all_rows, as_rows, finish, run_panels
from gaxjax.report.figures.style import INK, colors_of, styled
from gaxjax.results import Run, numbers, texts

__all__ = ["Steps", "draw_steps", "step_figures", "steps_of"]


@dataclass(frozen=True)
class Steps:
    """How many updates a run's images took, those that reached the target and those that did not.

    `edges` lie halfway between whole numbers, so that no count of updates lies on one.
    """

    run: str
    edges: Float[np.ndarray, " B1"]
    reached: Int[np.ndarray, " B"]
    not_reached: Int[np.ndarray, " B"]
    median: float | None

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per bin."""
        return as_rows(
            {
                "from": self.edges[:-1],
                "to": self.edges[1:],
                "reached": self.reached,
                "not_reached": self.not_reached,
            },
            run=self.run,
        )


def steps_of(run: str, scores: pa.Table) -> Steps | None:
    """Return the distribution of a GAX run's updates; None where no image was optimised."""
    taken = numbers(scores, "steps")
    reached = texts(scores, "outcome") == "reached"
    found = np.isfinite(taken)
    if not found.any():
        return None
    most = int(taken[found].max())
    width = max(1, -(-(most + 1) // 60))  # at most 60 bins, each of whole numbers
    edges = np.arange(0, most + width + 1, width) - 0.5
    good = taken[found & reached]
    return Steps(
        run,
        edges,
        np.histogram(good, edges)[0],
        np.histogram(taken[found & ~reached], edges)[0],
        float(np.median(good)) if len(good) else None,
    )


def draw_steps(runs: Sequence[Steps]) -> Drawing:
    """Draw how many updates the images took, a panel per run."""
    from matplotlib.ticker import MaxNLocator

    with styled():
        figure, panels = run_panels([run.run for run in runs])
        for axis, run, color in zip(panels, runs, colors_of(len(runs)), strict=True):
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
        panels[-1].set_xlabel("updates")
        return finish(figure)


def step_figures(runs: Sequence[Run]) -> list[Figure]:
    """Draw the updates of GAX runs in one figure, where any image was optimised."""
    steps = [part for run in runs if (part := steps_of(run.name, run.scores))]
    if not steps:
        return []
    return [
        Figure(
            "steps",
            "Updates behind the heatmaps",
            "How many updates the stored heatmaps took, "
            + ", ".join(f"{part.edges[1] - part.edges[0]:g}" for part in steps)
            + " to a bar.",
            draw_steps(steps),
            all_rows(steps),
        )
    ]
