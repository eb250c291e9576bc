"""Other libraries' objects: whose they are, and why NumPy cannot read one; none is imported."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from gaxjax.common.errors import described
from gaxjax.common.text import one_line

__all__ = ["comes_from", "uneven", "unreadable", "what_raised"]


def comes_from(value: Any, *packages: str) -> bool:
    """Tell whether a value's class, or one it derives from, is of a package.

    Example:
        >>> comes_from(np.zeros(3), "numpy"), comes_from([], "numpy", "torch")
        (True, False)
    """
    homes = (getattr(kind, "__module__", None) or "" for kind in type(value).__mro__)
    return any(home.split(".")[0] in packages for home in homes)


def unreadable(given: Any, error: Exception) -> str:
    """Say why NumPy cannot read a value, and what would let it.

    Args:
        given: an object of any library.
        error: what NumPy raised.
    """
    tensor = given[0] if isinstance(given, list | tuple) and len(given) else given
    if getattr(tensor, "requires_grad", False):
        return f"{described(tensor)} that requires a gradient: give .detach().cpu().numpy()"
    device = str(getattr(tensor, "device", "cpu"))
    if device != "cpu" and not comes_from(tensor, "jax", "jaxlib"):
        return f"{described(tensor)} on {device}: give .cpu().numpy()"
    if "bfloat16" in str(getattr(tensor, "dtype", "")):
        return f"{described(tensor)} of bfloat16, which NumPy lacks: give .float().numpy()"
    if isinstance(given, list | tuple) and (shapes := uneven(given)):
        return shapes
    return f"{described(given)} that NumPy cannot read ({one_line(error)})"


def uneven(items: Iterable[Any]) -> str | None:
    """Say which shapes a list holds, where they are several."""
    shapes: dict[Any, int] = {}
    for position, item in enumerate(items):
        try:
            shape: Any = np.shape(item)
        except Exception:  # of whatever was given
            shape = type(item).__name__
        shapes.setdefault(shape, position)
    if len(shapes) < 2:
        return None
    (one, first), (other, second) = list(shapes.items())[:2]
    return f"items of several shapes, [{first}] {one} and [{second}] {other}: make them one"


def what_raised(error: BaseException) -> str:
    """Say the kind of an exception and the first line of its words, where it has some.

    Example:
        >>> what_raised(KeyError("image")), what_raised(EOFError())
        ("KeyError: 'image'", 'EOFError')
    """
    try:
        text = one_line(error)
    except Exception:  # of whoever wrote it
        return type(error).__name__
    return f"{type(error).__name__}: {text}" if text != type(error).__name__ else text
