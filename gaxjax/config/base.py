"""What every config shares: the words that settings choose from, checks, and the way to JSON."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from gaxjax.common import UserError, nearest

ScoreSpace = Literal["normalized", "raw", "released"]
Operation = Literal["sum", "mult"]
Precision = Literal["auto", "float32", "bfloat16", "highest"]
Preset = Literal["default", "paper", "released"]
Method = Literal[
    "saliency",
    "input_x_gradient",
    "layer_grad_cam",
    "deconvolution",
    "guided_backprop",
    "deep_lift",
]
"""The existing methods that AX scores; Captum's names."""

METHODS: tuple[Method, ...] = typing.get_args(Method)
Wanted = tuple[Method, str | None]
"""A method, and the layer where it is layer_grad_cam."""

Pooling = Literal["captum", "complete"]

MOST_PIXELS = 65_536
"""Height and width of the largest image: JPEG's limit, and 12 GB in one byte a channel."""

_T = TypeVar("_T")


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Refuse a setting in one line that names its flag.

    Raises:
        UserError: `holds` is false.
    """
    if not holds:
        flag = name.replace("_", "-")
        raise UserError(f"--{flag} must be {expected}; got {value}")


def require_choices(config: Any) -> None:
    """Refuse a setting that is none of the words its type names.

    Raises:
        UserError: one is not.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
            value = getattr(config, name)
            require(value in choices, name, value, f"one of {', '.join(map(str, choices))}")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config into plain JSON values; `from_dict` is the inverse.

    Example:
        >>> from gaxjax.config.methods import GaxConfig
        >>> from_dict(GaxConfig, to_dict(GaxConfig(target=15.0))).target
        15.0
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    values: dict[str, Any] = plain(dataclasses.asdict(config))
    return values


def from_dict(config_type: type[_T], values: Mapping[str, Any]) -> _T:
    """Rebuild a config from `to_dict`'s output.

    Raises:
        UserError: an unknown key (the nearest name is suggested) or an impossible value.
    """
    hints = typing.get_type_hints(config_type)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise UserError(
            f"unknown setting {unknown[0]!r} for {config_type.__name__}"
            + nearest(unknown[0], hints)
        )

    def rebuild(hint: Any, value: Any) -> Any:
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            return from_dict(typing.cast(Any, hint), value)
        members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if Path in members and isinstance(value, str):
            return Path(value)
        if isinstance(value, list):  # JSON has no tuples
            return tuple(value)
        if hint is float and isinstance(value, int):
            return float(value)
        return value

    return config_type(**{name: rebuild(hints[name], value) for name, value in values.items()})
