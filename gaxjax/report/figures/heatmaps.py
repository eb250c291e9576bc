"""Some of a run's heatmaps, channel by channel beside their images: the paper's Fig. 5."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaxjax.common import counted
from gaxjax.report.figures.figure import Drawing, Figure, all_rows, finish, new_figure
from gaxjax.report.figures.style import cut, styled, title_of
from gaxjax.report.pictures import augmented, robust_limit
from gaxjax.report.sampling import spread
from gaxjax.results import DIVERGING, KEYS, Run, RunImages

__all__ = ["Panel", "draw_panels", "heatmap_figures"]

_PANELS = 5
_MOST_SETTINGS = 12
_P_MEANS = "p is the probability of the right class."


@dataclass(frozen=True)
class Panel:
    """One row of heatmap panels: an image, its heatmap's channels, and the two together.

    Attributes:
        title: what it is; untrusted text.
        image: uint8 [H, W, 3], None where its file is gone.
        heatmap: float [H, W, 3].
        augmented: [H, W, 3] in [0, 1], stretched to be shown; None without an image.
        limit: where its colours end, above 0.
        notes: what stands under image and augmented image.
        numbers: its row of the CSV file.
    """

    title: str
    image: np.ndarray | None
    heatmap: np.ndarray
    augmented: np.ndarray | None
    limit: float
    notes: tuple[str, str]
    numbers: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return its one row."""
        return [self.numbers]


def draw_panels(panels: Sequence[Panel]) -> Drawing:
    """Draw images with the three channels of their heatmaps (paper, Fig. 5).

    A row's channels share one scale, from minus to plus its limit; where the rows' limits differ,
    the colour bar counts in limits.
    """
    limits = {panel.limit for panel in panels}
    with styled():
        figure = new_figure(9.6, 2.05 * len(panels) + 0.8)
        figure.get_layout_engine().set(h_pad=0.08, w_pad=0.06)
        axes = figure.subplots(len(panels), 5, squeeze=False)
        shade = None
        for row, panel in zip(axes, panels, strict=True):
            for axis in row:
                axis.set_xticks([])
                axis.set_yticks([])
                axis.spines[:].set_visible(False)
            _show(row[0], panel.image)
            row[0].set_ylabel(panel.title, fontsize=8)
            row[0].set_xlabel(panel.notes[0], fontsize=8)
            for axis, channel in zip(row[1:4], np.moveaxis(panel.heatmap, -1, 0), strict=True):
                shown = channel if len(limits) == 1 else channel / panel.limit
                end = panel.limit if len(limits) == 1 else 1
                shade = axis.imshow(shown, cmap=DIVERGING, vmin=-end, vmax=end)
            largest = f"abs max {np.abs(panel.heatmap).max():.3g}"
            if len(limits) > 1:
                largest += f", colours ±{panel.limit:.2g}"
            row[2].set_xlabel(largest, fontsize=8)
            _show(row[4], panel.augmented)
            row[4].set_xlabel(panel.notes[1], fontsize=8)
        heads = ("image", "heatmap, red", "green", "blue", "image with heatmap\n(rescaled)")
        for axis, head in zip(axes[0], heads, strict=True):
            axis.set_title(head, fontsize=9)
        if shade is not None:
            bar = figure.colorbar(
                shade, ax=axes[:, 1:4], location="bottom", shrink=0.6, aspect=40, pad=0.02
            )
            if len(limits) > 1:
                bar.set_ticks([-1, 0, 1], labels=["−", "0", "+"])
            label = "heatmap" if len(limits) == 1 else "heatmap, from − to + the row's limit"
            bar.set_label(label, fontsize=8)
        return finish(figure)


def _show(axis: Any, image: np.ndarray | None) -> None:
    if image is not None:
        axis.imshow(image)
        return
    axis.text(0.5, 0.5, "image not\navailable", ha="center", va="center", transform=axis.transAxes)
    axis.set_aspect("equal")


def heatmap_figures(run: Run, load: RunImages) -> list[Figure]:
    """Draw some heatmaps of a run, where it keeps any.

    Of GAX those of several images, from the fewest updates to the most; of a sweep those of one
    image. Of AX all heatmaps of two images: those of the median score by the first method, one
    predicted correctly, one wrongly.

    Raises:
        UserError: stored heatmaps are damaged.
    """
    rows = [
        row
        for row in run.scores.drop_columns("curve").to_pylist()
        if row["heatmap_row"] is not None and row["co_score"] is not None
    ]
    if not rows:
        return []
    if run.settings:
        return [_sweep_figure(run, load, rows)]
    if run.is_gax:
        rows.sort(key=lambda row: (row["steps"], row["image_id"]))
        return [_gax_figure(run, load, spread(_updated(rows), _PANELS))]
    leading = min(rows, key=lambda row: (row["heatmap_row"], row["operation"] != "sum"))
    keys = ("method", "layer", "operation")
    first = [row for row in rows if all(row[key] == leading[key] for key in keys)]
    name = f"{title_of(leading['method'], leading['layer'])} score [{leading['operation']}]"
    figures = []
    for correct, kind in ((True, "correct"), (False, "wrong")):
        mine = sorted(
            (row for row in first if row["correct"] is correct), key=lambda row: row["co_score"]
        )
        if mine:
            image = mine[len(mine) // 2]["image_id"]
            # Each heatmap once, by its first row.
            shown = {r["heatmap_row"]: r for r in reversed(rows) if r["image_id"] == image}
            chosen = [shown[number] for number in sorted(shown)]
            figures.append(_ax_figure(run, load, chosen, kind, name))
    return figures


def _updated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what reached its target as it began, which shows nothing; all where all did."""
    return [row for row in rows if row["steps"]] or rows


def _gax_figure(run: Run, load: RunImages, rows: list[dict[str, Any]]) -> Figure:
    heatmaps = run.heatmaps([row["heatmap_row"] for row in rows])
    common = float(np.abs(heatmaps).max()) or 1.0  # optimised heatmaps are compared
    panels = _panels_of(run, load, rows, heatmaps, [common] * len(rows))
    return Figure(
        f"{run.key}-heatmaps",
        f"Heatmaps from the fewest updates on, {run.name}",
        f"{_signs(rows)}; all panels share one colour scale. {_P_MEANS}",
        draw_panels(panels),
        all_rows(panels),
    )


def _sweep_figure(run: Run, load: RunImages, rows: list[dict[str, Any]]) -> Figure:
    counts = Counter(row["image_id"] for row in _updated(rows))
    image = min(counts, key=lambda image: (-counts[image], image))
    order = list(run.methods)
    mine = [row for row in rows if row["image_id"] == image]
    chosen = spread(sorted(mine, key=lambda row: order.index(row["setting"])), _MOST_SETTINGS)
    heatmaps = run.heatmaps([row["heatmap_row"] for row in chosen])
    common = float(np.abs(heatmaps).max()) or 1.0
    panels = _panels_of(run, load, chosen, heatmaps, [common] * len(chosen))
    return Figure(
        f"{run.key}-heatmaps",
        f"Heatmaps of one image by setting, {run.name}",
        f"{_signs(chosen)}; all panels share one colour scale. {_P_MEANS} Groundtruth: "
        f"{run.class_name(chosen[0]['label'])}.",
        draw_panels(panels),
        all_rows(panels),
    )


def _ax_figure(
    run: Run, load: RunImages, rows: list[dict[str, Any]], kind: str, name: str
) -> Figure:
    heatmaps = run.heatmaps([row["heatmap_row"] for row in rows])
    # Attributions, a few peaks each, are made visible one by one.
    limits = [robust_limit(heatmap) for heatmap in heatmaps]
    panels = _panels_of(run, load, rows, heatmaps, limits)
    drawn = {(row["method"], row["layer"]) for row in rows}
    every = dict.fromkeys((method.method, method.layer) for method in run.statistics.methods)
    names = [title_of(*key) for key in every if key not in drawn]
    missing = f" Not drawn, having no heatmap of this image: {', '.join(names)}." if names else ""
    return Figure(
        f"{run.key}-heatmaps-{kind}",
        f"Heatmaps of a {kind} prediction, {run.name}",
        f"The {kind} prediction of the median {name}. {_signs(rows)}; the channels of a row share "
        f"a colour scale, which ends where 99.5 % of it lie. {_P_MEANS} Groundtruth: "
        f"{run.class_name(rows[0]['label'])}.{missing}",
        draw_panels(panels),
        all_rows(panels),
    )


def _panels_of(
    run: Run,
    load: RunImages,
    rows: list[dict[str, Any]],
    heatmaps: np.ndarray,
    limits: Sequence[float],
) -> list[Panel]:
    panels = []
    for row, heatmap, limit in zip(rows, heatmaps, limits, strict=True):
        if run.is_gax:
            title = (row["setting"] or run.class_name(row["label"])).replace(" ", "\n")
            how = f"\nafter {counted(row['steps'], 'update')}"
        else:
            title = title_of(row["method"], row["layer"], "\n")
            how = f" [{row['operation']}]"
        image = load(row["image_id"])
        together = None
        if image is not None:
            together = augmented(image, heatmap, row["operation"], run.pixel_scale())
        notes = (
            f"p = {_probability(row['probability_before'])}",
            f"p = {_probability(row['probability_after'])}, score {row['co_score']:.2f}{how}",
        )
        numbers = {
            "image_id": row["image_id"],
            "label": run.class_name(row["label"]),
            **{key: row[key] for key in (*KEYS, "steps", "co_score")},
            **{key: row[key] for key in ("probability_before", "probability_after")},
            "abs_max": float(np.abs(heatmap).max()),
        }
        panels.append(Panel(cut(title), image, heatmap, together, limit, notes, numbers))
    return panels


def _signs(rows: list[dict[str, Any]]) -> str:
    if {row["operation"] for row in rows} == {"sum"}:
        return "Red raises a pixel's channel, blue lowers it"
    if {row["operation"] for row in rows} == {"mult"}:
        return "Red keeps a pixel's channel, white takes it away, blue makes it negative"
    return "Red is above zero, blue is below"


def _probability(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
