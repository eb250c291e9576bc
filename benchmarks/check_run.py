"""Recompute a run's stored scores from its stored heatmaps, in torch and torchvision alone.

    python -m benchmarks.check_run --run RUN --weights squeezenet1_0.pth

Nothing of gaxjax computes here: torchvision builds the model and decodes the images, pandas and
zarr read the run. Appends a row with the outcomes, the steps, and the worst difference.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
import tyro
import zarr
from PIL import Image
from torchvision import transforms

from benchmarks.rows import append_row, current_commit

RESULTS = Path(__file__).parent / "results" / "check_run.jsonl"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Settings:
    """What to check.

    Attributes:
        run: Folder of a finished run over a folder of images.
        weights: The torch state dict that the run's model was converted from.
        output: File of rows to append to.
    """

    run: Path
    weights: Path
    output: Path = RESULTS


def main() -> None:
    """Check one run and append the row."""
    settings = tyro.cli(Settings)
    header = json.loads((settings.run / "run.json").read_text())
    config = header["config"]
    size, space = config["data"]["size"], config["gax"]["score_space"]
    network = torchvision.models.get_model(header["model"]["name"], weights=None).eval()
    network.load_state_dict(torch.load(settings.weights, weights_only=True))
    decode = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    normalize = transforms.Normalize(MEAN, STD)

    def logits(pixels: torch.Tensor, *, normalized: bool) -> torch.Tensor:
        return network((normalize(pixels) if normalized else pixels)[None])[0]

    rows = pd.read_parquet(settings.run / "scores")
    heatmaps = zarr.open_array(settings.run / "heatmaps.zarr", mode="r")
    differences, same_prediction = [], 0
    for row in rows.itertuples():
        with Image.open(Path(config["data"]["data"]) / row.image_id) as image:
            pixels = decode(image.convert("RGB"))
        with torch.no_grad():
            before = logits(pixels, normalized=space != "raw")
            same_prediction += int(before.argmax()) == row.prediction
            if np.isnan(row.heatmap_row):
                continue
            heatmap = torch.from_numpy(heatmaps[int(row.heatmap_row)].astype(np.float32))
            augmented = pixels + heatmap.permute(2, 0, 1)
            rise = (logits(augmented, normalized=space == "normalized") - before).double()
        others = torch.cat([rise[: row.label], rise[row.label + 1 :]])
        differences.append(abs(float(rise[row.label] - others.mean()) - row.co_score))
    session = header["sessions"][-1]
    reached = rows[rows.outcome == "reached"]
    row = {
        "bench": "check_run",
        "when": session["started"],
        "commit": current_commit(),
        "device": session["device"],
        "versions": session["versions"] | {"torch": torch.__version__},
        "model": header["model"]["name"],
        "size": size,
        "score_space": space,
        "target": config["gax"]["target"],
        "precision": session["precision"],
        "slots": session["slots"],
        "images": len(rows),
        "outcomes": dict(Counter(rows.outcome)),
        "lowest_reached_score": float(reached.co_score.min()),
        "steps_median_mean_max": [
            float(reached.steps.median()),
            round(float(reached.steps.mean()), 2),
            int(reached.steps.max()),
        ],
        "predictions_equal_torchs": same_prediction,
        "scores_recomputed": len(differences),
        "score_difference_worst": float(np.max(differences)),
        "score_difference_median": float(np.median(differences)),
        "image_steps": session["image_steps"],
        "seconds": round(session["seconds"], 1),
        "occupancy": round(session["occupancy"], 4),
    }
    append_row(row, settings.output)


if __name__ == "__main__":
    main()
