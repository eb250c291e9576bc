"""A run's folder is opened once, and says what it holds or what is wrong with it."""

import numpy as np
import pytest
import stored_runs
from altered_runs import edit_header, part_paths

from gaxjax.common.errors import UserError
from gaxjax.report.page import write_report
from gaxjax.results import stored_run
from gaxjax.results.reading import read_heatmaps, read_scores
from gaxjax.results.solution import Outcome
from gaxjax.results.stored_run import open_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return stored_runs.image_folder(tmp_path_factory.mktemp("images") / "xray", 6)


@pytest.fixture(scope="module")
def gax(data, tmp_path_factory):
    path = stored_runs.gax_run(tmp_path_factory.mktemp("runs") / "gax-run", data)
    stored_runs.add_snapshots(path, ["NORMAL/00000.png"])
    return path


@pytest.fixture(scope="module")
def ax(data, tmp_path_factory):
    return stored_runs.ax_run(tmp_path_factory.mktemp("runs") / "ax-run", data)


def test_a_run_has_its_settings_scores_heatmaps_and_snapshots(gax):
    run = open_run(str(gax))
    assert run.is_gax
    assert run.config.gax.bias
    assert run.config.snapshots.snapshots == 1
    assert run.target == 48
    assert run.finished
    assert run.scores.equals(read_scores(gax))
    assert run.snapshots["image_id"].unique().to_pylist() == ["NORMAL/00000.png"]
    assert run.class_name(1) == "PNEUMONIA"
    assert [method.name for method in run.statistics.methods] == ["gax [sum]"]
    found = run.heatmaps([2, 0])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, read_heatmaps(gax, [2, 0]).astype(np.float32))


def test_a_run_tells_what_it_is(gax, ax):
    assert repr(open_run(gax)) == (
        "Run(gax-run: gax of resnet34 on 12 images in 2 class folders, 12 of 12 images: "
        "10 reached, 1 misclassified, 1 step_limit)"
    )
    assert repr(open_run(ax)).endswith("12 of 12 images: 92 scored, 4 zero_heatmap)")


def test_an_images_heatmap_is_found_by_its_name(gax):
    run = open_run(gax)
    (row,) = [row for row in run.scores.to_pylist() if row["image_id"] == "PNEUMONIA/00001.png"]
    expected = run.heatmaps([row["heatmap_row"]])[0]
    np.testing.assert_array_equal(run.heatmap("PNEUMONIA/00001.png"), expected)
    np.testing.assert_array_equal(run.heatmap("MONIA/00001.png"), expected)
    with pytest.raises(UserError, match=r"2 images of .* end in '00001.png'"):
        run.heatmap("00001.png")
    with pytest.raises(UserError, match=r"no image 'nothing' in .*gax-run"):
        run.heatmap("nothing")
    with pytest.raises(UserError, match=r"PNEUMONIA/00000.png has no heatmap .*misclassified"):
        run.heatmap("PNEUMONIA/00000.png")


def test_one_of_several_heatmaps_is_chosen_by_method_and_layer(ax):
    run = open_run(ax)
    image = "NORMAL/00004.png"
    with pytest.raises(UserError, match=r"has 3 heatmaps .*saliency, layer_grad_cam conv1, layer_"):
        run.heatmap(image)
    with pytest.raises(UserError, match=r"has 2 heatmaps"):
        run.heatmap(image, "layer_grad_cam")
    with pytest.raises(UserError, match=r"no heatmap of deconvolution in .*zero_heatmap"):
        run.heatmap(image, "deconvolution")
    rows = {
        row["heatmap_row"]
        for row in run.scores.to_pylist()
        if (row["image_id"], row["layer"]) == (image, "layer2")
    }
    assert len(rows) == 1, "the operations share it"
    expected = run.heatmaps(list(rows))[0]
    np.testing.assert_array_equal(run.heatmap(image, "layer_grad_cam", "layer2"), expected)


@pytest.mark.slow
def test_a_report_reads_each_table_of_a_run_once(gax, ax, tmp_path, monkeypatch):
    reads = []

    def counted(name):
        read = getattr(stored_run, name)

        def once(path, *arguments):
            reads.append((name, path.name))
            return read(path, *arguments)

        return once

    for name in ("read_header", "read_scores", "read_snapshots"):
        monkeypatch.setattr(stored_run, name, counted(name))
    write_report([gax, ax], tmp_path / "r.html")
    assert sorted(reads) == [
        ("read_header", "ax-run"),
        ("read_header", "gax-run"),
        ("read_scores", "ax-run"),
        ("read_scores", "gax-run"),
        ("read_snapshots", "gax-run"),
    ]


def test_a_run_that_has_only_begun_can_be_opened(data, tmp_path):
    path = stored_runs.gax_run(tmp_path / "run", data, status="running", only=5)
    assert not open_run(path).finished
    for part in part_paths(path):
        part.unlink()
    run = open_run(path)
    assert len(run.scores) == run.num_found == 0
    assert repr(run).endswith("0 of 12 images: none yet)")
    with pytest.raises(UserError, match="holds no scores yet"):
        run.require_scores()


def test_a_damaged_run_is_refused_and_still_has_a_name(data, tmp_path):
    path = stored_runs.gax_run(tmp_path / "run", data)
    part_paths(path)[0].write_bytes(b"nothing")
    assert repr(open_run(path)).endswith("with damaged scores)")
    edit_header(path, lambda header: header.update(command="finetune"))
    with pytest.raises(UserError, match=r"run.json is damaged \(Invalid enum value 'finetune'"):
        open_run(path)
    with pytest.raises(UserError, match="holds no gaxjax run"):
        open_run(tmp_path)


def test_every_outcome_is_its_word_and_has_a_meaning():
    for outcome in Outcome:
        assert Outcome(str(outcome)) is outcome
        assert outcome.meaning[0].islower()
    assert Outcome.UNREADABLE == "unreadable"
