"""Keep what trainings, runs and indicators gave as rows: Table 1, gaps, outcomes, who wins.

    python -m benchmarks.parity.paper_rows TRAINED… RUN… --output benchmarks/results/xray.jsonl

Reads folders of `gaxjax finetune`, `ax`, `gax` and `indicator apply`; nothing is computed again but
the statistics.
"""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.measure.machine import commit
from benchmarks.measure.rows import append_row
from gaxjax.results import read_header, read_scores, run_statistics

_PLACES = ("data", "weights")  # settings that are paths of one machine


@dataclass(frozen=True)
class Settings:
    """What to keep.

    Attributes:
        folders: Of finished trainings and runs, and of `indicator apply`.
        output: File of rows to append to.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    output: Path


def row(folder: Path) -> dict[str, Any]:
    """Return one training's or one run's row."""
    training = folder / "finetune.json"
    if training.exists():
        stored = json.loads(training.read_text())
        with (folder / "curve.csv").open() as file:
            curve = list(csv.DictReader(file))
        settings = {k: v for k, v in stored["config"].items() if k not in _PLACES}
        kept = ("iterations", "validation_accuracy", "test")
        return {
            "bench": "finetune",
            "name": folder.name,
            "settings": settings,
            **{name: stored[name] for name in kept},
            "duplicates_across_splits": len(stored["duplicates"]),
            "curve": [[float(value) for value in line.values()] for line in curve],
            "versions": stored["sessions"][-1]["versions"],
            "device": stored["sessions"][-1]["device"],
        }
    judgement = folder / "judgement.json"
    if judgement.exists():
        stored = json.loads(judgement.read_text())
        here = ("run", "fitted_on")  # which name places of one machine
        told = {name: value for name, value in stored.items() if name not in here}
        fitted = {name: value for name, value in stored["fitted_on"].items() if name != "run"}
        name = folder.parent.name if folder.name == "indicator" else folder.name
        return {"bench": "indicator", "name": name, "fitted_on": fitted, **told}
    header, scores = read_header(folder), read_scores(folder)
    found: dict[str, Any] = {
        "bench": header["command"],
        "name": folder.name,
        "model": header["model"]["name"],
        "settings": header["config"][header["command"]],
        "precision": header["sessions"][-1]["precision"],
        "size": header["config"]["data"]["size"],
        "images": header["data"]["num_images"],
        "outcomes": dict(Counter(scores["outcome"].to_pylist())),
        "device": header["sessions"][-1]["device"],
    }
    if header["command"] == "ax":
        return found | {"statistics": run_statistics(scores).rows()}
    steps = scores["steps"].to_numpy()[np.array(scores["outcome"].to_pylist()) == "reached"]
    if len(steps):
        figures = float(np.median(steps)), round(float(steps.mean()), 2), int(steps.max())
        found["steps_median_mean_max"] = figures
    return found


def main() -> None:
    """Append one row per folder."""
    settings = tyro.cli(Settings)
    for folder in settings.folders:
        append_row(row(folder) | {"commit": commit()}, settings.output)
        print(folder.name)


if __name__ == "__main__":
    main()
