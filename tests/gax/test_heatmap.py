"""Heatmap, augmentation and similarity loss of one image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxjax.config.methods import GaxConfig
from gaxjax.gax.heatmap import heatmap, initial_weights, similarity_loss
from gaxjax.models.classifier import as_unit_range
from gaxjax.score import augment

IMAGE = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 5, 3)), jnp.float32)


def test_the_first_heatmap_is_tanh_of_the_image():
    weights = initial_weights(IMAGE, GaxConfig())
    assert set(weights) == {"w"}
    np.testing.assert_allclose(heatmap(weights, IMAGE), np.tanh(IMAGE), rtol=1e-6)


def test_with_a_bias_black_pixels_start_at_tanh_of_the_bias():
    black = jnp.zeros((2, 2, 3))
    weights = initial_weights(black, GaxConfig(bias=True))
    np.testing.assert_allclose(heatmap(weights, black), np.tanh(0.01), rtol=1e-6)


def test_without_a_bias_black_pixels_get_no_gradient():
    def total(weights, image):
        return heatmap(weights, image).sum()

    image = IMAGE.at[0].set(0.0)
    gradient = jax.grad(total)(initial_weights(image, GaxConfig()), image)["w"]
    assert np.all(np.asarray(gradient[0]) == 0)
    assert np.all(np.asarray(gradient[1:]) > 0)


def test_sum_adds_and_mult_multiplies():
    h = heatmap(initial_weights(IMAGE, GaxConfig()), IMAGE)
    np.testing.assert_array_equal(augment(IMAGE, h, "sum"), IMAGE + h)
    np.testing.assert_array_equal(augment(IMAGE, h, "mult"), IMAGE * h)


def test_similarity_loss_is_the_papers_formula():
    h = jnp.full_like(IMAGE, 0.25)
    x = np.asarray(IMAGE, np.float64)
    expected = 100 / np.mean((0.25 - x + 1e-4) ** 2 / (x + 1e-4))
    assert float(similarity_loss(h, IMAGE, GaxConfig())) == pytest.approx(expected, rel=1e-5)


def test_similarity_loss_punishes_a_heatmap_that_copies_the_image():
    config = GaxConfig()
    assert similarity_loss(IMAGE, IMAGE, config) > 1e5 * similarity_loss(-IMAGE, IMAGE, config)


def test_uint8_pixels_become_fractions_and_floats_stay():
    np.testing.assert_allclose(
        as_unit_range(jnp.array([0, 51, 255], jnp.uint8)), [0, 0.2, 1], rtol=1e-7
    )
    np.testing.assert_array_equal(as_unit_range(IMAGE), IMAGE)
