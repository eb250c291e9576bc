"""What the examples in docstrings name: a folder with runs, weights and images, and arrays."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import stored_runs
import tiny
import torch
from flax import nnx
from PIL import Image

import converters
import gaxjax
from converters.random_weights import random_state_dict
from gaxjax.models import checkpoint

CLASSES = 10


def make_folder(folder: Path) -> None:
    """Write the files: random weights and their checkpoint, class folders, two finished runs."""
    weights = random_state_dict("small_resnet", num_classes=CLASSES)
    torch.save({name: torch.tensor(array) for name, array in weights.items()}, folder / "model.pth")
    checkpoint.save(
        folder / "model.ckpt",
        converters.convert_state_dict(weights, "small_resnet"),
        checkpoint.CheckpointMetadata(
            architecture="small_resnet", num_classes=CLASSES, mean=(0.5,) * 3, std=(0.2,) * 3
        ),
    )
    for split, count in (("train", 20), ("val", 3), ("test", 10)):
        stored_runs.image_folder(folder / "chest_xray" / split, count)
    Image.new("RGB", (32, 24)).save(folder / "cat.jpg")
    test = folder / "chest_xray" / "test"
    run = stored_runs.gax_run(folder / "gax-run", test)
    stored_runs.ax_run(folder / "ax-run", test)
    stored_runs.add_snapshots(run, ["NORMAL/00000.png"])


def names(folder: Path) -> dict[str, Any]:
    """Return the arrays and modules that an example may use without a word."""
    classifier = gaxjax.load_classifier(folder / "model.ckpt")
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    labels = tiny.predictions(images, classifier)
    return {
        "Path": Path,
        "classifier": classifier,
        "gaxjax": gaxjax,
        "image_batches": list(tiny.batches(images, labels, 4)),
        "images": images,
        "jax": jax,
        "jnp": jnp,
        "labels": labels,
        "nnx": nnx,
        "np": np,
        "pandas": pandas,
        "torch": torch,
    }
