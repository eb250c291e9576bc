"""What a command is."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from gaxjax.common import AnyPath, is_url, path_to_read, spelt_out

__all__ = ["Command", "RunFolder", "spell_paths_out"]


def _as_given(words: list[str]) -> Any:
    return words[0] if is_url(words[0]) else Path(words[0])  # a path would lose a slash of a URL's


RunFolder = Annotated[
    AnyPath,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH|URL",
        instance_from_str=_as_given,
        is_instance=lambda value: isinstance(value, Path) or is_url(value),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A run's folder, or its URL such as s3://bucket/run."""


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
        """Spell every path out.

        Raises:
            UserError: there is none of the name.
        """
        spell_paths_out(self)

    @property
    def computes_here(self) -> bool:
        """Whether it computes with JAX in this process."""
        return self.on_devices

    def execute(self, given: Sequence[str]) -> int:
        """Do it; return the exit status: 0, or 1 for a failed verification.

        Args:
            given: the command line, to be repeated in what to try next.

        Raises:
            UserError: a user's mistake.
        """
        raise NotImplementedError


def spell_paths_out(flags: Any) -> None:
    """Spell every path of a frozen dataclass out, `~` too: the shell leaves it in `--output=~/run`.

    Raises:
        UserError: there is none of the name.
    """
    for field in dataclasses.fields(flags):
        given, flag = getattr(flags, field.name), f"--{field.name.replace('_', '-')}"
        texts = field.name in ("source", "model", "data")
        if isinstance(given, tuple):
            spelt: Any = tuple(_spelt_out(each, flag, texts) for each in given)
        else:
            spelt = _spelt_out(given, flag, texts)
        object.__setattr__(flags, field.name, spelt)


def _spelt_out(given: Any, flag: str, texts: bool) -> Any:
    """Spell out a path, and a text where those of the flag name something; leave all else."""
    if isinstance(given, str) and not texts and is_url(given):  # by `RunFolder`
        return path_to_read(given, flag, urls=True)
    named = isinstance(given, Path) or (texts and isinstance(given, str))
    return spelt_out(given, flag) if named else given
