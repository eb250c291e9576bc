"""The weights of an exported program: the module's own, and what torch computes of them once."""

from typing import Any

import numpy as np
import torch
from torch import fx

from converters.exported_nodes import evaluated, needs_shape_alone
from gaxjax.common import UserError
from gaxjax.models import Weight

__all__ = ["StoredWeights"]

_WORDS = {name: "constant" for name in ("self", "other", "tensors", "values", "input", "src")}
_INT32 = -(2**31), 2**31 - 1
_KEPT = (torch.float32, torch.float64, torch.bool)


class StoredWeights:
    """The arrays that a graph's nodes take, by name.

    Args:
        program: functional.
        prefix: of its weights' names, to leave out.

    Attributes:
        arrays: what `leaf` was asked for.
    """

    def __init__(self, program: torch.export.ExportedProgram, prefix: str):
        self.arrays: dict[str, np.ndarray] = {}
        self._stored = {**program.state_dict, **program.constants}
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        self._own: dict[fx.Node, str] = {}
        self._values: dict[fx.Node, Any] = {}
        self._leaves: dict[tuple[fx.Node, bool], Weight] = {}
        self._kernels: set[fx.Node] = set()
        self._reserved: set[str] = set()
        self._order = list(program.graph.nodes)
        first: dict[tuple[Any, ...], str] = {}  # by place in memory: of tied weights the first name
        for target, value in program.state_dict.items():
            first.setdefault(_place(value), target)
        tied: dict[str, fx.Node] = {}
        self._tied: dict[fx.Node, fx.Node] = {}
        for node in self._order:
            if node.op == "placeholder" and specs[node.name].target in self._stored:
                target = str(specs[node.name].target)
                value = self._values[node] = self._stored[target]
                target = first.get(_place(value), target)
                self._own[node] = target.replace("_orig_mod.", "").removeprefix(prefix)
                self._tied[node] = tied.setdefault(target, node)
        self._reserved.update(self._own.values())

    def compute(self, wanted: set[fx.Node], kernels: set[fx.Node]) -> None:
        """Compute constants, and what these are made of, each once.

        Args:
            wanted: the constants that nodes take.
            kernels: those that convolutions take as their kernel.
        """
        self._kernels = {self._tied.get(each, each) for each in kernels}
        needed = set(wanted)
        for node in reversed(self._order):
            if node in needed and not needs_shape_alone(node):
                needed.update(node.all_input_nodes)
            elif node in needed:
                needed.update(each for each in node.all_input_nodes if each is not node.args[0])
        for node in self._order:
            if node in needed and node not in self._values:
                self._values[node] = evaluated(node, self._values)

    def leaf(self, node: fx.Node, path: str, word: str, *, kernel: bool) -> Any:
        """Return a constant as a node's argument: a weight by name, or the number that it is.

        Args:
            node: one that no image reaches.
            path: of the module that uses it.
            word: what the operation calls it.
            kernel: of a convolution, to be stored with the axes (spatial…, I / groups, O).
        """
        value = self._values[node]
        if not isinstance(value, torch.Tensor):
            return value
        node = self._tied.get(node, node)
        if (node, kernel) not in self._leaves:
            own = self._own.get(node)
            word = _WORDS.get(word, word)
            if own is None:
                name = self._free(f"{path}.{word}" if path else word, "computed")
            else:
                # What a convolution and another operation share is stored in both orders.
                again = node in self._kernels and not kernel
                name = self._free(own, "again") if again else own
            self.arrays[name] = _array(value, kernel)
            self._leaves[node, kernel] = Weight(name)
        return self._leaves[node, kernel]

    def _free(self, name: str, suffix: str) -> str:
        if name not in self._reserved and name not in self.arrays:
            return name
        number = 1
        while (tried := f"{name}.{suffix}{number if number > 1 else ''}") in self.arrays or (
            tried in self._reserved
        ):
            number += 1
        return tried


def _place(value: Any) -> tuple[Any, ...]:
    """Return where a tensor lies, and how; of other things, and empty tensors, themselves."""
    if not isinstance(value, torch.Tensor) or not value.numel():
        return (id(value),)
    return (value.data_ptr(), value.dtype, tuple(value.shape), value.stride())


def _array(value: torch.Tensor, kernel: bool) -> np.ndarray:
    value = value.detach().cpu()
    if value.dtype.is_complex:
        raise UserError("complex weights cannot be imported; give a network of real numbers")
    if value.dtype not in _KEPT:
        floating = value.dtype.is_floating_point
        value = value.float() if floating else value.clamp(*_INT32).to(torch.int32)
    if kernel:
        value = value.permute(*range(2, value.ndim), 1, 0)
    return np.array(value.contiguous().numpy(), order="C")
