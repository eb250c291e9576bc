"""JSON of ours, read back: whole, of the form that it was written in, and by its own checksum."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from gaxjax.common.remote import AnyPath

__all__ = ["stored_json", "with_checksum"]

_DEEPEST = 30  # of what we write; Python's own functions end at about a thousand


def stored_json(file: AnyPath, form: Any) -> Any:
    """Read a JSON file of ours, whatever became of it.

    Args:
        file: the file.
        form: the type that it is written as, of objects a `TypedDict`; what else these hold is
            given too. An object's `sha256`, where it has one, must be that of all the rest.

    Raises:
        OSError: there is none, or the system does not let it be read.
        ValueError: it is damaged: no UTF-8, no JSON, of another form, nested deeper than any of
            ours, or not what was written.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it nests too deep") from None
    _require_shallow(values)
    msgspec.convert(values, form)
    if isinstance(values, dict) and values.get("sha256", _digest(values)) != _digest(values):
        raise ValueError("it is not what was written, by its own checksum")
    return values


def _require_shallow(values: Any) -> None:
    inner = [values]
    for _ in range(_DEEPEST):
        folded = [each for each in inner if isinstance(each, dict | list)]
        inner = [
            item for each in folded for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not inner:
            return
    raise ValueError("it nests too deep")


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values with the checksum of them all, `sha256`."""
    return {**values, "sha256": _digest(values)}


def _digest(values: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in values.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
