"""The one exception a user's mistake raises."""

import difflib
import errno
import re
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Bad input: one line that says what was given, what was expected, and how to mend it.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """


class NotWrittenError(UserError):
    """Finished results could not be written: said also where a signal had stopped the work."""


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``choices``, or an empty string.

    Args:
        name: what was given.
        choices: what there is.
        cutoff: how alike they must be, from 0 to 1.

    Example:
        >>> nearest("resnet43", ["resnet34", "alexnet"])
        "; did you mean 'resnet34'?"
    """
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=cutoff)
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


def ran_out(error: BaseException) -> bool:
    """Tell whether memory or file handles ran out, which says nothing of the file being read.

    Libraries wrap the system's error, so the causes are looked through, and their words.

    Example:
        >>> ran_out(OSError(24, "Too many open files")), ran_out(ValueError("no such key"))
        (True, False)
    """
    seen: BaseException | None = error
    while seen is not None:
        number = getattr(seen, "errno", None)
        if isinstance(seen, MemoryError) or number in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
            return True
        words = r"allocate memory|[Tt]oo many open files|[Oo]ut of memory|RESOURCE_EXHAUSTED"
        if re.search(words, str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
