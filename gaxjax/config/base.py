"""What every config shares: the words that settings choose from, checks, and the way to JSON."""

import dataclasses
import operator
import types
import typing
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar

from gaxjax.common import UserError, described, nearest

ScoreSpace = Literal["normalized", "raw", "released"]
ScoreName = Literal["logits", "log_softmax", "softmax"]
Operation = Literal["sum", "mult"]
GeneratorName = Literal["pixel", "smooth", "coarse"]
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
Curves = Literal["captum", "all"]

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
        raise UserError(f"--{flag} must be {expected}; got {_quoted(value)}")


def _quoted(value: object) -> str:
    """Return a value in one line of bounded length."""
    if isinstance(value, int) and abs(value) >= 10**40:  # Python refuses to write the longest
        return "a number of more than 40 digits"
    text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 100 else text[:100] + "…"


def require_types(config: Any) -> None:
    """Hold every setting against its type, and turn what means the same into Python's own.

    NumPy's and JAX's scalars become Python's, whole numbers become floats where those are meant,
    lists become tuples, and names become paths or paths names.

    Raises:
        UserError: a setting has another type, or is none of the words that its type names.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        given = getattr(config, name)
        fitted = _fitted(given, hint)
        if fitted is _MISFIT:
            require(False, name, _shown(given, hint), _expected(hint))
        if fitted is not given:
            object.__setattr__(config, name, fitted)  # the one moment before it is frozen


_MISFIT = object()


def _fitted(value: Any, hint: Any) -> Any:
    """Return the value as its type wants it, or `_MISFIT`."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = _python_scalar(value)
    if origin in (types.UnionType, typing.Union):
        found = (_fitted(value, member) for member in members)
        return next((fitted for fitted in found if fitted is not _MISFIT), _MISFIT)
    if origin is Literal:
        return value if isinstance(value, str) and value in members else _MISFIT
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return _MISFIT
        repeated = len(members) == 2 and members[1] is Ellipsis
        wanted = (members[0],) * len(value) if repeated else members
        if len(wanted) != len(value):
            return _MISFIT
        items = tuple(_fitted(item, member) for item, member in zip(value, wanted, strict=True))
        if any(item is _MISFIT for item in items):
            return _MISFIT
        same = isinstance(value, tuple) and all(map(operator.is_, items, value))
        return value if same else items
    if origin is dict:
        fits = isinstance(value, dict) and all(
            _fitted(part, member) is not _MISFIT
            for item in value.items()
            for part, member in zip(item, members, strict=True)
        )
        return value if fits else _MISFIT
    if hint in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | hint):
            return _MISFIT
        try:
            return hint(value)
        except OverflowError:  # of an int past the largest float
            return _MISFIT
    if hint is str and isinstance(value, PurePath):
        return str(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    return value if isinstance(value, hint) else _MISFIT


def _python_scalar(value: Any) -> Any:
    try:
        return value.item()
    except Exception:  # of another library: a meta tensor, a tracer
        return value


def _expected(hint: Any) -> str:
    """Say a type in words."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, members))}"
    if origin in (types.UnionType, typing.Union):
        words = [member for member in members if typing.get_origin(member) is Literal]
        if len(words) == len(members):
            return f"one of {', '.join(str(w) for word in words for w in typing.get_args(word))}"
        return " or ".join(map(_expected, members))
    if origin is tuple:
        return f"a tuple of which each is {_expected(members[0])}"
    known = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
    known |= {Path: "a path", types.NoneType: "None"}
    if hint in known:
        return known[hint]
    return f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"


def _shown(value: Any, hint: Any) -> str:
    """Quote a value that does not fit; its type too, where the value alone would puzzle."""
    if isinstance(value, str) and typing.get_origin(hint) is Literal:
        return value
    kind = type(value).__name__
    if value is None or isinstance(value, bool | float):
        return str(value)
    if isinstance(value, int | str | list | tuple):
        text = f"{_quoted(value if isinstance(value, int) else repr(value))} ({kind})"
        one = typing.get_origin(hint) is tuple and isinstance(value, str)
        return f"{text}: write ({_quoted(repr(value))},) for one" if one else text
    return f"the class {value.__name__}" if isinstance(value, type) else f"{kind} object"


def require_config(config: Any, kind: type, argument: str) -> None:
    """Refuse a config of another kind.

    Args:
        config: what was given.
        kind: what is wanted.
        argument: its name in the call.

    Raises:
        UserError: says which it is, and how to make one of it.
    """
    if isinstance(config, kind):
        return
    name = kind.__name__
    mend = f"write {name}(…)"
    if isinstance(config, Mapping):
        mend = f"write {name}(**settings)"
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        parts = [part.name for part in dataclasses.fields(config)]
        inner = [part for part in parts if isinstance(getattr(config, part), kind)]
        if inner:
            mend = f"give its .{inner[0]}"
    raise UserError(f"{argument}: {described(config)}; expected {_expected(kind)}: {mend}")


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
    if not isinstance(values, Mapping):
        raise UserError(f"settings of {config_type.__name__} are no JSON object")
    hints = typing.get_type_hints(config_type)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise UserError(
            f"unknown setting {unknown[0]!r} for {config_type.__name__}"
            + nearest(str(unknown[0]), hints)
        )
    for setting in dataclasses.fields(typing.cast(Any, config_type)):
        optional = {setting.default, setting.default_factory} != {dataclasses.MISSING}
        if setting.name not in values and not optional:
            raise UserError(f"{config_type.__name__} lacks the setting {setting.name!r}")

    def rebuild(hint: Any, value: Any) -> Any:
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            return from_dict(typing.cast(Any, hint), value)
        fitted = _fitted(value, hint)  # JSON has neither tuples nor paths
        return value if fitted is _MISFIT else fitted

    return config_type(**{name: rebuild(hints[name], value) for name, value in values.items()})
