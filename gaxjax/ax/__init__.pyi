from .engine import AxEngine, ScoredBatch, ax_solutions, unreadable_solutions
from .objective import AxObjective, Explained
from .stats import BatchStats

__all__ = [
    "AxEngine",
    "AxObjective",
    "BatchStats",
    "Explained",
    "ScoredBatch",
    "ax_solutions",
    "unreadable_solutions",
]
