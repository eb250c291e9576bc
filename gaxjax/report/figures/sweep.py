"""The settings of a sweep against one another: how scores rise with each, and what that took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from gaxjax.report.figures.curves import Curves, curves_of
from gaxjax.report.figures.figure import Drawing, Figure, all_rows, finish, new_figure
from gaxjax.report.figures.style import INK, logarithmic_x, styled
from gaxjax.results import Run

__all__ = ["Swept", "draw_sweep", "sweep_figures"]

_DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Swept:
    """One setting's curves, and how a line of it looks.

    Attributes:
        curves: of all its images, under the setting's name.
        color: place of its first field's value among the values, in [0, 1].
        dash: place of its other fields' values among theirs.
    """

    curves: Curves
    color: float
    dash: int

    def stopped(self) -> Float[np.ndarray, " S"]:
        """Return the share of its images that have stopped after so many updates."""
        lasts = np.sort([len(line) - 1 for line in self.curves.lines])
        counts: np.ndarray = np.searchsorted(lasts, self.curves.steps, side="right")
        return counts / len(lasts)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per step."""
        return self.curves.rows()


def _swept(run: Run) -> list[Swept]:
    """Return the curves of a sweep's settings, of those that have any."""
    firsts = [next(iter(setting.values())) for setting in run.settings]
    rests = [tuple(setting.values())[1:] for setting in run.settings]
    values, others = list(dict.fromkeys(firsts)), list(dict.fromkeys(rests))
    found = []
    for text, first, rest in zip(run.methods, firsts, rests, strict=True):
        assert text is not None, "a sweep's settings have names"
        mine = run.scores.filter(pc.equal(run.scores["setting"], pa.scalar(text)))
        curves = curves_of(text, mine, run.target_of(text) or 0.0)
        if curves is not None:
            place = values.index(first) / max(1, len(values) - 1)
            found.append(Swept(curves, place, others.index(rest)))
    return found


def draw_sweep(settings: Sequence[Swept], recommended: Sequence[str]) -> Drawing:
    """Draw each setting's median score by updates, and the share of its images that have stopped.

    The updates are on an axis that is logarithmic from 1 on.
    """
    import matplotlib

    colors = matplotlib.colormaps["viridis"]
    with styled():
        figure = new_figure(8.6, 3.8 + 0.1 * len(settings))
        score, share = figure.subplots(1, 2)
        for one in settings:
            curves = one.curves
            look: Mapping[str, Any] = {
                "color": colors(0.92 * one.color),
                "linestyle": _DASHES[one.dash % len(_DASHES)],
                "linewidth": 2.6 if curves.run in recommended else 1.3,
            }
            score.plot(curves.steps, curves.median, label=curves.run, **look)
            share.plot(curves.steps, 100 * one.stopped(), **look)
        for target in sorted({one.curves.target for one in settings}):
            score.axhline(target, color=INK, linewidth=0.8)
        for axis in (score, share):
            logarithmic_x(axis)
            axis.set_xlabel("updates")
        score.set_ylabel("median CO score")
        share.set_ylabel("images that have stopped, %")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return finish(figure)


def sweep_figures(run: Run) -> list[Figure]:
    """Draw the settings of a sweep in one figure, where any image was optimised."""
    settings = _swept(run)
    if not settings or run.sweep is None:
        return []
    return [
        Figure(
            f"{run.key}-sweep",
            f"Settings of the sweep, {run.name}",
            "Left: the median CO score of a setting's images while they were optimised; one that "
            "has stopped counts with its last score. Right: how many have stopped, by reaching the "
            "target, or at the last step that is allowed. Colours go by the first of the swept "
            "values, dashes by the others; what is recommended is thick.",
            draw_sweep(settings, run.sweep.recommended),
            all_rows(settings),
        )
    ]
