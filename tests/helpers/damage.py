"""What may become of a stored file: bits flip, ends are lost, values change, a folder is there."""

import contextlib
import json
import shutil
from pathlib import Path

from hypothesis import strategies as st

__all__ = ["DAMAGES", "damaged"]

# As they stand in the file: of the wrong type, impossible, too long, or too deep.
_TOKENS = (
    *("null", "true", "0", "-1", "7", "0.5", "1e999", "-1e999", "NaN", "Infinity", '""', '"x"'),
    *("[]", "{}", "[null]", '{"a": 1}', '"\\ud800"', '"\\u0000"', '"../../x"', "[1, 2, 3]"),
    *("1" * 31, "-" + "9" * 5000, "[" * 10_000 + "]" * 10_000, '{"a":' * 900 + "1" + "}" * 900),
)
_PLACE = st.floats(0, 1, exclude_max=True)

DAMAGES = st.one_of(
    st.tuples(st.just("value"), _PLACE, st.none() | st.sampled_from(_TOKENS)),
    st.tuples(st.just("flip"), _PLACE, st.integers(0, 7)),
    st.tuples(st.just("bytes"), _PLACE, st.binary(max_size=4)),
    st.tuples(st.just("cut"), _PLACE, st.none()),
    st.tuples(st.sampled_from(["folder", "gone"]), st.none(), st.none()),
)


@contextlib.contextmanager
def damaged(file: Path, damage):
    """Have a file be damaged within the block, and as it was after it."""
    before = file.read_bytes()
    kind, where, what = damage
    altered = _altered(before, kind, where, what)
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind != "gone":
        file.write_bytes(altered)
    try:
        yield
    finally:
        if file.is_dir():
            shutil.rmtree(file)
        file.write_bytes(before)


def _altered(content, kind, where, what):
    if kind in ("folder", "gone"):
        return b""
    if not content:
        return b"x"
    place = int(where * len(content))
    if kind == "cut":
        return content[:place]
    if kind == "flip":
        return content[:place] + bytes([content[place] ^ (1 << what)]) + content[place + 1 :]
    if kind == "bytes":
        return content[:place] + what + content[place + 1 :]
    try:
        values = json.loads(content)
    except ValueError:
        return _other_cell(content, where, what)
    return _other_value(values, where, what)


def _other_value(values, where, token):
    """Put a token where a value is; None drops it."""
    places = list(_places(values))
    inner, last = places[int(where * len(places))]
    if token is None:
        del inner[last]
    else:
        inner[last] = "@"
    return json.dumps(values).replace('"@"', token or "").encode()


def _places(values):
    items = list(values.items() if isinstance(values, dict) else enumerate(values))
    for key, value in items:
        yield values, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _other_cell(content, where, token):
    lines = [line.split(b",") for line in content.splitlines()]
    if not lines:
        return b""
    cells = [(row, column) for row, line in enumerate(lines) for column in range(len(line))]
    row, column = cells[int(where * len(cells))]
    lines[row][column : column + 1] = [] if token is None else [token.encode()]
    return b"\n".join(b",".join(line) for line in lines) + b"\n"
