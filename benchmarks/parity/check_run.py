"""Verify a run in torch, and keep its outcomes and the worst differences as a row.

    python -m benchmarks.parity.check_run RUN --weights squeezenet1_0.pth

As `gaxjax verify` does it: the weights are read by torch alone, and every stored score, prediction
and probability is computed again from the stored heatmaps.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.measure.machine import commit
from benchmarks.measure.rows import append_row
from gaxjax.reference.verify import verify_run
from gaxjax.results.store import read_header, read_scores

RESULTS = Path(__file__).parents[1] / "results" / "parity" / "check_run.jsonl"


@dataclass(frozen=True)
class Settings:
    """What to check.

    Attributes:
        run: Folder of a finished run.
        weights: The torch weights that the run's model was converted from.
        num_images: Check this many images; all when not given.
        output: File of rows to append to.
    """

    run: tyro.conf.Positional[Path]
    weights: Path
    num_images: int | None = None
    output: Path = RESULTS


def main() -> None:
    """Check one run and append the row."""
    settings = tyro.cli(Settings)
    header, scores = read_header(settings.run), read_scores(settings.run)
    checked = verify_run(settings.run, weights=settings.weights, num_images=settings.num_images)
    session = header["sessions"][-1]
    row = {
        "bench": "check_run",
        "command": header["command"],
        "when": session["started"],
        "commit": commit(),
        "device": session["device"],
        "versions": session["versions"] | {"torch": checked.torch_version},
        "model": header["model"]["name"],
        "size": header["config"]["data"]["size"],
        "method": header["config"][header["command"]],
        "precision": session["precision"],
        "images": header["data"]["num_images"],
        "outcomes": dict(Counter(scores["outcome"].to_pylist())),
        "seconds": round(session["seconds"], 1),
        "passed": checked.passed,
        "images_checked": checked.num_images,
        "scores": [
            {
                "method": " ".join(filter(None, (c.method, c.layer, c.operation))),
                "recomputed": c.scores,
                "worst": c.worst,
                "median": c.median,
                "worst_relative_to_largest_logit": c.worst_relative,
                "predictions_compared": c.predictions,
                "predictions_differing": c.differing,
            }
            for c in checked.comparisons
        ],
    }
    if header["command"] == "gax":
        reached = np.array(scores["outcome"].to_pylist()) == "reached"
        steps = scores["steps"].to_numpy()[reached]
        row["steps_median_mean_max"] = [
            float(np.median(steps)),
            round(float(np.mean(steps)), 2),
            int(steps.max()),
        ]
        row["lowest_reached_score"] = float(scores["co_score"].to_numpy()[reached].min())
        row |= {name: session[name] for name in ("slots", "image_steps", "occupancy")}
    append_row(row, settings.output)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
