"""The table of operations: by ATen's name, a function of tensors that gives torch's values.

One function each, in the files that `operations` gathers. Its arguments are ATen's, in ATen's order
and under ATen's names, tensors as `Tensor`, lists as tuples. Overloads of one name differ by the
arguments alone. Values and gradients are torch's; a floating result has the type of its operands.
"""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["OPERATIONS", "operation"]

OPERATIONS: dict[str, Callable[..., Any]] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def operation(*names: str) -> Callable[[_Function], _Function]:
    """Enter a function into the table.

    Args:
        names: ATen's, without the overload: ``add`` for ``aten.add.Tensor`` and ``add.Scalar``.
            Where overloads cannot be told apart by their arguments, with it: ``max.dim``.
    """

    def enter(function: _Function) -> _Function:
        for name in names:
            assert name not in OPERATIONS, f"{name} is entered twice"
            OPERATIONS[name] = function
        return function

    return enter
