"""What training writes as it goes: its settings, its curve, and the state it resumes from."""

import csv
import hashlib
import importlib.metadata
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import jax

from gaxjax.common import (
    RESUME,
    FolderHeader,
    UserError,
    cannot_write,
    columns_of,
    one_line,
    read_values,
    replacing,
    to_csv,
)
from gaxjax.models import TrainState
from gaxjax.runs import training_state

__all__ = ["TrainingLog", "versions"]

COLUMNS = {"iteration": int, "loss": float, "validation_accuracy": float, "seconds": float}
"""Of curve.csv: the loss is the mean since the row before, seconds are of all sessions."""

_PACKAGES = ("gaxjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")


class _Form(TypedDict):
    """What of finetune.json is read back."""

    identity: dict[str, Any]
    sessions: list[dict[str, Any]]


def versions() -> dict[str, str]:
    """Return the versions of the packages that training depends on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _is_possible(row: dict[str, Any]) -> bool:
    accuracy, rest = row["validation_accuracy"], (row["loss"], row["seconds"])
    return 0 <= accuracy <= 1 and all(0 <= value < float("inf") for value in rest)


def _digest(curve: list[dict[str, Any]]) -> str:
    return hashlib.sha256(to_csv(columns_of(curve)).encode()).hexdigest()


class TrainingLog:
    """The folder's records: finetune.json, curve.csv, and the state they belong to.

    Attributes:
        curve: one row per validation so far.
        states: folder of the training states.

    Raises:
        UserError: the folder holds another training.
    """

    def __init__(self, output: Path, *, identity: dict[str, Any], header: dict[str, Any]) -> None:
        self._output = output
        self.states = output / "state"
        self.curve: list[dict[str, float]] = []
        file, there = output / "finetune.json", None
        if file.exists():
            # Whatever may change, such as when to stop, is as it is asked for now.
            earlier = read_values(file, _Form)
            there = {**earlier, **header}
        self._header = FolderHeader(file, {"identity": identity, **header}, there)
        self._header.write()

    def begin_session(self) -> None:
        """Note when and on what this session trains."""
        device = jax.devices()[0]
        session = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": device.device_kind,
            "platform": device.platform,
            "versions": versions(),
        }
        self._header.begin_session(session)

    def read_until(self, iteration: int) -> float:
        """Read the curve up to an iteration, and return the validation accuracy there.

        A crash may leave the curve one validation ahead of the state.
        """
        file = self._output / "curve.csv"
        try:
            with file.open(encoding="utf-8") as rows:
                values = [
                    {name: kind(row[name]) for name, kind in COLUMNS.items()}
                    for row in csv.DictReader(rows)
                ]
            for before, row in itertools.pairwise([dict.fromkeys(COLUMNS, 0), *values]):
                if not (before["iteration"] < row["iteration"] and _is_possible(row)):
                    raise ValueError(f"no such row can be: {row}")
            self.curve = [row for row in values if row["iteration"] <= iteration]
            if self.curve[-1]["iteration"] != iteration:
                raise ValueError(f"no row of iteration {iteration}")
            kept = training_state.latest_state(self.states)
            written = training_state.curve_of(kept) if kept else ""
            if written and written != _digest(self.curve):
                raise ValueError("a row is not as it was written")
        except (OSError, ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
            raise UserError(
                f"{file} is damaged ({one_line(error)}): restore it, or remove {self.states} to "
                "train anew"
            ) from None
        return self.curve[-1]["validation_accuracy"]

    def keep(
        self, state: TrainState, iteration: int, loss: float, accuracy: float, seconds: float
    ) -> None:
        """Keep a validation's row and the state that it is of."""
        values = iteration, loss, accuracy, round(seconds, 1)
        self.curve.append(dict(zip(COLUMNS, values, strict=True)))
        file = self._output / "curve.csv"
        try:
            with replacing(file) as temporary:
                temporary.write_text(to_csv(columns_of(self.curve)))
        except OSError as error:
            raise cannot_write(file, error, RESUME) from error
        training_state.save_state(self.states, state, iteration, _digest(self.curve))

    def write(self, **changes: Any) -> None:
        """Write finetune.json anew."""
        self._header.write(**changes)
