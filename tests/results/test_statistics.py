"""Statistics of a run: each method, the best, the comparison, the tables; honest at the edges."""

import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console
from score_tables import kinds, normal_scores, only, table, with_auroc
from sklearn.metrics import roc_auc_score

from gaxjax.common.errors import UserError
from gaxjax.report.tables import statistics_tables, verdict
from gaxjax.results.method_statistics import Completeness
from gaxjax.results.parts import SCHEMA
from gaxjax.results.separation import auroc_within
from gaxjax.results.statistics import run_statistics

# One method


def test_scores_are_summarised_by_the_baseline_prediction():
    correct = [True, True, True, True, False, False, None]
    scores = [-2.0, 0.0, 4.0, 18.0, 10.0, 10.5, None]
    method = only(run_statistics(table(correct, scores)))
    assert vars(method.correct) == {
        "count": 4,
        "minimum": -2.0,
        "lower_quartile": -0.5,
        "median": 2.0,
        "upper_quartile": 7.5,
        "maximum": 18.0,
        "mean": 5.0,
        "share_above_zero": 0.5,
        "share_at_most_ten": 0.75,
    }
    assert (method.wrong.count, method.wrong.mean, method.wrong.share_at_most_ten) == (
        2,
        10.25,
        0.5,
    )
    assert (method.num_images, method.num_scored) == (7, 6)


@pytest.mark.parametrize("operation", ["sum", "mult"])
def test_an_image_without_a_finite_score_keeps_its_plain_prediction(operation):
    method = only(
        run_statistics(
            table(
                [True, True, False, False, True, False, None, True],
                [1.0, 2.0, 3.0, 4.0, None, None, None, float("nan")],
                operation=operation,
                outcome=["scored"] * 4 + ["zero_heatmap"] * 2 + ["unreadable", "not_finite"],
                prediction=[1, 1, 0, 0, 1, 0, None, 1],
                prediction_after=[1, 0, 1, 2, None, None, None, 0],
                correct_after=[True, False, True, False, None, None, None, False],
                probability_before=[0.5, 0.75, 0.25, 0.0, 1.0, 0.0, None, 0.5],
                probability_after=[1.0, 0.25, 0.75, 0.0, None, None, None, float("nan")],
            )
        )
    )
    assert vars(method.effect) == {
        "num_classified": 7,
        "num_augmented": 4,
        "accuracy_before": 4 / 7,
        "accuracy_after": 4 / 7,
        "num_changed": 3,
        "num_wrong_to_right": 1,
        "num_right_to_wrong": 1,
        "probability_before": 3 / 7,
        "probability_after": 3.5 / 7,
    }
    assert method.outcomes == {"not_finite": 1, "scored": 4, "unreadable": 1, "zero_heatmap": 2}
    assert (method.correct.count, method.wrong.count, method.num_scored) == (2, 2, 4)
    assert method.correct.maximum == 2.0


def test_the_auroc_by_the_prediction_after_splits_the_same_scores_anew():
    scores = [1.0, 2.0, 3.0, 4.0, None]
    after = [False, True, False, True, None]
    gap = only(
        run_statistics(table([True, True, False, False, None], scores, correct_after=after))
    ).gap
    assert gap.auroc == 0.0
    assert gap.auroc_by_prediction_after == 0.75


@pytest.mark.parametrize(
    ("correct", "scores", "defined"),
    [
        ([], [], set()),
        ([None], [None], set()),
        ([True], [1.0], set()),
        (kinds(3, 0), [1.0, 2.0, 3.0], set()),
        (kinds(0, 3), [1.0, 2.0, 3.0], set()),
        (kinds(2, 2), [1.0, 2.0, None, float("inf")], set()),
        (kinds(1, 1), [1.0, 2.0], {"auroc"}),
        (kinds(3, 1), [1.0, 3.0, 4.0, 2.0], {"auroc"}),
        (kinds(3, 3), [0.1] * 6, {"auroc"}),
        (kinds(3, 3), [0.1] * 3 + [0.7] * 3, {"auroc"}),
        (kinds(2, 2), [3.0, 4.0, 1.0, 2.0], {"auroc", "cohens_d"}),
        (kinds(2, 2), [1.0, 4.0, 3.0, 2.0], {"auroc", "cohens_d", "auroc_interval"}),
    ],
)
def test_what_is_undefined_is_none_and_warns_of_nothing(correct, scores, defined):
    statistics = run_statistics(table(correct, scores))
    json.dumps(statistics.to_dict(), allow_nan=False)
    for method in statistics.methods:
        known = {name for name, value in vars(method.gap).items() if value is not None}
        assert known & {"auroc", "cohens_d", "auroc_interval"} == defined
        assert ("ks_p_value" in known) == ("auroc" in known) == ("separation" in known)
    assert len(statistics_tables(statistics)) == 4
    assert len(statistics.rows()) == len(statistics.methods) == bool(correct)


def test_a_gax_run_of_correct_images_has_steps_and_no_gap():
    correct = [True, True, True, True, False, None]
    statistics = run_statistics(
        table(
            correct,
            [48.5, 49.0, 48.0, 12.0, None, None],
            method="gax",
            outcome=["reached"] * 3 + ["step_limit", "misclassified", "unreadable"],
            steps=[2, 9, 4, 1000, None, None],
            correct_after=[True] * 4 + [None] * 2,
        )
    )
    method = only(statistics)
    assert tuple(vars(method.steps).values()) == (3, 3.0, 4.0, 6.5, 9)
    assert method.gap.auroc is None
    assert statistics.best is None
    assert method.effect.accuracy_before == method.effect.accuracy_after == 0.8
    assert len(statistics_tables(statistics)) == 5


def test_a_gax_run_with_wrong_images_has_a_gap():
    method = only(
        run_statistics(
            table(
                kinds(3, 2),
                [48.0, 50.0, 49.0, 48.5, 20.0],
                method="gax",
                outcome=["reached"] * 4 + ["step_limit"],
                steps=[3, 2, 5, 7, 1000],
                correct_after=[True] * 5,
            )
        )
    )
    assert method.gap.auroc == pytest.approx(5 / 6)
    assert method.steps.maximum == 7
    assert (method.effect.accuracy_before, method.effect.accuracy_after) == (0.6, 1.0)


# Several methods


def test_methods_stand_in_the_papers_order_and_layers_are_counted():
    wanted = [
        ("saliency", None, "sum"),
        ("saliency", None, "mult"),
        ("layer_grad_cam", "layer2.0.conv1", "sum"),
        ("layer_grad_cam", "layer10.0.conv1", "sum"),
        ("deep_lift", None, "sum"),
        ("gax", None, "sum"),
        ("another", None, "sum"),
    ]
    tables = [
        table([True], [1.0], method=method, layer=layer, operation=operation)
        for method, layer, operation in reversed(wanted)
    ]
    found = run_statistics(pa.concat_tables(tables)).methods
    assert [(method.method, method.layer, method.operation) for method in found] == wanted


@pytest.mark.parametrize(
    ("aurocs", "best"),
    [
        ((0.5, 0.75, 1.0), "deep_lift [sum]"),
        ((0.0, 0.75, 0.5), "saliency [sum]"),
        ((0.5, 1.0, 0.0), "deconvolution [sum]"),
        ((0.5, 0.5, 0.5), None),
    ],
)
def test_the_best_lies_farthest_from_an_auroc_of_one_half_on_either_side(aurocs, best):
    tables = [
        table(kinds(4, 1), with_auroc(int(4 * area)), method=method)
        for method, area in zip(("saliency", "deconvolution", "deep_lift"), aurocs, strict=True)
    ]
    statistics = run_statistics(pa.concat_tables(tables))
    assert tuple(method.gap.auroc for method in statistics.methods) == aurocs
    assert statistics.best == best
    assert (statistics.comparison is None) == (best is None)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_reversed_method_is_compared_in_its_own_direction(sign):
    generator = np.random.default_rng(0)
    correct = kinds(60, 40)
    strong, weak = (normal_scores(generator, 60, 40, shift) for shift in (2.0, 0.3))
    tables = [table(correct, sign * strong), table(correct, weak, method="deep_lift")]
    statistics = run_statistics(pa.concat_tables(tables))
    first, second = statistics.methods
    versus = statistics.comparison
    assert (versus.best, versus.second) == ("saliency [sum]", "deep_lift [sum]")
    assert versus.difference == pytest.approx(first.gap.separation - second.gap.separation)
    assert versus.interval[0] < versus.difference < versus.interval[1]
    assert versus.told_apart
    assert versus.intervals_overlap is False
    assert ("wrong predictions scoring higher" in verdict(statistics)) == (sign < 0)


def test_two_methods_are_compared_on_the_images_that_both_scored():
    correct = kinds(4, 4)
    first = [3.0, 5.0, 6.0, 7.0, 1.0, 2.0, 4.0, None]
    second = [3.0, None, 2.0, 7.0, 1.0, 2.0, 4.0, 9.0]
    tables = [table(correct, first), table(correct, second, method="deep_lift")]
    versus = run_statistics(pa.concat_tables(tables)).comparison
    assert (versus.num_correct, versus.num_wrong) == (3, 3)
    shared = np.array(kinds(3, 3))
    areas = [
        roc_auc_score(shared, [scores[place] for place in (0, 2, 3, 4, 5, 6)])
        for scores in (first, second)
    ]
    assert versus.difference == pytest.approx(areas[0] - areas[1])


def test_equal_methods_have_no_difference_and_no_interval():
    scores = [1.0, 4.0, 3.0, 2.0, 0.0]
    tables = [table(kinds(3, 2), scores, method=method) for method in ("saliency", "deep_lift")]
    statistics = run_statistics(pa.concat_tables(tables))
    versus = statistics.comparison
    assert (versus.difference, versus.interval, versus.told_apart) == (0.0, None, None)
    assert versus.intervals_overlap is True
    assert statistics.best == "saliency [sum]"
    assert "which is better is open" in verdict(statistics)


# Mistakes, and what is shown


def test_a_mistake_is_told_in_one_line():
    scores = table([True, False], [1.0, 0.0])
    with pytest.raises(UserError, match="no column layer, steps; expected the columns of gaxjax"):
        run_statistics(scores.drop_columns(["layer", "steps"]))
    with pytest.raises(UserError, match=r"image 00000.png has two rows of saliency \[sum\]"):
        run_statistics(pa.concat_tables([scores, scores.slice(0, 1)]))
    with pytest.raises(UserError, match=r"confidence must be between 0 and 1; got 95"):
        run_statistics(scores, confidence=95.0)
    with pytest.raises(UserError, match=r"at least 40 for a confidence of 0\.95; got 39"):
        run_statistics(scores, num_resamples=39)
    run_statistics(scores, num_resamples=40)
    with pytest.raises(UserError, match="seed must be at least 0; got -1"):
        run_statistics(scores, seed=-1)


def test_the_stores_empty_table_gives_empty_statistics():
    statistics = run_statistics(SCHEMA.empty_table())
    assert statistics.methods == ()
    assert statistics.best is None
    assert statistics.rows() == []
    assert verdict(statistics).startswith("Nothing to separate")


@pytest.fixture(scope="module")
def full_statistics():
    """Ten thousand and more images, every outcome, long layer names, large scores: wide cells."""
    generator = np.random.default_rng(0)
    correct = [*kinds(9000, 3000), *[None] * 1000]
    methods = ("saliency", "layer_grad_cam", "guided_backprop", "gax")
    outcomes = ["scored", "zero_heatmap", "not_finite", "reached", "step_limit", "misclassified"]
    tables = [
        table(
            correct,
            [*(99 * normal_scores(generator, 9000, 3000, 1.0)), *[None] * 1000],
            method=method,
            layer="backbone.layer4.2.conv2" if method == "layer_grad_cam" else None,
            operation=operation,
            outcome=[*generator.choice(outcomes, 12000), *["unreadable"] * 1000],
            steps=[1000 if method == "gax" else None] * 13000,
        )
        for method in methods
        for operation in ("sum", "mult")
    ]
    return run_statistics(pa.concat_tables(tables), num_resamples=40)


def test_the_tables_fit_120_columns_and_cut_nothing(full_statistics):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(*statistics_tables(full_statistics))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 120
    assert "…" not in text
    assert "method [operation]" in text
    assert "saliency [sum]" in text
    for method in full_statistics.methods:
        assert f"{method.gap.auroc:.3f}" in text
        assert f"{method.correct.median:.2f}" in text
        assert f"{method.outcomes['misclassified']:,}" in text


def test_statistics_travel_as_json_and_as_rows(full_statistics):
    plain = full_statistics.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    flat = full_statistics.rows()
    assert len({tuple(row) for row in flat}) == 1
    frame = pd.DataFrame(flat)
    assert list(frame.query("best").method) == [full_statistics.best.split()[0]]
    assert list(frame.auroc) == [method.gap.auroc for method in full_statistics.methods]
    assert list(frame.auroc_low) == [
        method.gap.auroc_interval[0] for method in full_statistics.methods
    ]
    assert frame.outcome_unreadable.eq(1000).all()
    assert frame.steps_median.notna().sum() == 2


def test_the_verdict_says_when_the_best_could_not_score_every_image():
    correct = [True, True, True, False, False, False]
    few = [3.0, 2.0, None, 1.0, 0.0, None]
    best = table(correct, few, method="deconvolution")
    rest = table(correct, [1.0, 5.0, 2.0, 4.0, 3.0, 0.0], method="saliency")
    said = verdict(run_statistics(pa.concat_tables([best, rest]), num_resamples=50))
    assert "deconvolution [sum] separates best: AUROC 1.000" in said
    assert "on the 4 of 6 images that it could score" in said
    assert "that it could score" not in verdict(run_statistics(rest, num_resamples=50))


def test_within_classes_only_pairs_of_one_class_count():
    generator = np.random.default_rng(7)
    classes = generator.integers(0, 3, 200)
    correct = (generator.uniform(size=200) < 0.6).tolist()
    scores = generator.normal(size=200) + 5.0 * classes + 1.0 * np.array(correct)
    wins = pairs = 0
    for i in np.flatnonzero(correct):
        for j in np.flatnonzero(~np.array(correct)):
            if classes[i] == classes[j]:
                pairs += 1
                wins += scores[i] > scores[j]
    found = run_statistics(table(correct, scores.tolist(), label=classes.tolist()))
    assert found.methods[0].gap.auroc_within_classes == pytest.approx(wins / pairs)
    assert found.methods[0].gap.auroc < wins / pairs - 0.1


def test_a_class_that_explains_all_errors_leaves_nothing_within():
    scores, correct = np.array([3.0, 2.0, np.nan, 1.0]), np.array([1.0, 1.0, 1.0, 0.0])
    assert auroc_within(scores, correct, np.array([0.0, 0.0, 1.0, 1.0])) is None
    assert auroc_within(scores, correct, np.array([0.0, 1.0, 1.0, 1.0])) == 1.0


def test_completeness_gaps_are_summed_up_for_the_method_that_has_them():
    correct, scores = [True, True, False, None], [2.0, 1.0, 0.0, None]
    gaps = table(correct, scores, method="deep_lift", completeness_gap=[0.5, 0.1, 2.0, None])
    without = table(correct, scores)
    statistics = run_statistics(pa.concat_tables([gaps, without]), num_resamples=200)
    plain, deep_lift = statistics.methods
    assert plain.completeness is None
    assert deep_lift.completeness == Completeness(3, 0.5, 2.0)
    [row, other] = statistics.rows()
    assert row["completeness_gap_median"] is None
    assert other["completeness_gap_maximum"] == 2.0
    drawn = statistics_tables(statistics)[-1]
    assert drawn.title == "Completeness gap of DeepLift"
    assert [tuple(cells[1:]) for cells in drawn.rows] == [("3", "0.5", "2")]


def test_a_table_of_an_older_run_has_no_completeness():
    older = table([True, False], [1.0, 0.0], method="deep_lift").drop_columns(["completeness_gap"])
    [method] = run_statistics(older, num_resamples=200).methods
    assert method.completeness is None
