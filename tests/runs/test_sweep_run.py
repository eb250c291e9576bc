"""A sweep as a run: stored, resumed, verified, summed up, reported, viewed."""

import dataclasses
import json

import numpy as np
import pyarrow.compute as pc
import pytest
from tiny_runs import CLASSIFIER, run_config, tiny_model, write_images

from gaxjax.cli.main import main
from gaxjax.common.errors import UserError
from gaxjax.config.sweep import SweepConfig, as_text
from gaxjax.reference.consistency import Faults, StoredHeatmaps, check_rows
from gaxjax.report.film import read_film
from gaxjax.report.page import write_report
from gaxjax.report.sections import command_line
from gaxjax.results.stored_run import open_run
from gaxjax.results.sweep import run_sweep
from gaxjax.runs.gax import run_gax
from gaxjax.runs.opening import chosen_images

SWEEP = ("learning-rate=0.03,0.1,0.3", "similarity-factor=10,100")
TEXTS = [as_text(one) for one in SweepConfig(sweep=SWEEP).settings]


def config_of(data, sweep=SWEEP, **gax):
    method = {"target": 40.0, "max_steps": 12, "include_misclassified": False} | gax
    return dataclasses.replace(run_config(data, **method), sweep=SweepConfig(sweep=sweep))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("runs") / "sweep"
    with tiny_model():
        run_gax(config_of(data), path, note=lambda _: None)
    return open_run(path)


def test_every_image_has_one_row_a_setting(swept):
    rows = swept.scores.select(["image_id", "setting"]).to_pylist()
    images = {row["image_id"] for row in rows}
    assert len(images) == 14
    assert sorted((row["image_id"], row["setting"]) for row in rows) == sorted(
        (image, text) for image in images for text in TEXTS
    )
    assert swept.finished


def test_rows_are_those_of_a_run_with_that_setting(swept, data, tmp_path):
    with tiny_model():
        alone = config_of(data, (), learning_rate=0.3, similarity_factor=10.0)
        run_gax(alone, tmp_path / "alone", note=lambda _: None)
    single = open_run(tmp_path / "alone")
    text = "learning-rate=0.3 similarity-factor=10"
    mine = swept.scores.filter(pc.field("setting") == text).sort_by("image_id")
    theirs = single.scores.sort_by("image_id")
    assert set(theirs["setting"].to_pylist()) == {None}
    for name in ("image_id", "outcome", "steps"):
        assert mine[name].to_pylist() == theirs[name].to_pylist()
    pairs = zip(mine["heatmap_row"].to_pylist(), theirs["heatmap_row"].to_pylist(), strict=True)
    for here, there in pairs:
        if here is not None:
            np.testing.assert_allclose(swept.heatmaps([here]), single.heatmaps([there]), atol=2e-3)


def test_a_sweep_that_was_cut_off_goes_on_and_doubles_nothing(data, tmp_path):
    config = config_of(data)
    path = tmp_path / "run"
    with tiny_model():
        run_gax(config, path, note=lambda _: None)
        whole = open_run(path).scores
        parts = sorted((path / "scores").glob("part-*.parquet"))
        assert len(parts) > 1
        parts[-1].unlink()
        left = open_run(path).scores
        assert 0 < len(left) < len(whole)
        summary = run_gax(config, path, note=lambda _: None)
        assert summary.resumed == len(left["image_id"].unique())
        with pytest.raises(UserError, match="sweep"):
            run_gax(config_of(data, SWEEP[:1]), path, note=lambda _: None)
    again = open_run(path).scores
    order = [("image_id", "ascending"), ("setting", "ascending")]
    for name in ("image_id", "setting", "outcome", "steps", "co_score"):
        assert again.sort_by(order)[name].equals(whole.sort_by(order)[name]), name


def faults_of(run, rows, data):
    faults = Faults()
    images = chosen_images(run.config, CLASSIFIER, lambda _: None)
    check_rows(rows, images, run, StoredHeatmaps(run, faults), faults)
    return {fault.what for fault in faults.found()}


def test_the_rows_of_a_sweep_are_held_against_its_settings(swept, data):
    rows = swept.scores.to_pylist()
    assert not faults_of(swept, rows, data)
    assert faults_of(swept, [*rows, rows[0]], data) == {
        "second row of the same image, method, layer and operation"
    }
    other = rows[0] | {"setting": "learning-rate=7"}
    assert faults_of(swept, [other, *rows[1:]], data) == {
        "row of a method, layer or operation that the run does not have",
        "row missing",
    }


@pytest.mark.slow
def test_targets_of_a_sweep_are_each_rows_own(data, tmp_path):
    with tiny_model():
        run_gax(config_of(data, ("target=10,40",)), tmp_path / "run", note=lambda _: None)
    run = open_run(tmp_path / "run")
    reached = run.scores.filter(pc.field("outcome") == "reached").to_pylist()
    assert all(row["co_score"] >= run.target_of(row["setting"]) for row in reached)
    assert min(row["co_score"] for row in reached) < 40
    assert not faults_of(run, run.scores.to_pylist(), data)
    assert len(run.sweep.recommended) == 2  # each target is judged by itself


def test_the_summary_counts_what_the_rows_say(swept):
    for one in swept.sweep.settings:
        rows = swept.scores.filter(pc.field("setting") == one.setting).to_pylist()
        rows = [row for row in rows if row["curve"]]
        taken = [row["steps"] for row in rows if row["outcome"] == "reached"]
        assert (one.num_optimised, one.num_reached) == (len(rows), len(taken))
        assert one.mean_updates == pytest.approx(np.mean([len(row["curve"]) - 1 for row in rows]))
        if taken:
            assert (one.steps.median, one.steps.maximum) == (np.median(taken), max(taken))
        factor = float(one.setting.split("similarity-factor=")[1])
        distances = [factor / row["similarity_loss"] for row in rows if row["similarity_loss"]]
        assert one.distance == pytest.approx(np.median(distances), rel=1e-5)
    seconds = sum(session["seconds"] for session in swept.header["sessions"])
    shares = [one.seconds * one.num_optimised for one in swept.sweep.settings]
    assert sum(shares) == pytest.approx(seconds, rel=1e-6)


def test_the_recommended_setting_follows_the_stated_rule(swept):
    best = max(one.share_reached for one in swept.sweep.settings)
    good = [one for one in swept.sweep.settings if one.share_reached >= best - 0.01]
    [recommended] = swept.sweep.recommended
    fewest = min(one.mean_updates for one in good)
    assert next(one for one in good if one.setting == recommended).mean_updates == fewest
    assert recommended in swept.sweep.why


def test_no_setting_is_recommended_where_none_reached(swept):
    nothing = swept.scores.slice(0, 0)
    found = run_sweep(nothing, swept.config.gax, swept.settings)
    assert found.recommended == ()
    assert "none brought any image to the target" in found.why


def test_statistics_report_and_view_know_the_settings(swept, tmp_path, capsys):
    assert main(["statistics", str(swept.path), "--output", str(tmp_path / "s.json")]) == 0
    printed = capsys.readouterr().out
    assert "Settings of the sweep" in printed
    stored = json.loads((tmp_path / "s.json").read_text())
    assert [one["setting"] for one in stored["sweep"]["settings"]] == TEXTS
    assert [one["setting"] for one in stored["methods"]] == TEXTS
    assert main(["statistics", str(swept.path), "--output", str(tmp_path / "s.csv")]) == 0
    header = (tmp_path / "s.csv").read_text().splitlines()[0].split(",")
    assert {"setting", "learning_rate", "similarity_factor", "share_reached"} <= set(header)

    written = write_report([swept.path], tmp_path / "report.html")
    names = {path.name for path in written.folder.iterdir()}
    assert {"sweep-sweep.svg", "sweep-heatmaps.svg"} <= names
    assert "mathdefault" not in (written.folder / "sweep-sweep.svg").read_text()
    page = (tmp_path / "report.html").read_text()
    assert swept.sweep.recommended[0] in page
    assert "--sweep learning-rate=0.03,0.1,0.3 similarity-factor=10,100" in command_line(swept)

    image = next(r["image_id"] for r in swept.scores.to_pylist() if r["heatmap_row"] is not None)
    for text in TEXTS[:2]:
        film = read_film(swept.path, image, setting=text)
        np.testing.assert_array_equal(film.frames[0].heatmap, swept.heatmap(image, setting=text))
    with pytest.raises(UserError, match="has several settings: choose one by --setting"):
        read_film(swept.path, image)
    with pytest.raises(UserError, match="has no setting learning-rate=9: choose one"):
        read_film(swept.path, image, setting="learning-rate=9")
    with pytest.raises(UserError, match=r"6 heatmaps in .*: choose one by setting"):
        swept.heatmap(image)


def test_a_run_without_a_sweep_has_no_setting(data, tmp_path):
    with tiny_model():
        run_gax(config_of(data, ()), tmp_path / "run", note=lambda _: None)
    run = open_run(tmp_path / "run")
    assert run.settings == ()
    assert run.sweep is None
    assert "sweep" not in run.header["identity"]
    assert not {"optimizer", "optimizer arguments"} & run.header["identity"].keys()
