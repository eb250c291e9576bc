"""Whether smoother heatmaps still reach the target, in how many steps, and what their scores stand.

    python -m benchmarks generators --model squeezenet.ckpt --data IMAGES --runs FOLDER

A run for each generator and each weight of the total variation, on the same images. The runs are
kept, with the scores under disturbances that `gaxjax statistics RUN --robustness` tells of.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.machine import commit, machine
from benchmarks.measure.rows import Row, append_row, rounded
from benchmarks.measure.run import BENCHMARKS
from gaxjax.config import DataConfig, GaxConfig, GaxRunConfig, ModelConfig
from gaxjax.data import open_images
from gaxjax.results import open_run, read_robustness, summarise_robustness
from gaxjax.runs import measure_robustness, run_gax

KINDS: dict[str, dict[str, Any]] = {
    "pixel": {},
    **{f"smooth {sigma}": {"generator": "smooth", "sigma": float(sigma)} for sigma in (1, 2, 4)},
    **{f"coarse {grid}": {"generator": "coarse", "grid": grid} for grid in (28, 14, 7)},
    **{f"TV {factor}": {"total_variation_factor": float(factor)} for factor in (30, 300)},
}
"""Settings of `GaxConfig` by the name they have in rows."""


@dataclass(frozen=True)
class Generators:
    """Run every generator on the same images: a row each, and a sheet of heatmaps.

    Attributes:
        model: As of `gaxjax gax`.
        data: As of `gaxjax gax`.
        runs: Folder for the runs, a folder each; one that is finished there is not made again.
        images: Drawn at random.
        size: Height and width of the images.
        max_steps: As of `gaxjax gax`.
        shown: Images of the sheet.
        output: File of rows to append to.
        sheet: Where to draw it; left out when empty.
    """

    model: str
    data: str
    runs: Path
    images: int = 20
    size: int = 128
    max_steps: int = 200
    shown: int = 3
    output: Path = BENCHMARKS / "results" / "generators.jsonl"
    sheet: Path | None = BENCHMARKS.parent / "docs" / "generators.png"


def generators(settings: Generators) -> list[Row]:
    """Run, append a row for each, and draw the sheet."""
    data = DataConfig(data=settings.data, num_images=settings.images, size=settings.size)
    rows = []
    for name, values in KINDS.items():
        config = GaxRunConfig(
            model=ModelConfig(model=settings.model),
            data=data,
            gax=GaxConfig(max_steps=settings.max_steps, **values),
        )
        folder = settings.runs / name.replace(" ", "-")
        run_gax(config, folder, note=lambda _: None)
        row = {
            "workload": "generators",
            **machine(),
            "commit": commit(),
            "model": Path(settings.model).name,
            "size": settings.size,
            "images": settings.images,
            "max_steps": settings.max_steps,
            "target": config.gax.target,
            "kind": name,
            **values,
            **_found(folder),
            **_disturbed(folder),
        }
        append_row(rounded(row), settings.output)
        rows.append(row)
    if settings.sheet is not None:
        _draw(settings, data, settings.sheet)
    return rows


def _found(folder: Path) -> Row:
    scores = [row for row in open_run(folder).scores.to_pylist() if row["steps"] is not None]
    steps = [row["steps"] for row in scores if row["outcome"] == "reached"]
    return {
        "optimised": len(scores),
        "reached": len(steps),
        "steps_median": float(np.median(steps)) if steps else None,
        "steps_most": max(steps, default=None),
        "score_median": float(np.median([row["co_score"] for row in scores])),
        "similarity_loss_median": float(np.median([row["similarity_loss"] for row in scores])),
    }


def _disturbed(folder: Path) -> Row:
    """What is left of the median score, and how rough the heatmaps are."""
    measure_robustness(folder)
    found = read_robustness(folder)
    assert found is not None
    [summary] = summarise_robustness(found[0], open_run(folder).target_of)
    ratios = {f"{name}_ratio": kept.ratio for name, kept in summary.kept.items()}
    roughness = ("total_variation", "high_frequency_power")
    return ratios | {name: getattr(summary, name) for name in roughness}


def _draw(settings: Generators, data: DataConfig, path: Path) -> None:
    """Draw (h + 1) / 2 as RGB: a row an image, a column a kind, the image first."""
    from matplotlib import pyplot as plt

    runs = {name: open_run(settings.runs / name.replace(" ", "-")) for name in KINDS}
    scores = next(iter(runs.values())).scores.to_pylist()
    ids = [row["image_id"] for row in scores if row["steps"] is not None][: settings.shown]
    images = open_images(data)
    positions = {record.image_id: i for i, record in enumerate(images.records)}
    figure, axes = plt.subplots(
        len(ids),
        len(runs) + 1,
        figsize=(1.3 * (len(runs) + 1), 1.4 * len(ids)),
        layout="constrained",
        squeeze=False,
    )
    for line, image_id in zip(axes, ids, strict=True):
        line[0].imshow(images.load(positions[image_id]))
        for axis, run in zip(line[1:], runs.values(), strict=True):
            axis.imshow((np.asarray(run.heatmap(image_id), np.float32) + 1) / 2)
    for axis, title in zip(axes[0], ("image", *runs), strict=True):
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)
