"""Which figures a report has, in which order."""

from collections.abc import Sequence

from gaxjax.report.figures.boxes import box_figures
from gaxjax.report.figures.curves import curve_figures
from gaxjax.report.figures.figure import Figure
from gaxjax.report.figures.heatmaps import heatmap_figures
from gaxjax.report.figures.histograms import histogram_figures
from gaxjax.report.figures.probabilities import probability_figures
from gaxjax.report.figures.steps import step_figures
from gaxjax.report.figures.sweep import sweep_figures
from gaxjax.results import Run, RunImages

__all__ = ["Figure", "course_figures", "run_figures"]


def run_figures(run: Run, load: RunImages) -> list[Figure]:
    """Draw one run's figures: of AX the scores' boxes and histograms, of a sweep its settings.

    The heatmaps come last.

    Raises:
        UserError: stored heatmaps are damaged.
    """
    scores = [] if run.is_gax else [*box_figures(run), *histogram_figures(run)]
    swept = sweep_figures(run) if run.settings else []
    return [*scores, *swept, *heatmap_figures(run, load)]


def course_figures(runs: Sequence[Run]) -> list[Figure]:
    """Draw the course of all GAX runs together: curves, updates, probabilities."""
    gax = [run for run in runs if run.is_gax and not run.settings]  # a sweep has its own
    return [*curve_figures(gax), *step_figures(gax), *probability_figures(gax)]
