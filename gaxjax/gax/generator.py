"""A generator of one's own: any function that makes heatmaps of trainable numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from gaxjax.common import Image, UserError, described

__all__ = ["Generator"]

_EXPECTED = "expected floats of the image's shape"


@dataclass(frozen=True)
class Generator:
    """How heatmaps are made, in place of the paper's h = tanh(w * x).

    Both functions are about one image x, float32 [H, W, 3] in [0, 1], and pure: JAX traces, maps
    and differentiates them.

    Attributes:
        function: (w, x) -> h, shaped like x.
        initial: x -> the first w: an array of floats, or a tree of such.

    Example:
        >>> import jax.numpy as jnp
        >>> one_channel = Generator(
        ...     function=lambda w, x: jnp.tanh(w * x),
        ...     initial=lambda x: jnp.ones((*x.shape[:2], 1)),
        ... )
    """

    function: Callable[[Any, Any], Any]
    initial: Callable[[Any], Any]

    def __post_init__(self) -> None:
        for name in ("function", "initial"):
            if not callable(getattr(self, name)):
                raise UserError(
                    f"generator: {name} is {described(getattr(self, name))}; expected a function"
                )

    def first(self, image: Image) -> PyTree[Float[Array, "..."]]:
        """Return the first w of an image, in the image's type."""
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, image.dtype), self.initial(image))

    def heatmap(self, w: PyTree, image: Image) -> Image:
        """Return h, in the image's type."""
        return jnp.asarray(self.function(w, image), image.dtype)

    def check(self, image: Float[np.ndarray, "H W 3"]) -> None:
        """Try it on an image.

        Raises:
            UserError: it fails, w is no floats, h is not finite or shaped otherwise, or there is
                no gradient of h by w.
        """
        x = jnp.asarray(image)
        first = self._tried("initial", self.initial, x)
        leaves = jax.tree.leaves(first)
        if not leaves or not all(map(_is_floats, leaves)):
            raise UserError(
                f"generator: the first w is {_shown(first)}; expected an array of floats, or a "
                "tree of such"
            )
        h = self._tried("function", self.function, first, x)
        if not _is_floats(h) or jnp.shape(h) != x.shape:
            raise UserError(f"generator: h is {_shown(h)}; {_EXPECTED}, {x.shape}")

        def total(w: PyTree) -> Any:
            return jnp.sum(self.heatmap(w, x))

        gradient = self._tried("function", jax.grad(total), self.first(x))
        for what, numbers in (("w", first), ("h", h), ("the gradient of h by w", gradient)):
            if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(numbers)):
                raise UserError(
                    f"generator: {what} is not finite where w is the first; expected finite numbers"
                )

    def _tried(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return jax.jit(function)(*arguments)
        except Exception as error:  # of whatever was given
            first_line = str(error).strip().partition("\n")[0][:200]
            raise UserError(
                f"generator: {name} fails when JAX traces it ({type(error).__name__}: "
                f"{first_line}); expected a pure function of jax.numpy"
            ) from error


def _is_floats(value: Any) -> bool:
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)


def _shown(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return described(value)
