"""What a report's figures share: style, colours, and files as PNG and SVG in the page's theme."""

import base64
import io
import re
import warnings
from dataclasses import dataclass
from typing import Any

from markupsafe import escape
from PIL import Image

from gaxjax.results.display import BLUE, SKY, VERMILION

__all__ = [
    "CORRECT",
    "INK",
    "METHOD_TITLES",
    "OPERATIONS",
    "SERIES",
    "WRONG",
    "Drawing",
    "cut",
    "finish",
    "new_figure",
    "styled",
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

INK = "#1a1b1c"  # no other part has this colour: in the page it becomes the text's
SERIES = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", SKY)
CORRECT, WRONG = BLUE, VERMILION

_DPI = 200  # of the PNG files, and of what an SVG holds as pixels
_INLINE = 600_000  # characters of SVG up to which its following the theme is worth its size
_LARGE = 200_000  # bytes of PNG from which on the page holds a WebP

_STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.facecolor": "none",
    "axes.titlesize": 10,
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "svg.hashsalt": "gaxjax",
    "svg.fonttype": "none",  # text stays text: small, and read aloud
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $
    "xtick.color": INK,
    "ytick.color": INK,
}


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
            picture = Image.open(io.BytesIO(pixels)).convert("RGB")
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


def title_of(method: str, layer: str | None) -> str:
    """Name a method and its layer as in the paper's figures."""
    return METHOD_TITLES.get(method, method) + (f"\n{layer}" if layer else "")


def cut(text: str, width: int = 22) -> str:
    """Shorten each line of a text to a width, in letters."""
    lines = text.split("\n")
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines)


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, in inches, that lays its panels out by itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finish(figure: Any) -> Drawing:
    """Save both ways; the same figure gives the same bytes."""
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(svg, format="svg", dpi=_DPI, transparent=True, metadata={"Date": None})
    figure.set_layout_engine("none")  # laid out once: the slower half of drawing
    figure.savefig(png, format="png", dpi=_DPI, facecolor="white")
    return Drawing(png.getvalue(), svg.getvalue(), round(96 * figure.get_figwidth()))


class styled:
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
