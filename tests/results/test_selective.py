"""Measures of telling right from wrong: equal to scikit-learn's and to counting, ties and all."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from gaxjax.results.selective import MEASURES, compared, judged, measures, risk_coverage, roc
from gaxjax.results.separation import Resampling


def drawn(seed, *, count=60, ties=True):
    """Scores, a fifth of them -inf, and which predictions are right."""
    random = np.random.default_rng(seed)
    right = random.random(count) < 0.7
    score = random.normal(size=count) + right
    if ties:
        score = np.round(score)
        score[random.random(count) < 0.2] = -np.inf
    return score, right


def finite(score):
    """The same order and the same ties, for scikit-learn, which takes no infinity."""
    return np.where(np.isfinite(score), score, -99.0)


@pytest.mark.parametrize("seed", range(6))
def test_ranking_is_scikit_learns(seed):
    score, right = drawn(seed)
    found = {name: values[0] for name, values in measures(score, right).items()}
    assert abs(found["auroc"] - roc_auc_score(right, finite(score))) < 1e-12
    assert abs(found["aupr_error"] - average_precision_score(~right, -finite(score))) < 1e-12
    false, true, _ = roc_curve(right, finite(score), drop_intermediate=False)
    assert abs(found["fpr_at_95"] - false[true >= 0.95].min()) < 1e-12
    np.testing.assert_allclose(roc(score, right), (false, true), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_area_of_risk_is_the_mean_over_orders_of_equals(seed):
    score, right = drawn(seed, count=12)
    random, areas = np.random.default_rng(0), []
    for _ in range(4000):
        order = np.lexsort((random.random(len(score)), -score))
        areas.append((np.cumsum(~right[order]) / np.arange(1, 13)).mean())
    error = 4 * np.std(areas) / np.sqrt(len(areas)) + 1e-12
    assert abs(measures(score, right)["aurc"][0] - np.mean(areas)) < error
    assert abs(risk_coverage(score, right)[1].mean() - np.mean(areas)) < error


def test_without_ties_the_area_of_risk_is_counted():
    score, right = drawn(0, ties=False)
    wrong = ~right[np.argsort(-score)]
    expected = (np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean()
    assert abs(measures(score, right)["aurc"][0] - expected) < 1e-12


def test_a_draw_counts_an_image_as_often_as_it_was_drawn():
    score, right = drawn(1)
    counts = np.random.default_rng(2).multinomial(60, np.full(60, 1 / 60), size=3)
    found = measures(score, right, counts)
    for place, count in enumerate(counts):
        alone = measures(np.repeat(score, count), np.repeat(right, count))
        for name in MEASURES:
            assert abs(found[name][place] - alone[name][0]) < 1e-12


def test_of_one_kind_alone_ranking_is_undefined_and_risk_is_not():
    score = np.arange(4.0)
    found = measures(score, np.ones(4, bool))
    assert np.isnan([found[name][0] for name in ("auroc", "aupr_error", "fpr_at_95")]).all()
    assert found["aurc"][0] == 0
    assert measures(score, np.zeros(4, bool))["aurc"][0] == 1


def test_a_perfect_score_has_an_interval_only_where_resamples_differ():
    right = np.arange(20) < 12
    found, _ = judged({"perfect": right.astype(float)}, right, Resampling(200))
    assert found["perfect"]["auroc"].value == 1
    assert found["perfect"]["auroc"].interval is None
    assert found["perfect"]["aurc"].interval is not None


def test_a_better_score_is_called_better_and_itself_is_not_told_apart():
    random = np.random.default_rng(0)
    right = random.random(300) < 0.7
    scores = {"good": random.normal(size=300) + 2 * right, "none": random.normal(size=300)}
    resampling = Resampling(300)
    found, resampled = judged(scores, right, resampling)

    def against(first, second, name, higher):
        values = found[first][name], found[second][name]
        blocks = resampled[first][name], resampled[second][name]
        return compared(values, blocks, resampling, higher_is_better=higher).better

    assert against("good", "none", "auroc", True) is True
    assert against("none", "good", "auroc", True) is False
    assert against("good", "none", "aurc", False) is True
    assert against("good", "good", "auroc", True) is None


def test_intervals_depend_on_the_seed_alone():
    score, right = drawn(3)
    first, second, other = (
        judged({"it": score}, right, Resampling(100, seed=seed))[0]["it"] for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other
    low, high = first["auroc"].interval
    assert low < first["auroc"].value < high
