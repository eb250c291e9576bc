"""Heatmaps that raise an image classifier's confidence (GAX), ten thousand at a time.

Example:
    >>> import gaxjax
    >>> solutions = gaxjax.explain("model.ckpt", images, labels)
    >>> solutions.heatmap.shape, solutions.co_score.shape, solutions.steps.shape
    ((4, 16, 16, 3), (4,), (4,))
"""

from gaxjax.common.errors import UserError
from gaxjax.config.methods import AxConfig, GaxConfig
from gaxjax.config.runs import BatchConfig, EngineConfig
from gaxjax.gax.engine import GaxEngine
from gaxjax.models.checkpoint import load_classifier
from gaxjax.models.classifier import Classifier, as_classifier
from gaxjax.results.solution import Outcome, Solution, Solutions
from gaxjax.results.store import read_header, read_heatmaps, read_scores
from gaxjax.runs.arrays import attribute, explain

__all__ = [
    "AxConfig",
    "BatchConfig",
    "Classifier",
    "EngineConfig",
    "GaxConfig",
    "GaxEngine",
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
