"""How rough heatmaps are: how far neighbours lie apart, and how much lies in fine detail."""

import numpy as np
from jaxtyping import Float

__all__ = ["high_frequency_power", "total_variation"]

_HALF_NYQUIST = 0.25  # cycles a pixel


def total_variation(heatmaps: Float[np.ndarray, "*B H W C"]) -> Float[np.ndarray, "*B"]:
    """Return the mean absolute difference of neighbouring pixels.

    `(Σ |h[i+1,j,c] - h[i,j,c]| + Σ |h[i,j+1,c] - h[i,j,c]|) / C ((H-1) W + H (W-1))`: over all
    pairs of neighbours, up and down and side by side, in each channel.

    Args:
        heatmaps: one or several, of any range, at least 2 pixels in all.

    Returns:
        In the heatmaps' units, float64; 0 of a constant heatmap.

    Example:
        >>> float(total_variation(np.array([[[0.0], [1.0]], [[0.0], [1.0]]])))
        0.5
    """
    heatmaps = np.asarray(heatmaps, np.float64)
    down, across = (np.abs(np.diff(heatmaps, axis=axis)) for axis in (-3, -2))
    pairs = np.prod(down.shape[-3:]) + np.prod(across.shape[-3:])
    each = (-3, -2, -1)
    return np.asarray((down.sum(axis=each) + across.sum(axis=each)) / pairs)


def high_frequency_power(heatmaps: Float[np.ndarray, "*B H W C"]) -> Float[np.ndarray, "*B"]:
    """Return the share of the spectral power above half the Nyquist frequency.

    `Σ_{|f| > 1/4} |F_c(f)|² / Σ_f |F_c(f)|²`, with F_c the two-dimensional discrete Fourier
    transform of channel c less its mean, |f| the radial frequency in cycles a pixel, and both sums
    over all channels. There is no window: a jump from one edge to the opposite one counts.

    Args:
        heatmaps: one or several, of any range.

    Returns:
        In [0, 1], float64; 0 of a constant heatmap, and in the mean 1 - π/16 = 0.80 of white
        noise, the share of all frequencies that lie there.

    Example:
        >>> stripes = np.tile([0.0, 1.0], (4, 2))[..., None]
        >>> float(high_frequency_power(stripes))
        1.0
    """
    heatmaps = np.asarray(heatmaps, np.float64)
    height, width = heatmaps.shape[-3:-1]
    centred = heatmaps - heatmaps.mean(axis=(-3, -2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred, axes=(-3, -2))) ** 2).sum(axis=-1)
    high = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) > _HALF_NYQUIST
    total = power.sum(axis=(-2, -1))
    varies = np.ptp(heatmaps, axis=(-3, -2)).max(axis=-1) > 0  # rounding leaves power otherwise
    share = (power * high).sum(axis=(-2, -1)) / np.where(varies, total, 1.0)
    return np.asarray(np.where(varies, share, 0.0))
