"""Unpickling without running anything: of its classes only tensors and dictionaries are real.

Torch's own `weights_only` refuses a file as soon as it names another class, be it an
`argparse.Namespace` beside the weights. Here every such class becomes a placeholder, which is never
imported, does nothing when it is called, and remembers its name.
"""

import collections
import pickle
from types import SimpleNamespace
from typing import Any

import torch

from gaxjax.common import UserError

__all__ = ["Stranger", "as_pickle_module", "class_name"]

_DANGEROUS_MODULES = (
    *("os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "runpy"),
    *("importlib", "pty", "ctypes", "webbrowser", "commands"),
)
_DANGEROUS_BUILTINS = ("eval", "exec", "execfile", "compile", "open", "__import__")
"""What no checkpoint of an honest training names."""


class Stranger:
    """Something of a class that was not looked up: it takes whatever a pickle does to it."""

    origin = ""
    dump_patches = False  # asked for by torch's oldest pickles of whole modules

    def __new__(cls, *_: Any, **__: Any) -> "Stranger":
        """Take any arguments, and look at none."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def _ignore(self, *_: Any, **__: Any) -> Any:
        return self

    __call__ = __setitem__ = __setstate__ = add = append = extend = update = _ignore


def class_name(value: object) -> str:
    """Return what a value is, for people: of a stranger the name that the file gives its class."""
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, Stranger):
        return kind.origin
    if kind.__module__ in ("builtins", "collections"):
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def as_pickle_module() -> Any:
    """Return what `torch.load` takes for its `pickle_module`."""

    class Unpickler(pickle.Unpickler):
        """Python's, but for the classes."""

        def find_class(self, module: str, name: str) -> Any:
            """Return a class of torch's tensors, or a stranger in its place; nothing is imported.

            Raises:
                UserError: it is what no checkpoint of an honest training names.
            """
            full = f"{module}.{name}"
            if full in ("collections.OrderedDict", "torch.Size"):  # in C: a pickle cannot alter it
                return getattr({"collections": collections, "torch": torch}[module], name)
            if module == "torch._utils" and name in _REBUILT:
                return _own(_REBUILT[name])
            if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
                return getattr(torch, name)
            top = module.partition(".")[0]
            in_builtins = top in ("builtins", "__builtin__") and name in _DANGEROUS_BUILTINS
            if top in _DANGEROUS_MODULES or in_builtins:
                raise UserError(
                    f"it would run {full} on loading, as an attack does: do not load it"
                )
            return type("Stranger", (Stranger,), {"origin": full})

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(Unpickler=Unpickler, load=load, __name__="inert_pickle")


def _own(function: Any) -> Any:
    """A function of this load alone: what a pickle writes into it ends with it."""

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


def _parameter(data: Any, *_: Any) -> Any:
    return data


_REBUILT = {
    name: getattr(torch._utils, name)
    for name in (
        "_rebuild_tensor",
        "_rebuild_tensor_v2",
        "_rebuild_qtensor",
        "_rebuild_sparse_tensor",
        "_rebuild_meta_tensor_no_storage",
    )
} | {"_rebuild_parameter": _parameter, "_rebuild_parameter_with_state": _parameter}
