"""How well heatmaps tell the classes of their images, as a table."""

from collections.abc import Sequence
from typing import Any

from gaxjax.common import Column, Table, counted
from gaxjax.results import ClassPatterns, Run, read_class_patterns, summarise_class_patterns

__all__ = ["class_patterns_table", "run_class_patterns"]

_LEGEND = (
    "Share of images whose class a linear classifier tells from the heatmap, and from the image, "
    "each averaged to {side} × {side} × 3; every image is judged by one that was fitted on "
    "the other {others} of {folds} folds. More: heatmaps less images, on the same images. Chance: "
    "what the most frequent class of the other folds tells. Below each its {percent:g}% interval "
    "over the images. GAX makes its heatmaps with the right class, AX with the predicted one: in "
    "part it is that which is told."
)


def run_class_patterns(run: Run) -> list[Table]:
    """Return a run's table; none where its heatmaps were not judged.

    Raises:
        UserError: its rows are damaged.
    """
    kept = read_class_patterns(run.path)
    if kept is None:
        return []
    return [class_patterns_table(summarise_class_patterns(kept[0]), kept[1], 0.95)]


def class_patterns_table(
    patterns: Sequence[ClassPatterns], about: dict[str, Any], confidence: float
) -> Table:
    """Return a table that fits 120 columns.

    Args:
        patterns: of `gaxjax.results.summarise_class_patterns`.
        about: how they were judged, of `gaxjax.results.read_class_patterns`.
        confidence: of the intervals.
    """
    folds, most = about["folds"], max(about["left_out"].values())
    legend = _LEGEND.format(
        side=about["side"], folds=folds, others=folds - 1, percent=100 * confidence
    )
    notes = [legend]
    if most:
        classes = "class" if most == 1 else "classes"
        fewer = f"{most:,} {classes} with fewer than {folds} images, too few for the folds"
        notes.append(f"Left out, of one method at most: {fewer}.")
    if about["num_unreadable"]:
        notes.append(f"Left out: {counted(about['num_unreadable'], 'image')} not readable now.")
    if not patterns:
        notes.append(f"Nothing to tell apart: fewer than two classes have {folds} heatmaps.")
    columns = ("images", "classes", "from\nheatmaps", "from\nimages", "more", "chance")
    return Table(
        (Column("heatmaps of", "left", wraps=True), *map(Column, columns)),
        tuple(
            (
                one.name,
                f"{one.num_images:,}",
                f"{one.num_classes:,}",
                _share(one.from_heatmap, one.from_heatmap_interval),
                _share(one.from_image, one.from_image_interval),
                _share(one.difference, one.difference_interval, "+.1%"),
                f"{one.chance:.1%}",
            )
            for one in patterns
        ),
        "Classes told by a linear classifier",
        tuple(notes),
    )


def _share(value: float, interval: tuple[float, float] | None, form: str = ".1%") -> str:
    ends = " to ".join(format(end, form) for end in interval) if interval else "–"
    return f"{value:{form}}\n{ends}"
