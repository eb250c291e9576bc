"""Numbers in words, as people read them."""


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


def one_line(error: Exception) -> str:
    """Return the first line of what an exception says, at most 200 characters of it.

    Example:
        >>> one_line(ValueError("no room left")), one_line(EOFError())
        ('no room left', 'EOFError')
    """
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first if len(first) <= 200 else first[:200] + "…"
