"""What a command is."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from gaxjax.common import spelt_out

__all__ = ["Command"]


class Command:
    """A command of gaxjax: a frozen dataclass whose fields are its flags.

    Its docstring is the command's help, its name in lower case the command's name. It stands in a
    file of its own, whose heavy imports wait inside `execute`, and in `gaxjax.cli.main.COMMANDS`.

    Attributes:
        computes: whether it computes for so long that huge pages pay.
        on_devices: whether it computes with JAX at all.
        kept: what is left of it after a signal to stop, as the end of a sentence.
    """

    computes: ClassVar[bool] = False
    on_devices: ClassVar[bool] = True
    kept: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Spell every path out, `~` too: the shell leaves it in `--output=~/run`.

        Raises:
            UserError: there is none of the name.
        """
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            given, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if isinstance(given, Path) or (
                isinstance(given, str) and field.name in ("source", "model", "data")
            ):
                object.__setattr__(self, field.name, spelt_out(given, flag))
            elif isinstance(given, tuple) and given and isinstance(given[0], Path):
                spelt = tuple(spelt_out(path, flag) for path in given)
                object.__setattr__(self, field.name, spelt)

    def execute(self, given: Sequence[str]) -> int:
        """Do it; return the exit status: 0, or 1 for a failed verification.

        Args:
            given: the command line, to be repeated in what to try next.

        Raises:
            UserError: a user's mistake.
        """
        raise NotImplementedError
