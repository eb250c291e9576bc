"""The one exception a user's mistake raises."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Bad input: one line that says what was given, what was expected, and how to mend it.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``choices``, or an empty string.

    Example:
        >>> nearest("resnet43", ["resnet34", "alexnet"])
        "; did you mean 'resnet34'?"
    """
    close = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def described(value: Any) -> str:
    """Say in a few words what a value is, for the line that refuses it.

    Example:
        >>> described(None), described("a"), described({}), described(int)
        ('None', "'a' (str)", 'a dict', 'the class int')
    """
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    if isinstance(value, str | int | float) and len(text := ascii(value)[:60]) < 60:
        return f"{text} ({kind})"
    home = type(value).__module__.split(".")[0]
    foreign = home.isidentifier() and home not in ("builtins", "__main__", "gaxjax")
    text = f"{home} {kind}" if foreign else kind
    return f"{'an' if text[0] in 'AEIOUaeiou' else 'a'} {text}"


def checked_path(path: Any, argument: str, wanted: str) -> Path:
    """Return a path that was given as one.

    Raises:
        UserError: it is no path.

    Example:
        >>> checked_path("run", "path", "a run's folder").name
        'run'
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{argument}: {described(path)}; expected {wanted}, as a path")
    return Path(path)
