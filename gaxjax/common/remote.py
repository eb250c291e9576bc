"""The border for addresses: what a flag names by URL is reached through fsspec, and only there.

Every system has its own package and its own errors; here each becomes an OSError that says in a
line what to mend, or a UserError where nothing can go on.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gaxjax.common.errors import UserError
from gaxjax.common.text import one_line

__all__ = [
    "AnyPath",
    "file_system",
    "is_url",
    "place_at",
    "remote_errors",
    "remote_reason",
    "trying_again",
]

if TYPE_CHECKING:
    AnyPath = Path
else:
    AnyPath = Any
"""A path of this machine, or a URL's by `place_at`, which is one by its methods alone."""

_T = TypeVar("_T")

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_WITH_BUCKETS = re.compile(r"(s3a?|gs|gcs)://")
_ATTEMPTS = 4
_FIRST_PAUSE = 0.25  # seconds; each further one is twice as long

_LACKING = {
    "NoCredentialsError": "there are no credentials: set those of this storage (for s3:// "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile; for gs:// "
    "GOOGLE_APPLICATION_CREDENTIALS)",
    "PartialCredentialsError": "the credentials are not whole: an access key needs its secret",
    "DefaultCredentialsError": "there are no credentials: set GOOGLE_APPLICATION_CREDENTIALS",
    "EndpointConnectionError": "its server cannot be reached",
    "ClientConnectorError": "its server cannot be reached",
    "ConnectionRefusedError": "its server refuses connections",
}


def is_url(text: object) -> bool:
    """Tell whether a text, or a path made of one by `place_at`, names something by URL.

    Example:
        >>> is_url("s3://bucket/val"), is_url("val"), is_url("C:/val")
        (True, False, False)
    """
    return _URL.match(str(text)) is not None


def file_system(url: str, what: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the URL's path in it; nothing is asked of it.

    Listings are not kept: others write while we read.

    Args:
        url: such as `s3://bucket/val`.
        what: its flag or argument, for the message.

    Raises:
        UserError: no such kind of URL, or a package for it is missing.

    Example:
        >>> file_system("memory://val/cat.png", "--data")[1]
        '/val/cat.png'
    """
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise UserError(
            f"{what} {url}: {one_line(error)} (pip install 'gaxjax[remote]' brings what s3://, "
            "gs://, hf:// and https:// need)"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{what} {url}: {one_line(error)}; expected a path, or a URL such as s3://, gs://, "
            "hf:// or https://"
        ) from None
    except Exception as error:  # file systems raise what they like
        raise UserError(f"{what} {url}: {remote_reason(error)}") from None
    return system, path


def place_at(url: str, what: str) -> AnyPath:
    """Return a URL as a path: what pathlib does to a folder, this one does to the storage.

    It is universal_pathlib's, and a `Path` by its methods alone.

    Args:
        url: such as `s3://bucket/run`.
        what: its flag or argument, for the message.

    Raises:
        UserError: as `file_system`; there are no credentials, no such bucket, or no server.
    """
    system, path = file_system(url, what)
    try:
        from upath import UPath
    except ImportError:
        raise UserError(
            f"{what} {url} needs universal_pathlib: pip install 'gaxjax[remote]'"
        ) from None
    if _WITH_BUCKETS.match(url):
        bucket = path.strip("/").partition("/")[0]
        try:
            if bucket:
                trying_again(lambda: system.info(bucket))
        except FileNotFoundError:
            bucket = ""
        except PermissionError:  # it may be readable further down
            pass
        except Exception as error:  # file systems raise what they like
            raise UserError(f"{what} {url}: {remote_reason(error)}") from None
        if not bucket:
            raise UserError(f"{what} {url}: there is no such bucket; make it first")
    return cast(Path, UPath(url, use_listings_cache=False))


@contextlib.contextmanager
def remote_errors() -> Iterator[None]:
    """Have whatever a storage raises within the block be an OSError that says why in a line."""
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:  # file systems raise what they like
        raise OSError(remote_reason(error)) from error


def remote_reason(error: BaseException) -> str:
    """Say in a line why a storage refused something, whatever it raised.

    Example:
        >>> remote_reason(FileNotFoundError("The specified bucket does not exist"))
        'The specified bucket does not exist'
    """
    met: BaseException | None = error
    while met is not None:
        if type(met).__name__ in _LACKING:
            return _LACKING[type(met).__name__]
        met = met.__cause__ or met.__context__
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    text = getattr(error, "strerror", None) or one_line(error)
    if isinstance(error, FileNotFoundError) and "does not exist" not in text:
        return "there is no such file"
    return str(text)


def trying_again(call: Callable[[], _T]) -> _T:
    """Call a function again after a failure that may pass, such as a timeout, four times in all.

    Raises:
        FileNotFoundError, PermissionError: at once.
        Exception: what the last attempt raised.
    """
    pause = _FIRST_PAUSE
    for _ in range(_ATTEMPTS - 1):
        try:
            return call()
        except (FileNotFoundError, PermissionError, IsADirectoryError, FileExistsError):
            raise
        except Exception as error:  # file systems raise what they like
            if "credentials" in remote_reason(error):
                raise
        time.sleep(pause)
        pause *= 2
    return call()
