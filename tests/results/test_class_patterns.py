"""Class patterns: what is fitted sees nothing of what it judges; what is kept was found."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import stored_runs

from gaxjax.cli.main import main
from gaxjax.common.errors import UserError
from gaxjax.report.class_patterns import run_class_patterns
from gaxjax.report.page import write_report
from gaxjax.results.class_patterns import (
    find_class_patterns,
    read_class_means,
    read_class_patterns,
    summarise_class_patterns,
)
from gaxjax.results.inspection import inspect_run
from gaxjax.results.linear_classes import downsampled, folds_of, linear_predictions
from gaxjax.results.stored_run import open_run

CLASSES = ("ADENO", "BENIGN", "CYST")


def stripes(label: int) -> np.ndarray:
    """A pattern of its own for each class."""
    pattern = np.zeros((stored_runs.SIZE, stored_runs.SIZE, 3), np.float32)
    pattern[4 * label : 4 * label + 4, :, label % 3] = 0.5
    return pattern


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return stored_runs.image_folder(tmp_path_factory.mktemp("classes") / "images", 8, CLASSES)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Heatmaps that show their class, of random images: 7 of two classes, 3 of the third."""
    with pytest.MonkeyPatch.context() as patch:
        solution = stored_runs.gax_solution

        def patterned(index, label, random):
            found = solution(index, label, random)
            if found.heatmap is None:
                return found
            shown = np.float16(0.2 * found.heatmap + stripes(label))
            return dataclasses.replace(found, heatmap=shown)

        patch.setattr(stored_runs, "gax_solution", patterned)
        path = stored_runs.gax_run(tmp_path_factory.mktemp("runs") / "run", data, only=19)
    find_class_patterns(path)
    return path


# --- the linear classifier -----------------------------------------------------------------------


def test_pixels_on_a_border_of_boxes_count_by_their_parts():
    line = np.array([1.0, 2.0, 6.0])
    image = np.broadcast_to(line[None, :, None], (3, 3, 2))[None]
    expected = [(1 + 0.5 * 2) / 1.5, (0.5 * 2 + 6) / 1.5]
    np.testing.assert_allclose(downsampled(image, 2)[0, :, :, 0], [expected, expected])
    np.testing.assert_allclose(downsampled(np.swapaxes(image, 1, 2), 2)[0, :, 0, 1], expected)
    random = np.random.default_rng(0).normal(size=(2, 20, 12, 3))
    np.testing.assert_allclose(downsampled(random, 5).mean(axis=(1, 2)), random.mean(axis=(1, 2)))
    np.testing.assert_allclose(downsampled(random, 64), random)


def test_folds_hold_every_class_and_are_of_one_size():
    labels = np.repeat([0, 1, 2], [5, 7, 13])
    folds = folds_of(labels, seed=1)
    assert np.bincount(folds).tolist() == [5] * 5
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.min() >= 1
        assert np.ptp(counts) <= 1
    assert folds_of(labels, 1).tolist() == folds.tolist() != folds_of(labels, 2).tolist()


def test_a_fold_is_told_without_its_own_labels():
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(60, 4)), random.integers(0, 3, 60)
    folds = folds_of(labels, 0)
    told = linear_predictions(features, labels, folds)
    for fold in range(5):
        changed = labels.copy()
        changed[folds == fold] = (changed[folds == fold] + 1) % 3
        again = linear_predictions(features, changed, folds)
        np.testing.assert_array_equal(again[folds == fold], told[folds == fold])
        assert (again != told).any()  # of the other folds, which that one was fitted for


def test_a_fold_is_told_without_its_own_features_of_other_images():
    random = np.random.default_rng(1)
    labels = np.arange(40) % 2
    features = random.normal(size=(40, 3)) + labels[:, None]
    folds = folds_of(labels, 0)
    told = linear_predictions(features, labels, folds)
    last = np.flatnonzero(folds == 0)[-1]
    features[last] = 1e6  # would upset a scaling that saw it
    again = linear_predictions(features, labels, folds)
    others = (folds == 0) & (np.arange(40) != last)
    np.testing.assert_array_equal(again[others], told[others])


# --- a run ---------------------------------------------------------------------------------------


def test_planted_patterns_are_told_from_heatmaps_and_not_from_random_images(run):
    table, about = read_class_patterns(run)
    [found] = summarise_class_patterns(table)
    assert (found.name, found.num_images, found.num_classes) == ("gax", 14, 2)
    assert found.from_heatmap == 1
    assert found.from_heatmap_interval is None
    assert found.from_image < 0.8
    assert found.from_image_interval[0] <= found.from_image <= found.from_image_interval[1]
    assert found.difference == pytest.approx(1 - found.from_image)
    assert found.difference_interval[0] > 0
    assert 0.3 < found.chance <= 0.5
    assert about["left_out"] == {"gax": 1}
    assert set(table["fold"].to_pylist()) == set(range(5))


def test_a_class_mean_is_the_mean_of_its_stored_heatmaps(run):
    opened = open_run(run)
    rows, _ = read_class_means(run)
    assert rows["count"].to_pylist() == [7, 7, 3]
    for row in rows.to_pylist():
        mine = [
            other["heatmap_row"]
            for other in opened.scores.to_pylist()
            if other["label"] == row["label"] and other["heatmap_row"] is not None
        ]
        mean = np.reshape(row["mean"], (row["side"], row["side"], 3))
        np.testing.assert_allclose(mean, opened.heatmaps(mine).mean(axis=0), atol=1e-6)


def test_operations_share_their_heatmap_and_methods_have_each_their_own(data, tmp_path):
    path = stored_runs.ax_run(tmp_path / "ax", stored_runs.image_folder(tmp_path / "two", 10))
    find_class_patterns(path, seed=4)
    table, about = read_class_patterns(path)
    assert about["seed"] == 4
    found = {one.name: one for one in summarise_class_patterns(table)}
    assert {name: one.num_images for name, one in found.items()} == {
        "saliency": 20,
        "layer_grad_cam conv1": 20,
        "layer_grad_cam layer2": 20,
        "deconvolution": 16,  # the others are zero
    }


def test_statistics_and_report_show_what_is_kept(run, tmp_path, capsys):
    assert main(["statistics", str(run), "--class-patterns", "--seed", "3"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Classes told by a linear classifier" in printed
    assert "Left out, of one method at most: 1 class with fewer than 5 images" in printed
    kept = json.loads((run / "statistics.json").read_text())["class_patterns"]
    assert (kept["seed"], kept["heatmaps"][0]["from_heatmap"]) == (3, 1.0)
    assert main(["statistics", str(run), "--output", str(tmp_path / "t.csv")]) == 0
    assert "classes_from_heatmap_low" in (tmp_path / "t.csv").read_text().splitlines()[0]
    written = write_report([run], tmp_path / "report.html")
    page = written.page.read_text()
    assert page.count("<h3>Class patterns</h3>") == 1
    assert (written.folder / "run-class-means.png").exists()
    lines = (written.folder / "run-class-means.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 3
    assert inspect_run(run).damages == ()


def test_one_class_is_nothing_to_tell_apart(data, tmp_path):
    path = stored_runs.gax_run(tmp_path / "run", data, only=8)
    find_class_patterns(path)
    [table] = run_class_patterns(open_run(path))
    assert not table.rows
    assert "Nothing to tell apart: fewer than two classes have 5 heatmaps." in table.notes
    assert write_report([path], tmp_path / "report.html").num_figures > 0


def test_bad_input_gets_a_line(run, data, tmp_path):
    bare = stored_runs.gax_run(tmp_path / "bare", data, heatmaps="none", only=3)
    with pytest.raises(UserError, match=r"stores no heatmaps to look for patterns in"):
        find_class_patterns(bare)
    moved = stored_runs.image_folder(tmp_path / "images", 5)
    lost = stored_runs.gax_run(tmp_path / "lost", moved)
    shutil.rmtree(moved)
    with pytest.raises(UserError, match=r"Its images cannot be shown: .*--data"):
        find_class_patterns(lost)
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "class_patterns.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"class_patterns\.parquet is damaged"):
        read_class_patterns(copy)
    assert any("class_patterns.parquet" in damage for damage in inspect_run(copy).damages)
