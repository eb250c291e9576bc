from .engine import AxEngine, ScoredBatch, ax_solutions, unreadable_solutions
from .feature_maps import feature_map
from .graph_layers import first_convolution_of, softmax_modules
from .objective import AxObjective, AxScored, Explained
from .stats import BatchStats
from .suitable import suitable_methods, what_to_know

__all__ = [
    "AxEngine",
    "AxObjective",
    "AxScored",
    "BatchStats",
    "Explained",
    "ScoredBatch",
    "ax_solutions",
    "feature_map",
    "first_convolution_of",
    "softmax_modules",
    "suitable_methods",
    "unreadable_solutions",
    "what_to_know",
]
