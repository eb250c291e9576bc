"""Small pictures inside a page: images as they are, heatmaps as grey strips that a script colours.

A heatmap travels as its three channels one under the other, 1 to 255 for -scale to scale and 128
for zero; the page paints single channels, their mean, and the image with the heatmap from it.
"""

import base64
import io

import numpy as np
from PIL import Image

from gaxjax.results import DIVERGING

__all__ = [
    "HeatmapPicture",
    "augmented",
    "color_table",
    "heatmap_picture",
    "image_picture",
    "robust_limit",
]

HeatmapPicture = dict[str, object]
"""`strip`: data URI; `scale`: value of 255 in it; `max`: the heatmap's largest magnitude."""

_SHOWN = 0.995  # share of a heatmap within its colours: attributions have a few far peaks

_QUALITY = 80


def image_picture(pixels: np.ndarray, size: int) -> str:
    """Return an image, uint8 [H, W, 3], as a data URI of `size` × `size` pixels at most."""
    image = Image.fromarray(pixels)
    image.thumbnail((size, size), Image.Resampling.BOX)
    return _encoded(image)


def heatmap_picture(
    heatmap: np.ndarray, size: int, *, scale: float | None = None
) -> HeatmapPicture:
    """Return a heatmap, [H, W, channels], as a strip; a larger one is averaged down to `size`.

    Args:
        heatmap: usually of three channels.
        size: height and width of a channel's picture at most, in pixels.
        scale: where the colours end; chosen by `robust_limit` when not given.

    Example:
        >>> heatmap_picture(np.zeros((8, 8, 3), np.float32), 4)["max"]
        0.0
    """
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(channel, np.float32)).resize(
                (min(size, heatmap.shape[1]), min(size, heatmap.shape[0])), Image.Resampling.BOX
            )
        )
        for channel in np.moveaxis(heatmap, -1, 0)
    ]
    strip = np.concatenate(channels)
    scale = scale or robust_limit(strip)
    levels = np.rint(127 * np.clip(strip / scale, -1, 1)) + 128
    return {
        "strip": _encoded(Image.fromarray(levels.astype(np.uint8))),
        "scale": float(f"{scale:.3g}"),
        "max": float(f"{np.abs(heatmap).max():.3g}"),
    }


def robust_limit(heatmap: np.ndarray) -> float:
    """Return where a heatmap's colours end: above 99.5 % of its magnitudes, and above 0."""
    magnitudes = np.abs(heatmap)
    return float(np.quantile(magnitudes, _SHOWN)) or float(magnitudes.max()) or 1.0


def _encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    # So small that lossy blocks would save nothing.
    image.save(buffer, "WEBP", quality=_QUALITY, method=4, lossless=image.width < 64)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def augmented(
    image: np.ndarray,
    heatmap: np.ndarray,
    operation: str,
    pixel_scale: tuple[list[float], list[float]] = ([0.0] * 3, [1.0] * 3),
) -> np.ndarray:
    """Put a heatmap on an image, stretched to [0, 1] to be shown.

    Args:
        image: uint8 [H, W, 3].
        heatmap: [H, W, 3].
        operation: sum or mult.
        pixel_scale: mean and std of the space in which the two meet; pixels in [0, 1] by default.
    """
    mean, std = (np.asarray(values, np.float32) for values in pixel_scale)
    x = (image.astype(np.float32) / 255 - mean) / std
    together = (x + heatmap if operation == "sum" else x * heatmap) * std + mean
    low, high = float(together.min()), float(together.max())
    return (together - low) / max(high - low, 1e-6)


def color_table() -> str:
    """Return the 255 colours for -127 to 127, blue over white to red, as one hexadecimal text."""
    import matplotlib

    colors = matplotlib.colormaps[DIVERGING](np.linspace(0, 1, 255), bytes=True)
    return bytes(colors[:, :3]).hex()
