"""Weights in several files: an index of which tensor lies in which, as Hugging Face saves them."""

import json
from pathlib import Path
from typing import Any

from gaxjax.common import UserError, one_line

__all__ = ["file_of", "files_of", "is_index", "read_index"]

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_INDICES = tuple(f"{name}.index.json" for name in _WHOLE)
_MOST_BYTES = 64 * 2**20
"""Of an index; those of the largest networks have a tenth of it."""


def is_index(path: Path) -> bool:
    """Tell whether a file is such an index, by its name."""
    return path.name.endswith(".index.json")


def file_of(path: Path) -> Path:
    """Return the weights of a folder, in one file or their index; of a file itself.

    Raises:
        UserError: a folder without any.
    """
    if not path.is_dir():
        return path
    for name in (*_WHOLE[:1], *_INDICES[:1], *_WHOLE[1:], *_INDICES[1:]):
        if (path / name).is_file():
            return path / name
    raise UserError(
        f"the folder {path} holds no weights that are known by their names "
        f"({', '.join((*_WHOLE, *_INDICES))}); give the file itself"
    )


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that weights lie in: of an index its own and every shard.

    Raises:
        UserError: as for `read_index`.
    """
    path = file_of(path)
    if not is_index(path):
        return (path,)
    names = sorted(set(read_index(path).values()))
    return (path, *(path.parent / name for name in names))


def read_index(path: Path) -> dict[str, str]:
    """Return the name of the file beside an index that holds each tensor.

    Raises:
        UserError: it is no index, names files that do not lie beside it, or files are missing.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        index: Any = json.loads(path.read_text(encoding="utf-8"))
        shards = dict(index["weight_map"])
        if not shards or not all(isinstance(name, str) for name in shards.values()):
            raise ValueError("its weight_map names no files")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} is no index of sharded weights, {{'weight_map': {{KEY: FILE}}}} "
            f"({one_line(error)}); copy or download it again"
        ) from error
    names = sorted(set(shards.values()))
    outside = [name for name in names if name in (".", "..") or "/" in name or "\\" in name]
    if outside:
        raise UserError(f"{path} names files elsewhere ({outside[0]}): shards lie beside it")
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        more = ", …" if len(missing) > 3 else ""
        raise UserError(
            f"{len(missing)} of the {len(names)} files that {path} names are missing: "
            f"{', '.join(missing[:3])}{more}; put them beside it"
        )
    return shards
