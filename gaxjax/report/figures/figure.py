"""One figure as a report keeps it: drawn as PNG and SVG, captioned, with the rows of its CSV."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import escape
from PIL import Image

from gaxjax.report.figures.style import INK, SERIES

__all__ = ["Drawing", "Figure", "all_rows", "as_rows", "finish", "new_figure", "run_panels", "save"]

_DPI = 200  # of the PNG files, and of what an SVG holds as pixels
_INLINE = 600_000  # characters of SVG up to which its following the theme is worth its size
_LARGE = 200_000  # bytes of PNG from which on the page holds a WebP


@dataclass(frozen=True)
class Drawing:
    """A drawn figure: the files' contents, and its width in the page, in pixels."""

    png: bytes
    svg: str
    width: int

    @property
    def svg_file(self) -> str:
        """The SVG on a white ground, which the page's has not: it lies on the page's own."""
        return self.svg.replace("<svg ", '<svg style="background: #fff" ', 1)

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
        svg = _once(svg).replace(INK, "currentColor").strip()
        for place, color in enumerate(SERIES):  # the page's style lightens them on a dark ground
            svg = svg.replace(f": {color.lower()}", f": var(--series-{place}, {color})")
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alternative)}" ', 1)
        kind, pixels = "png", self.png
        if len(pixels) > _LARGE:  # heatmaps: noise, which no lossless format shrinks
            buffer = io.BytesIO()
            picture = Image.open(io.BytesIO(pixels), formats=["PNG"]).convert("RGB")
            picture.thumbnail((round(1.2 * self.width), picture.height))  # enough for a screen
            picture.save(buffer, "WEBP", quality=85)
            kind, pixels = "webp", buffer.getvalue()
        encoded = base64.b64encode(pixels).decode()
        if len(svg) <= max(_INLINE, len(encoded)):
            return svg
        source = f"data:image/{kind};base64,{encoded}"
        alternative = escape(alternative)
        return f'<img class="paper" width="{self.width}" alt="{alternative}" src="{source}">'


def _once(svg: str) -> str:
    """Drop the id of an element whose id came before: matplotlib repeats equal pictures whole."""
    seen: set[str] = set()

    def keep(match: re.Match[str]) -> str:
        new = match[1] not in seen
        seen.add(match[1])
        return match[0] if new else ""

    return re.sub(r' id="([^"]*)"', keep, svg)


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


# --- Its numbers ---------------------------------------------------------------------------------


def as_rows(columns: Mapping[str, np.ndarray], **key: Any) -> list[dict[str, Any]]:
    """Return columns of one length as rows, each of which begins with the key.

    Example:
        >>> as_rows({"step": np.array([0, 1])}, run="a")
        [{'run': 'a', 'step': 0}, {'run': 'a', 'step': 1}]
    """
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [key | dict(zip(columns, row, strict=True)) for row in values]


def all_rows(parts: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the `rows` of several runs' or methods' data, one after the other."""
    return [row for part in parts for row in part.rows()]


# --- Its drawing ---------------------------------------------------------------------------------


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, in inches, that lays its panels out by itself."""
    import matplotlib.figure

    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def run_panels(names: Sequence[str]) -> tuple[Any, list[Any]]:
    """Return a figure with a panel per run, for numbers of images."""
    figure = new_figure(8.6, 2.1 * len(names) + 0.4)
    panels = list(figure.subplots(len(names), 1, squeeze=False)[:, 0])
    for axis, name in zip(panels, names, strict=True):
        axis.set_title(name, loc="left", fontsize=9)
        axis.set_ylabel("images")
    return figure, panels


def finish(figure: Any) -> Drawing:
    """Save both ways; the same figure gives the same bytes."""
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(svg, format="svg", dpi=_DPI, transparent=True, metadata={"Date": None})
    figure.set_layout_engine("none")  # laid out once: the slower half of drawing
    figure.savefig(png, format="png", dpi=_DPI, facecolor="white")
    return Drawing(png.getvalue(), svg.getvalue(), round(96 * figure.get_figwidth()))


def save(figure: Any, output: Path, file_format: str) -> None:
    """Save a figure that stands in no page as `png` or `svg`; the same gives the same bytes."""
    import matplotlib

    metadata = {"Date": None} if file_format == "svg" else None
    with matplotlib.rc_context({"svg.hashsalt": "gaxjax"}):
        figure.savefig(output, format=file_format, dpi=150, metadata=metadata)
