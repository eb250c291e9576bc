"""The one exception a user's mistake raises."""

import difflib
from collections.abc import Iterable


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
