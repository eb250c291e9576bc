"""Verification in torch: a true run passes, and each way of being untrue is told apart."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch
import zarr
from altered_runs import change_rows, edit_header, part_paths
from PIL import Image

import converters
from converters.random_weights import random_state_dict
from gaxjax.common import UserError, file_sha256
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig, GaxConfig
from gaxjax.config.runs import AxRunConfig, BatchConfig, EngineConfig, GaxRunConfig, StoreConfig
from gaxjax.config.sweep import SweepConfig, as_text
from gaxjax.models import checkpoint
from gaxjax.reference.verify import verify_run
from gaxjax.results.reading import read_scores
from gaxjax.runs.ax import run_ax
from gaxjax.runs.gax import run_gax

IMAGES = 24
TARGET = 5.0


def save_model(path, seed):
    """Write random weights to PATH.pth, and the checkpoint made from them to PATH."""
    state_dict = random_state_dict("small_resnet", num_classes=10, size=16, seed=seed)
    source = path.with_suffix(".pth")
    torch.save({name: torch.tensor(array) for name, array in state_dict.items()}, source)
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet",
        num_classes=10,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
        input_size=16,
        source_sha256=file_sha256(source),
    )
    checkpoint.save(path, converters.convert_state_dict(state_dict, "small_resnet"), metadata)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "small.ckpt", seed=0)


def gax_config(model, **data) -> GaxRunConfig:
    return GaxRunConfig(
        model=ModelConfig(model=str(model)),
        data=DataConfig(**{"data": "digits", "size": 16, "num_images": IMAGES} | data),
        gax=GaxConfig(target=TARGET, max_steps=5, bias=True, include_misclassified=True),
        engine=EngineConfig(slots=8),
        store=StoreConfig(part_size=8),
    )


@pytest.fixture(scope="module")
def gax_run(model, tmp_path_factory):
    return run_gax(gax_config(model), tmp_path_factory.mktemp("gax") / "run").output


@pytest.fixture(scope="module")
def ax_run(model, tmp_path_factory):
    config = AxRunConfig(
        model=ModelConfig(model=str(model)),
        data=DataConfig(data="digits", size=16, num_images=6),
        ax=AxConfig(
            methods=("saliency", "layer_grad_cam"),
            layers=("conv1", "layer2"),
            score_space="released",
        ),
        batch=BatchConfig(batch_size=3),
    )
    return run_ax(config, tmp_path_factory.mktemp("ax") / "run").output


@pytest.fixture
def copy(gax_run, tmp_path):
    return shutil.copytree(gax_run, tmp_path / "run")


@pytest.fixture
def ax_copy(ax_run, tmp_path):
    return shutil.copytree(ax_run, tmp_path / "ax")


def rows_of(run):
    return read_scores(run).to_pylist()


def change_row(run, name, /, **values):
    change_rows(run, lambda row: [row | values if row["image_id"] == name else row])


def faults_of(run, **settings) -> dict[str, int]:
    verification = verify_run(run, **settings)
    assert verification.passed == (not verification.faults)
    return {fault.what: fault.count for fault in verification.faults}


def refusal(*arguments, **settings) -> str:
    with pytest.raises(UserError) as caught:
        verify_run(*arguments, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- runs that are true --------------------------------------------------------------------------


def test_a_gax_run_passes_with_all_its_heatmaps(gax_run, model):
    verification = verify_run(gax_run)
    assert verification.passed
    assert verification.faults == verification.altered_heatmaps == ()
    assert (verification.num_images, verification.num_heatmaps) == (IMAGES, IMAGES)
    assert verification.provenance == f"weights of {model}, converted back"
    (found,) = verification.comparisons
    assert (found.method, found.layer, found.operation) == ("gax", None, "sum")
    assert (found.scores, found.predictions) == (IMAGES, 2 * IMAGES)
    assert (found.differing, found.ties) == (0, 0)
    assert 0 <= found.median <= found.worst
    assert found.worst_relative < 2e-6  # measured 4.8e-7
    assert found.worst_image in {row["image_id"] for row in rows_of(gax_run)}
    assert {row["outcome"] for row in rows_of(gax_run)} == {"reached", "step_limit"}


@pytest.mark.parametrize(
    "backend",
    ["gax", "captum", pytest.param("jax", marks=pytest.mark.slow)],
)
def test_a_run_with_softmax_scores_passes_and_with_another_score_fails(backend, model, tmp_path):
    config = gax_config(model, num_images=8)
    if backend == "gax":
        changed = dataclasses.replace(
            config.gax, score="softmax", target=0.3, generator="coarse", grid=4
        )
        output = run_gax(dataclasses.replace(config, gax=changed), tmp_path / "run").output
    else:
        ax = AxConfig(methods=("saliency",), score="softmax", backend=backend)
        output = run_ax(AxRunConfig(model=config.model, data=config.data, ax=ax), tmp_path / "run")
        output = output.output
    assert verify_run(output).passed
    scored = [row for row in rows_of(output) if row["co_score"] is not None]
    assert len(scored) >= 8
    assert all(abs(row["co_score"]) < 10 / 9 for row in scored)
    change_row(output, scored[0]["image_id"], co_score=scored[0]["co_score"] + 0.01)
    assert "co_score that is not torch's" in faults_of(output)


def test_an_ax_run_passes_for_every_method_layer_and_operation(ax_run):
    verification = verify_run(ax_run)
    assert verification.passed
    assert (verification.command, verification.score_space) == ("ax", "released")
    keys = {(found.method, found.layer, found.operation) for found in verification.comparisons}
    assert keys == {
        (method, layer, operation)
        for method, layer in (
            ("saliency", None),
            ("layer_grad_cam", "conv1"),
            ("layer_grad_cam", "layer2"),
        )
        for operation in ("sum", "mult")
    }
    assert all(found.scores == 6 for found in verification.comparisons)
    assert verification.num_heatmaps == 18  # sum and mult share theirs


def test_a_run_with_misclassified_and_unreadable_images_passes(model, tmp_path):
    random = np.random.default_rng(0)
    for label in range(10):
        (tmp_path / "images" / str(label)).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / str(label) / name)
    (tmp_path / "images" / "3" / "c.png").write_bytes(b"not an image")
    config = gax_config(model, data=str(tmp_path / "images"), num_images=None)
    config = dataclasses.replace(config, gax=GaxConfig(target=TARGET, max_steps=3))
    outcomes = run_gax(config, tmp_path / "run").outcomes
    assert outcomes["unreadable"] == 1
    assert outcomes["misclassified"] > 0
    verification = verify_run(tmp_path / "run")
    assert verification.passed
    assert verification.num_images == 21
    assert verification.num_heatmaps == 20 - outcomes["misclassified"]


@pytest.mark.slow
def test_a_run_that_ended_at_the_nth_correct_image_passes(model, tmp_path):
    config = dataclasses.replace(gax_config(model, num_images=60), first_correct=2)
    run = run_gax(config, tmp_path / "run").output
    assert len(rows_of(run)) < 60
    assert verify_run(run).passed


def test_an_unfinished_run_passes_with_what_it_has(copy):
    for part in part_paths(copy)[1:]:
        part.unlink()
    assert faults_of(copy) == {"row missing": IMAGES - 8}
    edit_header(copy, lambda header: header.update(status="running"))
    verification = verify_run(copy)
    assert verification.passed
    assert not verification.complete
    assert verification.num_images == 8


def test_the_original_weights_can_be_read_by_torch_alone(gax_run, model, monkeypatch):
    def never(*_):
        raise AssertionError("converted back")

    monkeypatch.setattr(converters, "torch_state_dict", never)
    source = model.with_suffix(".pth")
    verification = verify_run(gax_run, weights=source)
    assert verification.passed
    assert verification.provenance == f"{source}, sha256 {file_sha256(source)[:12]}…"


def test_the_result_is_json_and_lines(gax_run):
    verification = verify_run(gax_run, num_images=4)
    values = json.loads(json.dumps(verification.to_dict(), allow_nan=False))
    assert values["passed"] is True
    assert values["comparisons"][0]["scores"] == 4
    lines = verification.lines()
    assert lines[0].startswith("4 heatmaps of 4 images, computed again in torch ")
    assert "gax sum: 4 scores differ by at most " in lines[1]
    assert lines[-1] == "Passed (tolerance: 2e-05 of the largest logit)"


@pytest.mark.slow
def test_images_are_drawn_at_random_by_their_seed(gax_run):
    def worst(seed):
        return verify_run(gax_run, num_images=3, seed=seed).comparisons[0].worst_image

    assert worst(0) == worst(0)
    assert len({worst(seed) for seed in range(4)}) > 1
    assert f"from 1 to {IMAGES}" in refusal(gax_run, num_images=IMAGES + 1)
    assert f"from 1 to {IMAGES}" in refusal(gax_run, num_images=0)


def test_progress_counts_the_images(gax_run):
    seen = []
    verify_run(gax_run, num_images=7, batch_size=3, progress=lambda *counts: seen.append(counts))
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_batch_size_and_float64_change_rounding_alone(gax_run):
    worst = [
        verify_run(gax_run, **settings).comparisons[0].worst
        for settings in ({}, {"batch_size": 5}, {"dtype": "float64"})
    ]
    assert max(worst) < 2e-5  # measured 3.2e-6


def test_a_moved_model_and_moved_images_are_found_by_their_new_place(model, copy, tmp_path):
    moved = shutil.copytree(model, tmp_path / "moved.ckpt")

    def forget(header):
        header["config"]["model"]["model"] = "gone.ckpt"
        header["config"]["data"]["data"] = "gone"

    edit_header(copy, forget)
    said = refusal(copy)
    assert "made with the model gone.ckpt, which is not there" in said
    assert "--model" in said
    assert "gone: no such folder" in refusal(copy, model=str(moved))
    assert faults_of(copy, model=str(moved), data="digits") == {}


# --- runs that are not ---------------------------------------------------------------------------


def test_the_smallest_change_of_a_stored_heatmap_is_found_by_its_hash(copy):
    row = rows_of(copy)[5]
    array = zarr.open_array(copy / "heatmaps.zarr", mode="r+")
    heatmap = array[row["heatmap_row"]]
    heatmap[3, 4, 1] = np.nextafter(heatmap[3, 4, 1], np.float16(1))
    array[row["heatmap_row"]] = heatmap
    verification = verify_run(copy)
    assert not verification.passed
    assert verification.altered_heatmaps == (row["image_id"],)
    (fault,) = verification.faults
    assert fault.what == "heatmap with another hash than its row's"
    assert fault.first == f"{row['image_id']} gax sum: heatmap_row {row['heatmap_row']}"
    assert verification.lines()[-1].startswith("FAILED")


def test_each_image_of_a_lost_file_of_heatmaps_is_named(copy):
    (copy / "heatmaps.zarr" / "c.0.0.0.0").unlink()
    verification = verify_run(copy)
    lost = {row["image_id"] for row in rows_of(copy) if row["heatmap_row"] < 8}
    assert set(verification.altered_heatmaps) == lost
    assert len(lost) == 8
    (fault,) = verification.faults
    assert (fault.what, fault.count) == ("heatmap that cannot be read", 8)
    assert all(name in "\n".join(verification.lines()) for name in lost)
    (copy / "heatmaps.zarr" / "zarr.json").unlink()
    assert len(verify_run(copy).altered_heatmaps) == IMAGES


def test_a_part_that_is_damaged_fails_and_the_others_are_verified(copy):
    part = part_paths(copy)[1]
    part.write_bytes(part.read_bytes()[:-1])
    verification = verify_run(copy)
    assert verification.damaged_parts == (part.name,)
    assert verification.num_images == IMAGES - 8
    faults = {fault.what: fault.count for fault in verification.faults}
    assert faults == {"part that is damaged": 1, "row missing": 8}


CHANGES = {
    "co_score": (
        lambda row: {"co_score": row["co_score"] + 0.01},
        ["co_score that is not torch's"],
    ),
    "co_score nan": (lambda row: {"co_score": math.nan}, ["co_score that is not torch's"]),
    "probability_before": (
        lambda row: {"probability_before": row["probability_before"] + 0.01},
        ["probability_before that is not torch's"],
    ),
    "probability_after": (
        lambda row: {"probability_after": row["probability_after"] - 0.01},
        ["probability_after that is not torch's"],
    ),
    "prediction": (
        lambda row: {"prediction": next(iter({4, 5} - {row["label"]}))},
        ["prediction that is not torch's"],
    ),
    "prediction_after": (
        lambda row: {"prediction_after": -1, "correct_after": False},
        ["prediction_after that is not torch's"],
    ),
    "correct": (
        lambda row: {"correct": True},
        ["correct that is not: prediction equals label"],
    ),
    "correct_after": (
        lambda row: {"correct_after": False},
        ["correct_after that is not: prediction_after equals label"],
    ),
    "label": (
        lambda row: {"label": row["prediction"], "correct": True, "correct_after": False},
        ["label that is not the image's"],
    ),
    "heatmap_row too large": (
        lambda row: {"heatmap_row": 10**6},
        ["heatmap_row beyond the stored heatmaps"],
    ),
    "heatmap_row negative": (
        lambda row: {"heatmap_row": -1},
        ["heatmap_row beyond the stored heatmaps"],
    ),
    "heatmap_sha256 lost": (
        lambda row: {"heatmap_sha256": None},
        ["score or heatmap without heatmap_sha256"],
    ),
    "heatmap_sha256": (
        lambda row: {"heatmap_sha256": "0" * 64},
        ["heatmap with another hash than its row's"],
    ),
    "outcome of ax": (lambda row: {"outcome": "scored"}, ["outcome that gax does not have"]),
    "outcome": (
        lambda row: {"outcome": "unreadable"},
        [
            "prediction that the outcome does not allow, or lacks",
            "score and heatmap that the outcome does not allow, or lacks",
            "image unreadable in the run, but not here",
        ],
    ),
    "operation": (
        lambda row: {"operation": "mult"},
        [
            "row of a method, layer or operation that the run does not have",
            "row missing",
            "co_score that is not torch's",
        ],
    ),
}


@pytest.mark.parametrize("column", CHANGES)
def test_a_changed_row_is_found(copy, column):
    changed, faults = CHANGES[column]
    # Wrong before and right after.
    row = next(
        row
        for row in rows_of(copy)
        if row["outcome"] == "reached" and not row["correct"] and row["correct_after"]
    )
    change_row(copy, row["image_id"], **changed(row))
    found = faults_of(copy)
    assert set(faults) <= found.keys()
    assert set(found.values()) == {1}


LABEL_FREE = ("co_score_predicted", "max_probability", "entropy", "logit_margin", "logsumexp")


@pytest.mark.parametrize("name", LABEL_FREE)
def test_a_changed_label_free_number_is_found(ax_copy, name):
    image_id = rows_of(ax_copy)[0]["image_id"]
    count = sum(row["image_id"] == image_id for row in rows_of(ax_copy))
    change_rows(
        ax_copy,
        lambda row: [row | {name: row[name] + 0.01} if row["image_id"] == image_id else row],
    )
    assert faults_of(ax_copy) == {f"{name} that is not torch's": count}


def test_a_run_of_before_the_label_free_numbers_passes_and_half_of_them_do_not(ax_copy):
    image_id = rows_of(ax_copy)[0]["image_id"]
    count = sum(row["image_id"] == image_id for row in rows_of(ax_copy))
    change_row(ax_copy, image_id, entropy=None)
    assert faults_of(ax_copy) == {"confidence that the outcome does not allow, or lacks": count}
    change_rows(ax_copy, lambda row: [row | dict.fromkeys(LABEL_FREE)])
    assert faults_of(ax_copy) == {}


def test_reached_must_hold_in_the_row_and_in_torch(copy):
    best = max(
        (row for row in rows_of(copy) if row["outcome"] == "step_limit"),
        key=lambda row: row["co_score"],
    )
    change_row(copy, best["image_id"], outcome="reached")
    assert faults_of(copy) == {
        "reached with a co_score below the target": 1,
        "reached with a curve that ends below the target": 1,
        "reached, but not in torch": 1,
    }


def test_exchanged_heatmaps_are_found_by_their_scores(copy):
    first, second = rows_of(copy)[:2]
    for here, there in ((first, second), (second, first)):
        names = ("heatmap_row", "heatmap_sha256")
        change_row(copy, here["image_id"], **{name: there[name] for name in names})
    verification = verify_run(copy)
    assert verification.altered_heatmaps == ()
    assert {fault.what: fault.count for fault in verification.faults}[
        "co_score that is not torch's"
    ] == 2
    found = verification.comparisons[0]
    assert found.worst_image in (first["image_id"], second["image_id"])
    assert found.worst > 0.1


def test_a_heatmap_of_two_images_is_found(copy):
    first, second = rows_of(copy)[:2]
    change_row(copy, second["image_id"], heatmap_row=first["heatmap_row"])
    found = faults_of(copy)
    assert found["heatmap_row of another image, method or layer"] == 1
    assert found["heatmap with another hash than its row's"] == 1


def test_two_operations_share_a_heatmap_and_two_methods_do_not(ax_copy):
    rows = rows_of(ax_copy)
    numbers = [row["heatmap_row"] for row in rows if row["image_id"] == rows[0]["image_id"]]
    assert [numbers.count(number) for number in sorted(set(numbers))] == [2, 2, 2]
    first, second = sorted(set(numbers))[:2]
    change_rows(
        ax_copy,
        lambda row: [row | {"heatmap_row": first} if row["heatmap_row"] == second else row],
    )
    assert faults_of(ax_copy)["heatmap_row of another image, method or layer"] == 2


def test_a_row_too_many_or_too_few_is_found(copy, ax_copy):
    first, last = rows_of(copy)[0]["image_id"], rows_of(copy)[-1]["image_id"]

    def twice(row):
        return [row, row] if row["image_id"] == first else [row]

    change_rows(copy, twice)
    assert faults_of(copy) == {"second row of the same image, method, layer and operation": 1}
    change_rows(copy, lambda row: [row] * (row["image_id"] != last))
    assert faults_of(copy)["row missing"] == 1
    change_row(copy, first, image_id="digits/9999")
    assert faults_of(copy)["row of an image that is not in the set"] == 2


def test_an_ax_row_that_is_missing_is_found_even_in_an_unfinished_run(ax_copy):
    first = rows_of(ax_copy)[0]

    lost = (first["image_id"], "saliency", "mult")
    names = ("image_id", "method", "operation")
    change_rows(ax_copy, lambda row: [row] * (tuple(row[name] for name in names) != lost))
    edit_header(ax_copy, lambda header: header.update(status="running"))
    (fault,) = verify_run(ax_copy).faults
    assert fault.what == "row missing"
    assert fault.first == f"{first['image_id']} saliency mult"


# --- what is refused -----------------------------------------------------------------------------


def test_another_model_is_refused(gax_run, tmp_path):
    other = save_model(tmp_path / "other.ckpt", seed=1)
    message = refusal(gax_run, model=str(other))
    assert "was made with another model: small_resnet " in message
    assert str(other) in message
    assert "--model" in message


def test_other_images_are_refused(gax_run, copy, tmp_path):
    (images,) = copy.glob("images-*.parquet")
    images.unlink()  # as of a run of before it was kept
    edit_header(copy, lambda header: header["config"]["data"].update(num_images=IMAGES - 1))
    message = refusal(copy)
    assert "was made with other images: 24 of 449 images of handwritten digits" in message
    assert "23 of 449 images" in message
    for label in range(10):
        (tmp_path / "images" / str(label)).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / str(label) / "a.png")
    edit_header(copy, lambda header: header["config"]["data"].update(num_images=None))
    assert "other images" in refusal(copy, data=str(tmp_path / "images"))


def test_other_weights_are_refused(gax_run, model, tmp_path):
    other = save_model(tmp_path / "other.ckpt", seed=1).with_suffix(".pth")
    message = refusal(gax_run, weights=other)
    assert f"{other} (sha256 " in message
    assert f"is not the file that {model} was made from" in message


def test_a_run_without_heatmaps_is_refused(copy):
    shutil.rmtree(copy / "heatmaps.zarr")
    edit_header(copy, lambda header: header["config"]["store"].update(heatmaps="none"))
    assert "stores no heatmaps" in refusal(copy)


def test_a_run_without_rows_and_a_folder_without_a_run_are_refused(copy, tmp_path):
    for part in part_paths(copy):
        part.unlink()
    assert "has no scores yet" in refusal(copy)
    assert "holds no gaxjax run" in refusal(tmp_path)


@pytest.mark.slow
def test_a_run_whose_images_changed_since_is_verified_for_the_rest(model, tmp_path):
    random = np.random.default_rng(0)
    for number in range(6):
        folder = tmp_path / "images" / str(number % 3)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(
            folder / f"{number}.png"
        )
    config = gax_config(model, num_images=None)
    data = DataConfig(data=str(tmp_path / "images"), size=16)
    config = dataclasses.replace(config, data=data)
    run = run_gax(config, tmp_path / "run", note=lambda _: None).output
    assert verify_run(run).passed
    (tmp_path / "images" / "0" / "0.png").unlink()
    verification = verify_run(run)
    assert {fault.what: fault.count for fault in verification.faults} == {
        "image unreadable here, but not in the run": 1
    }
    assert verification.notes[-1] == "images are not as the run had them: 1 image gone (0/0.png)"


def test_every_row_of_a_sweep_is_verified_by_its_setting(model, tmp_path):
    sweep = SweepConfig(sweep=("target=2,5", "operation=sum,mult", "similarity-factor=10,1000"))
    config = dataclasses.replace(gax_config(model, num_images=4), sweep=sweep)
    run = run_gax(config, tmp_path / "run").output
    verification = verify_run(run)
    assert verification.passed, verification.faults
    assert [found.setting for found in verification.comparisons] == [
        as_text(setting) for setting in sweep.settings
    ]
    change_rows(
        run,
        lambda row: (
            [row | {"similarity_loss": 100 * row["similarity_loss"]}]
            if row["setting"].endswith("factor=10") and row["similarity_loss"] is not None
            else [row]
        ),
    )
    assert "similarity_loss that is not torch's" in faults_of(run)
