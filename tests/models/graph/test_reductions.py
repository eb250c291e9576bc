"""Sums, extrema, norms and the like of a graph are torch's, over any axes in any order."""

import numpy as np
import pytest
from against_torch import SEEDS, agree, entered, ordinary, stays_bfloat16
from drawing import Draws
from fuzzing import fuzz

from gaxjax.models.graph import reductions

INF = float("inf")


def some_dims(draw):
    """Return normal numbers, and the axes and ``keepdim`` that torch takes, or none of these."""
    x = draw.normal(draw.shape(1))
    return draw.some((x,), (x, draw.dims(x.ndim), draw.flag()), (x, (), draw.flag()))


def tied_dims(draw):
    x = draw.ties(draw.shape(1))
    return x, draw.dims(x.ndim), draw.flag()


def one_dim(draw):
    x = draw.some(draw.normal, draw.ties)(draw.shape(1))
    return x, draw.dim(x.ndim), draw.flag()


def everything_or_one(draw):
    return draw.some((draw.normal(draw.shape()),), one_dim(draw))


def whole_or_not(draw):
    shape = draw.shape(1)
    x = draw.some(draw.normal(shape), draw.integers(shape), draw.bools(shape))
    return draw.some((x,), (x, draw.dims(x.ndim), draw.flag()))


def truths(draw):
    x = draw.bools(draw.shape(1))
    return draw.some((x,), (x, draw.dims(x.ndim), draw.flag()), (x, draw.dim(x.ndim)))


def spread(draw):
    """Return the arguments of any overload of `var`, over at least two cells."""
    x = draw.normal(tuple(length + 1 for length in draw.shape(1, 3)))
    return draw.some((x,), (x, draw.flag()), (x, draw.dims(x.ndim), draw.flag(), draw.flag()))


def norms(draw):
    x, dims, keepdim = tied_dims(draw)
    x = draw.some(x, draw.normal(x.shape))
    return x, draw.some(0, 1, 2, 3, 0.5, 1.5, INF, -INF), dims, keepdim


def norms_of_old(draw):
    x, power, dims, keepdim = norms(draw)
    return draw.some((x,), (x, 3), (x, power, dims, keepdim), (x, None, dims, keepdim))


def sums(draw):
    x, dims, keepdim = tied_dims(draw)
    return x + draw.normal(x.shape) / 8, dims, keepdim


CASES = {
    "sum": whole_or_not,
    "mean": some_dims,
    "prod": everything_or_one,
    "amax": tied_dims,
    "amin": tied_dims,
    "max": lambda draw: (draw.ties(draw.shape()),),
    "min": lambda draw: (draw.ties(draw.shape()),),
    "any": truths,
    "all": truths,
    "max.dim": one_dim,
    "min.dim": one_dim,
    "argmax": everything_or_one,
    "argmin": everything_or_one,
    "logsumexp": sums,
    "cumsum": lambda draw: one_dim(draw)[:2],
    "var": spread,
    "std": spread,
    "var_mean": spread,
    "linalg_vector_norm": norms,
    "norm": norms_of_old,
}


@pytest.mark.parametrize("name", ordinary(CASES))
@fuzz(2, seed=SEEDS)
def test_reductions_give_torch_s_values_types_and_gradients(name, seed):
    agree(name, CASES[name](Draws(f"{name} {seed}")), seed=seed, bfloat16=True)


def test_every_reduction_is_tested():
    assert CASES.keys() == entered(reductions)


@pytest.mark.parametrize("correction", [0, 1, 2])
@pytest.mark.parametrize("name", ["var", "std", "var_mean"])
def test_spreads_take_a_correction(name, correction):
    x = Draws(3).normal((3, 4, 5))
    agree(name, (x, (0, -1)), {"correction": correction, "keepdim": True}, seed=1)


@pytest.mark.parametrize("power", [1, 2, 3, 0.5, INF, -1])
def test_norms_of_nothing_are_0_and_pass_no_gradient(power):
    agree("linalg_vector_norm", (np.zeros((2, 3)), power, (1,)))


def test_deviations_of_equal_numbers_pass_no_gradient():
    agree("std", (np.ones((2, 3)), (1,)))


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "cumsum"])
def test_a_type_is_given_to_the_sum(name):
    arguments = (np.arange(6).reshape(2, 3), *((1,) if name == "cumsum" else ()))
    agree(name, arguments, {"dtype": "float64"})


@pytest.mark.parametrize("name", ["any", "all"])
def test_truth_over_no_axes_is_each_number_s_own(name):
    agree(name, (np.array([0.0, 2.0]), ()), gradients=False)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "logsumexp", "linalg_vector_norm"])
def test_bfloat16_is_summed_in_float32(name):
    arguments = (np.full((4096,), 1.0) + np.arange(4096) % 2, *norm_and_axes(name))
    stays_bfloat16(name, arguments, tolerance=2**-8)


def norm_and_axes(name):
    return {"linalg_vector_norm": (2, (0,)), "logsumexp": ((0,),)}.get(name, ())
