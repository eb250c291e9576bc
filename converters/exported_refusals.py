"""Why a network cannot be imported, in one line: what was found, where, and how to mend it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from converters.resting_module import line_of
from gaxjax.common import one_line

__all__ = ["BATCH_STATISTICS", "fault_of", "not_exported", "where"]


BATCH_STATISTICS = "batch_norm of the batch"
"""Stands for operations that mix images."""


def not_exported(
    error: BaseException, module: nn.Module | None, image: torch.Tensor | None, name: str = ""
) -> str:
    """Say why torch exports no program.

    Args:
        error: what it raised.
        module: the network; None: there is none at hand.
        image: an example of its input, likewise.
        name: what the network is called, where there is no module.
    """
    name = name or type(module).__name__
    place = "" if module is None else line_of(error, module)
    kind = type(error).__name__
    if "DataDependent" in kind or "data-dependent" in str(error):
        return (
            f"{name} decides by the image what it computes{place or _quoted_line(error)}; an "
            "imported network computes the same for every image: use torch.where, or a mask, "
            "instead of if and of lengths that the image decides"
        )
    size = "" if image is None else f" for images {list(image.shape)}"
    return f"torch.export cannot take {name}{size} ({kind}: {one_line(error)}{place})"


def _quoted_line(error: BaseException) -> str:
    """Return the last line of a user's that torch quotes in its message."""
    found = re.findall(r'File "([^"]+)", line (\d+), in', str(error))
    return f", at {found[-1][0].rpartition('/')[2]}:{found[-1][1]}" if found else ""


def where(node: fx.Node, path: str, kind: str) -> str:
    """Return " in block.1 (Block), model.py:12": where in the user's module a node comes from."""
    trace = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    foreign = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    own = [(file, line) for file, line in trace if not file.startswith(foreign)]
    line = f", {own[-1][0].rpartition('/')[2]}:{own[-1][1]}" if own else ""
    return (f" in {path} ({kind})" if path else f" in {kind}" if kind else "") + line


def fault_of(node: fx.Node, operation: str, known: Iterable[str]) -> str:
    """Return why a node cannot be run in JAX, for a sentence; "" if it can.

    Args:
        node: one that the logits need.
        operation: its name, "" if it is not one of ATen's.
        known: the operations that there are.
    """
    if node.op == "get_attr":
        return ""  # the program inside a construct, which has a fault itself
    value = node.meta.get("val")
    values = list(value) if isinstance(value, tuple | list) else [value]
    if any(isinstance(each, torch.Tensor) and each.dtype.is_complex for each in values):
        return f"complex numbers ({operation or node.target})"
    if any(isinstance(each, torch.SymInt | torch.SymBool | torch.SymFloat) for each in values):
        return f"a number that the image decides ({operation or node.target})"
    if _has_open_shape(values):
        return f"a length that the image decides ({operation or node.target})"
    if operation == BATCH_STATISTICS:
        return (
            "a batch norm that takes its statistics from the batch (in training mode, or "
            "track_running_stats=False)"
        )
    if operation:
        return "" if operation in known else f"the operation {operation}"
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return f"the custom operator {target.namespace}::{target._opname}"
    name = getattr(target, "__name__", str(target))
    return f"the construct {name}"


def _has_open_shape(values: list[Any]) -> bool:
    return any(
        isinstance(each, torch.Tensor) and any(not isinstance(size, int) for size in each.shape)
        for each in values
    )
