"""Files and folders of ours: one process at a time, and nothing half written."""

import contextlib
import ctypes
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from gaxjax.common.errors import UserError
from gaxjax.common.paths import path_to_write, reason_of, spelt_out
from gaxjax.common.remote import AnyPath, is_url, remote_errors, trying_again
from gaxjax.common.text import one_line

__all__ = [
    "Held",
    "cache_folder",
    "cannot_write",
    "checked_output",
    "file_sha256",
    "held_locks",
    "lock",
    "place_in_cache",
    "replacing",
    "replacing_folder",
    "write_text",
]

_ON_WINDOWS = os.name == "nt"


class Held:
    """A lock that is held until `close`; a context manager."""

    def __init__(self, release: Callable[[], object], check: Callable[[], object]) -> None:
        self._release, self._check = release, check

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give it up."""
        self._release()

    def check(self) -> None:
        """Refuse to go on where it was lost, as a lease can be.

        Raises:
            NotWrittenError: it was.
        """
        self._check()


def lock(path: AnyPath, name: str = "", *, wait: float = 0.0) -> Held:
    """Make an output folder and take its lock, which lasts until it is closed.

    The system gives the lock up with the process, however that ends; by URL it is a lease, which
    ends a minute later.

    Args:
        path: the folder, or a URL's path.
        name: of one of several locks of the folder.
        wait: seconds to wait for one that another process holds.

    Raises:
        UserError: a file is in the way, the folder cannot be written, or it is in use.

    Example:
        >>> with lock(Path("run")):  # doctest: +SKIP
        ...     write_text(Path("run/notes.txt"), "mine")
    """
    if is_url(path):
        from gaxjax.common.lease import Lease

        lease = Lease(path, name or "run", wait=wait)
        return Held(lease.close, lease.check)
    import filelock  # at the first lock: most of what imports this module takes none

    try:
        path.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(path / (f".{name}.lock" if name else ".lock"), thread_local=False)
        held.acquire(timeout=wait)
    except filelock.Timeout:  # an OSError too
        raise UserError(
            f"{path} is in use by another gaxjax process" + (f" ({name})" if name else "")
        ) from None
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"output {path} is a file; expected a folder to write to") from None
    except (OSError, NotImplementedError) as error:
        raise cannot_write(f"to output folder {path}", error) from None
    return Held(held.release, lambda: None)


def held_locks(path: AnyPath, prefix: str) -> list[str]:
    """Return the names that begin so of the folder's locks that somebody holds.

    Example:
        >>> held_locks(Path("run"), "writer-")  # doctest: +SKIP
        ['writer-0', 'writer-3']
    """
    if is_url(path):
        from gaxjax.common.lease import held_leases

        with remote_errors():
            return held_leases(path, prefix)
    import filelock

    held = []
    for file in sorted(path.glob(f".{prefix}*.lock")):
        try:
            with filelock.FileLock(file, timeout=0, thread_local=False):
                continue
        except filelock.Timeout:
            held.append(file.name[1:].removesuffix(".lock"))
    return held


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[AnyPath]:
    """Give a temporary file to write, then make it durable and put it in `path`'s place.

    What fails raises OSError, by URL too.
    """
    if is_url(path):
        with tempfile.TemporaryDirectory(prefix="gaxjax-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            data = temporary.read_bytes()
        with remote_errors():
            trying_again(lambda: path.write_bytes(data))  # storages show it whole or not at all
        return
    temporary = path.with_name(f".{path.name}.tmp")  # hidden: who reads the folder passes it over
    yield temporary
    _make_durable(temporary)
    temporary.replace(path)
    _make_durable(path.parent)


@contextlib.contextmanager
def replacing_folder(path: AnyPath) -> Iterator[AnyPath]:
    """Give a temporary folder to fill, then make it durable and put it in `path`'s place.

    What fails leaves nothing behind. What a process that was killed left is removed by the next
    write of the same folder: `.NAME.TOKEN.partial` is being written as long as somebody holds the
    lock `.NAME.TOKEN.lock`.
    """
    import filelock

    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    old, lock_file = temporary.with_suffix(".old"), temporary.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(lock_file, thread_local=False):
            try:
                temporary.mkdir()
                yield temporary
                for entry in (*temporary.rglob("*"), temporary):
                    _make_durable(entry)
                if not path.exists():
                    temporary.rename(path)
                elif not _exchange(temporary, path):
                    path.rename(old)  # aside, for an instant: a folder cannot be renamed over
                    temporary.rename(path)
                shutil.rmtree(old, ignore_errors=True)
                _make_durable(path.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    finally:
        lock_file.unlink(missing_ok=True)


def _exchange(one: AnyPath, other: AnyPath) -> bool:
    """Let two folders change places at once, where system and disk can; tell whether they did."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, TypeError, AttributeError):  # not Linux, or an old one
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _remove_leftovers(path: AnyPath) -> None:
    """Remove what processes that were killed left of a folder that they wrote."""
    import filelock

    pattern = re.compile(rf"(\.{re.escape(path.name)}\.[0-9a-f]{{8}})\.(partial|old|lock)")
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    for start in {found[1] for found in map(pattern.fullmatch, names) if found}:
        lock_file = path.with_name(f"{start}.lock")
        with contextlib.suppress(OSError), filelock.FileLock(lock_file, timeout=0):
            shutil.rmtree(path.with_name(f"{start}.partial"), ignore_errors=True)
            if path.exists():  # else it is all there is: the process was killed at the very end
                shutil.rmtree(path.with_name(f"{start}.old"), ignore_errors=True)
            lock_file.unlink()


def _make_durable(path: AnyPath) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    if _ON_WINDOWS and path.is_dir():
        return  # it opens no folders, and keeps their lists itself
    descriptor = os.open(path, os.O_RDWR if _ON_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: AnyPath, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(what: object, error: Exception, mend: str = "") -> UserError:
    """Return the one line for a write that failed.

    Args:
        what: a path, or words that name one.
        error: what happened: an OSError, or what a library makes of one.
        mend: what is safe, and what the user can do.

    Example:
        >>> cannot_write("table.csv", OSError(28, "No space left on device"))
        UserError('cannot write table.csv: No space left on device')
    """
    reason = reason_of(error) if isinstance(error, OSError) else one_line(error)
    return UserError(f"cannot write {what}" + (f" ({reason}): {mend}" if mend else f": {reason}"))


def checked_output(path: AnyPath, suffixes: tuple[str, ...], *, flag: str = "--output") -> AnyPath:
    """Refuse a place that cannot be written, or that holds something else, before the work.

    Raises:
        UserError: another suffix, a run's description, or no folder there that can be written.
    """
    path = path_to_write(path, flag, urls=True)
    if path.suffix not in suffixes:
        raise UserError(f"{flag} {path} must end in {' or '.join(suffixes)}")
    if path.name == "run.json":
        raise UserError(f"{flag} {path} would replace a run's description: choose another name")
    if is_url(path):
        return path
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: its folder is missing or not writable")
    return path


def file_sha256(path: AnyPath | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with (
        remote_errors(),
        Path(path).open("rb") if isinstance(path, str) else path.open("rb") as file,
    ):
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> AnyPath:
    """Return ``$GAXJAX_CACHE``, or ``~/.cache/gaxjax`` where it is not set.

    Raises:
        UserError: it is not set, and there is no home folder.
    """
    given = os.environ.get("GAXJAX_CACHE")
    if given:
        return spelt_out(Path(given), "GAXJAX_CACHE")
    try:
        return Path.home() / ".cache" / "gaxjax"
    except RuntimeError:
        raise UserError("there is no home folder: set GAXJAX_CACHE to a folder of yours") from None


def place_in_cache(name: str) -> AnyPath:
    """Return a place in the cache folder, once something could be written there.

    Raises:
        UserError: it cannot.
    """
    place = cache_folder() / name
    try:
        path_to_write(place, "the cache folder")
    except UserError as error:
        raise UserError(f"{error}; GAXJAX_CACHE names another folder") from None
    return place
