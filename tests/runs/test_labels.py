"""Runs and figures take the model's own class order, whatever order its images lie in."""

import dataclasses

import numpy as np
import pytest
import tiny
from image_folders import assert_says, paint, tree

from gaxjax.common import UserError
from gaxjax.config import DataConfig, GaxConfig, GaxRunConfig, ModelConfig
from gaxjax.data import open_images
from gaxjax.runs import evaluate_classifier
from gaxjax.runs.opening import chosen_images

NAMES = ("hen", "cock", "emu", "ibis", "crow")


@pytest.fixture
def model():
    return dataclasses.replace(tiny.classifier(), class_names=NAMES)


def test_a_run_takes_labels_by_the_models_names_and_says_so(tmp_path, model):
    root = tree(tmp_path, cock=1, hen=1)
    data = DataConfig(data=str(root), size=tiny.SIZE)
    config = GaxRunConfig(model=ModelConfig(model="m"), data=data, gax=GaxConfig())
    told = []
    images = chosen_images(config, model, told.append)
    assert [(r.label_name, r.label) for r in images.records] == [("cock", 1), ("hen", 0)]
    assert told[0] == "labels: class folders, matched by name with the model's class names"
    paint(root / "swan/a.png")
    with pytest.raises(UserError, match="swan is no class name of the model"):
        chosen_images(config, model, told.append)


def test_the_confusion_matrix_is_in_the_models_class_order(tmp_path, model):
    root = tree(tmp_path, cock=2, hen=3)
    images = open_images(
        DataConfig(data=str(root), size=tiny.SIZE), num_classes=5, class_names=NAMES
    )
    (root / "cock/000.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    told = []
    found = evaluate_classifier(model, images, note=told.append)
    assert np.bincount(found.labels, minlength=5).tolist() == [3, 1, 0, 0, 0]
    assert found.num_unreadable == 1
    assert_says(told[0], "cock/000.png cannot be read: not an image")
