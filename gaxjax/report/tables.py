"""A run's statistics as tables for a terminal, and in words."""

import csv
import io
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gaxjax.results.evaluation import Evaluation
from gaxjax.results.statistics import (
    Effect,
    Gap,
    MethodStatistics,
    ScoreSummary,
    Statistics,
    direction,
)

__all__ = ["FORMATS", "render", "render_evaluation", "table_1", "verdict", "written"]


def verdict(statistics: Statistics) -> str:
    """Say which method separates correct from wrong predictions best, and how surely."""
    gaps = {method.name: method.gap for method in statistics.methods}
    scored = {
        method.name: (method.num_scored, method.effect.num_classified)
        for method in statistics.methods
    }
    if statistics.best is None:
        return "Nothing to separate: no method has differing scores of both kinds of predictions."
    best = gaps[statistics.best]
    text = f"{statistics.best} separates best: AUROC {_area(best)}"
    if direction(best) < 0:
        text += ", wrong predictions scoring higher"
    num_scored, num_classified = scored[statistics.best]
    if num_scored < num_classified:
        text += f", on the {num_scored:,} of {num_classified:,} images that it could score"
    if best.auroc_interval and best.auroc_interval[0] <= 0.5 <= best.auroc_interval[1]:
        text += "; the interval holds 0.5, so no separation is shown"
    versus = statistics.comparison
    if versus is None:
        return text + "."
    text += f". Next: {versus.second}, {_area(gaps[versus.second])}."
    if versus.difference is None:
        return text + " No images that both scored can compare the two."
    text += (
        f" On the {versus.num_correct + versus.num_wrong:,} images that both scored, the first has "
        f"{versus.difference:+.3f} of separation"
    )
    if versus.interval:
        text += " ({:+.3f} to {:+.3f})".format(*versus.interval)
    better = "the first separates better" if versus.told_apart else "which is better is open"
    return f"{text}: {better}."


def _area(gap: Gap) -> str:
    return _number(gap.auroc) + (f" ({_ends(gap)})" if gap.auroc_interval else " (no interval)")


def _ends(gap: Gap) -> str:
    return "{:.3f} to {:.3f}".format(*gap.auroc_interval) if gap.auroc_interval else "–"


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


_GAP_LEGEND = (
    "AUROC: probability that a correct prediction's CO score is above a wrong one's. AUROC after: "
    "with correct told by the prediction after. In class: AUROC over pairs of the same groundtruth "
    "class. Separation: |AUROC - 0.5|. d: Cohen's, in pooled "
    "standard deviations. KS: Kolmogorov-Smirnov distance and its p. –: undefined; an interval is "
    "with fewer than 2 images of a kind, or where no resample differs.\n"
)
_SCORE_LEGEND = (
    "Correct, wrong: by the prediction of the plain image. CO scores in logits, of the images that "
    "have a finite one; > 0 and ≤ 10 are shares of these."
)
_EFFECT_LEGEND = (
    "Of the images with a plain prediction; one without a finite score counts as unchanged. W→R: "
    "from wrong to right. Probability: mean softmax at the right class."
)
_OUTCOME_LEGEND = "Every image has one outcome."
_STEPS_LEGEND = "Updates behind the heatmaps whose verified score is at least the target."


def render(statistics: Statistics) -> list[Table]:
    """Return tables that fit 120 columns: gap, scores, effect, outcomes; a GAX run's updates.

    The best method is bold; the verdict stands under the first table.

    Example:
        >>> from gaxjax.results.statistics import run_statistics
        >>> [table.title for table in render(run_statistics(gaxjax.read_scores("ax-run")))]
    """
    interval = f"{100 * statistics.resampling.confidence:g}% interval"
    outcomes = sorted({outcome for method in statistics.methods for outcome in method.outcomes})
    gaps = _table(
        "Gap between the CO scores of correct and wrong predictions",
        [
            "correct",
            "wrong",
            "AUROC",
            interval,
            "separation",
            "d",
            "KS",
            "KS p",
            "AUROC\nafter",
            "in\nclass",
        ],
        _GAP_LEGEND + verdict(statistics),
    )
    scores = _table(
        "CO scores",
        ["prediction", "images", "min", "25%", "median", "75%", "max", "mean", "> 0", "≤ 10"],
        _SCORE_LEGEND,
    )
    effects = _table(
        "Classification before and after",
        [
            *("images", "accuracy\nbefore", "\nafter", "changed", "W→R", "R→W"),
            *("probability\nbefore", "\nafter"),
        ],
        _EFFECT_LEGEND,
    )
    counts = _table(
        "Images by outcome",
        ["all", *(outcome.replace("_", "\n") for outcome in outcomes)],
        _OUTCOME_LEGEND,
    )
    steps = _table("Updates", ["images", "25%", "median", "75%", "max"], _STEPS_LEGEND)
    for method in statistics.methods:
        name = Text(method.name, style="bold" if method.name == statistics.best else "")
        gaps.add_row(name, *_gap_cells(method))
        kinds = zip(_score_cells(method.correct), _score_cells(method.wrong), strict=True)
        scores.add_row(name, "correct\nwrong", *map("\n".join, kinds))
        effects.add_row(name, *_effect_cells(method.effect))
        numbers = method.num_images, *(method.outcomes.get(outcome, 0) for outcome in outcomes)
        counts.add_row(name, *(f"{number:,}" for number in numbers))
        if method.steps:
            steps.add_row(name, *(f"{value:,g}" for value in vars(method.steps).values()))
    return [gaps, scores, effects, counts, *([steps] if steps.row_count else [])]


def _table(title: str, columns: list[str], legend: str) -> Table:
    # Text throughout, since rich takes "[sum]" in a plain string for a style.
    table = Table(
        title=Text(title, "bold"),
        caption=Text(legend + "\n"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column(Text("method [operation]"), overflow="fold")
    for column in columns:
        words = column == "prediction"
        table.add_column(Text(column), justify="left" if words else "right", no_wrap=True)
    return table


def _score_cells(summary: ScoreSummary) -> list[str]:
    count, *figures, above, at_most = vars(summary).values()
    cells = [_number(value, ".2f" if abs(value or 0) < 1e5 else ".1e") for value in figures]
    return [f"{count:,}", *cells, _number(above, ".1%"), _number(at_most, ".1%")]


def _gap_cells(method: MethodStatistics) -> list[str]:
    gap = method.gap
    tiny = gap.ks_p_value is not None and gap.ks_p_value < 0.001
    return [
        f"{method.correct.count:,}",
        f"{method.wrong.count:,}",
        _number(gap.auroc),
        _ends(gap),
        _number(gap.separation),
        _number(gap.cohens_d, ".2f"),
        _number(gap.ks_distance),
        "<0.001" if tiny else _number(gap.ks_p_value),
        _number(gap.auroc_by_prediction_after),
        _number(gap.auroc_within_classes),
    ]


def _effect_cells(effect: Effect) -> list[str]:
    return [
        f"{effect.num_classified:,}",
        _number(effect.accuracy_before, ".1%"),
        _number(effect.accuracy_after, ".1%"),
        f"{effect.num_changed:,}",
        f"{effect.num_wrong_to_right:,}",
        f"{effect.num_right_to_wrong:,}",
        _number(effect.probability_before),
        _number(effect.probability_after),
    ]


FORMATS = (".md", ".tex", ".csv")
"""Endings of the files that `written` writes."""


def table_1(result: Evaluation, validation_accuracy: float | None) -> dict[str, float | None]:
    """Return Table 1's figures of a classifier with two classes, and AUROC; None: undefined."""
    figures = {"accuracy": result.accuracy, **result.binary()}
    figures["AUROC"] = figures.pop("auroc")
    return figures | {"val. acc.": validation_accuracy}


def render_evaluation(
    result: Evaluation, names: Sequence[str], validation_accuracy: float | None
) -> list[Table]:
    """Return Table 1's row, with AUROC, and the confusion matrix.

    Args:
        result: of a classifier with two classes.
        names: of the classes, the positive one second.
        validation_accuracy: in [0, 1], where it is known.
    """
    names = [escape(name) for name in names]
    figures = table_1(result, validation_accuracy)
    table = Table(title=f"Positive: {names[1]}", title_justify="left")
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*map(_rounded, figures.values()))
    confusion = Table(title="Images", title_justify="left")
    confusion.add_column("label")
    for name in names:
        confusion.add_column(f"predicted {name}", justify="right")
    for name, row in zip(names, result.confusion.tolist(), strict=True):
        confusion.add_row(name, *map(str, row))
    return [table, confusion]


def written(figures: dict[str, float | None], model: str, ending: str) -> str:
    """Return Table 1 as a file's text.

    Args:
        figures: from `table_1`.
        model: what its row is called.
        ending: `.md`, `.tex` (a booktabs tabular) or `.csv` (figures unrounded).

    Example:
        >>> print(written({"accuracy": 0.8, "recall": None}, "resnet34", ".md"), end="")
        | model | accuracy | recall |
        | --- | ---: | ---: |
        | resnet34 | 0.800 | – |
    """
    if ending == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", *figures])
        writer.writerow([model, *figures.values()])
        return text.getvalue()
    cells = [model, *map(_rounded, figures.values())]
    if ending == ".md":
        cells = [cell.replace("|", "\\|") for cell in cells]
        lines = [["model", *figures], ["---", *["---:"] * len(figures)], cells]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    assert ending == ".tex", ending
    cells = ["".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells]
    return (
        f"\\begin{{tabular}}{{l{'r' * len(figures)}}}\n\\toprule\n"
        f"{' & '.join(['model', *figures])} \\\\\n\\midrule\n"
        f"{' & '.join(cells)} \\\\\n\\bottomrule\n\\end{{tabular}}\n"
    )


_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\\": "\\textbackslash{}",
    "–": "--",
}


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
