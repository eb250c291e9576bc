"""The border for paths: whatever a flag or an argument names comes through here first.

A path may be empty, too long, of an unknown user, a device that never ends, or lead in a circle;
each is one line that names the flag, and none is met for the first time deep inside the work.
"""

import errno
import os
import stat
from pathlib import Path
from typing import TypeVar

from gaxjax.common.errors import UserError, described
from gaxjax.common.remote import AnyPath, is_url, place_at

__all__ = ["cannot_read", "path_to_read", "path_to_write", "reason_of", "spelt_out"]

_Path = TypeVar("_Path", str, Path, str | Path)

_REASONS = {
    errno.ENAMETOOLONG: "the name is longer than the system takes",
    errno.ELOOP: "it is a link that leads in a circle",
    errno.EACCES: "no permission to look there",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "the system has no memory left",
    errno.ESTALE: "the network disk has lost it",
    errno.EIO: "the disk cannot read it",
}
_SPECIAL = {
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
}


def reason_of(error: BaseException) -> str:
    """Say in a few words why the system refused something.

    Example:
        >>> reason_of(OSError(errno.ELOOP, "Too many levels of symbolic links"))
        'it is a link that leads in a circle'
    """
    number = getattr(error, "errno", None)
    text = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    return _REASONS.get(number or 0) or text or type(error).__name__


def cannot_read(path: object, error: BaseException) -> UserError:
    """Return the one line for what the system does not let us read.

    Example:
        >>> cannot_read("run.json", OSError(errno.EMFILE, "Too many open files"))
        UserError('cannot read run.json: too many files are open: raise the limit (ulimit -n)')
    """
    return UserError(f"cannot read {path}: {reason_of(error)}")


def spelt_out(path: _Path, what: str) -> _Path:
    """Return a path with `~` replaced by the home folder; what is on the disk is not looked at.

    Args:
        path: what the user gave.
        what: its flag or argument, for the message.

    Raises:
        UserError: it is empty, no text, holds a character that no path can, or names a user that
            there is none of.

    Example:
        >>> spelt_out(Path("~/run"), "--output") == Path.home() / "run"
        True
    """
    if is_url(path):
        return path
    if not isinstance(path, str | Path):
        raise UserError(f"{what}: {described(path)}; expected a path")
    text = os.fspath(path)
    if not text.strip():
        raise UserError(f"{what} is empty: give a path")
    if "\0" in text:
        raise UserError(f"{what} {text!r} holds a NUL character, which no path can")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise UserError(
            f"{what} {text!r} cannot be written in this system's encoding: set LANG to one with "
            "UTF-8, such as C.UTF-8"
        ) from None
    home = os.path.expanduser(text)
    if text.startswith("~") and home == text:
        user = text.partition("/")[0]
        if os.path.lexists(user):
            return path
        raise UserError(
            f"{what} {text}: there is no user {user[1:]!r} here, whose home {user} would be; write "
            f"./{text} for a folder of that name"
        )
    return path if home == text else type(path)(home)


def path_to_read(path: str | AnyPath, what: str, *, urls: bool = False) -> AnyPath:
    """Return a path to look at, spelt out: a file, a folder, or nothing there yet.

    Args:
        path: what the user gave.
        what: its flag or argument, for the message.
        urls: whether it may be a URL, such as s3://bucket/run.

    Raises:
        UserError: as `spelt_out`; the system refuses to say what is there; or it is a device, a
            pipe or a socket, whose reading may never end.

    Example:
        >>> path_to_read("model.ckpt", "--model")
        PosixPath('model.ckpt')
    """
    if is_url(path):
        return _place(path, what, urls)
    path = Path(spelt_out(path, what))
    kind = _mode(path, what)
    for is_kind, name in _SPECIAL.items():
        if kind is not None and is_kind(kind):
            raise UserError(f"{what} {path} is {name}; expected a file or a folder")
    if kind is not None:
        needed = os.R_OK | (os.X_OK if stat.S_ISDIR(kind) else 0)
        if not os.access(path, needed):
            raise UserError(f"{what} {path}: no permission to read it")
    return path


def path_to_write(path: str | AnyPath, what: str, *, urls: bool = False) -> AnyPath:
    """Return a path to write to, spelt out, once something could be made there.

    Args:
        path: what the user gave.
        what: its flag or argument, for the message.
        urls: whether it may be a URL, such as s3://bucket/run.

    Raises:
        UserError: as `spelt_out`; a file stands where a folder must be; or the folder, or the one
            that it would be made in, cannot be written.

    Example:
        >>> path_to_write("run", "--output")
        PosixPath('run')
    """
    if is_url(path):
        return _place(path, what, urls)
    path = Path(spelt_out(path, what))
    there, kind = path, _mode(path, what)
    while kind is None and there != there.parent:
        if there.is_symlink():
            raise UserError(f"{what} {path}: {there} is a link to what does not exist")
        there = there.parent
        kind = _mode(there, what)
    assert kind is not None, "a root and the working folder are always there"
    if there != path and not stat.S_ISDIR(kind):
        raise UserError(f"{what} {path}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK):
        raise UserError(f"{what} {path}: {there} cannot be written (read-only, or no permission)")
    return path


def _place(url: str | AnyPath, what: str, urls: bool) -> AnyPath:
    if not urls:
        raise UserError(f"{what} {url} is a URL, which is not taken here; give a path")
    return place_at(str(url), what)


def _mode(path: AnyPath, what: str) -> int | None:
    """Return what kind of thing a path leads to, None where there is nothing."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_absolute() and _working_folder_is_gone():
            raise UserError(
                f"{what} {path}: the folder you are in was deleted; change to another one"
            ) from None
        return None
    except (OSError, ValueError) as error:
        text = str(path)
        shown = text if len(text) <= 80 else f"{text[:80]}…"
        raise UserError(f"{what} {shown}: {reason_of(error)}") from None


def _working_folder_is_gone() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False
