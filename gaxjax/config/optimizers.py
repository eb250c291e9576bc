"""The optimisers by name, and which of optax's arguments each may be given."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from gaxjax.common import UserError, nearest
from gaxjax.config.base import require

__all__ = ["OPTIMIZERS", "Optimizer", "parse_arguments"]

Optimizer = Literal[
    "adam",
    "adamw",
    "sgd",
    "rmsprop",
    "lion",
    "adabelief",
    "adagrad",
    "adamax",
    "amsgrad",
    "radam",
    "yogi",
]
"""optax's names."""


class _Kind(NamedTuple):
    """What an argument may be."""

    expected: str
    holds: Callable[[float], bool]


_DECAY = _Kind("a number in [0, 1)", lambda value: 0 <= value < 1)
_POSITIVE = _Kind("a finite number above 0", lambda value: 0 < value < math.inf)
_NOT_NEGATIVE = _Kind("a finite number, at least 0", lambda value: 0 <= value < math.inf)
_YES_OR_NO = _Kind("true or false", lambda value: True)

_BETAS = {"b1": _DECAY, "b2": _DECAY}
_LIKE_ADAM = {**_BETAS, "eps": _POSITIVE, "eps_root": _NOT_NEGATIVE}

OPTIMIZERS: dict[Optimizer, dict[str, _Kind]] = {
    "adam": {"eps_root": _NOT_NEGATIVE, "nesterov": _YES_OR_NO},
    "adamw": {**_LIKE_ADAM, "weight_decay": _NOT_NEGATIVE, "nesterov": _YES_OR_NO},
    "sgd": {"momentum": _DECAY, "nesterov": _YES_OR_NO},
    "rmsprop": {
        "decay": _DECAY,
        "eps": _POSITIVE,
        "initial_scale": _NOT_NEGATIVE,
        "eps_in_sqrt": _YES_OR_NO,
        "centered": _YES_OR_NO,
        "momentum": _DECAY,
        "nesterov": _YES_OR_NO,
        "bias_correction": _YES_OR_NO,
    },
    "lion": {**_BETAS, "weight_decay": _NOT_NEGATIVE},
    "adabelief": {**_LIKE_ADAM, "nesterov": _YES_OR_NO},
    "adagrad": {"initial_accumulator_value": _NOT_NEGATIVE, "eps": _POSITIVE},
    "adamax": {**_BETAS, "eps": _POSITIVE},
    "amsgrad": {**_LIKE_ADAM, "bias_correction_mu": _YES_OR_NO, "bias_correction_nu": _YES_OR_NO},
    "radam": {**_LIKE_ADAM, "threshold": _POSITIVE, "nesterov": _YES_OR_NO},
    "yogi": {**_BETAS, "eps": _POSITIVE},
}
"""By name, the arguments that `GaxConfig.optimizer_arguments` may give, beside the learning rate.
Adam's b1, b2 and eps are settings of their own."""

_OF_ADAM = {"b1": "beta1", "b2": "beta2", "eps": "adam-eps"}
_WORDS = {"true": True, "false": False}


def parse_arguments(optimizer: Optimizer, given: Sequence[str]) -> dict[str, float | bool]:
    """Return an optimiser's arguments by name.

    Args:
        optimizer: which one.
        given: `name=value` each, such as `momentum=0.9`.

    Raises:
        UserError: an unknown argument, one given twice, or a value that it cannot have.

    Example:
        >>> parse_arguments("sgd", ["momentum=0.9", "nesterov=true"])
        {'momentum': 0.9, 'nesterov': True}
    """
    known = OPTIMIZERS[optimizer]
    found: dict[str, float | bool] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name, flag = name.replace("-", "_"), "optimizer_arguments"
        require(bool(name and equals and value), flag, text, "name=value, such as momentum=0.9")
        if name == "learning_rate" or (optimizer == "adam" and name in _OF_ADAM):
            raise UserError(
                f"--optimizer-arguments {text}: give it as "
                f"--{_OF_ADAM.get(name, 'learning-rate')} {value}"
            )
        if name not in known:
            raise UserError(
                f"--optimizer-arguments {text}: {optimizer} has no argument {name!r}"
                f"{nearest(name, known)} (it has: {', '.join(known)})"
            )
        require(name not in found, flag, " ".join(given), "without repetition")
        found[name] = _value(optimizer, name, value)
    if found.get("nesterov") and optimizer in ("sgd", "rmsprop") and not found.get("momentum"):
        raise UserError(f"--optimizer-arguments nesterov=true: {optimizer} needs momentum=… for it")
    return found


def _value(optimizer: Optimizer, name: str, text: str) -> float | bool:
    kind = OPTIMIZERS[optimizer][name]
    value: float | bool | None = _WORDS.get(text.lower())
    if kind is not _YES_OR_NO:
        try:
            value = float(text)
        except ValueError:
            value = None
    if value is None or not kind.holds(value):
        raise UserError(f"--optimizer-arguments {name} must be {kind.expected}; got {text}")
    return value
