"""A run's statistics and a classifier's Table 1 as tables, and what they say in words."""

from collections.abc import Iterable, Sequence

from gaxjax.common import Column, Strong, Table, to_csv
from gaxjax.results import (
    Effect,
    Evaluation,
    Gap,
    MethodStatistics,
    ScoreSummary,
    Statistics,
    SweepSummary,
)

__all__ = [
    "TABLE_1_FORMATS",
    "evaluation_tables",
    "statistics_tables",
    "sweep_table",
    "table_1",
    "table_1_text",
    "verdict",
]


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
    if best.direction < 0:
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
    "with fewer than 2 images of a kind, or where no resample differs."
)
_SCORE_LEGEND = (
    "Correct, wrong: by the prediction of the plain image. CO scores in logits (of a run with "
    "--score softmax in probability), of the images that have a finite one; > 0 and ≤ 10 are "
    "shares of these."
)
_EFFECT_LEGEND = (
    "Of the images with a plain prediction; one without a finite score counts as unchanged. W→R: "
    "from wrong to right. Probability: mean softmax at the right class."
)
_OUTCOME_LEGEND = "Every image has one outcome."
_STEPS_LEGEND = "Updates behind the heatmaps whose verified score is at least the target."

_COMPLETENESS_LEGEND = (
    "How far DeepLift's attributions are from summing to the rise of the predicted class's logit "
    "over the baseline image's: |Σ attribution - rise| / |rise|."
)


def statistics_tables(statistics: Statistics) -> list[Table]:
    """Return tables that fit 120 columns: gap, scores, effect, outcomes; updates, completeness.

    The best method is strong; the first table's notes are its legend and the verdict.

    Example:
        >>> Console(width=120).print(*statistics_tables(run.statistics))  # doctest: +SKIP
    """
    methods = statistics.methods
    named = [(Strong(m.name) if m.name == statistics.best else m.name, m) for m in methods]
    interval = f"{100 * statistics.resampling.confidence:g}% interval"
    outcomes = sorted({outcome for method in methods for outcome in method.outcomes})
    gaps = _table(
        "Gap between the CO scores of correct and wrong predictions",
        [
            *("correct", "wrong", "AUROC", interval, "separation", "d", "KS", "KS p"),
            *("AUROC\nafter", "in\nclass"),
        ],
        [(name, *_gap_cells(m)) for name, m in named],
        (_GAP_LEGEND, verdict(statistics)),
    )
    scores = _table(
        "CO scores",
        ["prediction", "images", "min", "25%", "median", "75%", "max", "mean", "> 0", "≤ 10"],
        [(name, *_both_kinds(m)) for name, m in named],
        (_SCORE_LEGEND,),
    )
    effects = _table(
        "Classification before and after",
        [
            *("images", "accuracy\nbefore", "\nafter", "changed", "W→R", "R→W"),
            *("probability\nbefore", "\nafter"),
        ],
        [(name, *_effect_cells(m.effect)) for name, m in named],
        (_EFFECT_LEGEND,),
    )
    counts = _table(
        "Images by outcome",
        ["all", *(outcome.replace("_", "\n") for outcome in outcomes)],
        [
            (name, *(f"{n:,}" for n in (m.num_images, *(m.outcomes.get(o, 0) for o in outcomes))))
            for name, m in named
        ],
        (_OUTCOME_LEGEND,),
    )
    steps = _table(
        "Updates",
        ["images", "25%", "median", "75%", "max"],
        [
            (name, *(f"{value:,g}" for value in vars(m.steps).values()))
            for name, m in named
            if m.steps
        ],
        (_STEPS_LEGEND,),
    )
    completeness = _table(
        "Completeness gap of DeepLift",
        ["images", "median", "max"],
        [
            (
                name,
                f"{m.completeness.count:,}",
                f"{m.completeness.median:.2g}",
                f"{m.completeness.maximum:.2g}",
            )
            for name, m in named
            if m.completeness
        ],
        (_COMPLETENESS_LEGEND,),
    )
    return [gaps, scores, effects, counts, *(t for t in (steps, completeness) if t.rows)]


_SWEEP_LEGEND = (
    "Reached: of the images that were optimised. Updates: of those that reached the target; all: "
    "the mean over all, however they ended. Gained: probability of the right class after, less "
    "before, in the mean. Distance: mean((h - x + ε)² / (x + ε)) between heatmap and image, the "
    "median. Seconds: an image, of the time of all, which ran side by side, shared by image-steps."
)
_QUANTILES = ("lower_quartile", "median", "upper_quartile", "maximum")


def sweep_table(sweep: SweepSummary) -> Table:
    """Return the settings of a sweep with what each came to; the recommended ones are strong."""
    fields = tuple(sweep.settings[0].values)
    names = ("images", "reached", "updates\n25%", "\nmedian", "\n75%", "\nmax", "\nall")
    columns = (
        *(Column(name.replace("_", "\n")) for name in fields),
        *map(Column, (*names, "gained", "distance", "seconds")),
    )
    rows = []
    for one in sweep.settings:
        words = [str(value).removesuffix(".0") for value in one.values.values()]
        if one.setting in sweep.recommended:
            words = [Strong(word) for word in words]
        known = [getattr(one.steps, name, None) for name in _QUANTILES]
        updates = [_number(None if each is None else float(each), ",g") for each in known]
        rows.append(
            (
                *words,
                f"{one.num_optimised:,}",
                _number(one.share_reached, ".1%"),
                *updates,
                _number(one.mean_updates, ",.1f"),
                _number(one.probability_gained),
                _number(one.distance),
                _number(one.seconds, ",.2f"),
            )
        )
    return Table(columns, tuple(rows), "Settings of the sweep", (_SWEEP_LEGEND, sweep.why))


def _table(
    title: str, columns: list[str], rows: Iterable[tuple[str, ...]], notes: tuple[str, ...]
) -> Table:
    first = Column("method [operation]", "left", wraps=True)
    others = (Column(name, "left" if name == "prediction" else "right") for name in columns)
    return Table((first, *others), tuple(rows), title, notes)


def _both_kinds(method: MethodStatistics) -> list[str]:
    kinds = zip(_score_cells(method.correct), _score_cells(method.wrong), strict=True)
    return ["correct\nwrong", *map("\n".join, kinds)]


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


# --- Table 1 -------------------------------------------------------------------------------------

TABLE_1_FORMATS = (".md", ".tex", ".csv")
"""Endings of the files that `table_1_text` is for."""


def table_1(result: Evaluation, validation_accuracy: float | None) -> dict[str, float | None]:
    """Return Table 1's figures of a classifier with two classes, and AUROC; None: undefined."""
    figures = {"accuracy": result.accuracy, **result.binary()}
    figures["AUROC"] = figures.pop("auroc")
    return figures | {"val. acc.": validation_accuracy}


def evaluation_tables(
    result: Evaluation, names: Sequence[str], validation_accuracy: float | None
) -> list[Table]:
    """Return Table 1's row, with AUROC, and the confusion matrix.

    Args:
        result: of a classifier with two classes.
        names: of the classes, the positive one second.
        validation_accuracy: in [0, 1], where it is known.
    """
    figures = table_1(result, validation_accuracy)
    predicted = [Column(f"predicted {name}", wraps=True) for name in names]
    return [
        Table(
            tuple(Column(name, wraps=True) for name in figures),
            (tuple(map(_number, figures.values())),),
            f"Positive: {names[1]}",
            framed=True,
        ),
        Table(
            (Column("label", "left", wraps=True), *predicted),
            tuple(
                (name, *map(str, counts))
                for name, counts in zip(names, result.confusion.tolist(), strict=True)
            ),
            "Images",
            framed=True,
        ),
    ]


def table_1_text(figures: dict[str, float | None], model: str, ending: str) -> str:
    """Return Table 1 as a file's text.

    Args:
        figures: from `table_1`.
        model: what its row is called.
        ending: `.md`, `.tex` (a booktabs tabular) or `.csv` (figures unrounded).

    Example:
        >>> print(table_1_text({"accuracy": 0.8, "recall": None}, "resnet34", ".md"), end="")
        | model | accuracy | recall |
        | --- | ---: | ---: |
        | resnet34 | 0.800 | – |
    """
    if ending == ".csv":
        return to_csv({"model": [model]} | {name: [value] for name, value in figures.items()})
    columns = (Column("model", "left"), *map(Column, figures))
    table = Table(columns, ((model, *map(_number, figures.values())),))
    return {".md": table.to_markdown, ".tex": table.to_latex}[ending]()
