"""Several settings of one method, tried on the same images side by side in one run."""

import itertools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gaxjax.common import UserError, nearest
from gaxjax.config.base import Operation, require, require_types
from gaxjax.config.methods import GaxConfig

__all__ = ["SWEPT", "Setting", "SweepConfig", "as_text", "from_text", "with_setting"]

SWEPT = (
    "target",
    "learning_rate",
    "beta1",
    "beta2",
    "similarity_factor",
    "similarity_eps",
    "total_variation_factor",
    "initial_weight",
    "initial_bias",
    "operation",
)
"""Fields of `GaxConfig` that a lane may have values of its own of. All else is of the one program:
shapes, the network, the length of a curve."""

Setting = Mapping[str, float | str]
"""Values in place of a config's, by field; of `operation` a word."""

_MOST = 1000
_OPERATIONS = typing.get_args(Operation)


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Settings that are tried side by side, each on every image.

    Attributes:
        sweep: Flags with the values to try in all combinations, such as learning-rate=0.01,0.1
            operation=sum,mult: target, learning-rate, beta1, beta2, similarity-factor,
            similarity-eps, total-variation-factor, initial-weight, initial-bias (with --bias),
            operation. An image with a setting is one optimisation; all run side by side in one
            program.
        sweep_images: Try them on so many images, drawn at random by --seed; on all when not given.
    """

    sweep: tuple[str, ...] = ()
    sweep_images: int | None = None

    def __post_init__(self) -> None:
        require_types(self)
        _values(self.sweep)
        wanted = self.sweep_images
        require(wanted is None or wanted >= 1, "sweep_images", wanted, "at least 1")
        if wanted is not None and not self.sweep:
            raise UserError(
                f"--sweep-images {wanted} goes with --sweep, such as --sweep learning-rate=0.01,0.1"
            )

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All combinations, the first flag's values changing slowest; () without a sweep."""
        values = _values(self.sweep)
        if not values:
            return ()
        return tuple(dict(zip(values, each, strict=True)) for each in _product(values))

    def check(self, gax: GaxConfig) -> None:
        """Hold every setting against the rest of the method.

        Raises:
            UserError: a value is out of range, or has no meaning with the others.
        """
        if "initial_bias" in _values(self.sweep) and not gax.bias:
            raise UserError("--sweep initial-bias goes with --bias: without it there is no b")
        for setting in self.settings:
            with_setting(gax, setting)


def _product(values: Mapping[str, Sequence[float | str]]) -> list[tuple[float | str, ...]]:
    return list(itertools.product(*values.values()))


def _values(sweep: Sequence[str]) -> dict[str, tuple[float | str, ...]]:
    """Return the values of each field.

    Raises:
        UserError: no such field, one given twice; no, repeated or impossible values; too many.
    """
    found: dict[str, tuple[float | str, ...]] = {}
    count = 1
    for text in sweep:
        flag, equals, listed = text.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        form = "name=value,value, such as learning-rate=0.01,0.1"
        require(bool(name and equals), "sweep", text, form)
        if name not in SWEPT:
            flags = [each.replace("_", "-") for each in SWEPT]
            raise UserError(
                f"--sweep {text}: {flag!r} is nothing that a lane can have for itself"
                f"{nearest(flag, flags)} (there are: {', '.join(flags)})"
            )
        require(name not in found, "sweep", " ".join(sweep), f"given {flag} once")
        values = tuple(_value(name, each, text) for each in listed.split(","))
        for value in values:
            once = values.count(value) == 1
            require(once, "sweep", text, f"a list without repetition, as of {_written(value)}")
        found[name] = values
        count *= len(values)
    require(count <= _MOST, "sweep", count, f"at most {_MOST:,} combinations")
    return found


def _value(name: str, text: str, whole: str) -> float | str:
    text = text.strip()
    if name == "operation":
        require(text in _OPERATIONS, "sweep", whole, f"operation={','.join(_OPERATIONS)}")
        return text
    try:
        return float(text) + 0.0  # no -0
    except ValueError:
        raise UserError(f"--sweep {whole}: {text!r} is no number") from None


# --- One setting ---------------------------------------------------------------------------------


def with_setting(gax: GaxConfig, setting: Setting) -> GaxConfig:
    """Return the method with a setting's values.

    Raises:
        UserError: a value is out of range.
    """
    values: dict[str, typing.Any] = dict(setting)
    return replace(gax, **values)


def as_text(setting: Setting) -> str:
    """Write a setting as a run's rows have it; `from_text` is the inverse.

    Example:
        >>> as_text({"learning_rate": 0.01, "operation": "sum"})
        'learning-rate=0.01 operation=sum'
    """
    pairs = ((name.replace("_", "-"), _written(value)) for name, value in setting.items())
    return " ".join(f"{name}={value}" for name, value in pairs)


def from_text(text: str) -> dict[str, float | str]:
    """Read what `as_text` wrote, or a user in the same form.

    Raises:
        UserError: it is no such text.
    """
    values = _values(text.split())
    require(all(len(each) == 1 for each in values.values()), "setting", text, "one value each")
    return {name: each[0] for name, each in values.items()}


def _written(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value).removesuffix(".0")
