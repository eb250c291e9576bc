"""Runs decode images as their model was made for; an imported network takes one size alone."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from altered_runs import write_header
from flax import nnx
from PIL import Image

import gaxjax
from gaxjax import models
from gaxjax.cli.main import main
from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig, GaxConfig
from gaxjax.config.runs import AxRunConfig, GaxRunConfig, SnapshotConfig
from gaxjax.data.sources import open_images
from gaxjax.models import checkpoint
from gaxjax.models.checkpoint import load_classifier
from gaxjax.models.graph.form import IMAGE, Graph, Node, Value, Weight
from gaxjax.models.graph.network import GraphNetwork
from gaxjax.results.reading import read_scores
from gaxjax.results.run_header import read_header
from gaxjax.results.stored_run import open_run
from gaxjax.runs.ax import run_ax
from gaxjax.runs.gax import run_gax

OWN = {"resize": "crop", "resize_size": 18, "interpolation": "bicubic"}
NOTE = (
    "images are decoded as the model wants them: 16 × 16, the short side made 18, the centre cut, "
    "bicubic (--size, --resize, --resize-size, --interpolation to differ)"
)
QUICK = GaxConfig(max_steps=2, include_misclassified=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.ckpt"
    net = models.build("small_resnet", num_classes=3, rngs=nnx.Rngs(0))
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=3, input_size=16, decoding=OWN
    )
    checkpoint.save(path, net, metadata)
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Three classes, by one convolution over the whole of an 8 × 8 image."""
    path = tmp_path_factory.mktemp("imported") / "whole.ckpt"
    nodes = (
        Node("conv", "conv2d", (Value(IMAGE), Weight("w"), None, (1, 1), (0, 0), (1, 1), 1)),
        Node("logits", "view", (Value("conv"), (1, 3))),
    )
    kernel = np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(np.float32)
    network = GraphNetwork(Graph((3, 8, 8), nodes, "logits", {"conv": "conv"}), {"w": kernel})
    metadata = checkpoint.CheckpointMetadata(
        architecture="whole_image_net", num_classes=3, input_size=8, imported=True
    )
    checkpoint.save(path, network, metadata)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for label in "012":
        (folder / label).mkdir()
        pixels = random.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / label / "a.png")
    return folder


def config(model, data, **settings) -> GaxRunConfig:
    images = DataConfig(data=str(data), **settings)
    return GaxRunConfig(model=ModelConfig(model=str(model)), data=images, gax=QUICK)


def test_a_run_takes_the_models_own_decoding_tells_it_and_stores_it(model, data, tmp_path):
    said: list[str] = []
    run_gax(config(model, data), tmp_path / "run", note=said.append)
    assert said[0] == NOTE
    stored = read_header(tmp_path / "run")["config"]["data"]
    assert {name: stored[name] for name in ("size", *OWN)} == {"size": 16, **OWN}
    run = open_run(tmp_path / "run")
    assert open_images(run.config.data).fingerprint == run.header["data"]["fingerprint"]
    expected = DataConfig(data=str(data), size=16, **OWN)
    np.testing.assert_array_equal(
        open_images(run.config.data).load(0), open_images(expected).load(0)
    )


@pytest.mark.slow
def test_what_is_given_is_taken_and_not_told(model, data, tmp_path):
    said: list[str] = []
    given = {"size": 12, "resize": "squash", "interpolation": "bilinear"}
    run_gax(config(model, data, **given), tmp_path / "run", note=said.append)
    assert not [text for text in said if "decoded" in text]
    stored = read_header(tmp_path / "run")["config"]["data"]
    assert {name: stored[name] for name in given} == given
    assert stored["resize_size"] == 12


@pytest.mark.slow
def test_ax_resolves_likewise(model, data, tmp_path):
    said: list[str] = []
    images, named = DataConfig(data=str(data), size=8), ModelConfig(model=str(model))
    methods = AxRunConfig(model=named, data=images, ax=AxConfig(methods=("saliency",)))
    run_ax(methods, tmp_path / "run", note=said.append)
    assert said[0] == NOTE.replace("16 × 16, ", "").replace("18", "9").replace("--size, ", "")
    assert read_header(tmp_path / "run")["config"]["data"]["resize_size"] == 9


def test_a_run_stored_before_filters_had_a_name_opens_and_resumes(model, data, tmp_path):
    old = {"size": 16, "resize": "squash", "interpolation": "bilinear"}
    asked = config(model, data, **old)
    run_gax(asked, tmp_path / "run", note=lambda _: None)
    file = tmp_path / "run" / "run.json"
    header = json.loads(file.read_text())
    assert "bilinear" not in json.dumps(header["identity"])
    del header["config"]["data"]["interpolation"]
    header["config"]["data"]["resize_size"] = None
    write_header(file, header)
    run = open_run(tmp_path / "run")
    assert open_images(run.config.data).fingerprint == header["data"]["fingerprint"]
    shutil.rmtree(tmp_path / "run" / "scores")
    summary = run_gax(asked, tmp_path / "run", note=lambda _: None)
    assert (summary.num_images, summary.resumed) == (3, 0)
    assert read_scores(tmp_path / "run").num_rows == 3


def test_another_filter_is_another_run(model, data, tmp_path):
    run_gax(config(model, data), tmp_path / "run", note=lambda _: None)
    with pytest.raises(UserError, match="interpolation is bicubic there and box"):
        run_gax(config(model, data, interpolation="box"), tmp_path / "run", note=lambda _: None)


@pytest.mark.slow
def test_the_disk_of_snapshots_is_told_of_the_size_that_is_taken(model, data, tmp_path):
    said: list[str] = []
    asked = dataclasses.replace(config(model, data), snapshots=SnapshotConfig(snapshots=1))
    run_gax(asked, tmp_path / "run", note=said.append)
    (disk,) = [text for text in said if text.startswith("snapshots of")]
    assert "4.61 kB of disk" in disk  # three heatmaps of 16 × 16 in float16


# --- An imported network -------------------------------------------------------------------------


def fails(capsys, *words: str) -> str:
    assert main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "imported" in line]
    return line


@pytest.mark.parametrize("command", ["gax", "ax", "evaluate"])
def test_another_size_is_refused_in_one_line(command, imported, data, tmp_path, capsys):
    words = ["--model", str(imported), "--data", str(data), "--size", "16"]
    words += ["--output", str(tmp_path / "figures.json")] if command == "evaluate" else []
    words += ["--output", str(tmp_path / "run")] if command != "evaluate" else []
    assert fails(capsys, command, *words).endswith(
        "whole_image_net was imported for images of 8 × 8: leave --size out, or convert again "
        "with --input-size 16"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_its_own_size_is_taken_when_none_is_given(imported, data, tmp_path, capsys):
    words = ["--model", str(imported), "--data", str(data), "--output", str(tmp_path / "f.json")]
    assert main(["evaluate", *words]) == 0
    said = capsys.readouterr().out
    assert "Note: images are decoded as the model wants them: 8 × 8\n" in said
    assert "made for" not in said
    assert json.loads((tmp_path / "f.json").read_text())["num_images"] == 3
    images = open_images(DataConfig(data=str(data), size=8))
    pixels = np.stack([images.load(row) for row in range(3)])
    assert len(gaxjax.explain(imported, pixels, [0, 1, 2], GaxConfig(max_steps=1))) == 3


@pytest.mark.parametrize("call", [gaxjax.explain, gaxjax.attribute])
@pytest.mark.parametrize(("shape", "again"), [((9, 9), "size 9"), ((8, 9), "again for 8 × 9")])
def test_a_notebook_is_told_likewise(call, shape, again, imported):
    images = np.zeros((2, *shape, 3), np.uint8)
    for model in (imported, load_classifier(imported)):
        with pytest.raises(UserError, match="imported for images of 8 × 8: give images") as error:
            call(model, images, [0, 1])
        assert str(error.value).endswith(again)


def test_an_imported_network_does_not_train(imported, tmp_path, capsys):
    random = np.random.default_rng(2)
    for split in ("train", "val"):
        for label in "012":
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    words = ["--data", str(tmp_path / "images"), "--output", str(tmp_path / "out"), "--size", "8"]
    words += ["--architecture", "small_resnet", "--weights", str(imported)]
    line = fails(capsys, "finetune", *words)
    assert "is an imported whole_image_net, which explains and does not train: give one" in line
    assert "resnet34" in line
