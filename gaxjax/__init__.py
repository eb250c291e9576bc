"""Heatmaps that raise an image classifier's confidence (GAX), ten thousand at a time.

Example:
    >>> import gaxjax
    >>> solutions = gaxjax.explain("squeezenet.ckpt", images, labels)
    >>> solutions.co_score, solutions.steps, solutions.heatmap, solutions.outcome
"""

from gaxjax.classifier import Classifier, as_classifier, load_classifier
from gaxjax.config import AxConfig, BatchConfig, EngineConfig, GaxConfig
from gaxjax.engine import Engine
from gaxjax.errors import UserError
from gaxjax.explain import attribute, explain
from gaxjax.solution import Outcome, Solution, Solutions
from gaxjax.store import read_header, read_heatmaps, read_scores

__all__ = [
    "AxConfig",
    "BatchConfig",
    "Classifier",
    "Engine",
    "EngineConfig",
    "GaxConfig",
    "Outcome",
    "Solution",
    "Solutions",
    "UserError",
    "as_classifier",
    "attribute",
    "explain",
    "load_classifier",
    "read_header",
    "read_heatmaps",
    "read_scores",
]
