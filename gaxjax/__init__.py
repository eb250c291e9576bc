"""Heatmaps that raise an image classifier's confidence (GAX), ten thousand at a time.

Example:
    >>> import gaxjax
    >>> solutions = gaxjax.explain("model.ckpt", images, labels)
    >>> solutions.heatmap.shape, solutions.co_score.shape, solutions.steps.shape
    ((4, 16, 16, 3), (4,), (4,))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaxjax import ops
    from gaxjax.ax import AxEngine
    from gaxjax.common import UserError
    from gaxjax.config import (
        AxConfig,
        AxRunConfig,
        BatchConfig,
        EngineConfig,
        GaxConfig,
        GaxRunConfig,
    )
    from gaxjax.gax import GaxEngine, Generator
    from gaxjax.models import Classifier, as_classifier, load_classifier
    from gaxjax.results import Outcome, Run, Solution, Solutions, open_run
    from gaxjax.runs import Engine, attribute, explain, run_ax, run_gax
    from gaxjax.score import co_score

__all__ = [
    "AxConfig",
    "AxEngine",
    "AxRunConfig",
    "BatchConfig",
    "Classifier",
    "Engine",
    "EngineConfig",
    "GaxConfig",
    "GaxEngine",
    "GaxRunConfig",
    "Generator",
    "Outcome",
    "Run",
    "Solution",
    "Solutions",
    "UserError",
    "as_classifier",
    "attribute",
    "co_score",
    "explain",
    "load_classifier",
    "open_run",
    "ops",
    "run_ax",
    "run_gax",
]

# Loaded when first asked for, so that importing gaxjax is quick: the room of each name.
_ROOMS = {
    "ax": ("AxEngine",),
    "common": ("UserError",),
    "config": (
        "AxConfig",
        "AxRunConfig",
        "BatchConfig",
        "EngineConfig",
        "GaxConfig",
        "GaxRunConfig",
    ),
    "gax": ("GaxEngine", "Generator"),
    "models": ("Classifier", "as_classifier", "load_classifier"),
    "results": ("Outcome", "Run", "Solution", "Solutions", "open_run"),
    "runs": ("Engine", "attribute", "explain", "run_ax", "run_gax"),
    "score": ("co_score",),
}


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("gaxjax.ops")
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(importlib.import_module(f"gaxjax.{room}"), name)
    raise AttributeError(f"module 'gaxjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
