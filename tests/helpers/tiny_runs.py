"""Runs of the tiny net over a folder of images: the images, the net and the config."""

import contextlib

import numpy as np
import pytest
import tiny
from PIL import Image

from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig, GaxRunConfig, SnapshotConfig, StoreConfig
from gaxjax.runs import gax as gax_runs

PIXELS = tiny.images(14)
CLASSIFIER = tiny.classifier()
NONE = SnapshotConfig()


def write_images(folder):
    """Write a folder of images per class; the tiny net is wrong about most of the first five."""
    for label in range(tiny.CLASSES):
        (folder / str(label)).mkdir()
    labels = tiny.predictions(PIXELS, CLASSIFIER)
    labels[: tiny.CLASSES] = np.arange(tiny.CLASSES)  # every class has an image
    for number, (pixels, label) in enumerate(zip(PIXELS, labels, strict=True)):
        Image.fromarray(pixels).save(folder / str(label) / f"{number:02d}.png")
    return folder


@contextlib.contextmanager
def tiny_model(model=CLASSIFIER):
    """Let every run have the tiny net, or another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gax_runs, "open_classifier", lambda *_, **__: model)
        yield


def run_config(data, *, wanted=NONE, heatmaps="float16", slots=16, **gax) -> GaxRunConfig:
    """Make the config; with AVX2 alone, bits depend on the slot count: of 2 they do not."""
    method = {"target": 100.0, "max_steps": 12, "include_misclassified": True} | gax
    return GaxRunConfig(
        model=ModelConfig(model="tiny"),
        data=DataConfig(data=str(data), size=tiny.SIZE),
        gax=GaxConfig(**method),
        engine=EngineConfig(slots=slots),
        store=StoreConfig(heatmaps=heatmaps, part_size=8),
        snapshots=wanted,
    )
