"""Two AX runs, native and Captum, row by row; and how long each backend takes for an image.

    gaxjax ax --model M --data IMAGES --backend jax --output jax-run
    gaxjax ax --model M --data IMAGES --backend captum --output captum-run
    python -m benchmarks.ax_backends jax-run captum-run --speed-images 16 --rounds 3

The times are of one process: the backends take turns with the same images, decoded before, after
a round to warm up. Appends one row with both.
"""

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from benchmarks.rows import append_row, current_commit
from gaxjax.attribution.engine import AxEngine
from gaxjax.classifier import open_classifier
from gaxjax.config import AxRunConfig, from_dict
from gaxjax.data import Batch, open_images
from gaxjax.reference.ax import CaptumEngine
from gaxjax.reference.torch_classifier import open_torch_classifier
from gaxjax.report.statistics_tables import verdict
from gaxjax.statistics import rows, run_statistics
from gaxjax.store import read_header, read_heatmaps, read_scores

RESULTS = Path(__file__).parent / "results" / "ax_backends.jsonl"
KEYS = ["image_id", "method", "layer", "operation"]


@dataclass(frozen=True)
class Settings:
    """What to compare.

    Attributes:
        native: Folder of a run with --backend jax.
        captum: Folder of the same run with --backend captum.
        speed_images: Images per turn of the timing; 0 leaves it out.
        rounds: Timed turns of each backend.
        batch_size: Of both backends.
        output: File of rows to append to.
    """

    native: tyro.conf.Positional[Path]
    captum: tyro.conf.Positional[Path]
    speed_images: int = 16
    rounds: int = 3
    batch_size: int = 16
    output: Path = RESULTS


def main() -> None:
    """Compare the runs, time the backends, append the row."""
    settings = tyro.cli(Settings)
    header = read_header(settings.native)
    figures = [
        {
            name: row[name]
            for name in (
                *("method", "layer", "operation", "num_scored", "auroc", "auroc_low"),
                *("auroc_high", "cohens_d", "ks_distance", "correct_median", "wrong_median"),
                *("correct_share_at_most_ten", "wrong_share_at_most_ten"),
                *("accuracy_before", "accuracy_after"),
            )
        }
        for row in rows(run_statistics(read_scores(settings.native)))
    ]
    row = {
        "bench": "ax_backends",
        "commit": current_commit(),
        "device": header["sessions"][-1]["device"],
        "versions": read_header(settings.captum)["sessions"][-1]["versions"],
        "model": header["model"]["name"],
        "size": header["config"]["data"]["size"],
        "ax": header["config"]["ax"],
        "images": header["data"]["num_images"],
        "differences": _differences(settings.native, settings.captum),
        "statistics_native": figures,
        "verdict_native": verdict(run_statistics(read_scores(settings.native))),
        "verdict_captum": verdict(run_statistics(read_scores(settings.captum))),
    }
    if settings.speed_images:
        row["speed"] = _speed(settings, from_dict(AxRunConfig, header["config"]))
    append_row(row, settings.output)


def _differences(native: Path, captum: Path) -> list[dict[str, Any]]:
    """Hold the rows of two runs against each other, per method and operation."""
    both = (
        read_scores(native)
        .to_pandas()
        .merge(read_scores(captum).to_pandas(), on=KEYS, suffixes=("", "_captum"), validate="1:1")
    )
    assert len(both) == read_scores(native).num_rows == read_scores(captum).num_rows
    both["score"] = (both.co_score - both.co_score_captum).abs()
    both["heatmap"] = _heatmap_differences(native, captum, both)
    found = []
    for (method, operation), group in both.groupby(["method", "operation"], sort=False):
        scored = group.dropna(subset=["score"])
        found.append(
            {
                "method": method,
                "operation": operation,
                "rows": len(group),
                "scored": len(scored),
                "outcomes_equal": bool((group.outcome == group.outcome_captum).all()),
                "predictions_after_differing": int(
                    (scored.prediction_after != scored.prediction_after_captum).sum()
                ),
                **_summary("co_score", scored.score),
                "co_score_spread": float(scored.co_score_captum.std()),
                **_summary("heatmap", scored.heatmap),
            }
        )
    return found


def _summary(name: str, values: pd.Series) -> dict[str, float]:
    return {
        f"{name}_worst": float(values.max()),
        f"{name}_99%": float(values.quantile(0.99)),
        f"{name}_median": float(values.median()),
    }


def _heatmap_differences(native: Path, captum: Path, both: pd.DataFrame) -> np.ndarray:
    """Return |ours - theirs| / |theirs| in the L2 norm, heatmap by heatmap."""
    found = np.full(len(both), np.nan)
    known = both.heatmap_row.notna() & both.heatmap_row_captum.notna()
    for position in np.flatnonzero(known):
        row = both.iloc[position]
        ours, theirs = (
            read_heatmaps(run, [int(number)])[0].astype(np.float64)
            for run, number in ((native, row.heatmap_row), (captum, row.heatmap_row_captum))
        )
        found[position] = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    return found


def _speed(settings: Settings, config: AxRunConfig) -> dict[str, Any]:
    """Time both backends by turns, on the same images."""
    images = open_images(config.data)
    count = min(settings.speed_images, len(images.records))
    pixels = np.stack([images.load(i) for i in range(count)])
    labels = np.array([images.records[i].label for i in range(count)], np.int32)
    order = np.arange(count, dtype=np.int32)
    batch = replace(config.batch, batch_size=min(settings.batch_size, count))
    stored = np.float16
    engines = {
        "jax": AxEngine(
            open_classifier(config.model, fold=False),
            config.ax,
            batch,
            image_shape=pixels.shape[1:],
            heatmap_dtype=stored,
        ),
        "captum": CaptumEngine(
            open_torch_classifier(config.model), config.ax, batch, heatmap_dtype=stored
        ),
    }

    def parts() -> list[Batch]:
        size = batch.batch_size or count
        return [
            Batch(order[i : i + size], pixels[i : i + size], labels[i : i + size], ())
            for i in range(0, count, size)
        ]

    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(settings.rounds + 1):
        for name, engine in engines.items():
            started = time.perf_counter()
            for _ in engine.run(parts()):
                pass
            if turn:  # the first compiles and warms up
                seconds[name].append((time.perf_counter() - started) / count)
    ratios = [theirs / ours for ours, theirs in zip(seconds["jax"], seconds["captum"], strict=True)]
    return {
        "images": count,
        "batch_size": batch.batch_size,
        "methods": len(engines["jax"].wanted),
        "operations": len(config.ax.operations),
        "seconds_per_image_jax": [round(value, 3) for value in seconds["jax"]],
        "seconds_per_image_captum": [round(value, 3) for value in seconds["captum"]],
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "compile_seconds_jax": round(engines["jax"].stats.compile_seconds, 1),
    }


if __name__ == "__main__":
    main()
