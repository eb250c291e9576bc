from .arrays import attribute, explain
from .ax import explain_nothing_scored, run_ax
from .evaluate import baselines, evaluate_classifier
from .finetune import run_finetune
from .gax import explain_nothing_correct, run_gax
from .opening import decoded_as_made_for, open_classifier, say_what_it_rests_on
from .robustness import measure_robustness
from .shell import Engine, RunSummary
from .snapshots import describe_disk

__all__ = [
    "Engine",
    "RunSummary",
    "attribute",
    "baselines",
    "decoded_as_made_for",
    "describe_disk",
    "evaluate_classifier",
    "explain",
    "explain_nothing_correct",
    "explain_nothing_scored",
    "measure_robustness",
    "open_classifier",
    "run_ax",
    "run_finetune",
    "run_gax",
    "say_what_it_rests_on",
]
