from .engine import AxEngine, ScoredBatch, ax_solutions, unreadable_solutions
from .objective import AxObjective, Explained
from .stats import BatchStats
from .suitable import suitable_methods, what_to_know

__all__ = [
    "AxEngine",
    "AxObjective",
    "BatchStats",
    "Explained",
    "ScoredBatch",
    "ax_solutions",
    "suitable_methods",
    "unreadable_solutions",
    "what_to_know",
]
