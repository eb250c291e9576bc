from .captum_engine import CaptumEngine
from .gax import ReferenceResult, reference_gax
from .torch_classifier import open_torch_classifier
from .verify import verify_run

__all__ = [
    "CaptumEngine",
    "ReferenceResult",
    "open_torch_classifier",
    "reference_gax",
    "verify_run",
]
