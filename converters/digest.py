"""The SHA-256 of weights, in one file or several."""

import hashlib
from pathlib import Path

from converters.shards import files_of
from gaxjax.common import file_sha256

__all__ = ["weights_sha256"]


def weights_sha256(path: Path) -> str:
    """Return the SHA-256 of a file of weights, in hexadecimal; of shards that of all of theirs."""
    files = files_of(path)
    if len(files) == 1:
        return file_sha256(files[0])
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
