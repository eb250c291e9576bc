"""Import any torch classifier: `torch.export`, and of its program a graph that needs no torch.

Nothing of the program is kept but operations' names and plain arguments; what no image reaches
(position tables, masks, standardised weights) is computed here, once, and becomes a weight.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree

from converters.exported_graph import read_program
from converters.exported_refusals import not_exported
from converters.logits_output import LogitsOutput, choose_logits, named_outputs
from converters.resting_module import at_rest, check_independence, first_run, unwrapped
from gaxjax.common import UserError
from gaxjax.models import Graph, flatten_channels_last

__all__ = ["Imported", "import_module", "import_program"]


@dataclass(frozen=True)
class Imported:
    """A network as data.

    Attributes:
        graph: its operations. ``layers`` has the module paths of torch; of a module that is called
            several times the output of the last call.
        weights: by name: the state dict's where a weight is one of it, else of the module that uses
            it. Floats are as the module has them, but halves as float32; integers are int32.
        notes: a sentence for each thing that was chosen or left aside.
    """

    graph: Graph
    weights: dict[str, np.ndarray]
    notes: tuple[str, ...]


def import_module(
    module: nn.Module,
    *,
    size: int | tuple[int, int],
    logits: str | int | None = None,
    binary: bool = False,
) -> Imported:
    """Import a classifier as it is in eval mode, for images of one size.

    The module is run and exported as it stands, and left with its modes, buffers and hooks.

    Args:
        module: images [B, C, H, W], C being 3 or 1, to logits [B, C], or to several outputs.
        size: height and width of the images, or (height, width).
        logits: the name or number of the output that is the logits, where that is not clear.
        binary: the network has one logit z, of which [0, z] is to be made.

    Raises:
        UserError: it cannot be imported, in one line that says why and where.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
        >>> len(import_module(net, size=8).graph.nodes)
        5
    """
    module = unwrapped(module)
    height, width = (size, size) if isinstance(size, int) else size
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        raise UserError(f"size={size!r}; expected a positive number, or (height, width)")
    name = type(module).__name__
    with at_rest(module) as resting:
        image, returned = first_run(resting, (height, width))
        output = choose_logits(_shapes(returned), network=name, wanted=logits, binary=binary)
        chosen = _LogitsAlone(resting, output.name)
        program = _exported(chosen, image)
        (node,) = _user_outputs(program)
        imported = _read(program, node, output, name, prefix="network.")
        # After what a program shows, such as dropout that never rests: this says less of the why.
        check_independence(resting, image, lambda made: named_outputs(made)[output.name])
    return imported


def import_program(
    program: torch.export.ExportedProgram,
    *,
    logits: str | int | None = None,
    binary: bool = False,
) -> Imported:
    """Import a program that `torch.export` made of a module in eval mode.

    Args:
        program: images [1, C, H, W] or [B, C, H, W] to logits, or to several outputs; of one size.
        logits: the name or number of the output that is the logits, where that is not clear.
        binary: the network has one logit z, of which [0, z] is to be made.

    Raises:
        UserError: it cannot be imported, in one line that says why and where.
    """
    if not isinstance(program, torch.export.ExportedProgram):
        raise UserError(
            f"a {type(program).__name__} is no exported program; give what torch.export.export "
            "returns"
        )
    shape = _input_shape(program)
    if shape[0] != 1:
        # Operations on a batch of unknown size compute with that size; of one image none is left.
        image = torch.zeros(1, *shape[1:])
        program = _exported(program.module(), image.to(_input(program).dtype))
    program = _decomposed(program, "the program")
    nodes = _user_outputs(program)
    assert program.call_spec.out_spec is not None
    named = named_outputs(_pytree.tree_unflatten(nodes, program.call_spec.out_spec))
    values = {key: _value(program, node) for key, node in named.items() if isinstance(node, str)}
    output = choose_logits(_shapes(values), network="the program", wanted=logits, binary=binary)
    return _read(program, named[output.name], output, "the program", prefix="")


class _LogitsAlone(nn.Module):
    """A network of whose outputs one is left; its own paths begin with ``network``."""

    def __init__(self, network: nn.Module, output: str):
        super().__init__()
        self.network = network
        self.output = output
        self.training = network.training

    def forward(self, images: torch.Tensor) -> Any:
        """Return the logits."""
        return named_outputs(self.network(images))[self.output]


def _exported(module: nn.Module, image: torch.Tensor) -> torch.export.ExportedProgram:
    inner = module.network if isinstance(module, _LogitsAlone) else module
    try:
        with _silence():
            program = torch.export.export(module, (image,), strict=False)
    except Exception as error:  # torch's own kinds, and whatever the user's code raises
        raise UserError(not_exported(error, inner, image)) from error
    return _decomposed(program, type(inner).__name__)


def _decomposed(program: Any, name: str) -> torch.export.ExportedProgram:
    """Return a program in which nothing happens in place, with operations as they were written."""
    try:
        with _silence():
            return program.run_decompositions({})
    except Exception as error:  # torch's own kinds
        raise UserError(not_exported(error, None, None, name)) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep torch from printing programs and pages of advice: what it raises tells enough."""
    disabled = logging.root.manager.disable
    nowhere = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _read(program: Any, node: str, output: LogitsOutput, name: str, *, prefix: str) -> Imported:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph, weights, notes = read_program(program, node, output, network=name, prefix=prefix)
        graph, weights = flatten_channels_last(graph, weights)
    return Imported(graph, weights, (*filter(None, [output.note]), *notes))


def _user_outputs(program: torch.export.ExportedProgram) -> list[Any]:
    """Return the names of the nodes that are outputs; of others, such as numbers, None."""
    return [
        getattr(spec.arg, "name", None)
        for spec in program.graph_signature.output_specs
        if spec.kind == OutputKind.USER_OUTPUT
    ]


def _shapes(named: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    tensors = {key: each for key, each in named.items() if isinstance(each, torch.Tensor)}
    return {key: tuple(each.shape) for key, each in tensors.items() if each.dtype.is_floating_point}


def _value(program: torch.export.ExportedProgram, name: str) -> Any:
    return next(node for node in program.graph.nodes if node.name == name).meta["val"]


def _input(program: torch.export.ExportedProgram) -> Any:
    names = program.graph_signature.user_inputs
    values = [_value(program, name) for name in names if isinstance(name, str)]
    if len(names) != 1 or not isinstance(values[0], torch.Tensor):
        raise UserError(f"the program has {len(names)} inputs; expected one, images [1, C, H, W]")
    return values[0]


def _input_shape(program: torch.export.ExportedProgram) -> tuple[Any, ...]:
    value = _input(program)
    shape = tuple(each if isinstance(each, int) else str(each) for each in value.shape)
    sized = len(shape) == 4 and all(isinstance(each, int) for each in shape[1:])
    if not sized or shape[1] not in (1, 3) or not value.dtype.is_floating_point:
        raise UserError(
            f"the program takes {str(value.dtype).removeprefix('torch.')} {list(shape)}; expected "
            "floating images [1, 3, H, W] or [1, 1, H, W] of one size"
        )
    return shape
