"""The state of a training on disk: a folder of arrays per validation; the last one stays."""

import shutil
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax
from jaxtyping import PyTree

from gaxjax.common import RESUME, UserError, cannot_write, one_line
from gaxjax.models import read_arrays, read_description, write_arrays

__all__ = ["curve_of", "latest_state", "load_state", "save_state"]

_STATE = "state.json"


class _Form(TypedDict):
    """What of it is read back."""

    files: dict[str, str]
    curve: NotRequired[str]


def save_state(folder: Path, state: PyTree, number: int, curve: str = "") -> None:
    """Keep a training state's arrays, whole or not at all; then remove the earlier ones.

    Args:
        folder: where states are kept, each in a folder of its own.
        state: any pytree of arrays.
        number: its place in order, larger than that of the state before.
        curve: digest of the curve that belongs to it.

    Raises:
        UserError: it cannot be written; the state before is still there.
    """
    path = folder.absolute() / f"{number:09d}"
    for unfinished in folder.glob(".*"):  # of a process that was killed
        _remove(unfinished)
    try:
        write_arrays(path, _by_path(state), _STATE, {"curve": curve})
    except (OSError, ValueError) as error:
        raise cannot_write(f"the training state {path}", error, RESUME) from error
    for other in folder.iterdir():
        if other.name != path.name:
            _remove(other)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def latest_state(folder: Path) -> Path | None:
    """Return the last state that `save_state` kept in a folder, None where there is none."""
    whole = [path for path in folder.glob("*") if (path / _STATE).is_file() and not path.suffix]
    return max(whole, default=None)


def load_state(path: Path, like: PyTree) -> PyTree:
    """Read a state that `save_state` kept.

    Args:
        path: from `latest_state`.
        like: a state of the same structure, shapes and types; its arrays are not used.

    Raises:
        UserError: damaged files, or another model's state.
    """
    path, wanted = path.absolute(), _by_path(like)
    try:
        about = read_description(path, _STATE, _Form)
        arrays = read_arrays(path, about, wanted)
    except ValueError as error:
        raise UserError(
            f"the training state {path} is damaged ({one_line(error)}); remove that folder to "
            "train anew"
        ) from error
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in wanted])


def curve_of(path: Path) -> str:
    """Return the digest of the curve that belongs to a state; empty in earlier versions' states.

    Args:
        path: from `latest_state`.

    Raises:
        ValueError: its description is damaged; in one line.
    """
    curve: str = read_description(path, _STATE, _Form).get("curve", "")
    return curve


def _by_path(tree: PyTree) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
