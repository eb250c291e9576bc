"""Winograd's convolution against the direct one, and the engine that steps with it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx
from jax import lax

from gaxjax.common.devices import compiler_options, same_bits_at_any_count
from gaxjax.config.methods import GaxConfig
from gaxjax.models.classifier import as_classifier
from gaxjax.models.layers import Conv, Linear, run
from gaxjax.models.rewriting import (
    _FEWEST_CHANNELS,
    TwoWayLinear,
    WinogradConv,
    fast_form,
    use_fast_layers,
)
from gaxjax.ops import winograd
from gaxjax.ops.operations import global_average_pool
from gaxjax.ops.winograd import transformed_kernel

CPU = jax.devices("cpu")[0]
CHANNELS = _FEWEST_CHANNELS


def direct(x, kernel):
    one = ((1, 1), (1, 1))
    return lax.conv_general_dilated(
        x, kernel, (1, 1), one, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def by_tiles(x, kernel):
    kernel = np.asarray(kernel)  # never traced: kernels are transformed on the host
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    both = (jnp.asarray(transformed_kernel(one)) for one in (kernel, flipped))
    return winograd.winograd_convolution(x, *both)


def drawn(*shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype))


class Net(nnx.Module):
    """A small first convolution, which stays direct, one that becomes Winograd's, and a head."""

    def __init__(self, rngs):
        self.first = Conv(3, CHANNELS, 3, stride=2, padding=1, rngs=rngs)
        self.blocks = nnx.List([Conv(CHANNELS, CHANNELS, 3, padding=1, rngs=rngs)])
        self.last = Conv(CHANNELS, CHANNELS, 3, padding=1, rngs=rngs)
        self.projection = Conv(CHANNELS, CHANNELS, 1, rngs=rngs)
        self.head = Linear(CHANNELS, tiny.CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(run([self.first, *self.blocks], x))
        return self.head(global_average_pool(nnx.relu(self.projection(self.last(x)))))


@pytest.fixture(scope="module")
def net():
    return Net(nnx.Rngs(0))


@pytest.mark.parametrize(
    "size",
    [(13, 10), *(pytest.param(size, marks=pytest.mark.slow) for size in ((1, 1), (3, 6), (8, 16)))],
)
def test_value_and_gradient_are_the_direct_ones(size):
    with jax.enable_x64(True):
        x, kernel = drawn(2, *size, 5, dtype=np.float64), drawn(3, 3, 5, 7, dtype=np.float64)
        upstream = drawn(2, *size, 7, dtype=np.float64)

        @partial(jax.jit, static_argnums=0)
        def value_and_gradient(convolve, x):
            value, gradient = jax.vjp(lambda x: convolve(x, kernel), x)
            return value, *gradient(upstream)

        pairs = zip(value_and_gradient(by_tiles, x), value_and_gradient(direct, x), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_images_and_kernels_may_both_be_mapped():
    x, kernels = drawn(3, 1, 8, 8, 4), drawn(2, 3, 3, 4, 4)
    first = kernels[0]
    images = jax.jit(jax.vmap(lambda x: by_tiles(x, first)))(x)
    np.testing.assert_allclose(images[:, 0], direct(x[:, 0], first), atol=1e-4)
    transformed = jnp.stack([transformed_kernel(np.asarray(kernel)) for kernel in kernels])
    both = jax.vmap(winograd.winograd_convolution, in_axes=(None, 0, None))
    found = jax.jit(both)(x[:, 0], transformed, transformed[0])
    for one, kernel in zip(found, kernels, strict=True):
        np.testing.assert_allclose(one, direct(x[:, 0], kernel), atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "size"),
    [(64, 16), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((256, 16), (512, 8)))],
)
def test_a_float32_result_is_five_millionths_off(channels, size):
    """Measured: 1.9e-6 to 3.3e-6 of the largest; direct convolution 0.4e-6 to 0.9e-6."""
    x = jnp.maximum(drawn(4, size, size, channels), 0)
    kernel = drawn(3, 3, channels, channels) / np.float32(np.sqrt(9 * channels))
    with jax.enable_x64(True):
        exact = np.asarray(direct(x.astype(np.float64), kernel.astype(np.float64)))
    error = (
        np.abs(np.asarray(jax.jit(lambda x: by_tiles(x, kernel))(x)) - exact).max()
        / np.abs(exact).max()
    )
    assert error < 5e-6


@pytest.mark.parametrize(
    ("channels", "size"), [(48, 15), pytest.param(512, 4, marks=pytest.mark.slow)]
)
def test_neighbours_change_no_bit_of_an_image(channels, size):
    x = drawn(16, size, size, channels)
    kernel = jnp.asarray(transformed_kernel(np.asarray(drawn(3, 3, channels, channels))))

    def compiled(count):
        lowered = jax.jit(winograd._convolution).lower(x[:count], kernel)
        return np.asarray(lowered.compile(compiler_options(CPU))(x[:count], kernel))

    together = compiled(16)
    # With AVX2 alone XLA rounds a row by its place; measured 1e-6 of the largest value.
    error = 0 if same_bits_at_any_count(CPU) else 5e-6 * float(np.abs(together).max())
    for count in (2, 4, 7):  # a single tile alone is multiplied as a vector, in another order
        np.testing.assert_allclose(compiled(count), together[:count], rtol=0, atol=error)


def test_wide_convolutions_of_stride_1_and_linear_layers_are_replaced(net):
    fast = use_fast_layers(net)
    assert isinstance(fast.blocks[0], WinogradConv)
    assert isinstance(fast.last, WinogradConv)
    assert isinstance(fast.head, TwoWayLinear)
    assert isinstance(fast.first, Conv), "stride 2"
    assert isinstance(fast.projection, Conv), "1 × 1"
    assert isinstance(net.last, Conv), "the given network stays as it is"
    x = drawn(2, 20, 20, 3)
    np.testing.assert_allclose(fast(x), net(x), rtol=1e-4, atol=1e-5)


def test_narrow_layers_stay_direct():
    narrow = nnx.List([Conv(CHANNELS - 1, CHANNELS, 3, padding=1, rngs=nnx.Rngs(0))])
    assert isinstance(use_fast_layers(narrow)[0], Conv)


def test_it_is_chosen_for_float32_on_a_cpu_alone(net):
    ours = as_classifier(net, num_classes=tiny.CLASSES)
    fast = fast_form(ours, "float32", "cpu")
    assert fast is not None
    assert len(jax.tree.leaves(fast.weights)) > len(jax.tree.leaves(ours.weights))
    assert fast.fingerprint == ours.fingerprint
    assert fast_form(ours, "highest", "cpu") is None
    assert fast_form(ours, "bfloat16", "cpu") is None
    assert fast_form(ours, "float32", "gpu") is None
    assert fast_form(tiny.classifier(), "float32", "cpu") is None, "no module, no layers to replace"


@pytest.mark.slow
def test_the_engine_steps_with_it_and_verifies_without(net):
    model = as_classifier(net, num_classes=tiny.CLASSES)
    pixels = tiny.images(20)
    labels = tiny.predictions(pixels, model)
    gax = GaxConfig(score_space="raw", target=1e9, max_steps=4)
    drained, engine = tiny.solve(pixels, labels, gax, slots=16, model=model)
    whole, _ = tiny.solve(pixels, labels, gax, slots=16, model=model, drain=False)
    exact, _ = tiny.solve(pixels, labels, gax, slots=16, model=model, precision="highest")
    assert engine.objective.fast is not None
    assert engine.program.slots == (16, 4)

    def score(image, heatmap, label):
        x = jnp.asarray(image, jnp.float32) / 255
        rise = (net(x + heatmap.astype(np.float32)) - net(x))[0]
        return rise[label] - (rise.sum() - rise[label]) / (tiny.CLASSES - 1)

    some_bit_differs = False
    for index, found in drained.items():
        np.testing.assert_array_equal(found.heatmap, whole[index].heatmap)
        np.testing.assert_array_equal(found.curve, whole[index].curve)
        np.testing.assert_allclose(found.curve, exact[index].curve, rtol=1e-3, atol=1e-3)
        some_bit_differs |= bool((found.curve != exact[index].curve).any())
        right = score(pixels[index][None], found.heatmap[None], labels[index])
        np.testing.assert_allclose(found.co_score, right, rtol=1e-5, atol=1e-5)
    assert some_bit_differs, "float32 took the direct convolutions"
