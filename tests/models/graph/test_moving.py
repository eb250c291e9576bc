"""Views, joins, look-ups and new tensors of a graph are torch's; most views cost nothing."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from against_torch import SEEDS, agree, entered, ordinary
from drawing import Draws
from fuzzing import fuzz

from gaxjax.models.graph import making, moving, views
from gaxjax.models.graph.operations import OPERATIONS
from gaxjax.models.graph.tensor import Tensor, of_last, tensor

FAR = 2**63 - 1  # torch's end of a slice that has none


def some(draw, least=1, most=4):
    return draw.normal(draw.shape(least, most))


def with_dim(draw, *more):
    x = some(draw)
    return x, draw.dim(x.ndim), *more


def permuted(draw):
    x = some(draw)
    return x, tuple(draw.sample(range(x.ndim), x.ndim))


def swapped(draw):
    x = some(draw)
    return x, draw.dim(x.ndim), draw.dim(x.ndim)


def moved(draw):
    x = some(draw)
    dims = draw.sample(range(x.ndim), 2 if x.ndim > 1 else 1)
    return draw.some(swapped(draw), (x, tuple(dims), tuple(reversed(dims))))


def factors(draw, cells):
    """Return a shape of so many cells, with a few axes of one among it."""
    shape = []
    while cells > 1:
        part = draw.choice([n for n in range(2, cells + 1) if cells % n == 0])
        shape.append(part)
        cells //= part
    for _ in range(draw.randint(0, 2)):
        shape.insert(draw.randint(0, len(shape)), 1)
    return shape


def viewed(draw):
    x = some(draw, 0, 5)
    shape = factors(draw, x.size)
    if shape and draw.flag():
        shape[draw.randrange(len(shape))] = -1
    return x, tuple(shape)


def viewed_as(draw):
    x = some(draw, 0, 5)
    return x, np.zeros(factors(draw, x.size))


def flattened(draw):
    x = some(draw)
    start, end = sorted((draw.randrange(x.ndim), draw.randrange(x.ndim)))
    return x, start, end - draw.some(0, x.ndim)


def unflattened(draw):
    x, dim = with_dim(draw)
    sizes = factors(draw, x.shape[dim]) or [1]
    return x, dim, tuple(sizes)


def squeezed(draw):
    x = draw.normal(tuple(draw.some(1, 1, 3) for _ in range(draw.randint(1, 4))))
    return draw.some((x,), (x, draw.dim(x.ndim)), (x, draw.dims(x.ndim)))


def expansions(draw):
    shape = draw.shape(1)
    x = draw.normal(draw.narrower(shape))
    new = len(shape) - x.ndim  # axes, of which torch takes no -1
    kept = [i >= new and x.shape[i - new] == length for i, length in enumerate(shape)]
    if draw.flag():
        return x, shape
    return x, tuple(-1 if same else length for same, length in zip(kept, shape, strict=True))


def broadcast(draw):
    shape = draw.shape(1)
    return draw.normal(draw.narrower(shape)), np.zeros(shape)


def copied(draw):
    return broadcast(draw)[::-1]


def one_of(draw):
    x, dim = with_dim(draw)
    return x, dim, draw.randrange(-x.shape[dim], x.shape[dim])


def part(draw):
    x, dim = with_dim(draw)
    start, end = draw.some(None, -2, 0, 1), draw.some(None, -1, 2, 3, FAR)
    return x, dim, start, end, draw.some(1, 1, 2)


def narrowed(draw):
    x, dim = with_dim(draw)
    start = draw.randrange(x.shape[dim])
    return x, dim, start, draw.randint(1, x.shape[dim] - start)


def sizes(draw):
    x, dim = with_dim(draw)
    first = draw.randint(0, x.shape[dim])
    return x, (first, x.shape[dim] - first), dim


def planes(draw):
    x = some(draw, 2)
    dim1, dim2 = draw.sample(range(x.ndim), 2)
    return x, draw.some(0, 1, -1) if min(x.shape[dim1], x.shape[dim2]) > 1 else 0, dim1, dim2


VIEWS = {
    "permute": permuted,
    "transpose": swapped,
    "t": lambda draw: (some(draw, 0, 2),),
    "numpy_T": lambda draw: (some(draw, 2, 2),),
    "mT": lambda draw: (some(draw, 2),),
    "adjoint": lambda draw: (some(draw, 2),),
    "movedim": moved,
    "unsqueeze": lambda draw: (lambda x: (x, draw.dim(x.ndim + 1)))(some(draw, 0)),
    "squeeze": squeezed,
    "view": viewed,
    "view_as": viewed_as,
    "flatten": flattened,
    "unflatten": unflattened,
    "expand": expansions,
    "expand_as": broadcast,
    "select": one_of,
    "slice": part,
    "narrow": narrowed,
    "split": lambda draw: draw.some(sizes(draw), (some(draw), draw.some(1, 2))),
    "split_with_sizes": sizes,
    "chunk": lambda draw: (lambda x, dim: (x, draw.some(1, 2, 3), dim))(*with_dim(draw)),
    "unbind": with_dim,
    "diagonal": planes,
    "getitem": lambda draw: ((some(draw), some(draw)), draw.some(0, 1, -1)),
}
VIEWS |= dict.fromkeys(("swapaxes", "swapdims"), swapped) | {"moveaxis": moved}
VIEWS |= {"_unsafe_view": viewed, "reshape": viewed, "reshape_as": viewed_as}
VIEWS |= {"broadcast_to": expansions}


def joined(draw):
    x, dim = with_dim(draw)
    other = draw.normal(tuple(2 if i == dim % x.ndim else n for i, n in enumerate(x.shape)))
    return draw.some((x, other), (x, x, other), (np.zeros(0), x)), dim


def stacked(draw):
    shape = draw.shape(0, 3)
    return (draw.normal(shape), draw.normal(shape)), draw.dim(len(shape) + 1)


def rolled(draw):
    x = some(draw)
    dims = draw.dims(x.ndim)
    shifts = tuple(draw.randint(-5, 5) for _ in dims)
    return draw.some((x, shifts, dims), (x, shifts[:1]))


def repeated(draw):
    x = some(draw, 0, 3)
    return x, tuple(draw.randint(1, 3) for _ in range(x.ndim + draw.randint(0, 2)))


def interleaved(draw):
    x, dim = with_dim(draw)
    return draw.some((x, 2, dim), (x, 3))


def triangle(draw):
    return some(draw, 2), draw.some(0, 1, -1)


def indexed(draw):
    x = draw.normal((4, *draw.shape(2, 3)))
    rows = draw.integers((3,), -4, 4)
    cells = draw.integers((2, 1), 0, x.shape[2])
    return x, draw.some((rows,), (rows, None, cells[0]), (None, None, cells), (rows, None, cells))


def put(draw):
    x = draw.normal((4, 2, 3))
    rows = np.array(draw.sample(range(4), 2))
    if draw.flag():
        return x, (None, None, np.array([1, 1, 2])), draw.normal((4, 2, 3)), True
    return x, (rows,), draw.normal((2, 2, 3))


def looked_up(draw):
    x, dim = with_dim(draw)
    return x, dim, draw.integers((5,), 0, x.shape[dim])


def gathered(draw):
    x, dim = with_dim(draw)
    shape = tuple(draw.randint(1, length) for length in x.shape)
    return x, dim, draw.integers(shape, 0, x.shape[dim])


def slice_written(draw):
    x, dim, start, end, step = part(draw)
    at = [slice(None)] * x.ndim
    at[dim] = slice(start, end, step)
    return x, draw.normal(x[tuple(at)].shape), dim, start, end, step


def one_written(draw):
    x, dim, index = one_of(draw)
    return x, draw.normal(np.take(x, index, dim).shape), dim, index


MOVING = {
    "cat": joined,
    "stack": stacked,
    "roll": rolled,
    "flip": lambda draw: (lambda x: (x, draw.dims(x.ndim)))(some(draw)),
    "repeat": repeated,
    "tile": repeated,
    "repeat_interleave": interleaved,
    "tril": triangle,
    "triu": triangle,
    "index": indexed,
    "index_put": put,
    "index_select": looked_up,
    "embedding": lambda draw: (draw.normal((5, 3)), draw.integers(draw.shape(), 0, 5)),
    "gather": gathered,
    "slice_scatter": slice_written,
    "select_scatter": one_written,
    "copy": copied,
} | dict.fromkeys(("concat", "concatenate"), joined)


def size(draw):
    return (draw.shape(),)


def sized(draw, *more):
    return some(draw), draw.shape(), *more


def stepped(draw):
    return draw.some((5,), (-2, 5), (1, 8, 3), (5, 0, -2))


def retyped(draw):
    shape = draw.shape()
    x = draw.some(draw.normal(shape) * 3, draw.integers(shape), draw.bools(shape))
    return (x,)


MAKING = {
    "zeros": size,
    "ones": size,
    "full": lambda draw: (draw.shape(), draw.some(2.5, 2, True)),
    "scalar_tensor": lambda draw: (draw.some(2.5, 2),),
    "arange": stepped,
    "new_zeros": sized,
    "new_ones": sized,
    "new_full": lambda draw: sized(draw, draw.some(2.5, 2)),
    "_to_copy": retyped,
    "to": lambda draw: (*retyped(draw), draw.some("float64", "int64", "bool", draw.integers((1,)))),
    "type_as": lambda draw: (*retyped(draw), *retyped(draw)),
}
THEIRS = {
    "view": torch.ops.aten.reshape,  # torch's view is of its own memory order alone
    "view_as": torch.ops.aten.reshape_as,
    "_unsafe_view": torch.ops.aten.reshape,
    "getitem": operator.getitem,
    "to": lambda x, other: x.to(other),  # the packet of overloads crashes, in torch 2.14
    "copy": lambda x, source: x * 0 + source,  # torch's has no gradient
}


@pytest.mark.parametrize("name", ordinary(VIEWS | MOVING))
@fuzz(2, seed=SEEDS)
def test_numbers_go_where_torch_puts_them(name, seed):
    arguments = (VIEWS | MOVING)[name](Draws(f"{name} {seed}"))
    agree(name, arguments, seed=seed, theirs=THEIRS.get(name), bfloat16=True)


@pytest.mark.parametrize("name", ordinary(MAKING))
@fuzz(2, seed=SEEDS)
def test_tensors_are_made_as_torch_makes_them(name, seed):
    draw = Draws(f"{name} {seed}")
    arguments = MAKING[name](draw)
    dtype = {} if name in ("to", "type_as") else {"dtype": draw.some("float64", "int64", "bool")}
    if name == "arange":
        dtype = {"dtype": "int64"}
    agree(name, arguments, dtype, seed=seed, theirs=THEIRS.get(name))


def test_every_operation_that_moves_or_makes_is_tested():
    assert VIEWS.keys() == entered(views)
    assert MOVING.keys() == entered(moving)
    assert MAKING.keys() == entered(making)


# ---- what costs nothing


def transpositions(name, x, *arguments):
    """Return how often an array is transposed, and the result's order."""
    made = {}

    def run(array):
        result = OPERATIONS[name](x.like(array), *arguments)
        made["order"] = result.order
        return result.array

    return str(jax.make_jaxpr(run)(x.array)).count("transpose["), made["order"]


FEATURES = of_last(jnp.ones((2, 4, 6, 8)))  # torch's [2, 8, 4, 6]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("flatten", (2,)),  # to tokens: height and width lie side by side
        ("view", (2, 8, 24)),
        ("view", (2, 2, 4, 4, 6)),  # groups of channels
        ("view", (2, 8, 2, 2, 3, 2)),  # windows
        ("view", (1, 2, 8, 1, 4, 6)),
        ("unsqueeze", (2,)),
        ("permute", ((0, 2, 3, 1),)),
        ("transpose", (1, 2)),
        ("expand", (2, 8, 4, 6)),
    ],
)
def test_a_view_of_neighbours_moves_nothing(name, arguments):
    given = arguments if name != "view" and name != "expand" else (arguments,)
    assert transpositions(name, FEATURES, *given)[0] == 0


def test_tokens_of_channels_last_features_are_plain():
    tokens = OPERATIONS["transpose"](OPERATIONS["flatten"](FEATURES, 2), 1, 2)
    assert tokens.shape == (2, 24, 8)
    assert tokens.order == (0, 1, 2)


def test_channels_pooled_to_one_cell_are_flattened_for_nothing():
    pooled = OPERATIONS["mean"](FEATURES, (2, 3), True)
    assert transpositions("flatten", pooled, 1) == (0, (0, 1))


def test_shuffled_channels_stay_last():
    groups = OPERATIONS["transpose"](OPERATIONS["view"](FEATURES, (2, 2, 4, 4, 6)), 1, 2)
    shuffled = OPERATIONS["view"](groups, (2, 8, 4, 6))
    assert shuffled.order == FEATURES.order


def test_heads_are_merged_into_plain_tokens():
    heads = tensor(jnp.ones((2, 3, 5, 4)))  # [B, heads, tokens, d]
    tokens = OPERATIONS["transpose"](heads, 1, 2)
    assert transpositions("reshape", tokens, (2, 5, 12)) == (1, (0, 1, 2))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0, 2), (0,)])
def test_tensors_without_cells_are_viewed(shape):
    x = Tensor(jnp.zeros(shape), tuple(range(len(shape))))
    assert OPERATIONS["view"](x, (5, 0)).shape == (5, 0)
