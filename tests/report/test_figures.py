"""The numbers behind the figures are the store's."""

import csv
import json
import re

import numpy as np
import pyarrow as pa
import pytest
import stored_runs
from altered_runs import change_rows
from PIL import Image
from reading import load

from gaxjax.report.figures.boxes import boxes_of
from gaxjax.report.figures.curves import curves_of, draw_curves
from gaxjax.report.figures.heatmaps import heatmap_figures
from gaxjax.report.figures.histograms import histograms_of
from gaxjax.report.figures.probabilities import probabilities_of
from gaxjax.report.figures.steps import steps_of
from gaxjax.report.figures.sweep import Swept, draw_sweep
from gaxjax.results.reading import read_scores


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
    boxes = boxes_of(run.scores, run.statistics)
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
    for histogram in histograms_of(run.scores, run.statistics):
        key = {name: getattr(histogram, name) for name in ("method", "layer", "operation")}
        for kind in ("correct", "wrong"):
            scores = scores_of(ax, correct=kind == "correct", **key)
            counts = getattr(histogram, kind)
            assert counts.sum() == len(scores)
            inner = (scores >= histogram.edges[1]) & (scores < histogram.edges[2])
            assert counts[1] == inner.sum()


def test_curves_hold_the_last_score_of_an_image_that_has_stopped(gax):
    run = load(gax)
    curves = curves_of(run.name, run.scores, 48.0)
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
    assert [line.tolist() for line in curves_of("r", scores, 48.0).lines] == [[1, 2], [3]]


def test_long_curves_are_drawn_at_a_thousand_steps_with_both_ends():
    scores = pa.table({"curve": [np.arange(5001.0)]})
    curves = curves_of("r", scores, 48.0)
    assert (len(curves.steps), curves.steps[0], curves.steps[-1]) == (1000, 0, 5000)
    assert curves.median.tolist() == curves.steps.tolist()


def test_steps_fall_into_bins_of_whole_numbers_and_none_is_lost(gax):
    run = load(gax)
    steps = steps_of(run.name, run.scores)
    rows = run.scores.to_pylist()
    reached = [row["steps"] for row in rows if row["outcome"] == "reached"]
    assert steps.reached.sum() == len(reached)
    assert steps.not_reached.sum() == sum(row["outcome"] == "step_limit" for row in rows)
    assert steps.median == np.median(reached)
    assert np.all(steps.edges % 1 == 0.5)
    assert steps.reached[3] == sum(steps.edges[3] < step < steps.edges[4] for step in reached)


def test_probabilities_before_and_after_speak_of_the_same_images(gax):
    run = load(gax)
    found = probabilities_of(run.name, run.scores)
    both = sum(row["probability_after"] is not None for row in run.scores.to_pylist())
    assert found.before.sum() == found.after.sum() == both
    assert found.after[-1] == both


def test_every_figure_has_a_csv_with_its_numbers(written):
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


def test_the_csv_of_the_curves_has_their_medians_in_full(gax, written):
    with (written.folder / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    curves = curves_of("gax-run", load(gax).scores, 48.0)
    assert [float(row["median"]) for row in rows] == curves.median.tolist()


def test_ten_thousand_curves_make_no_large_svg():
    lines = [np.linspace(0, 48 + i % 9, 20 + i % 30).tolist() for i in range(10_000)]
    drawn = curves_of("r", pa.table({"curve": lines}), 48.0)
    assert len(draw_curves([drawn]).svg) < 1_000_000


def test_a_sweeps_axis_of_updates_has_plain_numbers_and_all_images_stop_in_the_end():
    lines = [np.linspace(0, 50, count) for count in (1, 5, 300)]
    curves = curves_of("learning-rate=0.1", pa.table({"curve": lines}), 48.0)
    swept = Swept(curves, 0.5, 0)
    assert swept.stopped()[[0, 3, 4, 298, 299]] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    svg = draw_sweep([swept], []).svg
    labels = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    assert {"0", "1", "10", "100"} <= set(labels)
    assert not any("$" in label for label in labels)


@pytest.mark.parametrize(("still_at_0", "expected"), [(8, {2, 3}), (10, {0})])
def test_heatmaps_that_were_never_updated_are_drawn_only_where_all_are(
    data, tmp_path, still_at_0, expected
):
    run = stored_runs.gax_run(tmp_path / "run", data, only=10)
    rows = iter(range(10))

    def change(row):
        number = next(rows)
        steps = 0 if number < still_at_0 else 2 + number % 2
        return [row | {"steps": steps, "outcome": "reached"}]

    change_rows(run, change)
    opened = load(run)
    [figure] = heatmap_figures(opened, lambda _: None)
    assert {row["steps"] for row in figure.rows} == expected
