"""What is left of a run's scores under small disturbances, as tables."""

from collections.abc import Sequence
from typing import Any

from gaxjax.common import Column, Table
from gaxjax.results import (
    DISTURBANCES,
    MethodRobustness,
    Run,
    read_robustness,
    summarise_robustness,
)

__all__ = ["robustness_tables", "run_robustness"]

_NAMES = {"shifted": "shifted", "rounded": "8 bits", "jpeg": "JPEG", "noisy": "noise"}
_LEGEND = (
    "Score: of the heatmap as stored. Then the median of the disturbed score over it, of the "
    "images whose score is > 0; below 0 the disturbed image speaks against the right class. "
    "Shifted: the heatmap by one pixel against the image, the mean of four directions, edges "
    "repeated. 8 bits: the image with its heatmap, clipped to [0, 1] and rounded. JPEG: that at "
    "quality {quality}, so that JPEG's own share is what it loses beyond 8 bits. Noise: Gaussian, "
    "{noise:g}/255, on the image with its heatmap."
)
_TARGET_LEGEND = "Of the images whose score is at least the target, those whose disturbed one is."
_ROUGH_LEGEND = (
    "Medians of the heatmaps as stored. Variation: mean absolute difference of neighbouring "
    "pixels. Fine power: share of the spectral power above a quarter of a cycle a pixel (white "
    "noise: 0.80)."
)


def run_robustness(run: Run) -> list[Table]:
    """Return a run's tables; none where its scores were not disturbed.

    Raises:
        UserError: its rows are damaged.
    """
    kept = read_robustness(run.path)
    if kept is None:
        return []
    return robustness_tables(summarise_robustness(kept[0], run.target_of), kept[1], 0.95)


def robustness_tables(
    methods: Sequence[MethodRobustness], about: dict[str, Any], confidence: float
) -> list[Table]:
    """Return tables that fit 120 columns: scores that are left, those at the target, roughness.

    Args:
        methods: of `gaxjax.results.summarise_robustness`.
        about: how they were computed, of `gaxjax.results.read_robustness`.
        confidence: of the intervals.
    """
    first = Column("method [operation]", "left", wraps=True)
    under = tuple(Column(_NAMES[name]) for name in DISTURBANCES)
    interval = f" Below each its {100 * confidence:g}% interval over the images."
    legend = _LEGEND.format(quality=about["jpeg_quality"], noise=255 * about["noise"])
    drawn, found = about["num_images"], about["num_with_heatmaps"]
    if drawn < found:
        legend = f"Of {drawn:,} of the {found:,} images with heatmaps. {legend}"
    left = Table(
        (
            first,
            *map(Column, ("images", "score\nmean", "\nmedian", "> 0")),
            *under,
        ),
        tuple(
            (
                one.name,
                f"{one.num_images:,}",
                f"{one.mean:.2f}",
                f"{one.median:.2f}",
                f"{one.num_above_zero:,}",
                *(
                    _cell(one.kept[name].ratio, one.kept[name].ratio_interval)
                    for name in DISTURBANCES
                ),
            )
            for one in methods
        ),
        "Score left under small disturbances",
        (legend + interval,),
    )
    still = Table(
        (first, Column("images"), *under),
        tuple(
            (
                one.name,
                f"{one.num_at_target:,}",
                *(
                    _cell(one.kept[name].at_target, one.kept[name].at_target_interval)
                    for name in DISTURBANCES
                ),
            )
            for one in methods
            if one.num_at_target
        ),
        "Share still at the target",
        (_TARGET_LEGEND,),
    )
    rough = Table(
        (first, *map(Column, ("images", "variation", "fine power"))),
        tuple(
            (
                one.name,
                f"{one.num_images:,}",
                f"{one.total_variation:.4f}",
                f"{one.high_frequency_power:.3f}",
            )
            for one in methods
        ),
        "Roughness of the heatmaps",
        (_ROUGH_LEGEND,),
    )
    return [table for table in (left, still, rough) if table.rows]


def _cell(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" + ("\n{:.2f} to {:.2f}".format(*interval) if interval else "\n–")
