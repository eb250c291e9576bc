"""Named arrays on disk with what they mean: what a checkpoint and a training state are made of.

```
FOLDER/
  DESCRIPTION.json   what the arrays mean, the SHA-256 of every other file, and of all of that
  weights/           Orbax: one array per name, such as layer1.0.conv1.kernel
```

The only module that imports Orbax, by its v1 interface. Three things are checked here rather than
there: dtypes, which Orbax would cast in silence; names and shapes, for one clear line; and the
files' hashes, because Orbax 0.12 meets a damaged file with hundreds of logged lines and with tasks
that nobody awaits.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from gaxjax.common import (
    cannot_read,
    file_sha256,
    one_line,
    replacing_folder,
    stored_json,
    with_checksum,
)

__all__ = [
    "read_arrays",
    "read_description",
    "read_text",
    "write_arrays",
]

_WEIGHTS = "weights"


def write_arrays(
    path: Path,
    arrays: Mapping[str, jax.Array],
    description: str,
    about: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write arrays and what they mean, whole or not at all; what was at `path` is replaced.

    Args:
        path: the folder, absolute.
        arrays: by name.
        description: name of the JSON file beside them.
        about: what that file holds; the hashes join it as `files`, and its own as `sha256`.
        texts: further files beside it, by name; hashed as well.

    Raises:
        OSError, ValueError: it cannot be written. TensorStore says ValueError for a full disk.
    """
    with replacing_folder(path) as folder:
        ocp.save(folder / _WEIGHTS, dict(arrays))
        for name, text in (texts or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
        files = {
            file.relative_to(folder).as_posix(): file_sha256(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        whole = {**about, "files": files}
        text = json.dumps(with_checksum(whole), indent=1)
        (folder / description).write_text(text + "\n")


def read_description(path: Path, description: str, form: Any) -> dict[str, Any]:
    """Read what arrays mean; `form` is as for `stored_json`.

    Raises:
        ValueError: the file is damaged; in one line.
        UserError: the system does not let it be read.
    """
    try:
        about: dict[str, Any] = stored_json(path / description, form)
    except OSError as error:
        raise cannot_read(path / description, error) from error
    except ValueError as error:
        raise ValueError(f"{description}: {one_line(error)}") from error
    return about


def read_text(path: Path, about: Mapping[str, Any], name: str) -> str:
    """Read a further file that `write_arrays` wrote, once it is as it was written.

    Args:
        path: the folder, absolute.
        about: from `read_description`.
        name: of the file.

    Raises:
        ValueError: it is missing or altered; in one line.
        UserError: the system does not let it be read.
    """
    files = about.get("files")
    if not isinstance(files, dict) or name not in files:
        raise ValueError(f"it lists no {name}")
    try:
        _check_files(path, {name: files[name]})
        return (path / name).read_text(encoding="utf-8")
    except OSError as error:
        raise cannot_read(path / name, error) from error


def read_arrays(
    path: Path, about: Mapping[str, Any], like: Mapping[str, Any]
) -> dict[str, jax.Array]:
    """Read arrays onto the default device, once every file is as it was written.

    Args:
        path: the folder, absolute.
        about: from `read_description`.
        like: for each name that is wanted something with the shape and the dtype it must have.

    Raises:
        ValueError: files or arrays are missing, altered, or others than wanted; in one line.
        UserError: the system does not let them be read: permissions, memory, open files.
    """
    try:
        _check_files(path, about.get("files"))
    except OSError as error:
        raise cannot_read(error.filename or path, error) from error
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for name, leaf in like.items()
    }
    try:
        faults = _differences(ocp.metadata(path / _WEIGHTS).metadata, wanted)
        arrays: dict[str, jax.Array] = {} if faults else ocp.load(path / _WEIGHTS, wanted)
    except Exception as error:
        # Orbax and TensorStore raise many types; the files are whole, so either the system has
        # nothing left to read them with, or they are another version's.
        if _is_the_system(error):
            raise cannot_read(path, error) from error
        raise ValueError(one_line(error)) from error
    if faults:
        raise ValueError("; ".join(faults[:3]))
    return arrays


_SYSTEM = ("too many open files", "cannot allocate memory", "out of memory", "resource_exhausted")


def _is_the_system(error: BaseException) -> bool:
    """Tell whether an error is of memory, permissions or open files, whatever its type."""
    text = str(error).lower()
    refused = isinstance(error, MemoryError | OSError) and not isinstance(error, FileNotFoundError)
    return refused or any(sign in text for sign in _SYSTEM)


def _check_files(path: Path, files: Any) -> None:
    if not isinstance(files, dict):
        raise ValueError("it lists no files")
    for name, sha256 in files.items():
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
        if file_sha256(path / name) != sha256:
            raise ValueError(f"{name} is truncated or altered")


def _differences(
    stored: Mapping[str, Any], wanted: Mapping[str, jax.ShapeDtypeStruct]
) -> list[str]:
    faults = [f"{name} is missing" for name in wanted if name not in stored]
    faults += [f"{name} is not part of the model" for name in stored if name not in wanted]
    for name in stored.keys() & wanted.keys():
        given, leaf = stored[name], wanted[name]
        if (tuple(given.shape), np.dtype(given.dtype)) != (leaf.shape, leaf.dtype):
            faults.append(
                f"{name} is {given.dtype}{tuple(given.shape)}, not {leaf.dtype}{leaf.shape}"
            )
    return faults
