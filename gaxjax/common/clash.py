"""The package `converters` is installed beside gaxjax, under a bare name that others may take."""

import importlib.util
from pathlib import Path

from gaxjax.common.errors import UserError


def refuse_foreign_converters() -> None:
    """Refuse a package named `converters` that is not gaxjax's; call before importing ours.

    Raises:
        UserError: Python finds another one first; the message says where.
    """
    found = importlib.util.find_spec("converters")
    if found is None or found.origin is None:  # none, or a folder without code: the import says so
        return
    origin = Path(found.origin)
    if origin.suffix != ".py" or b"gaxjax" not in origin.read_bytes():
        raise UserError(
            f"{origin} is not gaxjax's package `converters`, but has its name and is found first: "
            "rename it, uninstall it (and install gaxjax again), or start from another folder"
        )
