"""Which figures a report has: each drawn, captioned, and with the rows of its CSV file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaxjax.common.text import counted
from gaxjax.report.figures import figure_data
from gaxjax.report.figures.course import draw_curves, draw_probabilities, draw_steps
from gaxjax.report.figures.heatmaps import Panel, draw_panels
from gaxjax.report.figures.scores import draw_boxes, draw_histograms
from gaxjax.report.figures.style import Drawing, cut, title_of
from gaxjax.report.pictures import augmented, robust_limit
from gaxjax.report.sampling import spread
from gaxjax.results.stored_run import Images, StoredRun

__all__ = ["Figure", "course_figures", "run_figures"]

_PANELS = 5


@dataclass(frozen=True)
class Figure:
    """One figure: its files' stem, the words beside it, the drawing, and the rows of its CSV."""

    name: str
    title: str
    caption: str
    drawing: Drawing
    rows: list[dict[str, Any]]

    @property
    def markup(self) -> str:
        """What stands for it in the page."""
        return self.drawing.inline(f"figure-{self.name}", f"{self.title}. {self.caption}")


def run_figures(run: StoredRun, load: Images) -> list[Figure]:
    """Draw one run's figures: of AX the scores' boxes and histograms, of both the heatmaps.

    Raises:
        UserError: stored heatmaps are damaged.
    """
    found = [] if run.is_gax else list(_score_figures(run))
    return found + list(_heatmap_figures(run, load))


def _score_figures(run: StoredRun) -> Iterator[Figure]:
    name, methods = run.key, run.statistics.methods
    boxes = figure_data.boxes(run.scores, run.statistics)
    if not boxes:
        return
    layers = {box.layer for box in boxes if box.layer}
    # Several layers have a figure to themselves, as in the paper; the first stands for the method.
    first = next((method.layer for method in methods if method.layer in layers), None)
    shown = [box for box in boxes if box.layer in (None, first)]
    caption = (
        "Boxes hold the middle half, whiskers reach to the furthest score within 1.5 box heights, "
        "dots and crosses lie beyond. The arrow leads from the median of the wrong predictions to "
        "that of the correct ones. Scores above 0 favour the right class."
    )
    yield Figure(
        f"{name}-scores",
        f"CO scores of existing methods, {run.name}",
        caption,
        draw_boxes(shown, [m for m in methods if m.layer in (None, first)]),
        figure_data.all_rows(shown),
    )
    if len(layers) > 1:
        layered = [box for box in boxes if box.layer]
        yield Figure(
            f"{name}-layers",
            f"CO scores by layer, {run.name}",
            "Layer Grad-CAM at several layers. " + caption,
            draw_boxes(layered, [m for m in methods if m.layer]),
            figure_data.all_rows(layered),
        )
    histograms = figure_data.histograms(run.scores, run.statistics)
    yield Figure(
        f"{name}-histograms",
        f"Histograms of CO scores, {run.name}",
        "Shares of the correct and of the wrong predictions, each adding up to 1. The outer bins "
        "hold the half percent beyond them, too.",
        draw_histograms(histograms),
        figure_data.all_rows(histograms),
    )


def course_figures(runs: Sequence[StoredRun]) -> list[Figure]:
    """Draw the course of all GAX runs together: curves, updates, probabilities."""
    gax = [run for run in runs if run.is_gax]
    curves = [figure_data.curves(run.name, run.scores, run.target or 0.0) for run in gax]
    steps = [figure_data.steps(run.name, run.scores) for run in gax]
    likely = [figure_data.probabilities(run.name, run.scores) for run in gax]
    found = []
    if drawn := [part for part in curves if part]:
        beyond = max(len(line) - 1 for part in drawn for line in part.lines)
        found.append(
            Figure(
                "curves",
                "CO score while optimising",
                "One thin line an image, as measured while optimising; an image stops where it "
                "reaches the target, and counts with its last score from there on; the median is "
                "dotted where fewer than half still run. The axes end "
                "soon after 95 of 100 images of the slowest run have stopped, and below 99 of 100 "
                f"lines; the longest has {beyond:,} updates.",
                draw_curves(drawn),
                figure_data.all_rows(drawn),
            )
        )
    if taken := [part for part in steps if part]:
        found.append(
            Figure(
                "steps",
                "Updates behind the heatmaps",
                "How many Adam updates the stored heatmaps took, "
                + ", ".join(f"{part.edges[1] - part.edges[0]:g}" for part in taken)
                + " to a bar.",
                draw_steps(taken),
                figure_data.all_rows(taken),
            )
        )
    if known := [part for part in likely if part]:
        found.append(
            Figure(
                "probabilities",
                "Probability of the right class",
                "Softmax at the groundtruth class, of the plain image and of the image with its "
                "heatmap.",
                draw_probabilities(known),
                figure_data.all_rows(known),
            )
        )
    return found


def _heatmap_figures(run: StoredRun, load: Images) -> Iterator[Figure]:
    rows = [
        row
        for row in run.scores.drop_columns("curve").to_pylist()
        if row["heatmap_row"] is not None and row["co_score"] is not None
    ]
    if not rows:
        return
    if run.is_gax:
        rows.sort(key=lambda row: (row["steps"], row["image_id"]))
        chosen = spread(rows, _PANELS)
        yield _panels(run, load, chosen, "heatmaps", "from the fewest updates on", "")
        return
    # The image of the median score by the first method, and all its heatmaps.
    keys = ("method", "layer", "operation")
    leading = min(rows, key=lambda row: (row["heatmap_row"], row["operation"] != "sum"))
    first = [row for row in rows if all(row[key] == leading[key] for key in keys)]
    name = title_of(leading["method"], leading["layer"]).replace("\n", " ")
    for correct, words in ((True, "correct"), (False, "wrong")):
        kind = sorted(
            (row for row in first if row["correct"] is correct), key=lambda row: row["co_score"]
        )
        if kind:
            image = kind[len(kind) // 2]["image_id"]
            mine = {r["heatmap_row"]: r for r in reversed(rows) if r["image_id"] == image}
            shown = [mine[number] for number in sorted(mine)]
            how = f"The {words} prediction of the median {name} score [{leading['operation']}]. "
            which = f"of a {words} prediction"
            yield _panels(run, load, shown, f"heatmaps-{words}", which, how)


def _panels(
    run: StoredRun, load: Images, rows: list[dict[str, Any]], name: str, which: str, how: str
) -> Figure:
    heatmaps = run.heatmaps([row["heatmap_row"] for row in rows])
    # Optimised heatmaps are compared; attributions, a few peaks each, are made visible one by one.
    common = float(np.abs(heatmaps).max()) or 1.0
    panels = []
    for row, heatmap in zip(rows, heatmaps, strict=True):
        image = load(row["image_id"])
        together = (
            None
            if image is None
            else augmented(image, heatmap, row["operation"], run.pixel_scale())
        )
        title = run.class_name(row["label"])
        if not run.is_gax:
            title = title_of(row["method"], row["layer"])
        notes = (
            f"p = {_probability(row['probability_before'])}",
            f"p = {_probability(row['probability_after'])}, score {row['co_score']:.2f}"
            + (
                f"\nafter {counted(row['steps'], 'update')}"
                if run.is_gax
                else f" [{row['operation']}]"
            ),
        )
        limit = common if run.is_gax else robust_limit(heatmap)
        panels.append(Panel(cut(title), image, heatmap, together, limit, notes))
    about = missing = ""
    if not run.is_gax:
        about = f" Groundtruth: {run.class_name(rows[0]['label'])}."
        drawn = {(row["method"], row["layer"]) for row in rows}
        every = dict.fromkeys((found.method, found.layer) for found in run.statistics.methods)
        names = [title_of(*key).replace("\n", " ") for key in every if key not in drawn]
        if names:
            missing = f" Not drawn, having no heatmap of this image: {', '.join(names)}."
    scale = "all panels share one colour scale"
    if not run.is_gax:
        scale = "the channels of a row share a colour scale, which ends where 99.5 % of it lie"
    return Figure(
        f"{run.key}-{name}",
        f"Heatmaps {which}, {run.name}",
        f"{how}{_signs(rows)}; {scale}. p is the probability of the right class.{about}{missing}",
        draw_panels(panels),
        [
            {
                "image_id": row["image_id"],
                "label": run.class_name(row["label"]),
                **{key: row[key] for key in ("method", "layer", "operation", "steps", "co_score")},
                **{key: row[key] for key in ("probability_before", "probability_after")},
                "abs_max": float(np.abs(heatmap).max()),
            }
            for row, heatmap in zip(rows, heatmaps, strict=True)
        ],
    )


def _signs(rows: list[dict[str, Any]]) -> str:
    if {row["operation"] for row in rows} == {"sum"}:
        return "Red raises a pixel's channel, blue lowers it"
    if {row["operation"] for row in rows} == {"mult"}:
        return "Red keeps a pixel's channel, white takes it away, blue makes it negative"
    return "Red is above zero, blue is below"


def _probability(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
