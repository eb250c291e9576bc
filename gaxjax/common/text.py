"""Words for people: numbers as they read them, and texts that a terminal cannot be fooled by."""

import unicodedata


def counted(number: int, noun: str) -> str:
    """Write a number with its noun.

    Example:
        >>> counted(1, "image"), counted(2, "image")
        ('1 image', '2 images')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_bytes(count: int) -> str:
    """Return a number of bytes with three digits and a decimal unit, such as 1.23 MB."""
    power = min(max(len(str(count)) - 1, 3) // 3, 4)
    return f"{count / 1000**power:,.3g} {('', 'kB', 'MB', 'GB', 'TB')[power]}"


def one_line(error: BaseException) -> str:
    """Return the first line of what an exception says, at most 200 characters of it.

    Example:
        >>> one_line(ValueError("no room left")), one_line(EOFError())
        ('no room left', 'EOFError')
    """
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first if len(first) <= 200 else first[:200] + "…"


def printable(text: str, keep: str = "") -> str:
    r"""Return a text with every character that commands a terminal written as its escape.

    File names, class names and other people's messages may hold escape sequences, which recolour,
    retitle or erase what was printed, and marks that turn the direction of what follows.

    Args:
        text: any.
        keep: such characters to leave as they are, such as a line break.

    Example:
        >>> printable("cat\x1b[2J.png"), printable("a\nb", keep="\n")
        ('cat\\x1b[2J.png', 'a\nb')
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter in keep or not _commands(letter) else _escaped(letter) for letter in text
    )


_JOINERS = "\u200c\u200d"  # they shape words and emoji, and command nothing


def _commands(letter: str) -> bool:
    """Tell whether a character is a control, a mark of direction, or half of a pair."""
    return letter not in _JOINERS and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
