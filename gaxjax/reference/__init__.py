"""The torch path, kept plain on purpose: the yardstick that the JAX path is held to."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaxjax.reference.captum_engine import CaptumEngine
    from gaxjax.reference.gax import ReferenceResult, reference_gax
    from gaxjax.reference.torch_classifier import open_torch_classifier
    from gaxjax.reference.verify import verify_run

__all__ = [
    "CaptumEngine",
    "ReferenceResult",
    "open_torch_classifier",
    "reference_gax",
    "verify_run",
]

# Some of them need Captum, and who does not ask for those needs none.
_HOMES = {
    "CaptumEngine": "captum_engine",
    "ReferenceResult": "gax",
    "open_torch_classifier": "torch_classifier",
    "reference_gax": "gax",
    "verify_run": "verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
