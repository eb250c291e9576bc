"""What training writes as it goes: its settings, its curve, and the state it resumes from."""

import csv
import importlib.metadata
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from gaxjax.common import files as folder
from gaxjax.common.errors import UserError
from gaxjax.models.training import TrainState
from gaxjax.runs import training_state

__all__ = ["TrainingLog", "versions"]

COLUMNS = {"iteration": int, "loss": float, "validation_accuracy": float, "seconds": float}
"""Of curve.csv: the loss is the mean since the row before, seconds are of all sessions."""

_PACKAGES = ("gaxjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")


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
        self._header: dict[str, Any] = {"identity": identity, **header, "sessions": []}
        if file.exists():
            try:
                there = json.loads(file.read_text())
                folder.refuse_another(output, there["identity"], identity)
                self._header["sessions"] = list(there["sessions"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{file} is damaged ({error}): start anew elsewhere") from None
        self.write()

    def begin_session(self) -> None:
        """Note when and on what this session trains."""
        device = jax.devices()[0]
        session = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": device.device_kind,
            "platform": device.platform,
            "versions": versions(),
        }
        self.write(status="running", sessions=[*self._header["sessions"], session])

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
        with self._replacing("curve.csv") as temporary, temporary.open("w") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.curve)
        training_state.save_state(self.states, state, iteration)

    def write(self, **changes: Any) -> None:
        """Write finetune.json anew."""
        self._header |= changes
        with self._replacing("finetune.json") as temporary:
            temporary.write_text(json.dumps(self._header, indent=2) + "\n")

    @contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        try:
            with folder.replacing(self._output / name) as temporary:
                yield temporary
        except OSError as error:
            raise UserError(
                f"cannot write {self._output / name} ({error.strerror}): what was kept before is "
                "safe; mend it and give the same command again to resume"
            ) from error
