"""From a config to a finished run folder, resumable at any moment."""

from gaxjax.runs.arrays import attribute, explain
from gaxjax.runs.ax import explain_nothing_scored, run_ax
from gaxjax.runs.evaluate import baselines, evaluate_classifier
from gaxjax.runs.finetune import run_finetune
from gaxjax.runs.gax import explain_nothing_correct, run_gax
from gaxjax.runs.opening import open_classifier
from gaxjax.runs.shell import Engine, RunSummary
from gaxjax.runs.snapshots import describe_disk

__all__ = [
    "Engine",
    "RunSummary",
    "attribute",
    "baselines",
    "describe_disk",
    "evaluate_classifier",
    "explain",
    "explain_nothing_correct",
    "explain_nothing_scored",
    "open_classifier",
    "run_ax",
    "run_finetune",
    "run_gax",
]
