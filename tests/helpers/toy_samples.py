"""The samples of the paper's two-dimensional example, and rows of its figures' table."""

import jax.numpy as jnp
import numpy as np

PI = np.pi
DISTINCT, MIDDLE, ALIKE = 0.95, 0.7, 0.55  # the panels' a_1


def at(table, a1, theta):
    rows = table[np.isclose(table["a1"], a1) & np.isclose(table["theta"], theta)]
    assert len(rows) == 1
    return rows[0]


def between(table, a1, low, high):
    inside = (table["theta"] > low - 1e-9) & (table["theta"] < high + 1e-9)
    return table[np.isclose(table["a1"], a1) & inside]


def pair(first, second):
    return jnp.array([first, second], jnp.float64)
