"""Two AX runs, native and Captum, held against each other row by row.

    gaxjax ax --model M --data IMAGES --backend jax --output jax-run
    gaxjax ax --model M --data IMAGES --backend captum --output captum-run
    python -m benchmarks.parity.ax_backends jax-run captum-run

How well each method separates is told by `gaxjax statistics`; how long each backend takes is a
workload of `python -m benchmarks run`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from benchmarks.measure.machine import commit
from benchmarks.measure.rows import append_row
from gaxjax.results import read_header, read_heatmaps, read_scores

RESULTS = Path(__file__).parents[1] / "results" / "parity" / "ax_backends.jsonl"
KEYS = ["image_id", "method", "layer", "operation"]


@dataclass(frozen=True)
class Settings:
    """What to compare.

    Attributes:
        native: Folder of a run with --backend jax.
        captum: Folder of the same run with --backend captum.
        output: File of rows to append to.
    """

    native: tyro.conf.Positional[Path]
    captum: tyro.conf.Positional[Path]
    output: Path = RESULTS


def main() -> None:
    """Compare the runs and append the row."""
    settings = tyro.cli(Settings)
    header = read_header(settings.native)
    row = {
        "bench": "ax_backends",
        "commit": commit(),
        "device": header["sessions"][-1]["device"],
        "versions": read_header(settings.captum)["sessions"][-1]["versions"],
        "model": header["model"]["name"],
        "size": header["config"]["data"]["size"],
        "ax": header["config"]["ax"],
        "images": header["data"]["num_images"],
        "differences": _differences(settings.native, settings.captum),
    }
    append_row(row, settings.output)
    print(json.dumps(row, indent=1))


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


if __name__ == "__main__":
    main()
