"""Products, attention, normalisations, softmax and recurrent layers of a graph are torch's."""

from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_torch import SEEDS, agree, entered, ordinary, stays_bfloat16
from drawing import Draws
from fuzzing import fuzz

from gaxjax.models.graph import normalisation, products, recurrent
from gaxjax.models.graph.operations import OPERATIONS
from gaxjax.models.graph.tensor import Tensor, tensor

# ---- products


def linear(draw):
    x = draw.normal(draw.shape(1, 4))
    outputs = draw.randint(1, 4)
    return x, draw.normal((outputs, x.shape[-1])), draw.some(None, draw.normal((outputs,)))


def factors(draw):
    many, inner, outer = draw.shape(0, 2), draw.randint(1, 4), draw.randint(1, 4)
    rows = draw.randint(1, 4)
    right = draw.some((inner,), (inner, outer), (*draw.narrower(many), inner, outer))
    left = (rows, inner) if right == (inner,) else draw.some((inner,), (*many, rows, inner))
    return draw.normal(left), draw.normal(right)


def of_shapes(*shapes):
    return lambda draw: tuple(draw.normal(shape) for shape in shapes)


def weighed(draw):
    return draw.some({}, {"alpha": 0.5}, {"beta": 2.0, "alpha": 3.0}, {"beta": 0.0})


def einsum(draw):
    equation, *shapes = draw.some(
        ("bhwc,hkc->bhwk", (2, 3, 4, 5), (3, 2, 5)),
        ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
        ("...ii->...i", (2, 3, 3)),
        ("bnd,bmd->bnm", (2, 3, 4), (2, 5, 4)),
    )
    return equation, of_shapes(*shapes)(draw)


def attended(draw):
    heads, shared = draw.some((4, 1), (4, 2), (2, 1))
    rows, columns, width = draw.randint(1, 4), draw.randint(1, 5), draw.randint(1, 4)
    q, k, v = of_shapes(
        (2, heads, rows, width),
        *((2, heads // shared, columns, each) for each in (width, draw.randint(1, 4))),
    )(draw)
    shape = draw.some((rows, columns), (1, columns), (2, 1, rows, columns), (heads, rows, 1))
    mask = draw.some(None, draw.normal(shape), draw.bools(shape))
    causal = mask is None and draw.flag()
    named = {"scale": draw.some(None, 0.3), "enable_gqa": shared > 1}
    return (q, k, v, mask, 0.0, causal), named


# ---- normalisations


def last_axes(draw):
    x = draw.normal(draw.shape(1, 4))
    shape = x.shape[draw.randrange(x.ndim) :]
    return x, shape, *(draw.some(None, draw.normal(shape)) for _ in range(2))


def channels(draw, groups=1):
    x = draw.normal((2, groups * draw.randint(1, 3), *draw.shape(1, 2)))
    return x, *(draw.some(None, draw.normal(x.shape[1:2])) for _ in range(2))


def group_normed(draw):
    groups = draw.randint(1, 3)
    x, scale, shift = channels(draw, groups)
    return x, groups, scale, shift, 1e-3


def native_group_normed(draw):
    x, groups, scale, shift, eps = group_normed(draw)
    return x, scale, shift, *x.shape[:2], int(np.prod(x.shape[2:])), groups, eps


def instance_normed(draw):
    x, scale, shift = channels(draw)
    x = draw.normal((*x.shape[:2], 3, 4))  # one cell has no variance, which torch refuses
    return x, scale, shift, *draw.some((None, None, True), statistics(draw, x)), 0.1, 1e-3, False


def statistics(draw, x):
    mean, var = of_shapes(x.shape[1:2], x.shape[1:2])(draw)
    return mean, var**2 + 0.1, False


def batch_normed(draw):
    x, scale, shift = channels(draw)
    return x, scale, shift, *statistics(draw, x)[:2], 1e-3


def torchs_batch_norm(x, scale, shift, mean, var, eps):
    """Return torch's value by its formula: torch itself has no gradient by the statistics."""
    across = (-1, *[1] * (x.ndim - 2))
    y = (x - mean.view(across)) / (var.view(across) + eps).sqrt()
    y = y if scale is None else y * scale.view(across)
    y = y if shift is None else y + shift.view(across)
    right = F.batch_norm(x, mean.detach(), var.detach(), scale, shift, eps=eps)
    torch.testing.assert_close(y, right, rtol=1e-12, atol=1e-12)
    return y


def torchs_instance_norm(x, scale, shift, mean, var, own, *rest):
    if own:
        return torch.ops.aten.instance_norm(x, scale, shift, mean, var, own, *rest)
    return torchs_batch_norm(x, scale, shift, mean, var, rest[1])


def softened(draw):
    x = draw.normal(draw.shape(1, 4)) * draw.some(1, 300)
    return x, draw.dim(x.ndim)


def recurrent_case(gates, states):
    def case(draw):
        layers, ways, biased, first = draw.randint(1, 2), draw.flag(), draw.flag(), draw.flag()
        inputs, hidden, both = draw.randint(1, 3), draw.randint(1, 3), 1 + ways
        params = []
        for layer in range(layers):
            for _ in range(both):
                width = hidden * both if layer else inputs
                shapes = [(gates * hidden, width), (gates * hidden, hidden)]
                params += of_shapes(*shapes, *[(gates * hidden,)] * 2 * biased)(draw)
        start = of_shapes(*[(layers * both, 2, hidden)] * states)(draw)
        x = draw.normal((2, 4, inputs) if first else (4, 2, inputs))
        hx = start if states > 1 else start[0]
        return x, hx, tuple(params), biased, layers, 0.0, False, ways, first

    return case


CASES = {
    "linear": linear,
    "matmul": factors,
    "mm": of_shapes((2, 3), (3, 4)),
    "bmm": of_shapes((2, 3, 4), (2, 4, 2)),
    "dot": of_shapes((3,), (3,)),
    "mv": of_shapes((2, 3), (3,)),
    "outer": of_shapes((2,), (3,)),
    "ger": of_shapes((2,), (3,)),
    "addmm": lambda d: d.some(*(of_shapes(s, (2, 3), (3, 4))(d) for s in ((4,), (2, 4), (2, 1)))),
    "addmv": of_shapes((2,), (2, 3), (3,)),
    "baddbmm": of_shapes((2, 1, 4), (2, 2, 3), (2, 3, 4)),
    "einsum": einsum,
    "bilinear": of_shapes((2, 3), (2, 4), (5, 3, 4), (5,)),
    "scaled_dot_product_attention": attended,
    "softmax": softened,
    "log_softmax": softened,
    "_softmax": lambda draw: (*softened(draw), False),
    "_log_softmax": lambda draw: (*softened(draw), False),
    "layer_norm": lambda draw: (*last_axes(draw), 1e-3),
    "native_layer_norm": lambda draw: (*last_axes(draw), 1e-3),
    "rms_norm": lambda draw: (*last_axes(draw)[:3], draw.some(None, 1e-3)),
    "_fused_rms_norm": lambda draw: (*last_axes(draw)[:3], draw.some(None, 1e-3)),
    "group_norm": group_normed,
    "native_group_norm": native_group_normed,
    "instance_norm": instance_normed,
    "batch_norm": batch_normed,
    "glu": lambda draw: (draw.normal((2, 4, 6)), draw.some(1, 2, -1)),
    "cdist": lambda draw: (*of_shapes((2, 3, 4), (2, 5, 4))(draw), draw.some(1.0, 2.0, 3.0)),
    "lstm": recurrent_case(4, 2),
    "gru": recurrent_case(3, 1),
    "rnn_tanh": recurrent_case(1, 1),
    "rnn_relu": recurrent_case(1, 1),
}
KEYWORDS = dict.fromkeys(("addmm", "addmv", "baddbmm"), weighed)
THEIRS = {"batch_norm": torchs_batch_norm, "instance_norm": torchs_instance_norm}
# Torch gives the statistics no gradient, so that of the normalised values is compared alone.
FIRST_ALONE = ("native_layer_norm", "native_group_norm", "_fused_rms_norm")


@pytest.mark.parametrize("name", ordinary(CASES.keys() - set(FIRST_ALONE)))
@fuzz(2, seed=SEEDS)
def test_products_and_norms_give_torch_s_values_types_and_gradients(name, seed):
    draw = Draws(f"{name} {seed}")
    arguments = CASES[name](draw)
    named = KEYWORDS[name](draw) if name in KEYWORDS else {}
    if isinstance(arguments[-1], dict):
        arguments, named = arguments
    agree(name, arguments, named, seed=seed, bfloat16=True, theirs=THEIRS.get(name))


@pytest.mark.parametrize("name", FIRST_ALONE)
@fuzz(2, seed=SEEDS)
def test_norms_with_statistics_give_torch_s_values_and_the_first_one_s_gradients(name, seed):
    arguments = CASES[name](Draws(f"{name} {seed}"))
    agree(name, arguments, seed=seed, gradients=False)
    whole = OPERATIONS[name]
    with mock.patch.dict(OPERATIONS, {name: lambda *given: whole(*given)[0]}):
        theirs = getattr(torch.ops.aten, name)
        agree(name, arguments, seed=seed, bfloat16=True, theirs=lambda *given: theirs(*given)[0])


def test_every_product_and_norm_is_tested():
    files = (products, normalisation, recurrent)
    assert CASES.keys() == set().union(*(entered(file) for file in files))


@pytest.mark.parametrize(
    "name",
    ["linear", "matmul", "addmm", "einsum", pytest.param("lstm", marks=pytest.mark.slow), "gru"],
)
def test_products_of_bfloat16_stay_in_it(name):
    stays_bfloat16(name, CASES[name](Draws(name)))


def test_attention_of_bfloat16_stays_in_it():
    arguments, named = attended(Draws(0))
    stays_bfloat16("scaled_dot_product_attention", arguments, named)


def test_a_query_that_may_see_nothing_gets_nothing_and_no_nan_in_its_gradient():
    q, k, v = of_shapes((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4))(Draws(0))
    mask = np.ones((3, 5), bool)
    mask[1] = False
    agree("scaled_dot_product_attention", (q, k, v, mask))


def test_a_variance_is_exact_where_the_mean_is_large():
    x = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    shifted = tensor((x.astype(np.float64) + 4096).astype(np.float32))
    y = OPERATIONS["layer_norm"](shifted, (64,)).array
    right = F.layer_norm(torch.tensor(np.asarray(shifted.array)).double(), (64,)).numpy()
    # Measured 1.2e-4: the mean in float32; E[x²] - E[x]² would be off by more than 1.
    np.testing.assert_allclose(y, right, rtol=0, atol=1e-3)


def test_a_linear_layer_leaves_the_other_axes_where_they_lie():
    x = Tensor(jnp.ones((1, 5, 6, 3)), (0, 3, 1, 2))  # torch's [1, 3, 5, 6], channels last
    y = OPERATIONS["linear"](x, tensor(jnp.ones((7, 6))))
    assert y.shape == (1, 3, 5, 7)
    assert y.array.shape == (1, 5, 3, 7)
