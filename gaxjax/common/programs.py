"""Compiled programs, kept while the process lives, so that a second call finds them made.

A program is found by everything that could make it another one. It is given its weights when it is
called and holds none; what a user's function closes over is part of the program, as it is of JAX's.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax

__all__ = ["compiled_once", "forget_programs", "layout", "lowered_digest"]

_PLACED = ("weak_type", "sharding")
_MOST = 128  # programs: of GAX about ten a model, image size and settings, of AX three

_kept: OrderedDict[Hashable, Callable[..., Any]] = OrderedDict()
_lock = threading.Lock()


def compiled_once(
    function: Any,
    *arguments: Any,
    same: Hashable | None = None,
    options: dict[str, str | bool],
) -> Callable[..., Any]:
    """Compile a jitted function for its arguments, or return what was compiled of the same.

    Args:
        function: of `jax.jit`.
        arguments: arrays or their shapes, with their shardings.
        same: what, beside the arguments' layout and `options`, makes two functions the same
            program. Where None, the function is traced and lowered, which is most of a second for
            a large network, and its program's text is compared: it cannot be mistaken.
        options: for the compiler.
    """
    common = layout(arguments), tuple(sorted(options.items())), _configured()
    lowered: jax.stages.Lowered | None = None
    if same is None:
        lowered = function.lower(*arguments)
        same = _digest(lowered)
        if same is None:
            return _compiled(lowered, options)
    key = same, common
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    program = _compiled(lowered or function.lower(*arguments), options)
    with _lock:
        _kept[key] = program
        while len(_kept) > _MOST:
            _kept.popitem(last=False)
    return program


def forget_programs() -> None:
    """Let go of all compiled programs."""
    with _lock:
        _kept.clear()


def layout(arguments: Any) -> Hashable:
    """Return all of arguments that a program depends on: structure, shapes, types, devices."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple(
        (leaf.shape, str(leaf.dtype), *(getattr(leaf, name, None) for name in _PLACED))
        for leaf in leaves
    )


def lowered_digest(function: Any, *arguments: Any) -> str | None:
    """Trace a jitted function and return what its program is known by; None: by nothing.

    What the function closes over is in it. Of weights that are arguments only the layout is.
    """
    return _digest(function.lower(*arguments))


def _configured() -> Hashable:
    """Return the settings of JAX that change a program and can change while the process lives."""
    names = ("default_matmul_precision", "default_device", "enable_x64", "numpy_dtype_promotion")
    return tuple(getattr(jax.config, f"jax_{name}") for name in (*names, "default_prng_impl"))


def _digest(lowered: jax.stages.Lowered) -> str | None:
    text = lowered.as_text()
    # Python functions that a program calls back stand in its text by their address or number.
    return None if "callback" in text else hashlib.sha256(text.encode()).hexdigest()


def _compiled(lowered: jax.stages.Lowered, options: dict[str, str | bool]) -> Callable[..., Any]:
    program: Callable[..., Any] = lowered.compile(compiler_options=options)
    return program
