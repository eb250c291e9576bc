"""Files and folders of ours: one process at a time, one job for ever, and nothing half written."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gaxjax.common.errors import UserError

__all__ = [
    "cache_folder",
    "checked_output",
    "lock",
    "refuse_another",
    "refuse_strangers",
    "replacing",
    "write_text",
]


def refuse_another(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Refuse to resume what was begun otherwise.

    Args:
        path: the folder.
        there: what makes it what it is: `command`, settings, fingerprints.
        here: what is asked for.

    Raises:
        UserError: they differ; the message names what.
    """
    if there.get("command") != here.get("command"):
        raise UserError(
            f"{path} holds a run of gaxjax {there.get('command')}: choose another --output"
        )
    differing = [
        f"{name} is {there.get(name)} there and {here.get(name)} here"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise UserError(
            f"{path} holds another run: {'; '.join(differing)}. "
            "Choose another --output, or give the same settings to resume it"
        )


def refuse_strangers(path: Path, description: str, *earlier: str) -> None:
    """Refuse a folder with files in it but without ``description``.

    Args:
        path: the folder, which may be missing.
        description: the file that makes a folder ours.
        earlier: files that are written before it, and may be there alone after a crash.

    Raises:
        UserError: there are some; the message names one.
    """
    if not path.is_dir() or (path / description).exists():
        return
    ours = {".lock", *earlier, *(f"{name}.tmp" for name in (description, *earlier))}
    strangers = [entry.name for entry in path.iterdir() if entry.name not in ours]
    if strangers:
        raise UserError(
            f"output folder {path} is not empty and holds no gaxjax run "
            f"(found {sorted(strangers)[0]}): choose another --output"
        )


def lock(path: Path) -> Any:
    """Make an output folder and take its lock, which lasts until the returned file is closed.

    Raises:
        UserError: a file is in the way, the folder cannot be written, or it is in use.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        held = (path / ".lock").open("a")
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"output {path} is a file; expected a folder to write to") from None
    except OSError as error:
        raise UserError(f"cannot write to output folder {path}: {error.strerror}") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise UserError(f"{path} is in use by another gaxjax process") from None
    return held


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write, then make it durable and put it in `path`'s place."""
    temporary = path.with_name(path.name + ".tmp")
    yield temporary
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def cache_folder() -> Path:
    """Return ``$GAXJAX_CACHE``, or ``~/.cache/gaxjax`` where it is not set."""
    return Path(os.environ.get("GAXJAX_CACHE") or Path.home() / ".cache" / "gaxjax")


def checked_output(path: Path, suffixes: tuple[str, ...], *, flag: str = "--output") -> Path:
    """Refuse a place that cannot be written, or that holds something else, before the work."""
    if path.suffix not in suffixes:
        raise UserError(f"{flag} {path} must end in {' or '.join(suffixes)}")
    if path.name == "run.json":
        raise UserError(f"{flag} {path} would replace a run's description: choose another name")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: its folder is missing or not writable")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
