"""A product with a matrix that is kept both ways round, against the plain one."""

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.ops import two_way_product


def test_value_and_gradient_are_those_of_the_product():
    draw = np.random.default_rng(0)
    x, matrix, upstream = (jnp.asarray(draw.normal(size=s)) for s in ((2, 3, 5), (5, 7), (2, 3, 7)))
    found, backward = jax.vjp(lambda x: two_way_product(x, matrix, matrix.T), x)
    np.testing.assert_allclose(found, x @ matrix, rtol=1e-6)
    np.testing.assert_allclose(backward(upstream)[0], upstream @ matrix.T, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_taken_from_the_turned_matrix():
    x, matrix = jnp.ones((1, 2)), jnp.ones((2, 3))
    gradient = jax.grad(lambda x: two_way_product(x, matrix, 2 * matrix.T).sum())(x)
    np.testing.assert_array_equal(gradient, [[6.0, 6.0]])
