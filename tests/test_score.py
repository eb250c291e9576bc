"""The score by the paper's definition (eq. 5), on numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxjax.common.errors import UserError
from gaxjax.score import check_reachable, co_score, score_constants, weighted, weighted_logits


def test_score_constants_are_one_at_the_label_and_sum_to_zero():
    kappa = np.asarray(score_constants(2, 5))
    assert kappa[2] == 1
    assert np.allclose(np.delete(kappa, 2), -0.25)
    assert kappa.sum() == pytest.approx(0, abs=1e-7)


def test_a_score_is_the_rise_of_the_label_over_the_mean_of_the_others():
    before = jnp.array([1.0, 2.0, 3.0])
    after = jnp.array([4.0, 1.0, 2.0])
    # κ·after = 4 - 1.5, κ·before = 1 - 2.5
    assert float(co_score(after, before, 0)) == pytest.approx(2.5 + 1.5)


def test_adding_a_constant_to_all_logits_leaves_the_score_at_zero():
    logits = jax.random.normal(jax.random.key(0), (1000,))
    assert float(co_score(logits + 7.0, logits, 3)) == pytest.approx(0, abs=1e-4)


def test_bfloat16_logits_are_summed_in_float32():
    logits = jnp.full((1000,), 1.0, jnp.bfloat16).at[0].set(3.0)
    assert weighted_logits(logits, 0).dtype == jnp.float32
    assert float(weighted_logits(logits, 0)) == pytest.approx(2.0, abs=1e-4)


def test_scores_of_log_softmax_and_softmax_are_those_of_the_formula():
    before, after = np.random.default_rng(0).normal(size=(2, 12)) * 4
    label = 3
    kappa = np.full(12, -1 / 11)
    kappa[label] = 1

    def softmax(logits):
        return np.exp(logits) / np.exp(logits).sum()

    with jax.enable_x64(True):
        of_logits, of_logs, of_likely = (
            float(co_score(jnp.asarray(after), jnp.asarray(before), label, name))
            for name in ("logits", "log_softmax", "softmax")
        )
    logs = kappa @ (np.log(softmax(after)) - np.log(softmax(before)))
    assert of_logs == of_logits == pytest.approx(logs, rel=1e-13)
    assert of_likely == pytest.approx(kappa @ (softmax(after) - softmax(before)), rel=1e-12)
    rise = softmax(after)[label] - softmax(before)[label]
    assert of_likely == pytest.approx(12 / 11 * rise, rel=1e-12)


def test_the_softmax_scores_gradient_vanishes_where_the_classifier_is_sure():
    def steepest(logits, score):
        return float(jnp.abs(jax.grad(weighted)(logits, 0, score)).max())

    unsure, sure = jnp.zeros(5), jnp.zeros(5).at[0].set(30.0)
    assert steepest(unsure, "softmax") > 0.1
    assert steepest(sure, "softmax") < 1e-6
    assert steepest(sure, "logits") == steepest(unsure, "logits") == 1


def test_a_target_at_the_softmax_scores_bound_or_above_is_refused():
    check_reachable(1.24, "softmax", 5)
    check_reachable(48.0, "log_softmax", 5)
    for target in (1.25, 48.0):
        with pytest.raises(UserError, match=r"stays below 1.25 with 5 classes: .*--target 0.9"):
            check_reachable(target, "softmax", 5)
