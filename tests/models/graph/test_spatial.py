"""Convolutions, pools, paddings, resizing and sampling of a graph are torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_torch import SEEDS, Stored, agree, entered, ordinary, stays_bfloat16
from drawing import Draws
from fuzzing import fuzz

from gaxjax.common import UserError
from gaxjax.models.graph import padding, pools, resizing, spatial
from gaxjax.models.graph.operations import OPERATIONS
from gaxjax.models.graph.tensor import of_last, tensor

aten = torch.ops.aten


def steps(draw, axes, least, most):
    """Return one number for all axes, or one each."""
    many = tuple(draw.randint(least, most) for _ in range(axes))
    return draw.some(many, many[:1])


def image(draw, axes=2, channels=None, least=4, most=9):
    channels = draw.randint(1, 4) if channels is None else channels
    return draw.normal((draw.randint(1, 2), channels, *draw.sizes(axes, least, most)))


class Sizes(Draws):
    def sizes(self, axes, least, most):
        return tuple(self.randint(least, most) for _ in range(axes))


# ---- convolutions


def kernel(draw, axes, groups):
    """Return one of groups with at most 2 channels each, whose features it fits without padding."""
    shape = (groups * draw.randint(1, 2), draw.randint(1, 2), *draw.sizes(axes, 1, 3))
    return draw.normal(shape)


def convolved(axes, same=False):
    def case(draw):
        groups = draw.randint(1, 3)
        weight = kernel(draw, axes, groups)
        x = image(draw, axes, groups * weight.shape[1], 5, 7)
        bias = draw.some(None, draw.normal(weight.shape[:1]))
        side, strides = steps(draw, axes, 0, 2), steps(draw, axes, 1, 2)
        if same and draw.flag():
            side, strides = draw.some("valid", "same"), (1,)
        stored = Stored(weight, (*range(2, axes + 2), 1, 0))
        return x, stored, bias, strides, side, steps(draw, axes, 1, 2), groups

    return case


def transposed(axes):
    def case(draw):
        groups = draw.randint(1, 3)
        weight = kernel(draw, axes, groups)
        x = image(draw, axes, len(weight), 2, 4)
        bias = draw.some(None, draw.normal((weight.shape[1] * groups,)))
        strides, dilation = steps(draw, axes, 2, 3), steps(draw, axes, 1, 3)
        return x, weight, bias, strides, steps(draw, axes, 0, 1), (1,), groups, dilation

    return case


def general(draw):
    if draw.flag():
        x, weight, bias, strides, side, dilation, groups = convolved(2)(draw)
        return x, weight.array, bias, strides, side, dilation, False, (0, 0), groups
    x, weight, bias, strides, side, extra, groups, dilation = transposed(2)(draw)
    return x, weight, bias, strides, side, dilation, True, extra, groups


CASES = {
    **{f"conv{axes}d": convolved(axes, same=True) for axes in (1, 2, 3)},
    **{f"conv_transpose{axes}d": transposed(axes) for axes in (1, 2, 3)},
    "convolution": general,
    "_convolution": lambda draw: (*general(draw), False, False, True, True),
}
CONVOLUTIONS = set(CASES)
THEIRS = {f"conv{axes}d": getattr(F, f"conv{axes}d") for axes in (1, 2, 3)}


# ---- pools


def window(draw, axes, dilated=False):
    """Return size, stride and padding of a window, and its dilation, where it has one."""
    lengths = draw.sizes(axes, 1, 3)
    sides = tuple(draw.randint(0, length // 2) for length in lengths)
    strides = draw.some((), tuple(draw.sizes(axes, 1, 3)))
    return lengths, strides, sides, *((steps(draw, axes, 1, 2),) if dilated else ())


def max_pooled(axes):
    return lambda draw: (image(draw, axes), *window(draw, axes, dilated=True), draw.flag())


def averaged(axes):
    def case(draw):
        given = (image(draw, axes), *window(draw, axes), draw.flag(), draw.flag())
        return (*given, draw.some(None, 3)) if axes > 1 else given

    return case


def adaptive(axes):
    return lambda draw: (image(draw, axes), draw.some((1,) * axes, draw.sizes(axes, 1, 11)))


def first(function):
    return lambda *arguments: function(*arguments)[0]


CASES |= {
    **{f"max_pool{axes}d": max_pooled(axes) for axes in (1, 2)},
    **{f"avg_pool{axes}d": averaged(axes) for axes in (1, 2, 3)},
    **{f"adaptive_avg_pool{axes}d": adaptive(axes) for axes in (1, 2)},
    **{f"adaptive_max_pool{axes}d": adaptive(axes) for axes in (1, 2)},
    "_adaptive_avg_pool2d": adaptive(2),
    "max_pool2d_with_indices": max_pooled(2),
}
FIRST_ALONE = ("max_pool2d_with_indices", "adaptive_max_pool1d", "adaptive_max_pool2d")
THEIRS |= {name: first(getattr(aten, name)) for name in FIRST_ALONE}


# ---- padding, pixels and windows


def padded(axes, least=0):
    return lambda draw: (image(draw, axes), draw.sizes(2 * axes, least, 3))


def any_padding(draw):
    mode = draw.some("constant", "reflect", "replicate", "circular")
    value = draw.some(None, 1.5) if mode == "constant" else None
    return *padded(2, -1 if mode == "constant" else 0)(draw), mode, value


def shuffled(draw):
    r = draw.randint(1, 3)
    return image(draw, 2, r * r * draw.randint(1, 2)), r


def unshuffled(draw):
    r = draw.randint(1, 3)
    return draw.normal((1, 2, r * draw.randint(1, 3), r * draw.randint(1, 3))), r


def channels(draw):
    groups = draw.randint(1, 3)
    return image(draw, 2, groups * draw.randint(1, 3)), groups


def columns(draw):
    return image(draw), draw.sizes(2, 1, 2), *(draw.sizes(2, low, 2) for low in (1, 0, 1))


def uncolumns(draw):
    x, *settings = columns(draw)
    folded = aten.im2col(torch.tensor(x), *settings)
    return draw.normal(tuple(folded.shape)), x.shape[2:], *settings


def unfolded(draw):
    size = draw.randint(1, 3)
    return draw.normal((3, 4, 5)), draw.dim(3), size, draw.some(size, draw.randint(1, 3))


CASES |= {
    "pad": any_padding,
    "constant_pad_nd": lambda draw: (*padded(2, -1)(draw), draw.some(0, 2.5)),
    **{f"reflection_pad{axes}d": padded(axes) for axes in (1, 2, 3)},
    **{f"replication_pad{axes}d": padded(axes) for axes in (1, 2, 3)},
    "pixel_shuffle": shuffled,
    "pixel_unshuffle": unshuffled,
    "channel_shuffle": channels,
    "im2col": columns,
    "col2im": uncolumns,
    "unfold": unfolded,
}


# ---- resizing


def resized(axes, corners):
    def case(draw):
        x = image(draw, axes, None, 3, 7)
        # Of factors from 2 on torch's nearest rows differ between its values and gradients.
        factors = tuple(draw.uniform(1.35, 1.95) for _ in range(axes))
        sizes = tuple(int(size * by) for size, by in zip(x.shape[2:], factors, strict=True))
        aligned = (draw.flag(),) if corners else ()
        free = draw.some(draw.sizes(axes, 1, 9), tuple(2 * size for size in x.shape[2:]))
        given = ((free, *aligned), (sizes, *aligned, *factors), (None, *aligned, factors))
        return x, *draw.some(*given)

    return case


def upsampled(name):
    def call(x, size, *rest):
        overload = "vec" if size is None else "default"
        return getattr(getattr(aten, name), overload)(x, size, *rest)

    return call


def sampled(draw):
    places = np.random.default_rng(draw.getrandbits(32)).uniform(-1.6, 1.6, (2, 3, 4, 2))
    mode, beyond = draw.randint(0, 1), draw.randint(0, 2)
    return draw.normal((2, 3, 5, 4)), places, mode, beyond, draw.flag()


NEAREST = [f"{stem}{axes}d" for stem in ("upsample_nearest", "_upsample_nearest_exact")
           for axes in (1, 2, 3)]  # fmt: skip
SMOOTH = ["upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d"]
SMOOTH += ["_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"]
for name in NEAREST + SMOOTH:
    CASES[name] = resized(int(name.removesuffix("_aa")[-2]), name in SMOOTH)
    THEIRS[name] = upsampled(name)
CASES |= {"grid_sampler": sampled, "grid_sampler_2d": sampled}


@pytest.mark.parametrize("name", ordinary(CASES))
@fuzz(2, seed=SEEDS)
def test_spatial_operations_give_torch_s_values_types_and_gradients(name, seed):
    draw = Sizes(f"{name} {seed}")
    agree(name, CASES[name](draw), seed=seed, bfloat16=True, theirs=THEIRS.get(name))


def test_every_spatial_operation_is_tested():
    files = (spatial, pools, padding, resizing)
    assert CASES.keys() == set().union(*(entered(file) for file in files))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("conv2d", "convolution") else pytest.mark.slow)
        for name in sorted(CONVOLUTIONS)
    ],
)
def test_no_convolution_of_bfloat16_has_a_product_in_float32(name):
    stays_bfloat16(name, CASES[name](Sizes(name)))


@pytest.mark.parametrize("side", [15, 16, 17])
def test_a_window_of_more_cells_than_a_byte_counts_is_pooled(side):
    x = np.random.default_rng(0).integers(0, 4, (1, 2, 20, 19)).astype(float)  # many equal maxima
    agree("max_pool2d", (x, (side, side), (2, 1), (7, 7)))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (4, 4)])
def test_of_equal_maxima_the_first_gets_the_gradient_in_adaptive_pools_too(size):
    x = np.random.default_rng(0).integers(0, 3, (1, 2, 6, 7)).astype(float)
    agree("adaptive_max_pool2d", (x, size), theirs=THEIRS["adaptive_max_pool2d"])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("conv2d", (Stored(np.ones((5, 2, 3, 3)), (2, 3, 1, 0)),)),
        ("max_pool2d", ((3, 3), (2, 2))),
        ("avg_pool2d", ((3, 3), (2, 2))),
        ("adaptive_avg_pool2d", ((2, 2),)),
    ],
)
def test_features_without_a_batch_are_taken(name, arguments):
    x = np.random.default_rng(0).normal(size=(2, 6, 7))
    agree(name, (x, *arguments), theirs=getattr(F, name))


def test_features_stay_channels_last_through_convolutions_and_pools():
    x = jnp.ones((1, 8, 8, 4))
    weight = tensor(jnp.ones((3, 3, 4, 5)))
    for value in (
        OPERATIONS["conv2d"](of_last(x), weight),
        OPERATIONS["max_pool2d"](of_last(x), (2, 2)),
        OPERATIONS["avg_pool2d"](of_last(x), (2, 2)),
        OPERATIONS["upsample_bilinear2d"](of_last(x), (9, 9), False),
        OPERATIONS["pad"](of_last(x), (1, 1, 2, 2)),
    ):
        assert value.order == (0, 3, 1, 2)


def test_bicubic_sampling_on_a_grid_is_refused_in_one_line():
    x, grid = tensor(jnp.ones((1, 1, 3, 3))), tensor(jnp.zeros((1, 2, 2, 2)))
    with pytest.raises(UserError, match="bilinear or nearest"):
        OPERATIONS["grid_sampler"](x, grid, 2, 0, False)


def test_convolutions_of_one_image_under_vmap_are_those_of_a_batch():
    images = jax.random.normal(jax.random.key(0), (3, 7, 8, 4))
    weight = tensor(jax.random.normal(jax.random.key(1), (3, 3, 1, 4)))

    def convolved(images):
        x = of_last(images)
        return OPERATIONS["conv2d"](x, weight, None, (2, 2), (1, 1), (1, 1), 4).last()

    one_by_one = jax.jit(jax.vmap(lambda image: convolved(image[None])[0]))(images)
    np.testing.assert_allclose(one_by_one, jax.jit(convolved)(images), rtol=0, atol=1e-6)
