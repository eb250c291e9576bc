"""What a report's figures have in common: style, colours, and the names of methods."""

import warnings
from typing import Any

from gaxjax.results import BLUE, SKY, VERMILION

__all__ = [
    "CORRECT",
    "INK",
    "METHOD_TITLES",
    "OPERATIONS",
    "SERIES",
    "WRONG",
    "colors_of",
    "cut",
    "logarithmic_x",
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


def logarithmic_x(axes: Any) -> None:
    """Give axes that are drawn an x for counts, logarithmic from 1 on, whose labels are plain text.

    Matplotlib's own are mathematical text, which `styled` does not parse.
    """
    from matplotlib.ticker import StrMethodFormatter, SymmetricalLogLocator

    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    axes.set_xlim(left=-0.1)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=range(2, 10)))


def colors_of(count: int) -> list[str]:
    """Return the colours of so many series, from the first again after the last."""
    return [SERIES[i % len(SERIES)] for i in range(count)]


def title_of(method: str, layer: str | None, between: str = " ") -> str:
    """Name a method and its layer as in the paper's figures."""
    return METHOD_TITLES.get(method, method) + (f"{between}{layer}" if layer else "")


def cut(text: str, width: int = 22) -> str:
    """Shorten each line of a text to a width, in letters."""
    lines = text.split("\n")
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines)
