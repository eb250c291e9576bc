"""Bulk runs on digits: every image one row, resume, and what a user's mistake says."""

import dataclasses
import shutil
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from gaxjax import models
from gaxjax.common.devices import same_bits_at_any_count
from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig, GaxRunConfig, StoreConfig
from gaxjax.data.sources import open_images
from gaxjax.models import checkpoint
from gaxjax.results.reading import read_heatmaps, read_scores
from gaxjax.results.run_header import read_header
from gaxjax.runs.evaluate import baselines, evaluate_classifier
from gaxjax.runs.gax import run_gax
from gaxjax.runs.opening import open_classifier


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small net with random weights; a tenth of random labels fit it."""
    path = tmp_path_factory.mktemp("model") / "small.ckpt"
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
    net.fc.kernel[...] = net.fc.kernel[...] * 20  # logits far enough apart to reach the target
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=10, input_size=16
    )
    checkpoint.save(path, net, metadata)
    return path


def run_config(model, **data) -> GaxRunConfig:
    return GaxRunConfig(
        model=ModelConfig(model=str(model)),
        data=DataConfig(**{"data": "digits", "size": 16, "num_images": 60} | data),
        gax=GaxConfig(target=20.0, max_steps=15, bias=True, include_misclassified=True),
        engine=EngineConfig(slots=8),
        store=StoreConfig(part_size=16),
    )


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "run"
    return run_gax(run_config(model), output)


def rows_by_id(output):
    rows = read_scores(output).to_pylist()
    found = {row["image_id"]: row for row in rows}
    assert len(found) == len(rows), "an image has two rows"
    return found


def test_every_image_has_one_row_and_its_heatmap(finished):
    rows = rows_by_id(finished.output)
    assert len(rows) == 60
    assert finished.outcomes == Counter(row["outcome"] for row in rows.values())
    with_heatmap = [row for row in rows.values() if row["heatmap_row"] is not None]
    assert len(with_heatmap) == 60
    numbers = sorted(row["heatmap_row"] for row in with_heatmap)
    assert numbers == list(range(60))
    heatmaps = read_heatmaps(finished.output, numbers)
    assert heatmaps.shape == (60, 16, 16, 3)
    assert np.all(np.isfinite(heatmaps.astype(np.float32)))


def test_the_header_tells_how_to_run_it_again(finished, model):
    from gaxjax.config.base import from_dict

    header = read_header(finished.output)
    assert header["status"] == "complete"
    config = run_config(model)
    whole = dataclasses.replace(config, data=config.data.resolved(16, {}))
    assert from_dict(GaxRunConfig, header["config"]) == whole
    session = header["sessions"][0]
    assert session["image_steps"] > 60
    assert session["versions"]["jax"]
    assert header["model"]["fingerprint"]
    assert header["data"]["labels_from"]  # how they were found
    assert "assumptions" in header["model"]


def test_a_finished_run_has_nothing_left_to_do(finished, model):
    before = sorted(finished.output.rglob("*"))
    again = run_gax(run_config(model), finished.output)
    assert again.stats is None
    assert again.resumed == 60
    assert again.outcomes == finished.outcomes
    assert sorted(finished.output.rglob("*")) == before


def test_a_run_that_lost_parts_computes_just_those_again(finished, model, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(finished.output, output)
    lost = sorted((output / "scores").glob("part-*.parquet"))[1:]
    for part in lost:
        part.unlink()
    again = run_gax(run_config(model), output)
    assert again.resumed == 16
    expected, found = rows_by_id(finished.output), rows_by_id(output)
    assert expected.keys() == found.keys()
    same_bits = same_bits_at_any_count(jax.devices()[0])  # else an image's place counts, a little
    for image_id, row in expected.items():
        here = found[image_id]
        assert (here["outcome"], here["steps"]) == (row["outcome"], row["steps"])
        heatmaps = [
            read_heatmaps(folder, [one["heatmap_row"]]).astype(np.float32)
            for folder, one in ((output, here), (finished.output, row))
        ]
        for name in ("co_score", "curve", "similarity_loss"):
            np.testing.assert_allclose(here[name], row[name], rtol=0 if same_bits else 1e-3)
        np.testing.assert_allclose(*heatmaps, atol=0 if same_bits else 2e-3, rtol=0)
    assert len(read_header(output)["sessions"]) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gax": GaxConfig(target=21.0)}, r"target is 20\.0 there and 21\.0 here"),
        ({"store": StoreConfig(heatmaps="float32")}, "heatmaps is float16 there and float32 here"),
        ({"data": DataConfig(data="digits", size=16, num_images=59)}, "data is .* there and"),
    ],
)
def test_other_settings_do_not_resume_a_run(finished, model, change, said):
    with pytest.raises(UserError, match=said):
        run_gax(dataclasses.replace(run_config(model), **change), finished.output)


def test_another_model_does_not_resume_a_run(finished, tmp_path):
    other = tmp_path / "other.ckpt"
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(1))
    checkpoint.save(
        other, net, checkpoint.CheckpointMetadata(architecture="small_resnet", num_classes=10)
    )
    with pytest.raises(UserError, match=r"model is small_resnet .* there and small_resnet .* here"):
        run_gax(run_config(other), finished.output)


def test_slots_and_part_size_may_change_between_sessions(finished, model):
    config = dataclasses.replace(
        run_config(model), engine=EngineConfig(slots=4), store=StoreConfig(part_size=5)
    )
    assert run_gax(config, finished.output).resumed == 60


def test_unreadable_images_get_their_own_outcome(model, tmp_path):
    random = np.random.default_rng(0)
    for label in range(10):
        (tmp_path / "images" / str(label)).mkdir(parents=True)
        pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / str(label) / "a.png")
    (tmp_path / "images" / "3" / "b.png").write_bytes(b"not an image")
    config = run_config(model, data=str(tmp_path / "images"), num_images=None)
    summary = run_gax(config, tmp_path / "run")
    rows = rows_by_id(tmp_path / "run")
    assert sum(summary.outcomes.values()) == 11
    assert summary.outcomes["unreadable"] == 1
    bad = rows["3/b.png"]
    assert (bad["outcome"], bad["label"], bad["label_name"]) == ("unreadable", 3, "3")
    assert bad["reason"]
    assert rows["3/a.png"]["outcome"] != "unreadable"


def test_stopping_a_run_keeps_what_is_finished(model, tmp_path, monkeypatch):
    from gaxjax.runs import shell as run_module

    made, calls = run_module._result, []

    def stop_at_thirty(*arguments):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return made(*arguments)

    monkeypatch.setattr(run_module, "_result", stop_at_thirty)
    with pytest.raises(KeyboardInterrupt):
        run_gax(run_config(model), tmp_path / "run")
    assert len(rows_by_id(tmp_path / "run")) == 29
    monkeypatch.undo()
    summary = run_gax(run_config(model), tmp_path / "run")
    assert summary.resumed == 29
    assert len(rows_by_id(tmp_path / "run")) == 60


def test_a_full_disk_is_one_clear_line_and_loses_nothing_committed(model, tmp_path, monkeypatch):
    from gaxjax.results.store import Store

    commit, calls = Store.commit, []

    def full(self, results):
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        commit(self, results)

    monkeypatch.setattr(Store, "commit", full)
    with pytest.raises(UserError, match=r"No space left on device.*same command again to resume"):
        run_gax(run_config(model), tmp_path / "run")
    assert len(rows_by_id(tmp_path / "run")) == 32


def test_a_run_stops_at_the_nth_image_that_is_classified_correctly(model, finished, tmp_path):
    rows = sorted(rows_by_id(finished.output).values(), key=lambda row: row["image_id"])
    right = [i for i, row in enumerate(rows) if row["correct"]]
    assert len(right) >= 3, "the digits' labels no longer fit by chance"
    config = dataclasses.replace(run_config(model), first_correct=3)
    run_gax(config, tmp_path / "three")
    found = sorted(rows_by_id(tmp_path / "three"))
    assert found == [row["image_id"] for row in rows[: right[2] + 1]]
    header = read_header(tmp_path / "three")
    assert header["data"]["num_images"] == right[2] + 1
    with pytest.raises(UserError, match="first correct is 3 there and 2 here"):
        run_gax(dataclasses.replace(config, first_correct=2), tmp_path / "three")
    everything = dataclasses.replace(config, first_correct=61)
    assert run_gax(everything, tmp_path / "all").num_images == 60
    with pytest.raises(UserError, match="--first-correct must be at least 1; got 0"):
        dataclasses.replace(config, first_correct=0)


@pytest.mark.slow
def test_the_first_correct_images_are_correct_in_the_runs_own_score_space(tmp_path):
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(3))
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=10, input_size=16, mean=(1.0,) * 3, std=(0.2,) * 3
    )
    checkpoint.save(tmp_path / "net.ckpt", net, metadata)
    config = run_config(tmp_path / "net.ckpt")
    classifier = open_classifier(config.model)
    images = open_images(config.data, num_classes=10)

    def correct(space):
        found = baselines(classifier, images, score_space=space)
        return [
            position
            for positions, labels, baseline in found
            for position in positions[baseline.prediction == labels].tolist()
        ]

    wanted = {space: correct(space) for space in ("normalized", "raw")}
    assert wanted["normalized"] != wanted["raw"]
    number = next(i for i, (a, b) in enumerate(zip(*wanted.values(), strict=False)) if a != b)
    for space, positions in wanted.items():
        method = dataclasses.replace(config.gax, score_space=space, max_steps=0)
        here = dataclasses.replace(config, gax=method, first_correct=number + 1)
        summary = run_gax(here, tmp_path / space)
        assert summary.num_images == positions[number] + 1, space


def test_evaluation_counts_correct_images_as_gax_does(model):
    config = dataclasses.replace(run_config(model), gax=GaxConfig(max_steps=0))
    classifier = open_classifier(config.model)
    images = open_images(config.data, num_classes=10)
    result = evaluate_classifier(classifier, images)
    shown = np.stack([images.load(i) for i in range(60)]).astype(np.float32) / 255
    logits = np.asarray(classifier.apply(classifier.weights, jnp.asarray(shown)))
    labels = np.array([record.label for record in images.records])
    assert result.num_images == 60
    assert result.num_correct == int((logits.argmax(1) == labels).sum())
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    softmax = exponentials / exponentials.sum(1, keepdims=True)
    assert result.mean_probability == pytest.approx(softmax[np.arange(60), labels].mean(), rel=1e-4)


@pytest.mark.slow
def test_a_state_dict_is_converted_once_kept_and_made_anew_when_damaged(tmp_path, monkeypatch):
    import torch

    from converters import conversion
    from converters.random_weights import random_state_dict

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "cache"))
    weights = random_state_dict("small_resnet", num_classes=10, size=32)
    torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, "w.pth")
    calls = []

    def counted(*arguments, **keywords):
        calls.append(arguments)
        return made(*arguments, **keywords)

    made = conversion.convert
    monkeypatch.setattr(conversion, "convert", counted)
    config = ModelConfig(model="w.pth", architecture="small_resnet")
    first, second = open_classifier(config), open_classifier(config)
    assert len(calls) == 1
    assert first.fingerprint == second.fingerprint
    assert (first.num_classes, first.mean) == (10, None)
    (folder,) = (tmp_path / "cache").iterdir()
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(b"damaged")
    assert open_classifier(config).fingerprint == first.fingerprint
    assert len(calls) == 2
