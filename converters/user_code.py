"""A network in a user's own Python file: ``mynet.py:build``, which runs that file."""

import copy
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from converters.resting_module import unwrapped
from gaxjax.common import UserError, described, nearest, one_line, path_to_read

__all__ = ["build_from_file", "resting", "split_python_source"]


def split_python_source(source: str) -> tuple[Path, str]:
    """Return the file and the name in it of ``mynet.py:build``.

    Raises:
        UserError: no such file, or no name.
    """
    file, _, name = source.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise UserError(
            f"{source} names no function: give one that returns the network, or its class, such as "
            f"{source.partition('.py')[0]}.py:build"
        )
    path = path_to_read(Path(file), "the model")
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the Python file that builds the network")
    return path, name


def build_from_file(path: Path, name: str) -> nn.Module:
    """Run a Python file, and call a function or class of it without arguments.

    The file's folder is where its imports are looked for first, as when Python runs it.

    Returns:
        The network that it gave; a module that stands there already is taken as it is.

    Raises:
        UserError: whatever went wrong there, with the file's line; or no network came of it.
    """
    spec = importlib.util.spec_from_file_location(f"gaxjax_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    folder = str(path.absolute().parent)
    sys.path.insert(0, folder)
    sys.modules[spec.name] = code  # dataclasses and pickles look their module up
    try:
        loader = spec.loader
        _guarded(lambda: loader.exec_module(code), path, "running")
        made = getattr(code, name, None)
        if made is None:
            here = [key for key in vars(code) if not key.startswith("_")]
            raise UserError(f"{path} has no {name!r}{nearest(name, here)}")
        if not isinstance(made, nn.Module):
            if not callable(made):
                raise UserError(f"{path}:{name} is {described(made)}; expected a function")
            made = _guarded(made, path, f"{name}() of")
    finally:
        sys.path.remove(folder)
    if not isinstance(made, nn.Module):
        raise UserError(
            f"{path}:{name} gives {described(made)}; expected a torch module [B, 3, H, W] → [B, C]"
        )
    return made


def resting(module: nn.Module) -> nn.Module:
    """Return a copy of a module in eval mode, in float32 on the CPU; wrappings of torch's go.

    Raises:
        UserError: it cannot be copied.
    """
    module = unwrapped(module)
    try:
        return copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    except Exception as error:  # of the user's own class
        raise UserError(
            f"the torch module {type(module).__name__} cannot be copied ({one_line(error)}); give "
            "one that copy.deepcopy takes"
        ) from error


def _guarded(call: Callable[[], Any], path: Path, what: str) -> Any:
    try:
        return call()
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise UserError(
            f"{what} {path} fails{_place(error, path)}: {type(error).__name__}: {one_line(error)}"
        ) from error


def _place(error: BaseException, path: Path) -> str:
    """Return the last line of the user's own file on the way to an error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" at {path.name}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).absolute() == path.absolute()
    ]
    return f" at {path.name}:{frames[-1].lineno}" if frames else ""
