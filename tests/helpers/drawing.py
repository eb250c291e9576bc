"""Draw the arguments of operations: shapes, arrays that broadcast, axes; all from one seed."""

import random
from typing import Any

import numpy as np

__all__ = ["Draws"]


class Draws(random.Random):
    """A source of arguments."""

    def shape(self, least: int = 0, most: int = 4, side: int = 4) -> tuple[int, ...]:
        """Return ``least`` to ``most`` lengths, of 1 to ``side`` each."""
        return tuple(self.randint(1, side) for _ in range(self.randint(least, most)))

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return normal numbers in float64."""
        return np.random.default_rng(self.getrandbits(32)).normal(size=shape)

    def ties(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return whole numbers in float64, of which many are equal and some are 0."""
        return np.random.default_rng(self.getrandbits(32)).integers(-2, 3, shape).astype(float)

    def integers(self, shape: tuple[int, ...], low: int = -9, high: int = 9) -> np.ndarray:
        """Return integers from ``low`` up to ``high``, without it."""
        return np.random.default_rng(self.getrandbits(32)).integers(low, high, shape)

    def bools(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return truth values."""
        return self.normal(shape) > 0

    def narrower(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return a shape that broadcasts to another."""
        kept = shape[self.randint(0, len(shape)) :] if self.random() < 0.5 else shape
        return tuple(1 if self.random() < 0.3 else length for length in kept)

    def dim(self, ndim: int) -> int:
        """Return one of the axes, as a negative number at times."""
        return self.randrange(-ndim, ndim)

    def dims(self, ndim: int, least: int = 1) -> tuple[int, ...]:
        """Return different axes, in any order."""
        chosen = self.sample(range(ndim), self.randint(min(least, ndim), ndim))
        return tuple(dim - ndim if self.random() < 0.3 else dim for dim in chosen)

    def flag(self) -> bool:
        """Return one of the truth values."""
        return self.random() < 0.5

    def some(self, *values: Any) -> Any:
        """Return one of the values."""
        return self.choice(values)
