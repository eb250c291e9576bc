"""Draws a report's figures from `figures`, each as PNG and as SVG that follows the page's theme."""

import base64
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import escape
from PIL import Image

from gaxjax.report.figures import BAND, Box, Curves, Histogram, Probabilities, Steps
from gaxjax.statistics import MethodStatistics

__all__ = [
    "METHOD_TITLES",
    "Drawing",
    "Panel",
    "draw_boxes",
    "draw_curves",
    "draw_histograms",
    "draw_panels",
    "draw_probabilities",
    "draw_steps",
    "title_of",
]

METHOD_TITLES = {
    "saliency": "Saliency",
    "input_x_gradient": "Input × Gradient",
    "layer_grad_cam": "Layer Grad-CAM",
    "deconvolution": "Deconvolution",
    "guided_backprop": "Guided Backprop",
    "deep_lift": "DeepLift",
    "gax": "GAX",
}
OPERATIONS = {"sum": "x + h", "mult": "x · h"}

_INK = "#1a1b1c"  # no other part has this colour: in the page it becomes the text's
# Okabe and Ito's palette, which colour-blind readers can tell apart.
_CORRECT, _WRONG = "#0072B2", "#D55E00"
_RUNS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DIVERGING = "RdBu_r"
_INLINE = 400_000  # characters of SVG up to which its following the theme is worth its size
_LARGE = 200_000  # bytes of PNG from which on the page holds a WebP

_STYLE: Any = {
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.facecolor": "none",
    "axes.titlesize": 10,
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "svg.hashsalt": "gaxjax",
    "svg.fonttype": "none",  # text stays text: small, and read aloud
    "text.color": _INK,
    "text.parse_math": False,  # a class may be called $
    "xtick.color": _INK,
    "ytick.color": _INK,
}


@dataclass(frozen=True)
class Drawing:
    """A drawn figure: the files' bytes, and what stands for it in the page."""

    png: bytes
    svg: str

    def inline(self, name: str, alternative: str) -> str:
        """Return markup for the page: the SVG where it is small, else the smaller of the two.

        A large PNG goes into the page as WebP; the file beside the page stays as it is.

        Args:
            name: the figure's, which makes the ids of the SVG its own.
            alternative: text for readers who do not see it; escaped here.
        """
        svg = re.sub(
            r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", self.svg, flags=re.S
        )
        svg = re.sub(r'(\bid="|(?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", svg)
        svg = svg.replace(_INK, "currentColor").strip()
        for place, color in enumerate(_RUNS):  # the page's style lightens them on a dark ground
            svg = svg.replace(f": {color.lower()}", f": var(--series-{place}, {color})")
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alternative)}" ', 1)
        kind, pixels = "png", self.png
        if len(pixels) > _LARGE:  # heatmaps: noise, which no lossless format shrinks
            buffer = io.BytesIO()
            Image.open(io.BytesIO(pixels)).convert("RGB").save(buffer, "WEBP", quality=85)
            kind, pixels = "webp", buffer.getvalue()
        encoded = base64.b64encode(pixels).decode()
        if len(svg) <= max(_INLINE, len(encoded)):
            return svg
        source = f"data:image/{kind};base64,{encoded}"
        return f'<img class="paper" alt="{escape(alternative)}" src="{source}">'


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
    """

    title: str
    image: np.ndarray | None
    heatmap: np.ndarray
    augmented: np.ndarray | None
    limit: float
    notes: tuple[str, str]


def title_of(method: str, layer: str | None) -> str:
    """Name a method and its layer as in the paper's figures."""
    return METHOD_TITLES.get(method, method) + (f"\n{layer}" if layer else "")


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _finish(figure: Any, *, dpi: int = 110) -> Drawing:
    """Save both ways; the same figure gives the same bytes."""
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(svg, format="svg", dpi=dpi, transparent=True, metadata={"Date": None})
    figure.set_layout_engine("none")  # laid out once: the slower half of drawing
    figure.savefig(png, format="png", dpi=dpi, facecolor="white")
    return Drawing(png.getvalue(), svg.getvalue())


class _styled:
    """Our style, and no warning for a letter that the font lacks: a box stands in its place."""

    def __enter__(self) -> None:
        import matplotlib

        self._rc = matplotlib.rc_context(_STYLE)
        self._quiet = warnings.catch_warnings()
        self._rc.__enter__()
        self._quiet.__enter__()
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")

    def __exit__(self, *error: Any) -> None:
        self._quiet.__exit__(*error)
        self._rc.__exit__(*error)


# --- Scores of correct and of wrong predictions --------------------------------------------------


def draw_boxes(boxes: Sequence[Box], methods: Sequence[MethodStatistics]) -> Drawing:
    """Draw boxes of correct and wrong predictions side by side, one panel per operation.

    An arrow leads from the median of the wrong ones to that of the correct ones: the gap. Above it
    stands the AUROC.
    """
    operations = [name for name in OPERATIONS if any(b.operation == name for b in boxes)]
    columns = list(dict.fromkeys((m.method, m.layer) for m in methods))
    areas = {(m.method, m.layer, m.operation): m.gap.auroc for m in methods}
    with _styled():
        figure = _figure(max(6.0, 1.35 * len(columns) + 1.5), 3.4 * len(operations))
        panels = figure.subplots(len(operations), 1, squeeze=False)[:, 0]
        for axis, operation in zip(panels, operations, strict=True):
            axis.axhline(0, color=_INK, linewidth=0.6, alpha=0.5)
            for place, column in enumerate(columns):
                mine = {
                    box.kind: box
                    for box in boxes
                    if (box.method, box.layer, box.operation) == (*column, operation)
                }
                _draw_pair(axis, place, mine)
                area = areas.get((*column, operation))
                if area is not None:
                    axis.annotate(
                        f"AUROC {area:.2f}",
                        (place, 1.0),
                        xycoords=("data", "axes fraction"),
                        ha="center",
                        va="bottom",
                        fontsize=8,
                    )
            axis.set_xticks(range(len(columns)), [title_of(*column) for column in columns])
            axis.set_xlim(-0.6, len(columns) - 0.4)
            axis.set_ylabel(f"CO score, {OPERATIONS[operation]}")
            axis.margins(y=0.06)
        figure.legend(handles=_kind_handles(), loc="outside lower center", ncols=3, fontsize=9)
        return _finish(figure)


def _draw_pair(axis: Any, place: int, mine: dict[str, Box]) -> None:
    for kind, color, shift in (("correct", _CORRECT, -0.2), ("wrong", _WRONG, 0.2)):
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
                "color": _INK,
                "linewidth": 1.2,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def _kind_handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=_CORRECT, alpha=0.6, label="correct prediction"),
        Patch(facecolor="none", edgecolor=_WRONG, linewidth=1.3, label="wrong prediction"),
        Line2D([], [], color=_INK, marker="^", linewidth=1.2, label="gap, wrong to correct median"),
    ]


def draw_histograms(histograms: Sequence[Histogram]) -> Drawing:
    """Draw one panel per method and operation, as shares of each kind's images."""
    operations = [name for name in OPERATIONS if any(h.operation == name for h in histograms)]
    columns = list(dict.fromkeys((h.method, h.layer) for h in histograms))
    found = {(h.method, h.layer, h.operation): h for h in histograms}
    with _styled():
        figure = _figure(5.2 * len(operations), 1.5 * len(columns) + 0.6)
        panels = figure.subplots(len(columns), len(operations), squeeze=False)
        for row, column in zip(panels, columns, strict=True):
            for axis, operation in zip(row, operations, strict=True):
                histogram = found.get((*column, operation))
                if histogram is None:
                    axis.set_axis_off()
                    continue
                _draw_kinds(axis, histogram)
                axis.set_title(
                    f"{title_of(*column)} [{operation}]".replace("\n", " "), loc="left", fontsize=9
                )
        for axis in panels[-1]:
            axis.set_xlabel("CO score")
        for row in panels:
            row[0].set_ylabel("share", fontsize=8)
        figure.legend(handles=_kind_handles()[:2], loc="outside lower center", ncols=2)
        return _finish(figure)


def _draw_kinds(axis: Any, histogram: Histogram) -> None:
    edges = histogram.edges
    for counts, color, fill in (
        (histogram.correct, _CORRECT, True),
        (histogram.wrong, _WRONG, False),
    ):
        if not counts.sum():
            continue
        shares = counts / counts.sum()
        if fill:
            axis.stairs(shares, edges, color=color, fill=True, alpha=0.45)
        axis.stairs(shares, edges, color=color, linewidth=1.3)
    axis.axvline(0, color=_INK, linewidth=0.6, alpha=0.5)


# --- The course of GAX ---------------------------------------------------------------------------


def draw_curves(runs: Sequence[Curves]) -> Drawing:
    """Draw every image's curve thinly, and each run's median and band (paper, Fig. 4).

    The axis ends where 99 of 100 images of the slowest run have stopped.
    """
    from matplotlib import patheffects
    from matplotlib.collections import LineCollection

    with _styled():
        figure = _figure(8.6, 4.4)
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
            end = max(end, float(np.quantile([len(y) - 1 for y in run.lines], 0.99)))
            axis.fill_between(run.steps, run.low, run.high, color=color, alpha=0.14, linewidth=0)
            axis.plot(
                run.steps,
                run.median,
                color=color,
                linewidth=2.2,
                label=f"{run.run}, median of {len(lines):,} images",
                path_effects=[patheffects.withStroke(linewidth=4, foreground="white", alpha=0.7)],
            )
        for target in sorted({run.target for run in runs}):
            axis.axhline(target, color=_INK, linewidth=1, linestyle="--")
            axis.annotate(
                f"target {target:g}",
                (1, target),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8,
            )
        axis.set_xlim(0, end * 1.04)
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
        return _finish(figure, dpi=130)


def _cycled(count: int) -> list[str]:
    return [_RUNS[i % len(_RUNS)] for i in range(count)]


def draw_steps(runs: Sequence[Steps]) -> Drawing:
    """Draw how many updates the images took, a panel per run."""
    with _styled():
        figure = _figure(8.6, 2.1 * len(runs) + 0.4)
        panels = figure.subplots(len(runs), 1, squeeze=False)[:, 0]
        for axis, run, color in zip(panels, runs, _cycled(len(runs)), strict=True):
            axis.stairs(run.reached, run.edges, color=color, fill=True, alpha=0.85, label="reached")
            if run.not_reached.any():
                axis.stairs(
                    run.reached + run.not_reached,
                    run.edges,
                    baseline=run.reached,
                    color=_INK,
                    hatch="////",
                    linewidth=0.8,
                    label="best of those that did not reach the target",
                )
            if run.median is not None:
                axis.axvline(
                    run.median,
                    color=_INK,
                    linestyle="--",
                    linewidth=1,
                    label=f"median of the reached, {run.median:g}",
                )
            axis.set_title(run.run, loc="left", fontsize=9)
            axis.set_ylabel("images")
            axis.legend(fontsize=8)
        panels[-1].set_xlabel("Adam updates")
        return _finish(figure)


def draw_probabilities(runs: Sequence[Probabilities]) -> Drawing:
    """Draw the right class's probability before and after, a panel per run."""
    with _styled():
        figure = _figure(8.6, 2.1 * len(runs) + 0.4)
        panels = figure.subplots(len(runs), 1, squeeze=False)[:, 0]
        for axis, run, color in zip(panels, runs, _cycled(len(runs)), strict=True):
            axis.stairs(run.after, run.edges, color=color, fill=True, alpha=0.85, label="after")
            axis.stairs(run.before, run.edges, color=_INK, linewidth=1.4, label="before")
            axis.set_title(run.run, loc="left", fontsize=9)
            axis.set_ylabel("images")
            axis.legend(fontsize=8, loc="upper center")
        panels[-1].set_xlabel("probability of the right class")
        return _finish(figure)


# --- Heatmaps ------------------------------------------------------------------------------------


def draw_panels(panels: Sequence[Panel]) -> Drawing:
    """Draw images with the three channels of their heatmaps (paper, Fig. 5).

    A row's channels share one scale, from minus to plus its limit; where the rows' limits differ,
    the colour bar counts in limits.
    """
    limits = {panel.limit for panel in panels}
    with _styled():
        figure = _figure(9.6, 2.05 * len(panels) + 0.7)
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
                shade = axis.imshow(shown, cmap=_DIVERGING, vmin=-end, vmax=end)
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
            bar.set_label("heatmap" if len(limits) == 1 else "heatmap, in the row's ±", fontsize=8)
        return _finish(figure, dpi=100)


def _show(axis: Any, image: np.ndarray | None) -> None:
    if image is not None:
        axis.imshow(image)
        return
    axis.text(0.5, 0.5, "image not\navailable", ha="center", va="center", transform=axis.transAxes)
    axis.set_aspect("equal")
