"""The existing attribution methods (AX) natively in JAX, batched and scored."""

from gaxjax.ax.engine import AxEngine, ScoredBatch, ax_solutions, unreadable_solutions
from gaxjax.ax.objective import AxObjective, Explained
from gaxjax.ax.stats import BatchStats

__all__ = [
    "AxEngine",
    "AxObjective",
    "BatchStats",
    "Explained",
    "ScoredBatch",
    "ax_solutions",
    "unreadable_solutions",
]
