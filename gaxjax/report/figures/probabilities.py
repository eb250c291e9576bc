"""The right class's probability before and after GAX."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from gaxjax.report.figures.figure import Drawing, Figure, all_rows, as_rows, finish, run_panels
from gaxjax.report.figures.style import INK, colors_of, styled
from gaxjax.results import Run, numbers

__all__ = ["Probabilities", "draw_probabilities", "probabilities_of", "probability_figures"]


@dataclass(frozen=True)
class Probabilities:
    """The right class's probability before and after, over the images that have both."""

    run: str
    edges: Float[np.ndarray, " B1"]
    before: Int[np.ndarray, " B"]
    after: Int[np.ndarray, " B"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per bin."""
        return as_rows(
            {
                "from": self.edges[:-1],
                "to": self.edges[1:],
                "before": self.before,
                "after": self.after,
            },
            run=self.run,
        )


def probabilities_of(run: str, scores: pa.Table) -> Probabilities | None:
    """Return the right class's probabilities before and after; None where none has both."""
    before, after = numbers(scores, "probability_before"), numbers(scores, "probability_after")
    both = np.isfinite(before + after)
    if not both.any():
        return None
    edges = np.linspace(0, 1, 21)
    # Rounding in float32 can leave a probability a hair above 1.
    counts = [np.histogram(np.clip(p[both], 0, 1), edges)[0] for p in (before, after)]
    return Probabilities(run, edges, counts[0], counts[1])


def draw_probabilities(runs: Sequence[Probabilities]) -> Drawing:
    """Draw the right class's probability before and after, a panel per run."""
    with styled():
        figure, panels = run_panels([run.run for run in runs])
        for axis, run, color in zip(panels, runs, colors_of(len(runs)), strict=True):
            axis.stairs(run.after, run.edges, color=color, fill=True, alpha=0.85, label="after")
            axis.stairs(run.before, run.edges, color=INK, linewidth=1.4, label="before")
            axis.legend(fontsize=8, loc="upper center")
        panels[-1].set_xlabel("probability of the right class")
        return finish(figure)


def probability_figures(runs: Sequence[Run]) -> list[Figure]:
    """Draw the probabilities of GAX runs in one figure, where any image has both."""
    found = [part for run in runs if (part := probabilities_of(run.name, run.scores))]
    if not found:
        return []
    return [
        Figure(
            "probabilities",
            "Probability of the right class",
            "Softmax at the groundtruth class, of the plain image and of the image with its "
            "heatmap.",
            draw_probabilities(found),
            all_rows(found),
        )
    ]
