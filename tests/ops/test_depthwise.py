"""Grouped convolutions, depthwise among them, in their forms for a CPU, against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fuzzing import fuzz
from hypothesis import strategies as st

from gaxjax import ops

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
SIDES = st.tuples(st.integers(0, 3), st.integers(0, 3))


def held_to_torch(seed, groups, inputs, outputs, window, strides, padding, dilation):
    """Compare value and both gradients in float64, with `inputs` and `outputs` for each group."""
    rng = np.random.default_rng(seed)
    reach = [step * (length - 1) + 1 for step, length in zip(dilation, window, strict=True)]
    size = [int(length) + int(rng.integers(0, 5)) for length in reach]
    x = rng.normal(size=(2, *size, groups * inputs))
    kernel = rng.normal(size=(*window, inputs, groups * outputs))
    settings = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}

    given = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    padded = F.pad(given, (*padding[1], *padding[0]))
    torchs = F.conv2d(padded, weight, None, strides, 0, dilation, groups)
    gradient = rng.normal(size=tuple(torchs.shape))
    of_x, of_kernel = torch.autograd.grad((torchs * torch.tensor(gradient)).sum(), (given, weight))

    with jax.enable_x64(True):

        @jax.jit
        def ours(x, kernel, gradient):
            y, backward = jax.vjp(lambda x, k: ops.convolution(x, k, **settings), x, kernel)
            return y, *backward(gradient)

        found = ours(x, kernel, gradient.transpose(0, 2, 3, 1))
    expected = [torchs.detach().numpy().transpose(0, 2, 3, 1)]
    expected += [of_x.numpy().transpose(0, 2, 3, 1), of_kernel.numpy().transpose(2, 3, 1, 0)]
    for mine, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, right, rtol=0, atol=1e-12 * np.abs(right).max())


@fuzz(
    30,
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(2, 4),
    outputs=st.integers(1, 3),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=PAIRS,
    padding=st.tuples(SIDES, SIDES),
    dilation=PAIRS,
)
def test_depthwise_convolutions_equal_torchs(seed, groups, **settings):
    held_to_torch(seed, groups, 1, **settings)


@fuzz(
    12,
    seed=st.integers(0, 2**32 - 1),
    groups=st.sampled_from([2, 3, 6, 12]),
    inputs=st.sampled_from([2, 3, 17]),
    outputs=st.integers(1, 3),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=PAIRS,
    padding=st.tuples(SIDES, SIDES),
    dilation=PAIRS,
)
def test_grouped_convolutions_equal_torchs(seed, groups, **settings):
    held_to_torch(seed, groups, **settings)


@pytest.mark.parametrize("strides", [(1, 1), (3, 2)])
@pytest.mark.parametrize("window", [(1, 1), (7, 7), (2, 4)])
def test_the_windows_of_real_networks_and_cells_that_none_reaches_are_covered(window, strides):
    held_to_torch(0, 5, 1, 1, window, strides, ((1, 0), (0, 2)), (1, 1))


@pytest.mark.parametrize("inputs", [1, 4])
def test_of_one_image_under_vmap_it_is_that_of_a_batch(inputs):
    x = jax.random.normal(jax.random.key(0), (3, 9, 8, 4 * inputs))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, inputs, 4 * inputs))

    def loss(x):
        y = ops.convolution(x, kernel, strides=(2, 2), padding=((1, 1), (1, 1)), groups=4)
        return (y**3).sum()

    one_by_one = jax.jit(jax.vmap(jax.grad(lambda image: loss(image[None]))))(x)
    whole = jax.jit(jax.grad(loss))(x)
    # Of float32 sums in another order: measured 0.
    np.testing.assert_allclose(one_by_one, whole, rtol=0, atol=1e-6 * np.abs(whole).max())


@pytest.mark.parametrize("inputs", [1, 4])
def test_in_bfloat16_sums_are_rounded_once(inputs):
    x = jax.random.normal(jax.random.key(0), (1, 9, 9, 4 * inputs), jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(1), (5, 5, inputs, 4 * inputs), jnp.bfloat16)

    def value_and_gradient(x, kernel):
        y, backward = jax.vjp(lambda x: ops.convolution(x, kernel, groups=4), x)
        return y, backward(jnp.ones_like(y))[0]

    wide = jax.jit(value_and_gradient)(x.astype(jnp.float32), kernel.astype(jnp.float32))
    for mine, right in zip(jax.jit(value_and_gradient)(x, kernel), wide, strict=True):
        assert mine.dtype == jnp.bfloat16
        # Rounding to 8 bits is off by 2^-9 at most; 25 sums rounded each were off by more.
        np.testing.assert_allclose(mine.astype(jnp.float32), right, rtol=2**-8, atol=1e-5)


def test_no_grouped_convolution_is_left_on_a_cpu():
    def program(inputs):
        x, kernel = jnp.ones((1, 8, 8, 32 * inputs)), jnp.ones((3, 3, inputs, 32 * inputs))
        gradient = jax.grad(lambda x: ops.convolution(x, kernel, groups=32).sum())
        return jax.jit(gradient).lower(x).as_text()

    if jax.default_backend() != "cpu":
        pytest.skip("about the forms for a CPU")
    assert "stablehlo.convolution" not in program(1)
    dense = program(8)
    assert "stablehlo.convolution" in dense
    assert "feature_group_count = 32" not in dense
    assert "batch_group_count = 32" not in dense


def test_features_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="does not fit into features of 2 × 2"):
        ops.convolution(jnp.ones((1, 2, 2, 4)), jnp.ones((3, 3, 1, 4)), groups=4)
