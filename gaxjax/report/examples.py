"""A picture of a few images of a run: image, heatmap, augmented image, and the CO-score curve."""

from pathlib import Path
from typing import Any

import numpy as np

from gaxjax.config import RunConfig, from_dict
from gaxjax.data import open_images
from gaxjax.errors import UserError
from gaxjax.store import read_header, read_heatmaps, read_scores

_CURVE = "#0072B2"  # from Okabe and Ito's palette, which colour-blind readers can tell apart
_TARGET = "#D55E00"


def draw_examples(run: Path, output: Path, *, count: int = 5) -> None:
    """Draw `count` images of a finished run, spread over the numbers of steps, into a PNG.

    Scores, steps and probabilities are the stored ones; only the images are read again.

    Raises:
        UserError: the run stores no heatmap.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    header = read_header(run)
    config = from_dict(RunConfig, header["config"])
    rows = [
        row
        for row in read_scores(run).to_pylist()
        if row["heatmap_row"] is not None and row["co_score"] is not None
    ]
    if not rows:
        raise UserError(f"{run} stores no heatmaps: there is nothing to draw")
    rows = _spread(sorted(rows, key=lambda row: (row["steps"], row["image_id"])), count)
    heatmaps = read_heatmaps(run, [row["heatmap_row"] for row in rows]).astype(np.float32)
    images = open_images(config.data, num_classes=header["model"]["num_classes"])
    position = {record.image_id: i for i, record in enumerate(images.records)}

    figure, axes = plt.subplots(
        len(rows),
        4,
        figsize=(10.4, 2.3 * len(rows)),
        squeeze=False,
        layout="constrained",
        width_ratios=[1, 1, 1, 1.5],
    )
    longest = max(len(row["curve"]) for row in rows)
    shade = None
    for row, heatmap, (left, middle, right, curve) in zip(rows, heatmaps, axes, strict=True):
        image = images.load(position[row["image_id"]]).astype(np.float32) / 255
        augmented = image + heatmap if config.gax.operation == "sum" else image * heatmap
        left.imshow(image)
        # Channels often disagree in sign; their mean shows where brightness goes up or down.
        shade = middle.imshow(heatmap.mean(-1), cmap="RdBu_r", vmin=-1, vmax=1)
        right.imshow(_to_unit(augmented))
        left.set_ylabel(
            f"{row['label_name'] or row['label']}\np = {row['probability_before']:.3f}", fontsize=9
        )
        right.set_ylabel(f"p = {row['probability_after']:.3f}", fontsize=9)
        for axis in (left, middle, right):
            axis.set_xticks([])
            axis.set_yticks([])
        _draw_curve(curve, row, config.gax.target, longest)
    for axis, title in zip(
        axes[0],
        ("image x", "GAX heatmap h (mean of RGB)", _augmented_title(config), "CO score"),
        strict=True,
    ):
        axis.set_title(title, fontsize=10)
    axes[-1, 3].set_xlabel("Adam updates", fontsize=9)
    if shade is not None:
        figure.colorbar(shade, ax=axes[:, 1], location="bottom", shrink=0.9, aspect=30, pad=0.01)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=130)
    plt.close(figure)


def _draw_curve(axis: Any, row: dict[str, Any], target: float, longest: int) -> None:
    axis.axhline(target, color=_TARGET, linewidth=1, linestyle="--")
    axis.plot(row["curve"], color=_CURVE, linewidth=1.6)
    axis.plot([row["steps"]], [row["co_score"]], "o", color=_CURVE, markersize=4)
    axis.set_xlim(-0.02 * longest, longest)
    axis.set_ylim(top=1.15 * max(target, *row["curve"]))
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.text(
        0.98,
        0.06,
        f"{row['co_score']:.2f} after {row['steps']} steps",
        transform=axis.transAxes,
        ha="right",
        fontsize=9,
    )


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Take rows from the easiest to the hardest, evenly."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return [rows[place] for place in places]


def _augmented_title(config: RunConfig) -> str:
    return "x + h, rescaled" if config.gax.operation == "sum" else "x · h, rescaled"


def _to_unit(image: np.ndarray) -> np.ndarray:
    """Stretch an augmented image, whose pixels leave [0, 1], to be shown."""
    low, high = float(image.min()), float(image.max())
    return (image - low) / max(high - low, 1e-6)
