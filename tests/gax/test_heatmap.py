"""Heatmap, augmentation and similarity loss of one image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxjax.common.errors import UserError
from gaxjax.config.methods import GaxConfig
from gaxjax.gax.heatmap import (
    blur_matrix,
    check_generator,
    heatmap,
    initial_weights,
    resize_matrix,
    similarity_loss,
    spread,
    total_variation,
)
from gaxjax.models.classifier import as_unit_range
from gaxjax.score import augment

IMAGE = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 5, 3)), jnp.float32)


def test_the_first_heatmap_is_tanh_of_the_image():
    weights = initial_weights(IMAGE, GaxConfig())
    assert set(weights) == {"w"}
    np.testing.assert_allclose(heatmap(weights, IMAGE, GaxConfig()), np.tanh(IMAGE), rtol=1e-6)


def test_with_a_bias_black_pixels_start_at_tanh_of_the_bias():
    black = jnp.zeros((2, 2, 3))
    weights = initial_weights(black, GaxConfig(bias=True))
    np.testing.assert_allclose(heatmap(weights, black, GaxConfig()), np.tanh(0.01), rtol=1e-6)


def test_without_a_bias_black_pixels_get_no_gradient():
    def total(weights, image):
        return heatmap(weights, image, GaxConfig()).sum()

    image = IMAGE.at[0].set(0.0)
    gradient = jax.grad(total)(initial_weights(image, GaxConfig()), image)["w"]
    assert np.all(np.asarray(gradient[0]) == 0)
    assert np.all(np.asarray(gradient[1:]) > 0)


def test_sum_adds_and_mult_multiplies():
    h = heatmap(initial_weights(IMAGE, GaxConfig()), IMAGE, GaxConfig())
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


SMOOTH = GaxConfig(generator="smooth", sigma=1.5)
COARSE = GaxConfig(generator="coarse", grid=3)


@pytest.mark.parametrize("config", [SMOOTH, COARSE], ids=["smooth", "coarse"])
def test_a_constant_w_gives_the_papers_heatmap(config):
    weights = initial_weights(IMAGE, config)
    np.testing.assert_allclose(heatmap(weights, IMAGE, config), np.tanh(IMAGE), rtol=1e-6)


def test_w_of_the_coarse_generator_is_the_grid_and_of_the_others_the_image():
    shapes = [initial_weights(IMAGE, one)["w"].shape for one in (COARSE, SMOOTH, GaxConfig())]
    assert shapes == [(3, 3, 3), (4, 5, 3), (4, 5, 3)]


def test_one_weight_spreads_as_a_gaussian():
    image = jnp.zeros((31, 31, 3))
    w = image.at[15, 15, 1].set(1.0)
    found = np.asarray(spread(w, image, SMOOTH), np.float64)
    y, x = np.mgrid[-15:16, -15:16]
    reached = (abs(y) <= 6) & (abs(x) <= 6)
    expected = np.exp(-(y**2 + x**2) / (2 * 1.5**2)) * reached
    np.testing.assert_allclose(found[..., 1], expected / expected.sum(), atol=1e-7)
    assert not found[..., [0, 2]].any()


def test_a_blur_wider_than_the_image_still_keeps_a_constant():
    np.testing.assert_allclose(blur_matrix(5, 5.0).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(blur_matrix(5, 1e-320), np.eye(5))


def test_a_grid_is_resized_as_jax_resizes_it():
    w = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 3)), jnp.float32)
    image = jnp.zeros((8, 11, 3))
    expected = jax.image.resize(w, image.shape, "linear")
    np.testing.assert_allclose(spread(w, image, COARSE), expected, atol=1e-6)
    np.testing.assert_array_equal(resize_matrix(6, 6), np.eye(6))
    np.testing.assert_array_equal(resize_matrix(6, 1), np.ones((6, 1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": "smooth", "sigma": 4.5}, "--sigma 4.5 is more than the images have pixels"),
        ({"generator": "coarse", "grid": 5}, "--grid 5 is more .*, 4 × 5: give at most 4"),
    ],
)
def test_a_generator_coarser_than_the_image_allows_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        check_generator(GaxConfig(**settings), IMAGE.shape)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 3.0}, "--sigma must be left out but with --generator smooth; got 3.0"),
        ({"generator": "smooth", "grid": 7}, "--grid must be left out but with --generator coarse"),
        ({"generator": "smooth", "sigma": 0.0}, "--sigma must be a finite number above 0"),
        ({"generator": "smooth", "sigma": float("inf")}, "--sigma must be a finite number"),
        ({"generator": "coarse", "grid": 0}, "--grid must be at least 1; got 0"),
    ],
)
def test_settings_of_another_generator_or_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        GaxConfig(**settings)


def test_total_variation_is_the_sum_of_neighbours_differences_by_numbers():
    h = np.zeros((3, 4, 3), np.float32)
    h[1, 1, 0] = 0.5  # four neighbours
    h[0, 3, 2] = -1.0  # two
    assert float(total_variation(jnp.asarray(h))) == pytest.approx((4 * 0.5 + 2 * 1.0) / 36)
    assert float(total_variation(jnp.full((3, 4, 3), 0.7))) == 0
    gradient = jax.grad(total_variation)(jnp.full((3, 4, 3), 0.7))
    assert not np.asarray(gradient).any()
