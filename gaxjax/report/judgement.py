"""An indicator's fit and judgement as tables, and who won, said plainly."""

from gaxjax.common import Column, Strong, Table, counted
from gaxjax.results import MEASURES, SCORERS, TITLES, Difference, Indicator, Judgement, Measure

__all__ = ["fit_tables", "judgement_tables", "judgement_words", "title_of_scorer"]

_FEW = 20

_DIRECTIONS = {1: "right higher", -1: "wrong higher"}

_FIT_NOTE = (
    "By the score for the prediction, no label in it; AUROC in the better direction, an image "
    "without a score counted as the least sure. The best of several flatters itself here: judge it "
    "on other images by gaxjax indicator apply."
)
_THRESHOLD_NOTE = (
    "What is at least the threshold is accepted; coverage and error are of the images fitted on. "
    "–: no threshold keeps to the error."
)
_MEASURES_NOTE = (
    "AUROC: probability that a right prediction is above a wrong one. AUPR: of errors, looked for "
    "from the lowest up. FPR: share of errors accepted where 95% of the right are. AURC: mean "
    "error over all coverages. Accepted: at the threshold that was fitted, and the errors among "
    "them. Below each figure its {confidence:g}% interval: bootstrap over images, Wilson's of "
    "errors."
)
_DIFFERENCES_NOTE = (
    "A higher AUROC and a lower AURC are better. Each resample draws the same images for both; "
    "where the interval holds 0 the two are not told apart."
)


def title_of_scorer(name: str, indicator: Indicator) -> str:
    """Name one of `SCORERS` as people read it, the indicator with its method."""
    title = TITLES[name]
    return f"{title}: {indicator.chosen.name}" if name == "indicator" else title


# --- Fitted --------------------------------------------------------------------------------------


def fit_tables(indicator: Indicator) -> list[Table]:
    """Return tables of all candidates and of the thresholds, on the images fitted on."""
    right = len(indicator.images) - indicator.num_wrong
    notes = [_FIT_NOTE]
    if min(right, indicator.num_wrong) < _FEW:
        notes.append(f"Only {right:,} right and {indicator.num_wrong:,} wrong: the choice is weak.")
    candidates = Table(
        (
            Column("method [operation]", "left", wraps=True),
            Column("direction", "left"),
            Column("AUROC"),
            Column("images\nwith a score"),
        ),
        tuple(
            (
                Strong(each.name) if each == indicator.chosen else each.name,
                _DIRECTIONS[each.direction],
                f"{each.auroc:.3f}",
                f"{each.num_scored:,}",
            )
            for each in indicator.candidates
        ),
        f"Fitted on {right:,} right and {indicator.num_wrong:,} wrong predictions",
        tuple(notes),
    )
    [(kind, value)] = indicator.wanted.items()
    thresholds = Table(
        (
            Column("told by", "left", wraps=True),
            *map(Column, ("AUROC", "AURC", "threshold", "coverage", "error")),
        ),
        tuple(
            (
                title_of_scorer(name, indicator),
                f"{fit.auroc:.3f}",
                f"{fit.aurc:.3f}",
                _number(fit.threshold, ".4g"),
                f"{fit.coverage:.1%}",
                _number(fit.error, ".1%"),
            )
            for name, fit in indicator.fits.items()
        ),
        f"Thresholds for {'a coverage' if kind == 'coverage' else 'an error'} of {value:g}",
        (_THRESHOLD_NOTE,),
    )
    return [candidates, thresholds]


# --- Judged --------------------------------------------------------------------------------------


def judgement_tables(judgement: Judgement) -> list[Table]:
    """Return the table of all scorers, and of what ours are above each baseline."""
    names = ("AUROC", "AUPR of\nerrors", "FPR at\n95% TPR", "AURC")
    best = max(
        (name for name in SCORERS if judgement.measures),
        key=lambda name: judgement.measures[name]["auroc"].value or 0,
        default=None,
    )
    rows = []
    for name in SCORERS:
        title = title_of_scorer(name, judgement.indicator)
        accepted = judgement.accepted[name]
        found = judgement.measures.get(name, {})
        share = accepted.num_accepted / len(judgement.images)
        rows.append(
            (
                Strong(title) if name == best else title,
                *(_measured(found.get(measure)) for measure in MEASURES),
                f"{accepted.num_accepted:,}\n{share:.1%}",
                f"{_number(accepted.error, '.1%')}\n{_ends(accepted.error_interval, '.1%')}",
            )
        )
    num_wrong = judgement.num_wrong
    kinds = (
        f"{len(judgement.images):,} images without labels"
        if num_wrong is None
        else f"{len(judgement.images) - num_wrong:,} right and {num_wrong:,} wrong predictions"
    )
    note = _MEASURES_NOTE.format(confidence=100 * judgement.resampling.confidence)
    columns = (*names, "accepted", "errors\namong them")
    tables = [
        Table(
            (Column("told by", "left", wraps=True), *map(Column, columns)),
            tuple(rows),
            f"Judged on {kinds}",
            (note,),
        )
    ]
    if judgement.differences:
        tables.append(_differences(judgement))
    return tables


def _differences(judgement: Judgement) -> Table:
    rows = []
    for ours, others in judgement.differences.items():
        for name, found in others.items():
            cells = (cell for key in ("auroc", "aurc") for cell in _difference(found[key]))
            rows.append((TITLES[ours], TITLES[name], *cells))
    columns = ("AUROC", "interval", "", "AURC", "interval", "")
    return Table(
        (Column("told by", "left", wraps=True), Column("less", "left"), *map(Column, columns)),
        tuple(rows),
        "Ours less the baselines",
        (_DIFFERENCES_NOTE,),
    )


def _difference(found: Difference) -> tuple[str, str, str]:
    return _number(found.value, "+.3f"), _ends(found.interval, "+.3f"), _said(found)


def _said(found: Difference) -> str:
    return {True: "better", False: "worse", None: "not told apart"}[found.better]


def judgement_words(judgement: Judgement) -> tuple[str, ...]:
    """Say who won, and what else is to be known."""
    count, num_wrong = len(judgement.images), judgement.num_wrong
    accepted = judgement.accepted["indicator"].num_accepted
    said = [f"The indicator accepts {accepted:,} of {counted(count, 'image')}."]
    if num_wrong is None:
        said.append("Without labels nothing is judged.")
    elif not judgement.has_both_kinds:
        kind = "wrong" if num_wrong else "right"
        said.append(f"Nothing to tell apart: all {count:,} predictions are {kind}.")
    else:
        ours = [_sentence(judgement, name) for name in judgement.differences]
        said = [_winner(judgement), *ours, *said]
        if min(num_wrong, count - num_wrong) < _FEW:
            said.append(
                f"Only {count - num_wrong:,} right and {num_wrong:,} wrong: few to judge by."
            )
    unscored = sum(1 for reason in judgement.verdicts()["reason"] if reason == "no score")
    if unscored:
        said.append(f"{counted(unscored, 'image')} without a score counted as the least sure.")
    if judgement.images.unreadable:
        said.append(f"{counted(len(judgement.images.unreadable), 'image')} could not be read.")
    if judgement.num_left_out:
        left_out = counted(judgement.num_left_out, "image")
        said.append(f"Left out: {left_out} of the run that it was fitted on.")
    return tuple(said)


def _winner(judgement: Judgement) -> str:
    baseline = TITLES[judgement.indicator.best_baseline]
    alone, together = (_outcome(judgement, name) for name in ("indicator", "together"))
    if alone == "better":
        return f"The indicator wins: it tells right from wrong better than {baseline}."
    if together == "better":
        return (
            f"Together they win: indicator and maximum softmax tell right from wrong better than "
            f"{baseline}; the indicator alone is {alone}."
        )
    if alone == "worse":
        more = {
            "worse": ", and makes the maximum softmax worse",
            "not told apart": ", and what it adds to the maximum softmax is not told from nothing",
        }.get(together, "")
        name = f"{baseline[0].upper()}{baseline[1:]}"
        return f"{name} wins: the indicator tells right from wrong worse{more}."
    return (
        f"No winner: indicator and {baseline} are {alone} on these "
        f"{len(judgement.images):,} images."
    )


def _outcome(judgement: Judgement, ours: str) -> str:
    """Say how one of ours stands against the baseline that was best where it was fitted."""
    found = judgement.differences[ours][judgement.indicator.best_baseline]
    sides = {found[measure].better for measure in ("auroc", "aurc")} - {None}
    if len(sides) == 2:
        return "better by one figure and worse by the other"
    return {True: "better", False: "worse", None: "not told apart"}[next(iter(sides), None)]


def _sentence(judgement: Judgement, ours: str) -> str:
    baseline = judgement.indicator.best_baseline
    parts = []
    for measure in ("auroc", "aurc"):
        mine, other = (judgement.measures[name][measure] for name in (ours, baseline))
        found = judgement.differences[ours][baseline][measure]
        parts.append(
            f"{measure.upper()} {_number(mine.value)} against {_number(other.value)}, "
            f"{_number(found.value, '+.3f')} ({_ends(found.interval, '+.3f')}): {_said(found)}"
        )
    title = title_of_scorer(ours, judgement.indicator)
    return (
        f"{title[0].upper()}{title[1:]}, against {TITLES[baseline]}, the best baseline where it "
        f"was fitted: {'; '.join(parts)}."
    )


def _measured(found: Measure | None) -> str:
    if found is None:
        return "–"
    return f"{_number(found.value)}\n{_ends(found.interval, '.3f')}"


def _ends(interval: tuple[float, float] | None, form: str) -> str:
    return "–" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
