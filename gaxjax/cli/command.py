"""What a command is."""

from collections.abc import Sequence
from typing import ClassVar

__all__ = ["Command"]


class Command:
    """A command of gaxjax: a frozen dataclass whose fields are its flags.

    Its docstring is the command's help, its name in lower case the command's name. It stands in a
    file of its own, whose heavy imports wait inside `execute`, and in `gaxjax.cli.main.COMMANDS`.

    Attributes:
        computes: whether it computes for so long that huge pages pay.
        kept: what is left of it after Ctrl-C, as the end of a sentence.
    """

    computes: ClassVar[bool] = False
    kept: ClassVar[str] = ""

    def execute(self, given: Sequence[str]) -> int:
        """Do it; return the exit status: 0, or 1 for a failed verification.

        Args:
            given: the command line, to be repeated in what to try next.

        Raises:
            UserError: a user's mistake.
        """
        raise NotImplementedError
