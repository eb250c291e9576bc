"""The state of a training on disk: one Orbax folder per validation."""

import json
import os
import shutil
from pathlib import Path

import jax
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from gaxjax.common.errors import UserError
from gaxjax.models.checkpoint import (
    _STATE,
    _WEIGHTS,
    _altered,
    _by_path,
    _differences,
    _hashes,
    _one_line,
    _stored,
)


def save_state(folder: Path, state: PyTree, number: int) -> None:
    """Keep a training state's arrays, whole or not at all; then remove the earlier ones.

    Args:
        folder: where states are kept, each in a folder of its own.
        state: any pytree of arrays.
        number: its place in order, larger than that of the state before.

    Raises:
        UserError: it cannot be written; the state before is still there.
    """
    path = folder.absolute() / f"{number:09d}"
    temporary = path.with_suffix(".partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        temporary.mkdir(parents=True)
        ocp.save(temporary / _WEIGHTS, _by_path(state))
        (temporary / _STATE).write_text(json.dumps({"files": _hashes(temporary)}) + "\n")
        os.sync()  # durable before the rename, so that a state that is there is whole
        temporary.rename(path)
    except (OSError, ValueError) as error:  # TensorStore says ValueError for a full disk
        raise UserError(
            f"cannot write the training state {path} ({_one_line(error)}): what was kept before is "
            "safe; mend it and give the same command again to resume"
        ) from error
    for other in folder.iterdir():
        if other.name != path.name:
            shutil.rmtree(other, ignore_errors=True)


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
    path = path.absolute()
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for name, leaf in _by_path(like).items()
    }
    try:
        fault = _altered(path, json.loads((path / _STATE).read_text()))
        faults = [fault] if fault else _differences(_stored(path), wanted)
        if faults:
            raise ValueError("; ".join(faults[:3]))
        arrays = ocp.load(path / _WEIGHTS, wanted)
    except Exception as error:  # as in `load`
        raise UserError(
            f"the training state {path} is damaged ({_one_line(error)}); remove that folder to "
            "train anew"
        ) from error
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in wanted])
