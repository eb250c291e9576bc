"""A setting: what of the config is data of a lane, where a run sweeps over it.

Without a sweep a lane's setting is empty, and every number of the config is a constant of the
compiled program. Swept fields travel in the lane, so that one program takes all their values.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, PyTree

from gaxjax.config import GaxConfig, Setting, as_text

__all__ = ["UNSWEPT", "LaneSetting", "Settings", "for_lane"]

LaneSetting = dict[str, PyTree]
"""A lane's own values by field of `GaxConfig`: float32 scalars, of β a `_Decay`, and of `operation`
whether it is `sum`. With a leading axis, several lanes'."""

UNSWEPT: LaneSetting = {}
"""Of a run without a sweep."""


class _Decay(NamedTuple):
    """A decay β with 1 - β, which is rounded once, from double precision, as of a constant."""

    value: Any
    rest: Any

    def __rsub__(self, one: int) -> Any:
        assert one == 1, "optax takes 1 - β alone"
        return self.rest

    def __mul__(self, other: Any) -> Any:
        return self.value * other

    def __pow__(self, other: Any) -> Any:
        return self.value**other


def for_lane(config: GaxConfig, setting: LaneSetting) -> GaxConfig:
    """Return the config as one lane has it: with its own, traced values for the swept fields.

    They are held against nothing: `Settings` made them of values that were. `operation` alone keeps
    the config's word, for it chooses between programs: see `Objective`.
    """
    own = {name: value for name, value in setting.items() if name != "operation"}
    if not own:
        return config
    made = copy.copy(config)
    for name, value in own.items():
        object.__setattr__(made, name, value)
    return made


class Settings:
    """The settings that every image is optimised with, a lane each; one without a sweep.

    Args:
        config: the method.
        sweep: values in its place, one setting each; all of the same fields.

    Attributes:
        swept: the fields.
        texts: each setting as rows have it; None without a sweep.
        operations: each setting's.
    """

    def __init__(self, config: GaxConfig, sweep: Sequence[Setting] = ()) -> None:
        self.swept = tuple(sweep[0]) if sweep else ()
        self.texts = tuple(map(as_text, sweep)) or (None,)
        self.operations = tuple(one.get("operation", config.operation) for one in sweep) or (
            config.operation,
        )
        self._table: LaneSetting = {
            name: _column(name, [setting[name] for setting in sweep]) for name in self.swept
        }

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, numbers: Int[np.ndarray, " N"]) -> LaneSetting:
        """Return the values of settings by number, leading with N."""
        return jax.tree.map(lambda column: column[numbers], self._table)


def _column(name: str, values: Sequence[float | str]) -> PyTree:
    if name == "operation":
        return np.array([value == "sum" for value in values])
    exact = np.array(values, np.float64)
    if name in ("beta1", "beta2"):
        return _Decay(exact.astype(np.float32), (1 - exact).astype(np.float32))
    return exact.astype(np.float32)


def blank(swept: Sequence[str]) -> LaneSetting:
    """Return what lanes without an image have: the same shapes."""
    one: Array = jax.numpy.float32(1)
    return {
        name: jax.numpy.bool_(True)
        if name == "operation"
        else _Decay(one, one)
        if name in ("beta1", "beta2")
        else one
        for name in swept
    }
