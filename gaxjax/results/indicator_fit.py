"""Fits an indicator: which method, which direction, which threshold, on labelled images alone."""

import math

import numpy as np
from jaxtyping import Bool, Float

from gaxjax.common import UserError, counted
from gaxjax.results.indicator import (
    SCORERS,
    TITLES,
    Candidate,
    Fit,
    Indicator,
    Together,
    versions,
)
from gaxjax.results.label_free import (
    BASELINES,
    LabelFree,
    label_free,
    ranked,
    what_it_was_made_by,
)
from gaxjax.results.selective import measures
from gaxjax.results.stored_run import Run

__all__ = ["fit_indicator"]

_COVERAGE = 0.8


def fit_indicator(
    run: Run,
    *,
    coverage: float | None = None,
    error: float | None = None,
    split: float | None = None,
    seed: int = 0,
) -> Indicator:
    """Pick what tells right from wrong predictions best, and a threshold.

    Args:
        run: of `gaxjax ax`, on labelled validation images.
        coverage: share of the images to accept, in (0, 1]; 0.8 when neither is given.
        error: accept as many as keep the share of errors among them at most this, in [0, 1).
        split: fit on this share of the images, drawn at random, and leave the others to be judged.
        seed: of the draw.

    Raises:
        UserError: a GAX run, one of before the scores were stored, too few right or wrong
            predictions, or an impossible setting.

    Example:
        >>> fit_indicator(gaxjax.open_run("ax-run"), split=0.5).chosen.name  # doctest: +SKIP
        'saliency [sum]'
    """
    wanted = _wanted(coverage, error)
    images, drawn = _drawn(label_free(run), split, seed)
    right = images.right
    num_wrong = int((~right).sum())
    if min(num_wrong, len(images) - num_wrong) < 2:
        raise UserError(
            f"{run.path}: {counted(len(images) - num_wrong, 'right prediction')} and {num_wrong} "
            "wrong to fit on; an indicator wants at least 2 of each: give more images"
        )
    candidates = _candidates(images)
    if not candidates[0].num_scored:
        raise UserError(f"{run.path} has no image with a CO score: see its outcomes")
    chosen = candidates[0]
    indicator = ranked(images.scores[chosen.key], chosen.direction)
    together = _together(indicator, images.baselines["max_probability"], right)
    scores = {
        "indicator": indicator,
        "together": together.of(indicator, images.baselines["max_probability"]),
        **{name: ranked(images.baselines[name], sign) for name, sign in BASELINES.items()},
    }
    fits = {name: _fit(scores[name], right, wanted) for name in SCORERS}
    if fits["indicator"].threshold is None:
        raise UserError(_out_of_reach(scores["indicator"], right, wanted["error"], chosen))
    header = run.header
    return Indicator(
        chosen=chosen,
        candidates=tuple(candidates),
        together=together,
        fits=fits,
        best_baseline=max(BASELINES, key=lambda name: fits[name].auroc),  # the first of equals
        wanted=wanted,
        made_by=what_it_was_made_by(run),
        run=str(run.path),
        data=header["data"]["name"],
        data_fingerprint=header["data"]["fingerprint"],
        model=header["model"]["name"],
        split=drawn,
        images=tuple(zip(images.image_ids, images.sizes, strict=True)),
        num_wrong=num_wrong,
        versions=versions(),
    )


def _wanted(coverage: float | None, error: float | None) -> dict[str, float]:
    if coverage is not None and error is not None:
        raise UserError("--coverage and --error are both given: choose one, the other follows")
    if error is not None:
        if not 0 <= error < 1:
            raise UserError(f"--error must be at least 0 and below 1; got {error}")
        return {"error": error}
    coverage = _COVERAGE if coverage is None else coverage
    if not 0 < coverage <= 1:
        raise UserError(f"--coverage must be above 0 and at most 1; got {coverage}")
    return {"coverage": coverage}


def _drawn(
    images: LabelFree, split: float | None, seed: int
) -> tuple[LabelFree, dict[str, float] | None]:
    """Return the images to fit on: all of them, or a share drawn at random."""
    if split is None:
        return images, None
    if not 0 < split < 1:
        raise UserError(f"--split must be between 0 and 1; got {split}")
    if seed < 0:
        raise UserError(f"--seed must be at least 0; got {seed}")
    order = np.random.default_rng(seed).permutation(len(images))
    kept = np.zeros(len(images), bool)
    kept[order[: round(split * len(images))]] = True
    return images.only(kept), {"share": split, "seed": seed}


def _candidates(images: LabelFree) -> list[Candidate]:
    """Return all methods in their better direction, the best first, of equals in their order."""
    right, found = images.right, []
    for key, values in images.scores.items():
        # An image without a score is refused either way, so the two do not add up to 1.
        areas = {sign: float(measures(ranked(values, sign), right)["auroc"][0]) for sign in (1, -1)}
        direction = max(areas, key=lambda sign: areas[sign])
        scored = int(np.isfinite(values).sum())
        found.append(Candidate(*key, direction, areas[direction], scored))
    return sorted(found, key=lambda candidate: -candidate.auroc)


def _together(
    indicator: Float[np.ndarray, " N"],
    max_probability: Float[np.ndarray, " N"],
    right: Bool[np.ndarray, " N"],
) -> Together:
    from sklearn.linear_model import LogisticRegression  # a second to import
    from sklearn.preprocessing import StandardScaler

    lowest = float(indicator[np.isfinite(indicator)].min())
    usable = np.isfinite(max_probability)
    numbers = np.stack([np.maximum(indicator, lowest), max_probability], axis=1)[usable]
    if len(set(right[usable].tolist())) < 2:
        raise UserError("no right or no wrong predictions with finite logits to fit on")
    scaler = StandardScaler().fit(numbers)
    model = LogisticRegression().fit(scaler.transform(numbers), right[usable])
    first, second = model.coef_[0].tolist()
    means, scales = scaler.mean_.tolist(), scaler.scale_.tolist()
    return Together(
        (means[0], means[1]),
        (scales[0], scales[1]),
        (first, second),
        float(model.intercept_[0]),
        lowest,
    )


# --- Thresholds ----------------------------------------------------------------------------------


def _fit(
    score: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], wanted: dict[str, float]
) -> Fit:
    found = measures(score, right)
    threshold = _threshold(score, right, wanted)
    accepted = score >= (math.inf if threshold is None else threshold)
    return Fit(
        auroc=float(found["auroc"][0]),
        aurc=float(found["aurc"][0]),
        threshold=threshold,
        coverage=float(accepted.mean()),
        error=float((~right[accepted]).mean()) if accepted.any() else None,
    )


def _threshold(
    score: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], wanted: dict[str, float]
) -> float | None:
    """Return the lowest score that is accepted; an image without one never is."""
    values, errors = _errors_from_the_top(score, right)
    if not len(values):
        return None
    if "coverage" in wanted:
        needed = math.ceil(round(wanted["coverage"] * len(score), 9))
        return float(values[min(needed, len(values)) - 1])
    last_of_equals = np.append(values[1:] != values[:-1], True)
    keeping = np.flatnonzero(last_of_equals & (errors <= wanted["error"]))
    return float(values[keeping[-1]]) if len(keeping) else None


def _errors_from_the_top(
    score: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Return the finite scores from the highest, and the share of errors from there up."""
    order = np.argsort(-score, kind="stable")
    order = order[np.isfinite(score[order])]
    return score[order], np.cumsum(~right[order]) / np.arange(1, len(order) + 1)


def _out_of_reach(
    score: Float[np.ndarray, " N"],
    right: Bool[np.ndarray, " N"],
    error: float,
    chosen: Candidate,
) -> str:
    values, errors = _errors_from_the_top(score, right)
    last_of_equals = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    best = last_of_equals[errors[last_of_equals].argmin()]
    return (
        f"--error {error:g} is out of reach: {chosen.name} accepts no images with so few errors; "
        f"the least is {errors[best]:.3f}, of {(best + 1) / len(score):.1%} of the images "
        f"(best {TITLES['indicator']} of {len(score)} images)"
    )
