"""The score by the paper's definition (eq. 5), on numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxjax.score import co_score, score_constants, weighted_logits


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
