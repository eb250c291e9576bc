"""ops against torch's functional operations, shape by shape."""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gaxjax.ax.rules import Deconvolution, GuidedBackprop
from gaxjax.ops import operations as ops


def nchw(x):
    return torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy())


def nhwc(x):
    return x.numpy().transpose(0, 2, 3, 1)


def features(height, width, channels=4, seed=0):
    return jax.random.normal(jax.random.key(seed), (2, height, width, channels))


@partial(jax.jit, static_argnums=(1, 2, 3, 4))  # one compilation a case, not one an operation
def max_pool(x, window, stride, padding, ceil_mode):
    return ops.max_pool(
        x,
        window=(window, window),
        strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        ceil_mode=ceil_mode,
    )


@pytest.mark.parametrize(
    "size", [7, 10, *(pytest.param(size, marks=pytest.mark.slow) for size in (8, 9, 55))]
)
@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 2, 0), (2, 3, 1), (3, 1, 1)]
)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pool_equals_torchs(size, window, stride, padding, ceil_mode):
    x = features(size, size + 1)
    ours = max_pool(x, window, stride, padding, ceil_mode)
    torchs = F.max_pool2d(nchw(x), window, stride, padding, ceil_mode=ceil_mode)
    np.testing.assert_array_equal(ours, nhwc(torchs))


def test_a_ceil_mode_window_that_starts_in_the_far_padding_is_left_out():
    x = features(4, 4)
    pool = {"window": (1, 1), "strides": (3, 3), "padding": ((0, 0), (0, 0))}
    assert ops.max_pool(x, **pool, ceil_mode=True).shape == (2, 2, 2, 4)
    x = features(3, 3)  # a second window would start at 3, where nothing is left
    assert ops.max_pool(x, **pool, ceil_mode=True).shape == (2, 1, 1, 4)
    assert F.max_pool2d(nchw(x), 1, 3, ceil_mode=True).shape == (2, 4, 1, 1)


def test_the_first_of_equal_maxima_gets_the_gradient_as_in_torch():
    x = jnp.zeros((1, 4, 4, 1))
    gradient = jax.grad(lambda x: ops.max_pool(x, window=(3, 3), strides=(1, 1)).sum())(x)
    torchs = nchw(x).requires_grad_()
    F.max_pool2d(torchs, 3, 1).sum().backward()
    np.testing.assert_array_equal(gradient, nhwc(torchs.grad))


@pytest.mark.parametrize(
    "size",
    [
        *((7, 7), (12, 18), (3, 4)),
        *(pytest.param(size, marks=pytest.mark.slow) for size in ((6, 6), (13, 6), (1, 1), (6, 1))),
    ],
)
@pytest.mark.parametrize("target", [(6, 6), (7, 7), (1, 1), (3, 2)])
def test_adaptive_average_pool_equals_torchs_also_when_it_enlarges(size, target):
    x = features(*size)
    torchs = F.adaptive_avg_pool2d(nchw(x), target)
    ours = jax.jit(partial(ops.adaptive_average_pool, size=target))(x)
    np.testing.assert_allclose(
        ours, nhwc(torchs), atol=5e-7, rtol=0
    )  # measured 1.8e-7: float32 sums in another order


@pytest.mark.parametrize(
    ("window", "stride", "padding", "groups"),
    [(7, 2, 3, 1), (3, 1, 1, 1), (3, 2, 1, 4), (1, 2, 0, 2), (11, 4, 2, 1)],
)
def test_convolution_equals_torchs(window, stride, padding, groups):
    x = features(17, 18)
    kernel = jax.random.normal(jax.random.key(1), (window, window, 4 // groups, 8))
    bias = jax.random.normal(jax.random.key(2), (8,))
    with jax.default_matmul_precision("highest"):
        ours = ops.convolution(
            x,
            kernel,
            bias,
            strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            groups=groups,
        )
    weight = torch.tensor(np.asarray(kernel).transpose(3, 2, 0, 1).copy())
    torchs = F.conv2d(nchw(x), weight, torch.tensor(np.array(bias)), stride, padding, 1, groups)
    # Sums of up to 484 products of size 1, in another order: measured 3.1e-5.
    np.testing.assert_allclose(ours, nhwc(torchs), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding"),
    [
        ((4, 1), 5, 2, 2),
        pytest.param((1, 1), 3, 1, 1, marks=pytest.mark.slow),
        pytest.param((2, 2), 3, 2, 1, marks=pytest.mark.slow),
        pytest.param((2, 5), 3, 1, 1, marks=pytest.mark.slow),
    ],
)
def test_convolutions_of_features_smaller_than_the_window_equal_torchs(
    size, window, stride, padding
):
    x = features(*size)
    kernel = jax.random.normal(jax.random.key(1), (window, window, 4, 5))
    sides = ((padding, padding), (padding, padding))

    @jax.jit
    def ours(x, kernel):
        return ops.convolution(x, kernel, strides=(stride, stride), padding=sides)

    weight = torch.tensor(np.asarray(kernel).transpose(3, 2, 0, 1).copy(), requires_grad=True)
    given = nchw(x).requires_grad_()
    torchs = F.conv2d(given, weight, stride=stride, padding=padding)
    y, pull = jax.vjp(ours, x, kernel)
    np.testing.assert_allclose(y, nhwc(torchs.detach()), atol=1e-5)
    upstream = jax.random.normal(jax.random.key(2), y.shape)
    torchs.backward(nchw(upstream))
    by_x, by_kernel = pull(upstream)
    np.testing.assert_allclose(by_x, nhwc(given.grad), atol=1e-5)
    np.testing.assert_allclose(by_kernel, weight.grad.numpy().transpose(2, 3, 1, 0), atol=1e-5)


@pytest.mark.parametrize("size", [(33, 35), pytest.param((34, 31), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("window", "stride", "padding"),
    [
        (3, 2, 0),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((7, 2, 3), (7, 2, 0), (11, 4, 2), (3, 3, 1))
        ),
    ],
)
def test_a_strided_convolution_of_an_image_keeps_value_and_gradients(size, window, stride, padding):
    x = jax.random.uniform(jax.random.key(0), (2, *size, 3))
    kernel = jax.random.normal(jax.random.key(1), (window, window, 3, 8))
    sides = ((padding, padding), (padding, padding))

    @jax.jit
    def ours(x, kernel):
        return ops.convolution(x, kernel, strides=(stride, stride), padding=sides)

    @jax.jit
    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    with jax.default_matmul_precision("highest"):
        (y, pullback), (expected, expected_pullback) = (
            jax.vjp(function, x, kernel) for function in (ours, plain)
        )
        y_bar = jax.random.normal(jax.random.key(2), expected.shape)
        gradients, expected_gradients = pullback(y_bar), expected_pullback(y_bar)
    for got, wanted in zip((y, *gradients), (expected, *expected_gradients), strict=True):
        # The same sums in another order, relative to the largest: measured 7e-7.
        assert np.abs(got - wanted).max() < 5e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 2, 0), (2, 3, 1), (3, 1, 1)]
)
@pytest.mark.parametrize("size", [pytest.param((12, 12), marks=pytest.mark.slow), (13, 15)])
def test_max_pools_gradient_equals_torchs_ties_included(size, window, stride, padding, ceil_mode):
    x = jnp.maximum(jnp.round(features(*size) * 2), 0)  # many equal maxima, as after a ReLU
    y, pullback = jax.vjp(lambda x: max_pool(x, window, stride, padding, ceil_mode), x)
    y_bar = jax.random.normal(jax.random.key(2), y.shape)
    torchs = nchw(x).requires_grad_()
    F.max_pool2d(torchs, window, stride, padding, ceil_mode=ceil_mode).backward(nchw(y_bar))
    np.testing.assert_allclose(pullback(y_bar)[0], nhwc(torchs.grad), atol=2e-6, rtol=0)


def test_max_pool_passes_nan_on_with_and_without_a_gradient():
    x = features(6, 6).at[0, 2, 3, 1].set(jnp.nan)

    def pool(x):
        return ops.max_pool(x, window=(3, 3), strides=(2, 2), ceil_mode=True)

    value, (differentiated, _) = pool(x), jax.vjp(pool, x)
    assert np.isnan(value[0, 1, 1, 1])
    np.testing.assert_array_equal(value, differentiated)


def test_relu_has_no_slope_at_zero():
    gradient = jax.vmap(jax.grad(lambda x: ops.relu(x).sum()))(jnp.array([-1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(gradient, [0.0, 0.0, 1.0])


def test_the_gradient_of_a_relu_is_torchs_at_nan_infinity_and_both_zeros():
    values = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-30, -1e-30]
    x = torch.tensor(values, requires_grad=True)
    torch.relu(x).backward(torch.arange(1.0, 8.0))
    y, pullback = jax.vjp(ops.relu, jnp.array(values))
    np.testing.assert_array_equal(y, torch.relu(x).detach().numpy())
    np.testing.assert_array_equal(pullback(jnp.arange(1.0, 8.0))[0], x.grad.numpy())


@pytest.mark.parametrize("rules", [None, ops.BackwardRules, Deconvolution, GuidedBackprop])
def test_a_rectified_max_pool_is_a_relu_and_a_max_pool_by_every_rule(rules):
    x = np.random.default_rng(5).normal(size=(2, 9, 8, 3)).astype(np.float32)
    x[0, :4] = -1  # windows without a positive cell
    pool = dict(window=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    def both(x):
        with ops.backward_rules(rules()) if rules else contextlib.nullcontext():
            return ops.max_pool(x, **pool, rectify=True), ops.max_pool(ops.relu(x), **pool)

    (one, two), pullback = jax.vjp(both, jnp.asarray(x))
    gradient = jax.random.normal(jax.random.key(6), one.shape)
    zero = jnp.zeros_like(one)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(pullback((gradient, zero))[0], pullback((zero, gradient))[0])


@pytest.mark.parametrize(
    "operation",
    [
        ops.relu,
        ops.global_average_pool,
        lambda x: ops.adaptive_average_pool(x, (3, 3)),
        lambda x: ops.max_pool(x, window=(3, 3), strides=(2, 2), ceil_mode=True),
        lambda x: ops.convolution(x, jnp.ones((3, 3, 4, 8), x.dtype), jnp.ones(8, x.dtype)),
    ],
    ids=["relu", "global_average_pool", "adaptive_average_pool", "max_pool", "convolution"],
)
def test_bfloat16_in_is_bfloat16_out_and_back(operation):
    x = features(8, 8).astype(jnp.bfloat16)
    y, pullback = jax.vjp(operation, x)
    assert y.dtype == jnp.bfloat16
    assert pullback(y)[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_features_too_small_for_a_window_are_an_error(strides):
    small = features(2, 5, channels=3)
    with pytest.raises(ValueError, match="2 × 5"):
        ops.max_pool(small, window=(3, 3), strides=strides)
    with pytest.raises(ValueError, match="2 × 5"):
        ops.convolution(small, jnp.ones((3, 3, 3, 4)), strides=strides)


@pytest.mark.parametrize(
    ("side", "channels"),
    [(7, 960), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((8, 1024), (14, 576)))],
)
def test_a_pointwise_convolution_gives_an_image_the_same_bits_in_any_batch(side, channels):
    x = jax.random.normal(jax.random.key(0), (8, side, side, channels))
    kernel = jax.random.normal(jax.random.key(1), (1, 1, channels, 160))
    convolve = jax.jit(ops.convolution)
    together = np.asarray(convolve(x, kernel))
    for first, count in ((0, 1), (3, 2), (4, 4)):
        alone = convolve(x[first : first + count], kernel)
        np.testing.assert_array_equal(alone, together[first : first + count])
