"""AX over an image set with an imported network: notes, rows, and what makes two runs the same."""

import numpy as np
import pytest
from attention_net import CLASSES, SIZE, AttentionNet
from torch import nn

import gaxjax
from converters.exported import import_module
from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import AxRunConfig, BatchConfig, StoreConfig
from gaxjax.models.classifier import as_classifier
from gaxjax.models.graph.network import GraphNetwork
from gaxjax.results.reading import read_scores
from gaxjax.results.run_header import read_header
from gaxjax.results.stored_run import open_run
from gaxjax.runs.ax import run_ax


def config(**ax):
    return AxRunConfig(
        model=ModelConfig(model="attention.ckpt"),
        data=DataConfig(data="digits", size=SIZE, num_images=3),
        ax=AxConfig(**{"methods": ("saliency", "deep_lift"), "operation": "sum"} | ax),
        batch=BatchConfig(batch_size=3),
        store=StoreConfig(part_size=8),
    )


@pytest.fixture(scope="module")
def classifier():
    imported = import_module(AttentionNet(), size=SIZE)
    return as_classifier(GraphNetwork(imported.graph, imported.weights), num_classes=CLASSES)


@pytest.mark.slow
def test_rows_tell_the_gap_and_the_command_what_was_left_plain(classifier, tmp_path):
    notes: list[str] = []
    run_ax(config(), tmp_path / "run", classifier=classifier, note=notes.append)
    assert any("deep_lift leaves 1 gelu and 1 relu6 at plain gradients" in note for note in notes)
    rows = read_scores(tmp_path / "run").to_pylist()
    gaps = {method: [] for method in ("saliency", "deep_lift")}
    for row in rows:
        gaps[row["method"]].append(row["completeness_gap"])
    assert gaps["saliency"] == [None] * 3
    assert all(gap > 0 for gap in gaps["deep_lift"])
    # Runs of before there was a choice have no word of it, and still resume.
    identity = read_header(tmp_path / "run")["identity"]
    assert "deep lift pooling" in identity
    assert "deep lift curves" not in identity
    with pytest.raises(UserError, match="deep lift curves"):
        run_ax(config(deep_lift_curves="all"), tmp_path / "run", classifier=classifier)


def test_a_run_knows_which_methods_did_not_suit_its_network(tmp_path):
    layers = nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * (SIZE - 2) ** 2, CLASSES)
    imported = import_module(nn.Sequential(*layers), size=SIZE)
    network = GraphNetwork(imported.graph, imported.weights)
    classifier = as_classifier(network, num_classes=CLASSES)
    run_ax(config(methods=("all",)), tmp_path / "run", classifier=classifier)
    run = open_run(tmp_path / "run")
    assert isinstance(run.method, AxConfig)
    left = ("saliency", "input_x_gradient", "layer_grad_cam", "deep_lift")
    assert run.method.chosen_methods == left  # what verify expects rows of
    assert {row["method"] for row in run.scores.to_pylist()} == set(left)


@pytest.mark.slow
def test_a_notebook_is_warned_of_what_was_left_plain(classifier):
    pixels = np.random.default_rng(0).random((2, SIZE, SIZE, 3), np.float32)
    ax = AxConfig(methods=("deep_lift",), operation="sum")
    with pytest.warns(UserWarning, match="deep_lift leaves 1 gelu and 1 relu6"):
        found = gaxjax.attribute(classifier, pixels, np.zeros(2, int), ax)
    assert len(found["deep_lift", None, "sum"]) == 2
