"""The report: its figures' numbers are the store's, and its page is safe and works by itself."""

import base64
import csv
import gzip
import html
import html.parser
import json
import re
import shlex
import shutil
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import stored_runs
from PIL import Image

from gaxjax.cli import main, parse
from gaxjax.config import AxConfig, AxRunConfig, DataConfig, GaxConfig, ModelConfig, RunConfig
from gaxjax.errors import UserError
from gaxjax.report import figures
from gaxjax.report.course_drawings import draw_curves
from gaxjax.report.evolution import MOST_IMAGES, MOST_STEPS, evolutions
from gaxjax.report.gallery import choose, gallery
from gaxjax.report.page import write_report
from gaxjax.report.pictures import augmented, color_table, heatmap_picture
from gaxjax.report.run_figures import course_figures, run_figures
from gaxjax.report.runs import command_line, images_of, load_runs
from gaxjax.store import part_paths, read_scores

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)> $x_{ ' & {{ 7*7 }}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return stored_runs.image_folder(tmp_path_factory.mktemp("images") / "xray", 30)


@pytest.fixture(scope="module")
def gax(data, tmp_path_factory):
    run = stored_runs.gax_run(tmp_path_factory.mktemp("gax") / "gax-run", data)
    ids = [row["image_id"] for row in read_scores(run).to_pylist() if row["outcome"] == "reached"]
    stored_runs.add_snapshots(run, ids[:3])
    return run


@pytest.fixture(scope="module")
def ax(data, tmp_path_factory):
    return stored_runs.ax_run(tmp_path_factory.mktemp("ax") / "ax-run", data)


@pytest.fixture(scope="module")
def written(gax, ax, tmp_path_factory):
    return write_report([gax, ax], tmp_path_factory.mktemp("out") / "report.html")


@pytest.fixture(scope="module")
def page(written):
    return written.page.read_text()


def payload(page: str) -> dict:
    [text] = re.findall(r'<script type="text/plain" id="report-data">(.*?)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(text)))


def load(path):
    return load_runs((path,))[0]


# The numbers behind the figures


def scores_of(path, *, correct, **key):
    rows = read_scores(path).to_pylist()
    return np.array(
        [
            row["co_score"]
            for row in rows
            if row["correct"] is correct
            and row["co_score"] is not None
            and all(row[name] == value for name, value in key.items())
        ]
    )


def test_boxes_are_the_quartiles_and_whiskers_of_the_stored_scores(ax):
    run = load(ax)
    boxes = figures.boxes(run.scores, run.statistics)
    assert len(boxes) == 4 * 2 * 2
    for box in boxes:
        key = {name: getattr(box, name) for name in ("method", "layer", "operation")}
        scores = scores_of(ax, correct=box.kind == "correct", **key)
        low, median, high = np.percentile(scores, [25, 50, 75])
        assert box.count == len(scores)
        assert (box.lower_quartile, box.median, box.upper_quartile) == pytest.approx(
            (low, median, high)
        )
        reach = 1.5 * (high - low)
        inside = scores[(scores >= low - reach) & (scores <= high + reach)]
        assert (box.low_whisker, box.high_whisker) == pytest.approx((inside.min(), inside.max()))
        assert len(box.outliers) + len(inside) == len(scores)


def test_histograms_count_every_finite_score_once(ax):
    run = load(ax)
    for histogram in figures.histograms(run.scores, run.statistics):
        key = {name: getattr(histogram, name) for name in ("method", "layer", "operation")}
        for kind in ("correct", "wrong"):
            scores = scores_of(ax, correct=kind == "correct", **key)
            counts = getattr(histogram, kind)
            assert counts.sum() == len(scores)
            inner = (scores >= histogram.edges[1]) & (scores < histogram.edges[2])
            assert counts[1] == inner.sum()


def test_curves_hold_the_last_score_of_an_image_that_has_stopped(gax):
    run = load(gax)
    curves = figures.curves(run.name, run.scores, 48.0)
    stored = [row["curve"] for row in run.scores.to_pylist() if row["curve"]]
    assert [line.tolist() for line in curves.lines] == stored
    longest = max(map(len, stored))
    assert curves.steps.tolist() == list(range(longest))
    held = [line + [line[-1]] * (longest - len(line)) for line in stored]
    assert curves.median == pytest.approx(np.median(held, axis=0))
    assert curves.low == pytest.approx(np.percentile(held, 10, axis=0))
    assert curves.high == pytest.approx(np.percentile(held, 90, axis=0))
    expected = [sum(len(line) > step for line in stored) for step in range(longest)]
    assert curves.running.tolist() == expected


def test_a_curve_ends_before_its_first_score_that_is_not_finite():
    scores = pa.table({"curve": [[1.0, 2.0, float("nan"), 5.0], [float("inf")], None, [3.0]]})
    assert [line.tolist() for line in figures.curves("r", scores, 48.0).lines] == [[1, 2], [3]]


def test_long_curves_are_drawn_at_a_thousand_steps_with_both_ends():
    scores = pa.table({"curve": [np.arange(5001.0)]})
    curves = figures.curves("r", scores, 48.0)
    assert (len(curves.steps), curves.steps[0], curves.steps[-1]) == (1000, 0, 5000)
    assert curves.median.tolist() == curves.steps.tolist()


def test_steps_fall_into_bins_of_whole_numbers_and_none_is_lost(gax):
    run = load(gax)
    steps = figures.steps(run.name, run.scores)
    rows = run.scores.to_pylist()
    reached = [row["steps"] for row in rows if row["outcome"] == "reached"]
    assert steps.reached.sum() == len(reached)
    assert steps.not_reached.sum() == sum(row["outcome"] == "step_limit" for row in rows)
    assert steps.median == np.median(reached)
    assert np.all(steps.edges % 1 == 0.5)
    assert steps.reached[3] == sum(steps.edges[3] < step < steps.edges[4] for step in reached)


def test_probabilities_before_and_after_speak_of_the_same_images(gax):
    run = load(gax)
    found = figures.probabilities(run.name, run.scores)
    both = sum(row["probability_after"] is not None for row in run.scores.to_pylist())
    assert found.before.sum() == found.after.sum() == both
    assert found.after[-1] == both


def test_every_figure_has_a_csv_with_its_numbers(gax, ax, written):
    names = {path.stem for path in written.folder.glob("*.csv")}
    captions = json.loads((written.folder / "figures.json").read_text())
    assert {figure["name"] for figure in captions} == names
    assert names == {
        *("curves", "steps", "probabilities", "gax-run-heatmaps"),
        *(f"ax-run-{name}" for name in ("scores", "layers", "histograms")),
        *("ax-run-heatmaps-correct", "ax-run-heatmaps-wrong"),
    }
    assert written.num_figures == len(names)
    for name in names:
        assert (written.folder / f"{name}.svg").read_text().count("<svg") == 1
        with Image.open(written.folder / f"{name}.png") as picture:
            assert picture.width > 500
        with (written.folder / f"{name}.csv").open() as file:
            assert len(list(csv.DictReader(file))) > 0, name
    with (written.folder / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    curves = figures.curves("gax-run", load(gax).scores, 48.0)
    assert [float(row["median"]) for row in rows] == curves.median.tolist()


def test_ten_thousand_curves_make_no_large_svg():
    lines = [np.linspace(0, 48 + i % 9, 20 + i % 30).tolist() for i in range(10_000)]
    drawn = figures.curves("r", pa.table({"curve": lines}), 48.0)
    assert len(draw_curves([drawn]).svg) < 1_000_000


# Pictures


def test_a_heatmap_picture_says_its_scale_and_its_largest_magnitude():
    heatmap = np.zeros((8, 8, 3), np.float32)
    heatmap[..., 1] = -0.5
    found = heatmap_picture(heatmap, 8)
    assert (found["scale"], found["max"]) == (0.5, 0.5)
    assert heatmap_picture(np.zeros((8, 8, 3), np.float32), 4)["max"] == 0
    assert heatmap_picture(np.ones((8, 8, 3), np.float32), 4)["strip"].startswith("data:image/webp")


def test_the_augmented_picture_is_x_plus_h_where_the_two_meet():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    heatmap = np.random.default_rng(1).normal(size=(4, 4, 3)).astype(np.float32)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    z = (image / 255 - np.array(mean)) / np.array(std)
    expected = (z + heatmap) * np.array(std) + np.array(mean)
    expected = (expected - expected.min()) / np.ptp(expected)
    assert augmented(image, heatmap, "sum", (mean, std)) == pytest.approx(expected, abs=1e-5)
    plain = image / 255 * heatmap
    plain = (plain - plain.min()) / np.ptp(plain)
    found = augmented(image, heatmap, "mult", ([0.0] * 3, [1.0] * 3))
    assert found == pytest.approx(plain, abs=1e-5)


def test_the_colours_are_white_in_the_middle_and_symmetric_in_number():
    colors = bytes.fromhex(color_table())
    assert len(colors) == 3 * 255
    assert min(colors[3 * 127 : 3 * 128]) > 240
    assert colors[0] < colors[2], "negative is blue"
    assert colors[-3] > colors[-1], "positive is red"


# Gallery and evolution


def test_the_gallery_has_every_row_with_its_numbers(gax, ax):
    runs = [load(gax), load(ax)]
    found = gallery(runs, [images_of(run)[0] for run in runs], 40)
    columns = found["columns"]
    rows = [row for run in runs for row in run.scores.to_pylist()]
    assert {len(column) for column in columns.values()} == {len(rows)}
    for place in (0, 6, 59, 60, len(rows) - 1):
        row = rows[place]
        assert found["images"][columns["image"][place]] == row["image_id"]
        assert found["classes"][columns["label"][place]] == row["label_name"]
        score = columns["score"][place]
        assert score == (row["co_score"] and pytest.approx(row["co_score"], rel=1e-4))
        assert columns["steps"][place] == row["steps"]
    assert len(found["pictures"]["heatmaps"]) <= 40
    assert all(rows[int(place)]["heatmap_row"] is not None for place in found["pictures"]["rows"])


def test_extremes_and_every_kind_of_outcome_get_a_picture():
    rows = [
        {
            "image_id": f"{i:04d}",
            "co_score": float((i * 37) % 400),
            "steps": (i * 11) % 400,
            "probability_before": ((i * 7) % 400) / 1000,
            "probability_after": 0.9,
            "outcome": "step_limit" if i == 123 else "reached",
            "correct": True,
        }
        for i in range(400)
    ]
    chosen = choose(rows, 30)
    ids = {row["image_id"] for row in chosen}
    assert len(chosen) == len(ids) == 30
    assert "0123" in ids
    for key in ("co_score", "steps"):
        for end in (min, max):
            assert end(rows, key=lambda row: row[key])["image_id"] in ids
    assert choose(rows, 400) == rows
    assert choose(rows, 0) == []


def test_snapshots_become_steps_with_their_scores_classes_and_changes(gax):
    run = load(gax)
    found = evolutions(run, images_of(run)[0], 0)
    assert len(found) == 3
    [first, second, *_] = found[0]["steps"]
    assert (first["step"], second["step"], second["score"]) == (0, 2, 10.0)
    assert first["change"] is None
    assert first["heatmap"]["max"] == pytest.approx(0.1, rel=1e-3)
    assert second["change"]["max"] == pytest.approx(0.2, rel=1e-2)
    assert first["top"] == [["PNEUMONIA", 0.5], ["NORMAL", 0.5]]


def test_the_viewer_shows_at_most_so_many_images_and_steps(data, tmp_path):
    path = stored_runs.gax_run(tmp_path / "run", data)
    run = load(path)
    rows = [row["image_id"] for row in run.scores.to_pylist() if row["steps"] is not None]
    ids = rows[: MOST_IMAGES + 4]
    stored_runs.add_snapshots(path, ids, steps=tuple(range(40)))
    found = evolutions(run, images_of(run)[0], 0)
    assert len(found) == MOST_IMAGES
    steps = [step["step"] for step in found[0]["steps"]]
    assert (len(steps), steps[0], steps[-1]) == (MOST_STEPS, 0, 39)
    assert found[0]["taken"] == 40


# How to run it again


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(model=ModelConfig(model="m"), data=DataConfig(data="digits")),
        RunConfig(
            model=ModelConfig(model="a b"),
            data=DataConfig(data="d", classes=("NORMAL", "x y"), resize="crop", split="test"),
            gax=GaxConfig(bias=True, target=-1.5, score_space="raw", learning_rate=1e-3),
            preset="paper",
            first_correct=100,
        ),
        RunConfig(
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
    command = "gax" if isinstance(config, RunConfig) else "ax"
    object.__setattr__(run, "config", config)
    object.__setattr__(run, "header", run.header | {"command": command})
    words = shlex.split(command_line(run))
    assert words[:2] == ["gaxjax", command]
    assert parse(words[1:]).run == config


# The page


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
    stored_runs.add_snapshots(run, images)
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


def test_moved_images_are_shown_from_where_they_are(tmp_path):
    data = stored_runs.image_folder(tmp_path / "d", 12)
    run = stored_runs.gax_run(tmp_path / "run", data)
    data.rename(tmp_path / "moved")
    assert "--data says where" in write_report([run], tmp_path / "r.html").notes[0]
    written = write_report([run], tmp_path / "r.html", data=str(tmp_path / "moved"))
    assert not written.notes
    assert payload(written.page.read_text())["pictures"]["images"]
    assert str(tmp_path / "moved") in written.page.read_text(), "the command to run it again"


def test_figures_of_an_earlier_report_go_and_other_files_stay(gax, ax, tmp_path):
    first = write_report([gax, ax], tmp_path / "r.html")
    (first.folder / "mine.csv").write_text("kept")
    (first.folder / "ax-run-scores.csv.bak").write_text("kept")
    second = write_report([gax], tmp_path / "r.html")
    stems = {path.name.partition(".")[0] for path in second.folder.iterdir()}
    names = {"curves", "steps", "probabilities", "gax-run-heatmaps"}
    assert stems == names | {"figures", "mine", "ax-run-scores"}
    assert not (second.folder / "ax-run-scores.csv").exists()


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
    for part in part_paths(run):
        rows = read_scores(run)
        pq.write_table(rows.filter(pc.field("correct")), part)
    assert write_report([run], tmp_path / "r.html").num_figures == 3


def test_a_run_of_nothing_but_unreadable_images_is_reported(data, tmp_path):
    run = stored_runs.gax_run(tmp_path / "run", data)
    [part] = part_paths(run)
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
    pq.write_table(rows, part)
    assert write_report([run], tmp_path / "r.html").num_figures == 0


def test_one_run_given_as_two_names_or_two_runs_of_one_name(gax, ax, tmp_path):
    with pytest.raises(UserError, match="given twice"):
        load_runs((gax, gax.parent / "." / gax.name))
    again = tmp_path / "gax-run"
    shutil.copytree(gax, again)
    first, second = load_runs((gax, again))
    assert first.name != second.name
    assert first.key != second.key
    assert len({f.name for f in run_figures(first, lambda _: None)}) == 1
    drawn = course_figures([first, second])
    assert {row["run"] for row in drawn[0].rows} == {first.name, second.name}


# What cannot be reported


def damage(run, how):
    if how == "empty":
        shutil.rmtree(run / "scores")
        return "holds no scores yet"
    if how == "no run.json":
        (run / "run.json").unlink()
        return "holds no gaxjax run"
    if how == "header":
        header = json.loads((run / "run.json").read_text())
        del header["data"]
        (run / "run.json").write_text(json.dumps(header))
        return "it lacks data"
    if how == "config":
        header = json.loads((run / "run.json").read_text())
        del header["config"]["model"]
        (run / "run.json").write_text(json.dumps(header))
        return "damaged"
    if how == "scores":
        part_paths(run)[0].write_bytes(b"PAR1 nothing")
        return "is damaged"
    if how == "heatmaps":
        shutil.rmtree(run / "heatmaps.zarr")
        return "heatmaps.zarr is missing"
    if how == "shard":
        shutil.rmtree(run / "heatmaps.zarr" / "c")
        return "heatmaps.zarr is damaged"
    if how == "snapshots":
        (run / "snapshots.parquet").write_bytes(b"nothing")
        return "snapshots.parquet is damaged"
    if how == "snapshot array":
        shutil.rmtree(run / "snapshots.zarr")
        return "snapshots.zarr is damaged"
    raise AssertionError(how)


@pytest.mark.parametrize(
    "how",
    [
        *("empty", "no run.json", "header", "config", "scores", "heatmaps", "shard"),
        *("snapshots", "snapshot array"),
    ],
)
def test_a_damaged_or_empty_run_is_refused_in_one_line(how, gax, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(gax, run)
    expected = damage(run, how)
    assert main(["report", str(run), "--output", str(tmp_path / "r.html")]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("output", ["r.pdf", "missing/r.html"])
def test_a_page_that_cannot_be_written_is_refused_first(output, gax, tmp_path):
    with pytest.raises(UserError, match=r"must end in|cannot write"):
        write_report([gax], tmp_path / output)


def test_the_command_says_what_it_wrote_and_what_comes_next(gax, tmp_path, capsys):
    output = tmp_path / "r.html"
    assert main(["report", str(gax), "--output", str(output), "--num-pictures", "5"]) == 0
    said = capsys.readouterr().out
    assert f"Wrote {output}" in said
    assert "r_figures" in said
    assert "Next: gaxjax verify" in said
    assert len(payload(output.read_text())["pictures"]["heatmaps"]) == 5


# In a browser


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(names)}")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        # In a container there are no user namespaces for the sandbox.
        found = started.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield found
        found.close()


class Opened:
    """A page in the browser that keeps what it complained about and asked for."""

    def __init__(self, browser, path, **context):
        self.faults, self.requests = [], []
        self.page = browser.new_page(**context)
        self.page.on("console", lambda m: self.faults.append(m.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        started = time.perf_counter()
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#gallery-body tr")
        self.seconds = time.perf_counter() - started

    def column(self, name):
        cells = self.page.query_selector_all(f'#gallery-body td[data-name="{name}"]')
        return [cell.inner_text() for cell in cells]

    def wait_for_rows(self, count):
        # The page's policy forbids playwright's own waiting for an expression.
        until = time.perf_counter() + 10
        while self.page.locator("#gallery-body tr").count() != count:
            assert time.perf_counter() < until, "the rows did not come"
            self.page.wait_for_timeout(10)

    def picture(self, selector):
        return self.page.eval_on_selector(selector, "canvas => canvas.toDataURL()")

    def close(self):
        outside = [url for url in self.requests[1:] if not url.startswith("data:")]
        self.page.close()
        assert not self.faults
        assert not outside


@pytest.fixture
def opened(browser, written):
    found = Opened(browser, written.page)
    yield found
    found.close()


def test_the_slider_moves_through_the_steps_and_changes_the_pictures(opened):
    page = opened.page
    red = "#viewer-panels figure:nth-child(2) canvas"
    page.wait_for_timeout(300)
    first = opened.picture(red)
    assert "step 0, score 0.00" in page.inner_text("#viewer-now")
    page.focus("#viewer-step")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "step 5, score 25.00" in page.inner_text("#viewer-now")
    assert page.get_attribute("#viewer-step", "aria-valuetext") == "step 5, score 25.00"
    page.wait_for_timeout(300)
    caption = page.inner_text("#viewer-panels figure:nth-child(2) figcaption")
    assert "abs max 0.6" in caption
    assert "0.750" in page.inner_text("#viewer-top li:first-child")
    page.select_option("#viewer-image", "1")
    assert "step 0" in page.inner_text("#viewer-now")
    page.wait_for_timeout(300)
    image = "#viewer-panels figure:nth-child(1) canvas"
    second_image = opened.picture(image)
    page.select_option("#viewer-image", "0")
    page.wait_for_timeout(300)
    assert opened.picture(image) != second_image
    assert opened.picture(red) == first


def test_a_change_shows_only_what_came(opened):
    page = opened.page
    page.focus("#viewer-step")
    page.keyboard.press("End")
    page.wait_for_timeout(300)
    assert "abs max 0.4" in page.inner_text("#viewer-panels figure:nth-child(5) figcaption")
    color = page.eval_on_selector(
        "#viewer-panels figure:nth-child(3) canvas",
        "c => [...c.getContext('2d').getImageData(3, 3, 1, 1).data]",
    )
    assert min(color) > 235, "the green channel is zero, which is white"


def test_headers_sort_by_number_and_say_so(opened):
    page = opened.page
    button = page.locator("#gallery-head button", has_text="Score")
    button.focus()
    page.keyboard.press("Enter")
    scores = [float(text) for text in opened.column("Score")]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 50
    header = page.locator("#gallery-head th[aria-sort]")
    assert header.get_attribute("aria-sort") == "descending"
    button.click()
    assert header.count() == 1
    assert header.get_attribute("aria-sort") == "ascending"
    scores = [float(text) for text in opened.column("Score")]
    assert scores == sorted(scores)


def test_filters_leave_the_rows_that_fit(opened, gax):
    page = opened.page
    rows = read_scores(gax).to_pylist()
    page.select_option("#filter-run", "0")
    page.select_option("#filter-outcome", label="step limit")
    wanted = [row for row in rows if row["outcome"] == "step_limit"]
    opened.wait_for_rows(len(wanted))
    assert set(opened.column("Outcome")) == {"step limit"}
    page.click("button[type=reset]")
    page.fill("#filter-gain-low", "0.5")
    page.select_option("#filter-run", "0")
    page.wait_for_timeout(300)
    gains = [float(text) for text in opened.column("Gain")]
    expected = sum(
        row["probability_after"] is not None
        and row["probability_after"] - row["probability_before"] >= 0.5
        for row in rows
    )
    assert len(gains) == min(50, expected) > 0
    assert min(gains) >= 0.5
    page.click("button[type=reset]")
    page.fill("#filter-text", "no such image")
    opened.wait_for_rows(0)
    assert "No row fits" in page.inner_text("#gallery-count")


def test_a_picture_opens_larger_and_escape_closes_it(opened):
    page = opened.page
    page.locator(".trio").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert page.locator("#detail canvas").count() == 5
    blank = page.eval_on_selector_all(
        "#detail canvas",
        """all => all.filter(canvas =>
            new Set(canvas.getContext('2d').getImageData(0, 0, 8, 8).data).size < 3)""",
    )
    assert not blank
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()


def test_an_image_without_a_picture_opens_with_its_facts_and_a_command(browser, gax, tmp_path):
    found = Opened(browser, write_report([gax], tmp_path / "r.html", num_pictures=1).page)
    page = found.page
    page.select_option("#filter-outcome", label="step limit")
    wanted = [r for r in read_scores(gax).to_pylist() if r["outcome"] == "step_limit"]
    found.wait_for_rows(len(wanted))
    page.locator("#gallery-body td.path button").first.click()
    assert page.inner_text("#detail-view") == f"gaxjax view {gax} {wanted[0]['image_id']}"
    assert page.locator("#detail canvas").count() == 0
    assert "step limit" in page.inner_text("#detail-facts")
    page.keyboard.press("Escape")
    found.close()


def test_cards_show_the_same_rows_side_by_side(opened):
    page = opened.page
    names = opened.column("Image")
    page.check("#gallery-cards")
    assert opened.column("Image") == names
    boxes = [row.bounding_box() for row in page.locator("#gallery-body tr").all()[:2]]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_both_themes(scheme, browser, written):
    found = Opened(
        browser, written.page, color_scheme=scheme, viewport={"width": 390, "height": 844}
    )
    assert found.page.evaluate("document.documentElement.scrollWidth") == 390
    ink = found.page.evaluate("getComputedStyle(document.querySelector('.drawing text')).fill")
    light = sum(map(int, re.findall(r"\d+", ink)[:3])) > 380
    assert light == (scheme == "dark"), "a figure's text follows the theme"
    found.close()


def test_hostile_names_run_nothing_in_a_browser(browser, tmp_path):
    name = HOSTILE.replace("/", "∕")
    data = stored_runs.image_folder(tmp_path / "d", 9, ("a", name), last_name=name)
    run = stored_runs.gax_run(tmp_path / "run", data)
    stored_runs.add_snapshots(run, read_scores(run)["image_id"].to_pylist())
    found = Opened(browser, write_report([run], tmp_path / "r.html").page)
    dialogs = []
    found.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    found.page.locator(".trio").first.click()
    found.page.wait_for_timeout(200)
    assert not dialogs
    assert name in found.page.inner_text("#gallery-body")
    found.close()


def test_ten_thousand_rows_stay_responsive(browser, tmp_path, record_property):
    """Measured on two shared cores: opening 0.7 to 0.9 s, sorting 0.3 s, filtering 0.2 s."""
    data = stored_runs.image_folder(tmp_path / "d", 5000)
    run = stored_runs.gax_run(tmp_path / "run", data)
    written = write_report([run], tmp_path / "r.html")
    found = Opened(browser, written.page)
    assert "of 10,000 rows" in found.page.inner_text("#gallery-count")
    assert found.page.locator("#gallery-body tr").count() == 50
    started = time.perf_counter()
    found.page.locator("#gallery-head button", has_text="Gain").click()
    assert found.page.locator("th[aria-sort]").count() == 1
    sorting = time.perf_counter() - started
    started = time.perf_counter()
    found.page.fill("#filter-text", "normal/0499")
    found.wait_for_rows(10)
    filtering = time.perf_counter() - started
    record_property("seconds", (found.seconds, sorting, filtering))
    record_property("megabytes", written.num_bytes / 1e6)
    print(f"{written.num_bytes / 1e6:.2f} MB; {found.seconds:.2f} {sorting:.2f} {filtering:.2f} s")
    assert written.num_bytes < 8_000_000
    # Several times what was measured, for a busy machine.
    assert found.seconds < 10
    assert sorting < 2
    assert filtering < 3
    found.close()
