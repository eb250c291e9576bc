from .engine import GaxEngine, make_objective
from .generator import Generator
from .heatmap import initial_weights
from .lane import optimizer
from .objective import Objective
from .program import Program
from .replay import Replay, Replayed, Watched
from .stats import EngineStats
from .toy import FIGURE_1_WINDOWS, FIGURE_6_WINDOWS, figure_table

__all__ = [
    "FIGURE_1_WINDOWS",
    "FIGURE_6_WINDOWS",
    "EngineStats",
    "GaxEngine",
    "Generator",
    "Objective",
    "Program",
    "Replay",
    "Replayed",
    "Watched",
    "figure_table",
    "initial_weights",
    "make_objective",
    "optimizer",
]
