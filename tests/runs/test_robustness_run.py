"""Disturbed scores of stored runs, by the run's own classifier."""

import io
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image
from tiny_runs import CLASSIFIER, run_config, tiny_model, write_images

from gaxjax.cli.main import main
from gaxjax.cli.statistics import Statistics
from gaxjax.common.errors import UserError
from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import AxRunConfig, BatchConfig, StoreConfig
from gaxjax.report.page import write_report
from gaxjax.results.robustness import DISTURBANCES, read_robustness
from gaxjax.results.stored_run import images_of, open_run
from gaxjax.runs import ax as ax_runs
from gaxjax.runs import robustness
from gaxjax.runs.ax import run_ax
from gaxjax.runs.gax import run_gax
from gaxjax.runs.robustness import disturbed, measure_robustness
from gaxjax.score import co_score


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with pytest.MonkeyPatch.context() as patch, tiny_model():
        for module in (robustness, ax_runs):
            patch.setattr(module, "open_classifier", lambda *_, **__: CLASSIFIER)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def gax(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "gax"
    run_gax(run_config(data, target=20.0), path, note=lambda _: None)
    measure_robustness(path)
    return path


@pytest.fixture(scope="module")
def ax(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "ax"
    config = AxRunConfig(
        model=run_config(data).model,
        data=run_config(data).data,
        ax=AxConfig(methods=("saliency", "input_x_gradient"), score_space="released"),
        batch=BatchConfig(batch_size=8),
        store=StoreConfig(part_size=8),
    )
    run_ax(config, path)
    measure_robustness(path)
    return path


def image_of(run, image_id) -> np.ndarray:
    load, _ = images_of(run)
    return load(image_id).astype(np.float32) / np.float32(255)


def score_of(run, row, augmented) -> float:
    """The score of an augmented image of the run's space, by the classifier alone."""
    x = image_of(run, row["image_id"])
    label = next(
        other["label"] for other in run.scores.to_pylist() if other["image_id"] == row["image_id"]
    )
    net = lambda pixels: CLASSIFIER.apply(CLASSIFIER.weights, jnp.asarray(pixels)[None])[0]  # noqa: E731
    with jax.default_matmul_precision("highest"):
        after = augmented if not run.is_gax else CLASSIFIER.normalize(jnp.asarray(augmented))
        before = CLASSIFIER.normalize(jnp.asarray(x))
        return float(co_score(net(after), net(before), label))


@pytest.mark.parametrize("name", ["gax", "ax"])
def test_every_heatmap_has_a_row_and_its_stored_score(name, request):
    path = request.getfixturevalue(name)
    run = open_run(path)
    table, about = read_robustness(path)
    keys = ("image_id", "method", "layer", "operation", "setting")
    stored = {
        tuple(row[key] for key in keys): row["co_score"]
        for row in run.scores.to_pylist()
        if row["heatmap_row"] is not None
    }
    rows = table.to_pylist()
    assert len(rows) == len(stored) > 10
    for row in rows:
        expected = stored[tuple(row[key] for key in keys)]
        assert row["co_score"] == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert about["num_images"] == about["num_with_heatmaps"] == 14
    assert about["largest_difference"] < 1e-3  # of scores up to 200: 1.2e-4


@pytest.mark.parametrize("name", ["gax", "ax"])
def test_disturbed_scores_are_those_of_the_disturbed_pixels(name, request):
    path = request.getfixturevalue(name)
    run = open_run(path)
    table, _ = read_robustness(path)
    row = next(row for row in table.to_pylist() if row["operation"] == "sum")
    x = image_of(run, row["image_id"])
    heatmap = run.heatmap(row["image_id"], row["method"])
    mean, std = (np.float32(tiny.MEAN), np.float32(tiny.STD)) if name == "ax" else (0, 1)
    z = (x - mean) / std

    moves = [np.roll(heatmap, step, axis) for axis in (0, 1) for step in (1, -1)]
    for moved, (edge, source) in zip(
        moves, [((0,), 0), ((-1,), -1), ((slice(None), 0), 0), ((slice(None), -1), -1)], strict=True
    ):
        moved[edge] = heatmap[source] if len(edge) == 1 else heatmap[:, source]
    shifted = np.mean([score_of(run, row, z + moved) for moved in moves])
    assert row["shifted"] == pytest.approx(shifted, rel=1e-4, abs=1e-4)

    eight = np.rint(255 * np.clip((z + heatmap) * std + mean, 0, 1)).astype(np.uint8)
    rounded = score_of(run, row, (np.float32(eight) / 255 - mean) / std)
    assert row["rounded"] == pytest.approx(rounded, rel=1e-4, abs=1e-4)
    buffer = io.BytesIO()
    Image.fromarray(eight).save(buffer, "JPEG", quality=75)
    read = np.float32(Image.open(buffer)) / 255
    assert row["jpeg"] == pytest.approx(score_of(run, row, (read - mean) / std), rel=1e-4, abs=1e-4)
    assert len({row[name] for name in ("co_score", *DISTURBANCES)}) == 5


def test_a_run_of_softmax_scores_is_disturbed_in_them(data, tmp_path):
    run_gax(run_config(data, target=0.5, score="softmax"), tmp_path / "run", note=lambda _: None)
    measure_robustness(tmp_path / "run")
    table, about = read_robustness(tmp_path / "run")
    assert about["largest_difference"] < 1e-5
    bound = tiny.CLASSES / (tiny.CLASSES - 1)
    for name in ("co_score", *DISTURBANCES):
        assert np.abs(table[name].to_numpy()).max() <= bound  # probabilities of 0 and 1 in float32


def test_noise_is_of_two_levels_and_the_same_for_all_heatmaps_of_an_image():
    images = np.full((3, 64, 64, 3), 0.5, np.float32)
    heatmaps = np.zeros_like(images)
    heatmaps[1] = 0.25
    mean, std = np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 0.25, 2])
    [noisy] = disturbed(images, heatmaps, ["sum"] * 3, ["a", "a", "b"], mean, std)["noisy"]
    noise = (noisy - images - heatmaps) * std
    assert noise.std(axis=(1, 2)) == pytest.approx(2 / 255, rel=0.05)  # of 4,096 draws: 0.011
    np.testing.assert_allclose(noise[0], noise[1], atol=1e-6)
    assert abs(np.corrcoef(noise[0].ravel(), noise[2].ravel())[0, 1]) < 0.05


def test_fewer_images_give_the_same_rows_for_those_and_a_call_that_stops_keeps_the_old(
    gax, monkeypatch
):
    whole = read_robustness(gax)
    try:
        monkeypatch.setattr(robustness.interruption, "check", stop_at_the_second())
        with pytest.raises(KeyboardInterrupt):
            measure_robustness(gax)
        monkeypatch.undo()
        _tiny_again(monkeypatch)
        assert read_robustness(gax) == whole
        measure_robustness(gax, num_images=5, seed=3)
        table, about = read_robustness(gax)
        assert (about["num_images"], about["num_with_heatmaps"]) == (5, 14)
        by_image = {row["image_id"]: row for row in whole[0].to_pylist()}
        for row in table.to_pylist():
            for name in ("co_score", *DISTURBANCES):
                expected = by_image[row["image_id"]][name]
                assert row[name] == pytest.approx(expected, rel=1e-5, abs=1e-4)
    finally:
        measure_robustness(gax)


def stop_at_the_second():
    calls = iter([None])

    def check():
        if next(calls, "stop") == "stop":
            raise KeyboardInterrupt

    return check


def _tiny_again(patch):
    patch.setattr(robustness, "open_classifier", lambda *_, **__: CLASSIFIER)


def test_statistics_and_report_show_what_is_stored(gax, ax, tmp_path, capsys):
    assert main(["statistics", str(gax), "--robustness", "--robustness-images", "9"]) == 0
    printed = capsys.readouterr().out
    assert "Score left under small disturbances" in printed
    assert "Share still at the target" in printed
    assert "Of 9 of the 14 images with heatmaps." in " ".join(printed.split())
    kept = json.loads((gax / "statistics.json").read_text())["robustness"]
    assert kept["num_images"] == 9
    assert kept["methods"][0]["kept"]["jpeg"]["ratio"] < 1

    for ending in ("md", "csv"):
        assert main(["statistics", str(ax), "--output", str(tmp_path / f"ax.{ending}")]) == 0
    text = (tmp_path / "ax.md").read_text()
    assert text.count("\n| input_x_gradient [sum] |") == 6
    assert "## Score left under small disturbances" in text
    lines = (tmp_path / "ax.csv").read_text().splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("robustness_noisy_at_target_high")

    page = write_report([gax, ax], tmp_path / "report.html").page.read_text()
    assert page.count("<h3>Robustness</h3>") == 2
    assert page.count("<h4>Share still at the target</h4>") == 1  # AX has none


def test_bad_input_gets_a_line(gax, data, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--robustness-images must be at least 1; got 0"):
        measure_robustness(gax, num_images=0)
    with pytest.raises(UserError, match="for --robustness: give that too"):
        Statistics(run=gax, robustness_images=3).execute(["gaxjax"])
    bare = tmp_path / "bare"
    run_gax(run_config(data, heatmaps="none"), bare, note=lambda _: None)
    with pytest.raises(UserError, match=r"stores no heatmaps to disturb \(--heatmaps none\)"):
        measure_robustness(bare)
    monkeypatch.setattr(
        robustness, "open_classifier", lambda *_, **__: tiny.classifier(normalized=False)
    )
    with pytest.raises(UserError, match=r"was made with another model: .* by --model"):
        measure_robustness(gax)


def test_an_image_that_is_gone_is_left_out_and_named(gax, data, tmp_path):
    run = shutil.copytree(gax, tmp_path / "run")
    moved = shutil.copytree(data, tmp_path / "moved")
    next(moved.rglob("*.png")).unlink()
    notes = []
    measure_robustness(run, data=str(moved), note=notes.append)
    assert len(set(read_robustness(run)[0]["image_id"].to_pylist())) == 13
    assert any("images are not as the run had them" in note for note in notes)
    assert any("1 of 14 images cannot be read now" in note for note in notes)
