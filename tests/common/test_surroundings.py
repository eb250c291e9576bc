"""What a user set in JAX changes nothing of ours, and is the user's again afterwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxjax import AxConfig, GaxConfig, attribute, explain
from gaxjax.common.surroundings import foreign_settings, own_numbers, yielding_own_numbers
from gaxjax.models import as_classifier
from tests.helpers import tiny

SETTINGS = {
    "x64": lambda: jax.enable_x64(True),
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "disable_jit": lambda: jax.disable_jit(True),
    "leaks": lambda: jax.checking_leaks(),
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "matmul precision": lambda: jax.default_matmul_precision("bfloat16"),
    "random bits": lambda: jax.default_prng_impl("rbg"),
    "transfer guard": lambda: jax.transfer_guard("disallow"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_left_aside_inside_and_back_outside(name):
    with SETTINGS[name]():
        before = foreign_settings()
        assert len(before) == 1
        with own_numbers():
            assert foreign_settings() == {}
        assert foreign_settings() == before
    assert foreign_settings() == {}


def test_a_generator_computes_in_ours_and_its_reader_in_the_callers():
    inside = []

    @yielding_own_numbers
    def counting():
        try:
            for number in range(3):
                inside.append(jnp.asarray(0.1).dtype)
                yield number
        finally:
            inside.append(jnp.asarray(0.1).dtype)

    with jax.enable_x64(True):
        for _ in counting():
            assert jnp.asarray(0.1).dtype == np.float64
        stopped = counting()
        next(stopped)
        stopped.close()
    assert inside == [np.float32] * 6


def test_results_are_the_same_bits_with_x64_and_nan_checks():
    network, pixels = tiny.network(), tiny.images(3)
    labels = tiny.predictions(pixels, tiny.classifier())

    def results():
        model = as_classifier(network, num_classes=tiny.CLASSES)
        found = explain(model, pixels, labels, GaxConfig(max_steps=2))
        ax = attribute(model, pixels, labels, AxConfig(methods=("saliency",)))
        scores = [found.co_score, *(each.co_score for each in ax.values())]
        return model.fingerprint, [score.tobytes() for score in scores], found.heatmap.tobytes()

    plain = results()
    with jax.enable_x64(True), jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
        assert results() == plain
        assert jnp.asarray(0.1).dtype == np.float64
