"""The page says what was run, is safe whatever the names, and refuses damaged runs."""

import html
import html.parser
import json
import re
import shlex
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import stored_runs
from altered_runs import change_parts
from reading import HOSTILE, load, payload

from gaxjax.cli.main import main, parse
from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig, GaxConfig
from gaxjax.config.runs import AxRunConfig, GaxRunConfig
from gaxjax.report.figures.catalogue import course_figures, run_figures
from gaxjax.report.page import write_report
from gaxjax.report.sections import command_line, facts
from gaxjax.results.reading import read_scores
from gaxjax.results.stored_run import open_runs


@pytest.mark.parametrize(
    "config",
    [
        GaxRunConfig(model=ModelConfig(model="m"), data=DataConfig(data="digits")),
        GaxRunConfig(
            model=ModelConfig(model="a b"),
            data=DataConfig(data="d", classes=("NORMAL", "x y"), resize="crop", split="test"),
            gax=GaxConfig(bias=True, target=-1.5, score_space="raw", learning_rate=1e-3),
            preset="paper",
            first_correct=100,
        ),
        GaxRunConfig(
            model=ModelConfig(model="m"),
            data=DataConfig(data="d"),
            gax=GaxConfig(score_space="normalized", target=15.0),
            preset="released",
        ),
        AxRunConfig(
            model=ModelConfig(model="m"),
            data=DataConfig(data="d"),
            ax=AxConfig(methods=("saliency", "layer_grad_cam"), layers=("conv1", "layer4")),
        ),
    ],
)
def test_the_command_line_gives_the_same_settings_again(config, gax, tmp_path):
    run = load(gax)
    command = "gax" if isinstance(config, GaxRunConfig) else "ax"
    object.__setattr__(run, "config", config)
    object.__setattr__(run, "header", run.header | {"command": command})
    words = shlex.split(command_line(run))
    assert words[:2] == ["gaxjax", command]
    assert parse(words[1:]).run == config


class _Strict(html.parser.HTMLParser):
    """Collects tags, ids and what the page would load."""

    def __init__(self):
        super().__init__()
        self.ids, self.sources, self.tags, self.handlers = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "srcset", "data") or (name == "href" and tag in ("link", "use")):
                self.sources.append(value)
            if name.startswith("on"):
                self.handlers.append((tag, name))


def parsed(page):
    reader = _Strict()
    reader.feed(page)
    return reader


def test_the_page_says_what_was_run_how_it_ended_and_how_it_is_run_again(page, gax, ax):
    text = html.unescape(page)
    for run in (gax, ax):
        assert command_line(load(run)) in text
    assert "ab" * 32 in text
    assert "12.2 s of work after 2.5 s of compiling" in text
    assert "123.4 image-steps a second" in text
    assert "jax</dt><dd>0.10.0" in text
    assert "not finished" not in text
    for outcome in ("reached", "step limit", "misclassified", "scored", "zero heatmap"):
        assert f"<td>{outcome}<br>" in text


def test_each_run_begins_with_what_came_out(page, gax, ax):
    rows = [row for row in read_scores(gax).to_pylist() if row["steps"] is not None]
    steps = [row["steps"] for row in rows if row["outcome"] == "reached"]
    before = np.mean([row["probability_before"] for row in rows])
    assert (
        f"{len(steps)} of {len(rows)} optimised images reached the target of 48, in "
        f"{np.median(steps):g} updates (median; most {max(steps)}). Mean probability of their "
        f"right class: {before:.3f} before, 0.999 after."
    ) in page
    assert f"{load(ax).statistics.best} separates best: AUROC" in page


def test_the_gap_table_has_the_statistics_of_every_method(page, ax):
    for method in load(ax).statistics.methods:
        row = re.search(rf"<tr><td[^>]*>(<strong>)?{re.escape(method.name)}.*?</tr>", page)
        assert f"{method.gap.auroc:.3f}" in row[0]


def test_ids_are_unique_and_nothing_is_loaded_from_outside(page):
    found = parsed(page)
    assert len(set(found.ids)) == len(found.ids)
    assert all(source.startswith(("data:", "#")) for source in found.sources), found.sources
    assert not found.handlers
    assert "default-src &#39;none&#39;" in page


def test_hostile_names_stay_text(tmp_path):
    name = HOSTILE.replace("/", "∕")
    data = stored_runs.image_folder(tmp_path / "d", 9, ("a", name), last_name=name)
    run = stored_runs.gax_run(tmp_path / "<b>run", data)
    other = stored_runs.ax_run(tmp_path / "gallery", data)
    images = read_scores(run)["image_id"].to_pylist()
    stored_runs.add_snapshots(run, images[:3])
    written = write_report([run, other], tmp_path / "r.html")
    page = written.page.read_text()
    found = parsed(page)
    assert found.tags.count("script") == 2, "the data and the code"
    assert len(set(found.ids)) == len(found.ids), "a run may be called gallery"
    assert not found.handlers
    assert "<b>run" not in page
    assert name in payload(page)["classes"]
    assert "alert(1)" in page, "in a figure, as text"


def test_a_page_of_an_unfinished_run_says_so(data, tmp_path):
    run = stored_runs.gax_run(tmp_path / "cut", data, status="running", only=20)
    written = write_report([run], tmp_path / "r.html")
    assert "not finished: 20 of its 60 images" in written.notes[0]
    assert "not finished: 20 of its 60 images" in written.page.read_text()


@pytest.mark.parametrize("change", ["gone", "altered"])
def test_without_its_images_a_run_is_reported_with_placeholders(change, tmp_path):
    data = stored_runs.image_folder(tmp_path / "d", 12)
    run = stored_runs.gax_run(tmp_path / "run", data)
    if change == "gone":
        shutil.rmtree(data)
    else:
        (data / "NORMAL" / "00000.png").write_bytes(b"other")
    written = write_report([run], tmp_path / "r.html")
    assert "images" in written.notes[0]
    pictures = payload(written.page.read_text())["pictures"]
    assert not pictures["images"]
    assert pictures["heatmaps"]


@pytest.mark.slow
def test_moved_images_are_shown_from_where_they_are(tmp_path):
    data = stored_runs.image_folder(tmp_path / "d", 12)
    run = stored_runs.gax_run(tmp_path / "run", data)
    data.rename(tmp_path / "moved")
    assert "Say by --data where" in write_report([run], tmp_path / "r.html").notes[0]
    other = stored_runs.image_folder(tmp_path / "other", 11)
    there = stored_runs.gax_run(tmp_path / "there", other)
    written = write_report([run, there], tmp_path / "r.html", data=str(tmp_path / "moved"))
    assert not written.notes
    images = payload(written.page.read_text())["pictures"]["images"]
    assert {name[0] for name in images} == {"0", "1"}, "those of the run that did not move, too"
    assert str(tmp_path / "moved") not in written.page.read_text(), "settings stay the stored ones"


@pytest.mark.slow
def test_wrong_predictions_of_one_class_alone_are_pointed_out(data, tmp_path):
    run = stored_runs.ax_run(tmp_path / "run", data)
    rows = read_scores(run)
    rows = rows.filter(pc.field("correct") | (pc.field("label_name") == "NORMAL"))
    change_parts(run, lambda _: rows)
    [note] = [note for note in write_report([run], tmp_path / "r.html").notes if "class" in note]
    best = load(run).statistics.best
    assert f"All 10 wrong predictions that {best} scored are of class NORMAL, as are 20" in note
    assert "of the 40 correct ones" in note


@pytest.mark.slow
def test_runs_of_different_score_spaces_are_not_to_be_compared(data, gax, tmp_path):
    run = stored_runs.ax_run(tmp_path / "run", data, score_space="raw")
    page = write_report([gax, run], tmp_path / "r.html").page.read_text()
    assert "different score spaces (normalized, raw; see Terms)" in page


def test_the_example_images_have_the_median_score_of_one_method_and_operation(ax):
    run = load(ax)
    for figure in run_figures(run, lambda _: None):
        kind = figure.name.rpartition("-")[2]
        if "-heatmaps-" not in figure.name:
            continue
        mine = [
            row
            for row in run.scores.to_pylist()
            if (row["method"], row["operation"]) == ("saliency", "sum")
            and row["correct"] is (kind == "correct")
        ]
        mine.sort(key=lambda row: row["co_score"])
        assert figure.rows[0]["image_id"] == mine[len(mine) // 2]["image_id"]


def test_what_was_assumed_and_how_labels_were_found_is_told(gax):
    (run,) = open_runs([gax])
    run.header["model"]["assumptions"] = {"normalization": "no normalisation is assumed"}
    run.header["data"] |= {"labels_from": "class folders, by name", "notes": ["2 passed over"]}
    told = facts(run, ())["facts"]
    assert ("Assumed", "no normalisation is assumed") in told
    assert ("Labels", "class folders, by name") in told
    assert ("Of the images", "2 passed over") in told


def test_snapshots_that_came_later_are_in_the_command(gax):
    assert "--snapshots 3 --snapshot-every 1" in command_line(load(gax))


@pytest.mark.parametrize("operation", ["sum", "mult"])
def test_a_run_without_heatmaps_has_its_other_figures(operation, data, tmp_path, capsys):
    run = stored_runs.gax_run(tmp_path / "run", data, heatmaps="none", operation=operation)
    assert main(["report", str(run), "--output", str(tmp_path / "r.html")]) == 0
    assert f"Next: gaxjax statistics {run}" in capsys.readouterr().out
    page = html.unescape((tmp_path / "r.html").read_text())
    assert "cannot be checked: the run keeps no heatmaps" in page
    assert not payload((tmp_path / "r.html").read_text())["pictures"]["heatmaps"]
    names = {path.stem for path in (tmp_path / "r_figures").glob("*.svg")}
    assert names == {"curves", "steps", "probabilities"}


@pytest.mark.slow
def test_scores_that_are_not_finite_are_left_out(gax, ax, tmp_path):
    for source in (gax, ax):
        run = tmp_path / source.name
        shutil.copytree(source, run)
        rows = read_scores(run)
        scores = rows["co_score"].to_pylist()
        changed = [float("nan") if i % 4 == 1 else score for i, score in enumerate(scores)]
        place = rows.schema.get_field_index("co_score")
        field = rows.schema.field("co_score")
        rows = rows.set_column(place, field, pa.array(changed, field.type))
        change_parts(run, lambda _, rows=rows: rows)
        page = write_report([run], tmp_path / "r.html").page.read_text()
        found = payload(page)["columns"]["score"]
        assert [score is None for score in found] == [
            score is None or score != score for score in changed
        ]


@pytest.mark.slow
def test_no_two_runs_share_a_name_for_files_or_ids(data, tmp_path):
    paths = [tmp_path / name for name in ("a-3", "a", "a.", "run-a", "a-heatmaps")]
    for path in paths:
        stored_runs.gax_run(path, data)
    written = write_report(paths, tmp_path / "r.html")
    assert len(list(written.folder.glob("*.svg"))) == written.num_figures == 3 + len(paths)
    ids = parsed(written.page.read_text()).ids
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
def test_figures_of_an_earlier_report_go_and_other_files_stay(gax, ax, tmp_path):
    first = write_report([gax, ax], tmp_path / "r.html")
    (first.folder / "mine.csv").write_text("kept")
    (first.folder / "ax-run-scores.csv.bak").write_text("kept")
    second = write_report([gax], tmp_path / "r.html")
    stems = {path.name.partition(".")[0] for path in second.folder.iterdir()}
    names = {"curves", "steps", "probabilities", "gax-run-heatmaps"}
    assert stems == names | {"figures", "mine", "ax-run-scores"}
    assert not (second.folder / "ax-run-scores.csv").exists()


@pytest.mark.slow
def test_a_verification_in_the_run_is_told(gax, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(gax, run)
    page = write_report([run], tmp_path / "r.html").page
    assert "not checked yet: gaxjax verify" in html.unescape(page.read_text())
    comparison = {"worst": 3.25e-6, "differing": 1}
    found = {
        "passed": True,
        "num_heatmaps": 1020,
        "num_images": 170,
        "comparisons": [comparison, comparison | {"worst": None}],
        "torch_version": "2.11",
        "dtype": "float32",
    }
    (run / "verification.json").write_text(json.dumps(found))
    write_report([run], tmp_path / "r.html")
    assert (
        "passed: 1,020 heatmaps of 170 images, largest difference of a score 3.2e-06, "
        "2 predictions not the same (torch 2.11, float32)"
    ) in page.read_text()
    (run / "verification.json").write_text("{}")
    write_report([run], tmp_path / "r.html")
    assert "verification.json is damaged" in page.read_text()


@pytest.mark.slow
def test_more_rows_than_a_page_holds_are_those_of_images_taken_evenly(ax, tmp_path, monkeypatch):
    monkeypatch.setattr("gaxjax.report.gallery.MOST_ROWS", 100)
    page = write_report([ax], tmp_path / "r.html").page.read_text()
    found = payload(page)
    assert len(found["columns"]["run"]) == 96
    assert len(found["images"]) == 12
    assert "96 rows of 480, of images taken evenly from all" in page


def test_one_class_of_prediction_alone_draws_a_page(data, tmp_path):
    run = stored_runs.ax_run(
        tmp_path / "run", data, operations=("sum",), methods=(("saliency", None),)
    )
    change_parts(run, lambda rows: rows.filter(pc.field("correct")))
    assert write_report([run], tmp_path / "r.html").num_figures == 3


def test_a_run_of_nothing_but_unreadable_images_is_reported(data, tmp_path):
    run = stored_runs.gax_run(tmp_path / "run", data)
    rows = read_scores(run)
    names = [field.name for field in rows.schema if field.nullable and field.name != "label_name"]
    for name in names:
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(
            place, rows.schema.field(name), pa.nulls(len(rows), rows.schema.field(name).type)
        )
    place = rows.schema.get_field_index("outcome")
    rows = rows.set_column(
        place, rows.schema.field("outcome"), pa.array(["unreadable"] * len(rows))
    )
    change_parts(run, lambda _: rows)
    assert write_report([run], tmp_path / "r.html").num_figures == 0


@pytest.mark.slow
def test_one_run_given_as_two_names_or_two_runs_of_one_name(gax, ax, tmp_path):
    with pytest.raises(UserError, match="given twice"):
        open_runs((gax, gax.parent / "." / gax.name))
    again = tmp_path / "gax-run"
    shutil.copytree(gax, again)
    first, second = open_runs((gax, again))
    assert first.name != second.name
    assert first.key != second.key
    assert len({f.name for f in run_figures(first, lambda _: None)}) == 1
    drawn = course_figures([first, second])
    assert {row["run"] for row in drawn[0].rows} == {first.name, second.name}
