"""The indicator: fitted on labelled images, judged on others, and no label in its scores."""

import csv
import json
import shutil

import numpy as np
import pytest
from altered_runs import change_parts, change_rows, edit_header
from stored_runs import AX_METHODS, ax_run, gax_run, image_folder

from gaxjax.cli.main import main
from gaxjax.common.errors import UserError
from gaxjax.report.judgement import fit_tables, judgement_tables, judgement_words
from gaxjax.results.indicator import SCORERS, read_indicator
from gaxjax.results.indicator_fit import fit_indicator
from gaxjax.results.indicator_judgement import apply_indicator
from gaxjax.results.label_free import BASELINES, label_free
from gaxjax.results.stored_run import open_run

PER_CLASS = 24


def folder_of(folder, prefix):
    """Images whose names no other folder has."""
    image_folder(folder, PER_CLASS)
    for path in sorted(folder.glob("*/*.png")):
        path.rename(path.with_name(f"{prefix}-{path.name}"))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A validation and a test run, of other images."""
    place = tmp_path_factory.mktemp("indicator")
    return [
        ax_run(place / name, folder_of(place / f"images-{name}", name)) for name in ("val", "test")
    ]


@pytest.fixture
def test_run(runs, tmp_path):
    return shutil.copytree(runs[1], tmp_path / "test")


@pytest.fixture
def val_run(runs, tmp_path):
    return shutil.copytree(runs[0], tmp_path / "val")


@pytest.fixture(scope="module")
def indicator(runs):
    return fit_indicator(open_run(runs[0]))


def fit(run, **settings):
    return fit_indicator(open_run(run), **settings)


def judge(indicator, run, **settings):
    return apply_indicator(indicator, open_run(run), num_resamples=100, **settings)


def refused(function, *arguments, **settings):
    with pytest.raises(UserError) as caught:
        function(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(run, values):
    """Change all rows: `values` takes a row, and gives what is new of it."""
    change_rows(run, lambda row: [row | values(row)])


# --- Fitted --------------------------------------------------------------------------------------


def test_the_best_by_auroc_is_chosen_in_its_better_direction(indicator, runs):
    images = label_free(open_run(runs[0]))
    assert {each.key for each in indicator.candidates} == set(images.scores)
    assert len(indicator.candidates) == 2 * len(AX_METHODS)
    areas = [each.auroc for each in indicator.candidates]
    assert areas == sorted(areas, reverse=True)
    assert areas[-1] >= 0.5
    assert indicator.chosen == indicator.candidates[0]
    assert indicator.chosen.operation == "sum"
    assert indicator.chosen.direction == 1


def test_a_score_that_is_higher_of_wrong_predictions_is_turned_round(val_run):
    change(val_run, lambda row: {"co_score_predicted": 5.0 + row["label"] - 9 * row["correct"]})
    chosen = fit(val_run).chosen
    assert (chosen.direction, chosen.auroc) == (-1, 1.0)


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.8, 1.0])
def test_a_threshold_accepts_at_least_the_wanted_coverage(runs, coverage):
    for fitted in fit(runs[0], coverage=coverage).fits.values():
        assert coverage <= fitted.coverage < coverage + 2 / (2 * PER_CLASS)


def test_a_threshold_keeps_to_the_wanted_error_and_accepts_all_it_can(runs):
    found = fit(runs[0], error=0.1)
    images = label_free(open_run(runs[0]))
    for name, score in found.scores(images).items():
        fitted = found.fits[name]
        assert fitted.error <= 0.1
        for lower in np.unique(score[score < fitted.threshold]):
            assert np.isneginf(lower) or (~images.right[score >= lower]).mean() > 0.1


def test_an_error_out_of_reach_is_refused_with_what_is_in_reach(val_run):
    change(val_run, lambda _: {"co_score_predicted": 1.0})
    said = refused(fit, val_run, error=0.0)
    assert "--error 0 is out of reach" in said
    assert "the least is 0.333" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"coverage": 0.5, "error": 0.1}, "--coverage and --error are both given"),
        ({"coverage": 0.0}, "--coverage must be above 0 and at most 1; got 0.0"),
        ({"error": 1.0}, "--error must be at least 0 and below 1; got 1.0"),
        ({"split": 1.0}, "--split must be between 0 and 1; got 1.0"),
        ({"split": 0.5, "seed": -1}, "--seed must be at least 0; got -1"),
    ],
)
def test_an_impossible_setting_is_refused(runs, settings, words):
    assert words in refused(fit, runs[0], **settings)


def test_of_one_kind_alone_nothing_is_fitted(val_run):
    change(val_run, lambda row: {"prediction": row["label"], "correct": True})
    assert "48 right predictions and 0 wrong to fit on" in refused(fit, val_run)


def test_an_older_run_is_told_so_and_a_gax_run_too(val_run, tmp_path):
    change_parts(val_run, lambda table: table.drop_columns(["co_score_predicted", *BASELINES]))
    said = refused(fit, val_run)
    assert "is of before the score for the prediction was stored (384 of its 384 rows" in said
    gax = gax_run(tmp_path / "gax", image_folder(tmp_path / "images", 3))
    assert "is a GAX run" in refused(fit, gax)


def test_what_is_picked_is_fitted_on_the_drawn_images_alone(val_run):
    before = fit(val_run, split=0.5, seed=3)
    assert before.split == {"share": 0.5, "seed": 3}
    assert len(before.images) == PER_CLASS
    fitted = {image_id for image_id, _ in before.images}
    random = np.random.default_rng(0)
    change(
        val_run,
        lambda row: (
            {}
            if row["image_id"] in fitted
            else {
                "co_score_predicted": float(random.normal()),
                "max_probability": float(random.uniform()),
                "label": 1 - row["label"],
                "correct": not row["correct"],
            }
        ),
    )
    assert fit(val_run, split=0.5, seed=3) == before
    assert fit(val_run, split=0.5, seed=4).images != before.images


def test_an_indicator_is_read_as_it_was_written_and_damage_is_told(indicator, tmp_path):
    file = tmp_path / "indicator.json"
    indicator.write(file)
    assert read_indicator(file) == indicator
    values = json.loads(file.read_text())
    values["chosen"]["direction"] = -1
    file.write_text(json.dumps(values))
    assert "is damaged" in refused(read_indicator, file)
    file.write_text("{}")
    assert "is damaged" in refused(read_indicator, file)
    assert "no such file" in refused(read_indicator, tmp_path / "gone.json")
    assert "is a folder" in refused(read_indicator, tmp_path)


# --- Applied -------------------------------------------------------------------------------------


def test_labels_reach_neither_scores_nor_verdicts(indicator, test_run):
    before = judge(indicator, test_run)
    random = np.random.default_rng(0)
    labels = {each: int(random.integers(2)) for each in before.images.image_ids}

    def others(row):
        label = labels[row["image_id"]]
        return {"label": label, "correct": label == row["prediction"]}

    change(test_run, others)
    after = judge(indicator, test_run)
    assert before.num_wrong != after.num_wrong
    for name in SCORERS:
        assert np.array_equal(before.scores[name], after.scores[name])
        assert np.array_equal(before.accepts(name), after.accepts(name))


def test_every_scorer_is_judged_on_the_same_images(indicator, runs):
    found = judge(indicator, runs[1])
    assert set(found.measures) == set(SCORERS)
    assert found.num_wrong == 16
    for name, accepted in found.accepted.items():
        accepts = found.accepts(name)
        assert accepted.num_accepted == accepts.sum()
        assert accepted.num_errors == (~found.right[accepts]).sum()
        assert accepted.error_interval[0] <= accepted.error <= accepted.error_interval[1]
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_two_together_are_scikit_learns_regression(indicator, runs):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def numbers(images):
        score = images.scores[indicator.chosen.key]
        return np.stack([score, images.baselines["max_probability"]], 1)

    val, test = (label_free(open_run(run)) for run in runs)
    assert np.isfinite(numbers(val)).all()
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(numbers(val), val.right)
    expected = model.decision_function(numbers(test))
    np.testing.assert_allclose(indicator.scores(test)["together"], expected, atol=1e-9)


def test_an_image_without_a_score_is_the_least_sure_and_rejected(val_run, test_run):
    none = {"co_score_predicted": None, "outcome": "zero_heatmap"}
    change(val_run, lambda row: none if row["image_id"].endswith("0.png") else {})
    found = judge(fit(val_run), test_run)
    change(test_run, lambda row: none if row["image_id"].endswith("1.png") else {})
    found = judge(fit(val_run, coverage=1.0), test_run)
    verdicts = found.verdicts()
    lacking = [each.endswith("1.png") for each in verdicts["image_id"]]
    assert [each == "no score" for each in verdicts["reason"]] == lacking
    assert [each == "reject" for each in verdicts["verdict"]][: sum(lacking)].count(True) <= 48
    assert {v for v, gone in zip(verdicts["verdict"], lacking, strict=True) if gone} == {"reject"}
    assert np.isfinite(found.scores["together"]).all()
    assert any("without a score counted as the least sure" in w for w in judgement_words(found))


def test_a_part_of_a_run_is_judged_by_what_was_fitted_on_the_rest(runs):
    found = judge(fit(runs[0], split=0.5), runs[0])
    assert (len(found.images), found.num_left_out) == (PER_CLASS, PER_CLASS)
    assert not set(found.images.image_ids) & {each for each, _ in found.indicator.images}


def test_images_that_it_was_fitted_on_judge_nothing(indicator, runs, tmp_path):
    said = refused(judge, indicator, runs[0])
    assert "has 48 images that the indicator was fitted on" in said
    assert "--split 0.5" in said
    mixed = folder_of(tmp_path / "images", "other")
    source = next((runs[0].parent / "images-val" / "NORMAL").glob("*.png"))
    shutil.copy(source, mixed / "NORMAL")
    said = refused(judge, indicator, ax_run(tmp_path / "mixed", mixed))
    assert "has 1 image that the indicator was fitted on" in said


def test_another_model_space_or_method_is_refused(indicator, runs, test_run, tmp_path):
    data = runs[1].parent / "images-test"
    edit_header(test_run, lambda header: header["model"].update(fingerprint="cd" * 32))
    assert "was made with another model" in refused(judge, indicator, test_run)
    other = ax_run(tmp_path / "raw", data, score_space="raw")
    assert "score_space is normalized there and raw here" in refused(judge, indicator, other)
    method = indicator.chosen.method
    methods = tuple(each for each in AX_METHODS if each[0] != method)
    lacking = ax_run(tmp_path / "lacking", data, methods=methods)
    assert f"--methods {method}" in refused(judge, indicator, lacking)


def test_without_labels_there_are_verdicts_alone(indicator, runs):
    found = judge(indicator, runs[1], labelled=False)
    assert not found.measures
    assert found.num_wrong is None
    assert not {"label", "correct"} & found.verdicts().keys()
    assert "Without labels nothing is judged." in judgement_words(found)
    judgement_tables(found)


@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_of_one_kind_alone_nothing_is_told_apart(indicator, test_run, kind):
    label = 0 if kind == "right" else 1
    change(test_run, lambda row: {"label": label, "prediction": 0, "correct": kind == "right"})
    found = judge(indicator, test_run)
    assert not found.measures
    assert f"Nothing to tell apart: all 48 predictions are {kind}." in judgement_words(found)
    judgement_tables(found)


def test_who_wins_is_said_plainly(val_run, test_run):
    random = np.random.default_rng(0)
    good, none = lambda row: float(row["correct"]), lambda _: float(random.normal())

    def judged(score, probability):
        for run in (val_run, test_run):
            of_image: dict = {}

            def values(row, of_image=of_image):
                drawn = {
                    "co_score_predicted": score(row) + 0.1 * float(random.normal()),
                    "max_probability": probability(row),
                    "entropy": 0.0,
                    "logit_margin": 0.0,
                    "logsumexp": 0.0,
                }
                same = of_image.setdefault(row["image_id"], drawn)
                return drawn | {n: v for n, v in same.items() if n != "co_score_predicted"}

            change(run, values)
        return judgement_words(judge(fit(val_run), test_run))

    assert judged(good, none)[0].startswith("The indicator wins")
    assert judged(none, good)[0].startswith("Maximum softmax wins")
    words = judged(good, good)
    assert words[0].startswith("No winner")
    assert "not told apart" in words[1]


# --- The commands --------------------------------------------------------------------------------


def test_fit_and_apply_write_the_indicator_verdicts_and_a_page(runs, tmp_path, capsys):
    file, out = tmp_path / "indicator.json", tmp_path / "out"
    assert main(["indicator", "fit", str(runs[0]), "--output", str(file), "--error", "0.2"]) == 0
    printed = capsys.readouterr().out
    assert "Thresholds for an error of 0.2" in printed
    assert f"Next: gaxjax indicator apply {file}" in printed
    assert main(["indicator", "apply", str(file), str(runs[1]), "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Judged on 32 right and 16 wrong predictions" in printed
    assert "AUROC" in printed
    with (out / "verdicts.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 2 * PER_CLASS
    assert {row["verdict"] for row in rows} == {"accept", "reject"}
    found = json.loads((out / "judgement.json").read_text())
    assert found["num_wrong"] == 16
    assert found["words"][0] in printed
    page = (out / "indicator.html").read_text()
    assert "<script" not in page
    assert page.count("<figure") == 2
    for name in ("indicator-curves", "indicator-scores"):
        for ending in ("png", "svg", "csv"):
            assert (out / "indicator_figures" / f"{name}.{ending}").stat().st_size


def test_the_verdict_may_be_a_baselines(runs, tmp_path):
    file = tmp_path / "indicator.json"
    fit(runs[0]).write(file)
    rows = {}
    for by in ("indicator", "max_probability"):
        out = tmp_path / by
        words = ["indicator", "apply", str(file), str(runs[1]), "--by", by]
        assert main([*words, "--output", str(out), "--no-labels"]) == 0
        rows[by] = (out / "verdicts.csv").read_text()
    assert rows["indicator"] != rows["max_probability"]


def test_tables_tell_a_weak_choice(runs):
    notes = [note for table in fit_tables(fit(runs[0])) for note in table.notes]
    assert "Only 32 right and 16 wrong: the choice is weak." in notes
