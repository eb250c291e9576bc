"""GAX: many images optimised at once in the slots of one compiled step."""

from gaxjax.gax.engine import GaxEngine, make_objective
from gaxjax.gax.heatmap import initial_weights
from gaxjax.gax.lane import adam
from gaxjax.gax.objective import Objective
from gaxjax.gax.program import Program
from gaxjax.gax.replay import Replay, Replayed, Watched
from gaxjax.gax.stats import EngineStats
from gaxjax.gax.toy import FIGURE_1_WINDOWS, FIGURE_6_WINDOWS, figure_table

__all__ = [
    "FIGURE_1_WINDOWS",
    "FIGURE_6_WINDOWS",
    "EngineStats",
    "GaxEngine",
    "Objective",
    "Program",
    "Replay",
    "Replayed",
    "Watched",
    "adam",
    "figure_table",
    "initial_weights",
    "make_objective",
]
