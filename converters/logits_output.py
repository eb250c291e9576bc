"""Find the logits in what a classifier returns: a tensor, or several by name or number."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from gaxjax.common import UserError, nearest

__all__ = ["LogitsOutput", "choose_logits", "named_outputs"]

USUAL = "logits"
"""The name of an output that is taken where several could be meant."""


@dataclasses.dataclass(frozen=True)
class LogitsOutput:
    """Which of a module's outputs is the logits.

    Attributes:
        name: such as ``logits`` or ``0``, parts of nested outputs with dots; "" of a bare tensor.
        count: how many logits it is, 1 where `binary` makes two of it.
        shape: that it has for one image.
        note: a sentence about the choice, or "" where there was none.
    """

    name: str
    count: int
    shape: tuple[int, ...]
    note: str


def named_outputs(returned: Any) -> dict[str, Any]:
    """Return what a module returned by name: keys, fields or numbers; "" for a thing of its own.

    Args:
        returned: a tensor, or tuples, lists, mappings, dataclasses and named tuples of them.
    """
    return dict(_named(returned, ""))


def _named(returned: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    items: Any = None
    if isinstance(returned, Mapping):
        items = returned.items()
    elif isinstance(returned, tuple) and hasattr(returned, "_fields"):
        items = zip(returned._fields, returned, strict=True)
    elif isinstance(returned, tuple | list):
        items = enumerate(returned)
    elif dataclasses.is_dataclass(returned):
        items = ((each.name, getattr(returned, each.name)) for each in dataclasses.fields(returned))
    if items is None:
        yield prefix, returned
        return
    for name, item in items:
        yield from _named(item, f"{prefix}.{name}" if prefix else str(name))


def choose_logits(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    network: str,
    wanted: str | int | None = None,
    binary: bool = False,
) -> LogitsOutput:
    """Choose the logits among the tensors that a module returns for one image.

    The only one of shape [1, C], C ≥ 2, or the one called ``logits``; a tensor with one long axis,
    such as [1, C, 1, 1] or [C], counts where none has that shape.

    Args:
        shapes: by name, as `named_outputs` names them.
        network: what the module is called.
        wanted: the name or number of the output; None: it must be clear.
        binary: one logit z is expected, of which [0, z] will be made.

    Raises:
        UserError: none, several, or another number of logits than `binary` says.
    """
    if not shapes:
        raise UserError(f"{network} returns no tensor; give a module that returns logits [B, C]")
    if wanted is not None:
        name = _asked_for(shapes, network, str(wanted))
        return _checked(name, shapes, network, binary, "")
    exact = [name for name, shape in shapes.items() if len(shape) == 2 and _count(shape) > 1]
    found = exact or [name for name, shape in shapes.items() if _count(shape) > 1]
    found = found or [name for name, shape in shapes.items() if _count(shape) == 1]
    if not found:
        raise UserError(
            f"{network} returns no logits: for one image {_listed(shapes)}; expected [1, C]"
        )
    usual = [name for name in found if name.split(".")[-1] == USUAL]
    if len(found) > 1 and len(usual) != 1:
        several = {name: shapes[name] for name in found}
        raise UserError(
            f"{network} returns several outputs that may be the logits: {_listed(several)}; say "
            f"which with --logits {found[0]} (logits={found[0]!r} in Python)"
        )
    name = found[0] if len(found) == 1 else usual[0]
    others = [other for other in shapes if other != name]
    note = f"output {name!r} is taken as the logits, not {', '.join(map(repr, others))}"
    return _checked(name, shapes, network, binary, note if others else "")


def _asked_for(shapes: Mapping[str, tuple[int, ...]], network: str, wanted: str) -> str:
    if wanted in shapes:
        return wanted
    if list(shapes) == [""]:
        raise UserError(
            f"--logits {wanted}: {network} returns one tensor and nothing to choose from; leave "
            "--logits out"
        )
    raise UserError(
        f"--logits {wanted}: {network} has no such output{nearest(wanted, shapes)}; it returns "
        f"{_listed(shapes)}"
    )


def _checked(
    name: str, shapes: Mapping[str, tuple[int, ...]], network: str, binary: bool, note: str
) -> LogitsOutput:
    shape = shapes[name]
    count, which = _count(shape), f"output {name!r}" if name else "the output"
    if not count:
        raise UserError(
            f"{network}: {which} has the shape {list(shape)} for one image; expected logits [1, C]"
        )
    if count == 1 and not binary:
        raise UserError(
            f"{network} returns one logit for an image, of two classes: with --binary (binary=True "
            "in Python) logit z becomes the two logits [0, z], whose softmax is z's sigmoid"
        )
    if count > 1 and binary:
        raise UserError(
            f"--binary is for networks with one logit, and {network} has {count}; leave it out"
        )
    return LogitsOutput(name, count, shape, note)


def _count(shape: tuple[int, ...]) -> int:
    """Return how many logits a tensor of one image holds; 0: it has no one axis for them."""
    batch = shape[:1] in ((), (1,)) or len(shape) == 1
    long = [length for length in shape if length != 1]
    return (long[0] if long else 1) if batch and len(long) < 2 and 0 not in shape else 0


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(
        f"{name} {list(shape)}" if name else str(list(shape)) for name, shape in shapes.items()
    )
