"""Bulk AX runs on digits: a row per method and operation, resume, both backends, statistics."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr
from altered_runs import part_paths
from flax import nnx
from PIL import Image

from gaxjax import models
from gaxjax.cli.main import main
from gaxjax.common.errors import UserError
from gaxjax.config.base import METHODS, from_dict, to_dict
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import AxRunConfig, BatchConfig, StoreConfig
from gaxjax.models import checkpoint
from gaxjax.results.heatmap_array import heatmap_sha256
from gaxjax.results.reading import read_heatmaps, read_scores
from gaxjax.results.run_header import read_header
from gaxjax.runs.ax import run_ax

NUM_IMAGES = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.ckpt"
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=10, input_size=16
    )
    checkpoint.save(path, net, metadata)
    return path


def ax_config(model, *, num_images=NUM_IMAGES, **ax) -> AxRunConfig:
    return AxRunConfig(
        model=ModelConfig(model=str(model)),
        data=DataConfig(data="digits", size=16, num_images=num_images),
        ax=AxConfig(**ax),
        batch=BatchConfig(batch_size=8),
        store=StoreConfig(part_size=8),
    )


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "run"
    return run_ax(ax_config(model, layers=("conv1", "layer2")), output)


def test_every_image_has_one_row_per_method_layer_and_operation(finished):
    rows = read_scores(finished.output).to_pylist()
    keys = [(r["image_id"], r["method"], r["layer"], r["operation"]) for r in rows]
    assert len(set(keys)) == len(keys) == NUM_IMAGES * 7 * 2
    assert {r["method"] for r in rows} == set(METHODS)
    assert {r["layer"] for r in rows if r["method"] == "layer_grad_cam"} == {"conv1", "layer2"}
    assert {r["layer"] for r in rows if r["method"] != "layer_grad_cam"} == {None}
    assert {r["backend"] for r in rows} == {"jax"}
    assert finished.outcomes == Counter(r["outcome"] for r in rows)
    header = read_header(finished.output)
    assert header["status"] == "complete"
    assert header["command"] == "ax"
    assert from_dict(AxRunConfig, header["config"]).ax.layers == ("conv1", "layer2")


def test_rows_carry_what_the_statistics_need(finished):
    for row in read_scores(finished.output).to_pylist():
        assert row["outcome"] == "scored"
        assert row["correct"] == (row["prediction"] == row["label"])
        assert row["correct_after"] == (row["prediction_after"] == row["label"])
        assert 0 <= row["probability_before"] <= 1
        assert 0 <= row["probability_after"] <= 1
        assert row["heatmap_scale"] > 0
        assert row["steps"] is None
        assert row["curve"] is None


def test_both_scores_of_a_heatmap_share_its_row_and_hash(finished):
    rows = read_scores(finished.output).to_pylist()
    by_heatmap: dict = {}
    for row in rows:
        by_heatmap.setdefault(row["heatmap_row"], []).append(row)
    assert sorted(by_heatmap) == list(range(NUM_IMAGES * 7))
    heatmaps = read_heatmaps(finished.output, sorted(by_heatmap))
    for number, sharing in by_heatmap.items():
        assert [r["operation"] for r in sharing] == ["sum", "mult"]
        assert len({(r["image_id"], r["method"], r["layer"]) for r in sharing}) == 1
        assert {r["heatmap_sha256"] for r in sharing} == {heatmap_sha256(heatmaps[number])}
    assert np.abs(heatmaps).max() == 1


def scores(output) -> dict:
    return {
        (r["image_id"], r["method"], r["layer"], r["operation"]): (r["outcome"], r["co_score"])
        for r in read_scores(output).to_pylist()
    }


@pytest.mark.parametrize("space", [pytest.param("normalized", marks=pytest.mark.slow), "released"])
def test_captum_gives_the_same_scores(space, tmp_path):
    path = tmp_path / "small.ckpt"
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(1))
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=10, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)
    )
    checkpoint.save(path, net, metadata)
    config = ax_config(path, score_space=space, layers=("layer1", "bn1"), deep_lift_baseline=0.3)
    config = dataclasses.replace(config, store=StoreConfig(heatmaps="float32"))
    run_ax(config, tmp_path / "jax")
    captum = dataclasses.replace(config, ax=dataclasses.replace(config.ax, backend="captum"))
    run_ax(captum, tmp_path / "captum")
    ours, theirs = scores(tmp_path / "jax"), scores(tmp_path / "captum")
    assert ours.keys() == theirs.keys()
    for key, (outcome, score) in ours.items():
        assert theirs[key][0] == outcome == "scored"
        assert abs(theirs[key][1] - score) < 1e-4, key  # measured 5.2e-6
    for name in ("co_score_predicted", "max_probability", "entropy", "logit_margin", "logsumexp"):
        both = [read_scores(tmp_path / backend)[name].to_numpy() for backend in ("jax", "captum")]
        np.testing.assert_allclose(*both, atol=1e-4)
    sessions = read_header(tmp_path / "captum")["sessions"]
    assert {"torch", "captum"} <= sessions[0]["versions"].keys()


def test_a_second_run_does_nothing(model, finished):
    before = scores(finished.output)
    again = run_ax(ax_config(model, layers=("conv1", "layer2")), finished.output)
    assert again.resumed == NUM_IMAGES
    assert again.stats is None
    assert scores(finished.output) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operation": "sum"}, "operation is both there and sum here"),
        ({"backend": "captum"}, "backend is jax there and captum here"),
        ({"deep_lift_pooling": "complete"}, "deep lift pooling is captum there"),
        ({"methods": ("layer_grad_cam",)}, "methods is "),
        ({"layers": ("conv1",)}, "layers is "),
    ],
)
def test_other_settings_are_refused_by_name(model, finished, change, message):
    config = ax_config(model, **{"layers": ("conv1", "layer2")} | change)
    with pytest.raises(UserError, match=message):
        run_ax(config, finished.output)


def test_the_default_layer_is_stored_by_its_name(model, tmp_path):
    run_ax(ax_config(model, methods=("layer_grad_cam",), operation="sum"), tmp_path / "run")
    assert set(read_scores(tmp_path / "run")["layer"].to_pylist()) == {"conv1"}


def test_images_that_cannot_be_read_or_explained_have_rows_all_the_same(model, tmp_path):
    folder = tmp_path / "images"
    for name in range(10):
        (folder / f"{name}").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "3" / "good.png")
    (folder / "4" / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "5" / "black.png")
    config = ax_config(model, methods=("saliency", "input_x_gradient"))
    config = dataclasses.replace(config, data=DataConfig(data=str(folder), size=16))
    run_ax(config, tmp_path / "run")
    rows = read_scores(tmp_path / "run").to_pylist()
    assert len(rows) == 3 * 2 * 2
    outcomes = {(r["image_id"], r["method"]): r["outcome"] for r in rows}
    assert outcomes["3/good.png", "saliency"] == "scored"
    assert outcomes["4/broken.png", "saliency"] == "unreadable"
    # A black image times its gradient is zero everywhere: an outcome, not a NaN.
    assert outcomes["5/black.png", "input_x_gradient"] == "zero_heatmap"
    zero = next(r for r in rows if r["outcome"] == "zero_heatmap")
    assert zero["co_score"] is None
    assert zero["heatmap_row"] is None


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "captum"])
def test_a_killed_run_resumes_to_the_same_results(model, tmp_path, backend):
    def command(output):
        return [
            *(sys.executable, "-m", "gaxjax", "ax", "--model", str(model), "--data", "digits"),
            *("--size", "16", "--num-images", "96", "--batch-size", "4", "--part-size", "4"),
            *("--methods", "saliency", "deep_lift", "--backend", backend, "--output", str(output)),
        ]

    killed = tmp_path / "killed"
    process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(part_paths(killed)) < 3:
        time.sleep(0.002)
    assert process.poll() is None, "it was never killed in the middle"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = set(read_scores(killed)["image_id"].to_pylist())
    assert 0 < len(done) < 96
    for output in (killed, tmp_path / "whole"):
        subprocess.run(command(output), check=True, timeout=300, stdout=subprocess.DEVNULL)
    found = scores(killed)
    assert len(found) == read_scores(killed).num_rows == 96 * 2 * 2
    assert found == scores(tmp_path / "whole")


# --- the commands --------------------------------------------------------------------------------


def test_the_commands_end_with_figures_and_what_to_try_next(model, tmp_path, capsys):
    output = tmp_path / "run"
    status = main(
        [
            *("ax", "--model", str(model), "--data", "digits", "--size", "16"),
            *("--num-images", "30", "--methods", "saliency", "guided_backprop"),
            *("--operation", "sum", "--output", str(output)),
        ]
    )
    said = capsys.readouterr().out
    assert status == 0
    assert "60 scores of heatmaps: 60 scored" in said
    assert "guided_backprop [sum]" in said
    assert "separates best" in said
    assert f"gaxjax verify {output}" in said

    assert main(["statistics", str(output)]) == 0
    assert "Classification before and after" in capsys.readouterr().out
    written = json.loads((output / "statistics.json").read_text())
    assert [m["method"] for m in written["methods"]] == ["saliency", "guided_backprop"]
    assert main(["statistics", str(output), "--output", str(tmp_path / "s.csv")]) == 0
    assert (tmp_path / "s.csv").read_text().startswith("method,layer,operation,")

    capsys.readouterr()
    assert main(["verify", str(output), "--num-images", "5"]) == 0
    assert "Passed" in capsys.readouterr().out
    assert json.loads((output / "verification.json").read_text())["passed"] is True


def test_presets_name_the_score_space_of_ax_too(capsys):
    from gaxjax.cli.main import parse

    base = ["ax", "--model", "m", "--data", "d", "--output", "o"]
    assert parse([*base, "--preset", "released"]).run.ax.score_space == "released"
    assert parse([*base, "--preset", "paper"]).run.ax.score_space == "raw"
    assert parse(base).run.ax == AxConfig()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ()}, "--methods must be at least one"),
        ({"methods": ("saliency", "saliency")}, "--methods must be without repetition"),
        ({"methods": ("saliency",), "layers": ("conv1",)}, "--layers must be used together with"),
        ({"deep_lift_baseline": float("nan")}, "--deep-lift-baseline must be a finite number"),
    ],
)
def test_impossible_settings_are_one_clear_line(change, message):
    with pytest.raises(UserError, match=message):
        AxConfig(**change)


def test_the_config_survives_json():
    config = ax_config("m", methods=("saliency", "layer_grad_cam"), layers=("conv1",))
    assert from_dict(AxRunConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(finished.output, tmp_path / "copied"))


@pytest.mark.parametrize("command", ["statistics", "verify"])
def test_a_place_for_the_figures_is_refused_before_the_work(command, copied, capsys):
    before = (copied / "run.json").read_bytes()
    assert main([command, str(copied), "--output", str(copied / "run.json")]) == 2
    assert (copied / "run.json").read_bytes() == before
    part = part_paths(copied)[0]
    assert main([command, str(copied), "--output", str(part)]) == 2
    assert main([command, str(copied), "--output", str(copied / "nowhere" / "x.json")]) == 2
    assert "its folder is missing" in capsys.readouterr().err


def test_statistics_of_an_unfinished_run_say_so(copied, capsys):
    part_paths(copied)[-1].unlink()
    assert main(["statistics", str(copied)]) == 0
    assert "of the run's 20 images; give the run's command" in " ".join(
        capsys.readouterr().out.split()
    )
    written = json.loads((copied / "statistics.json").read_text())
    assert written["num_images_found"] < written["num_images"] == 20


def test_a_reader_who_leaves_costs_neither_the_file_nor_the_status(copied):
    command = [sys.executable, "-m", "gaxjax", "statistics", str(copied)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    assert (copied / "statistics.json").exists()


def test_an_altered_heatmap_fails_the_verification(copied, capsys):
    heatmaps = zarr.open_array(copied / "heatmaps.zarr", mode="r+")
    heatmaps[3, 5, 6, 1] = np.nextafter(heatmaps[3, 5, 6, 1], np.float16(2), dtype=np.float16)
    assert main(["verify", str(copied)]) == 1
    said = capsys.readouterr().out
    assert "FAILED" in said
    assert json.loads((copied / "verification.json").read_text())["altered_heatmaps"]


def test_a_checkpoint_named_from_elsewhere_is_found_by_verify(model, tmp_path, monkeypatch):
    monkeypatch.chdir(model.parent)
    run_ax(ax_config(model.name, methods=("saliency",), num_images=4), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "run"]) == 0
