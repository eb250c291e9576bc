"""What training writes as it goes: its settings, its curve, and the state it resumes from."""

import csv
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import jax

from gaxjax.common import (
    FolderHeader,
    UserError,
    cannot_write,
    columns_of,
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
        file = output / "finetune.json"
        file, there = output / "finetune.json", None
        if file.exists():
            # Whatever may change, such as when to stop, is as it is asked for now.
            earlier = read_values(file, _Form)
            there = {"identity": earlier["identity"], **header, "sessions": earlier["sessions"]}
        with self._writing(file.name):
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
        with self._writing("finetune.json"):
            self._header.begin_session(session)

    def read_until(self, iteration: int) -> float:
        """Read the curve up to an iteration, and return the validation accuracy there.

        A crash may leave the curve one validation ahead of the state.
        """
        file = self._output / "curve.csv"
        try:
            with file.open() as rows:
                values = [
                    {name: kind(row[name]) for name, kind in COLUMNS.items()}
                    for row in csv.DictReader(rows)
                ]
            self.curve = [row for row in values if row["iteration"] <= iteration]
            if self.curve[-1]["iteration"] != iteration:
                raise ValueError(f"no row of iteration {iteration}")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"{file} is damaged ({error}): restore it, or remove {self.states} to train anew"
            ) from None
        return self.curve[-1]["validation_accuracy"]

    def keep(
        self, state: TrainState, iteration: int, loss: float, accuracy: float, seconds: float
    ) -> None:
        """Keep a validation's row and the state that it is of."""
        values = iteration, loss, accuracy, round(seconds, 1)
        self.curve.append(dict(zip(COLUMNS, values, strict=True)))
        with self._writing("curve.csv"), replacing(self._output / "curve.csv") as temporary:
            temporary.write_text(to_csv(columns_of(self.curve)))
        training_state.save_state(self.states, state, iteration)

    def write(self, **changes: Any) -> None:
        """Write finetune.json anew."""
        with self._writing("finetune.json"):
            self._header.write(**changes)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._output / name, error, training_state.RESUME) from error
