"""A run held against itself: rows against rows, header, image set and hashes of the heatmaps.

No score is computed again here: see `gaxjax.reference.verify`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from gaxjax.common import UserError
from gaxjax.config import GaxConfig, as_text
from gaxjax.data import ImageSet
from gaxjax.results import KEYS, Outcome, Run, heatmap_sha256, read_heatmap_rows

__all__ = ["Fault", "Faults", "Row", "StoredHeatmaps", "check_rows"]

Row = dict[str, Any]
"""One row of the scores, by column."""

_Key = tuple[str, str | None, str, str | None]  # method, layer, operation, setting

_KINDS = "method, layer or operation"  # or setting, which a sweep alone has

_WITH_HEATMAP = {Outcome.REACHED, Outcome.STEP_LIMIT, Outcome.SCORED}
_WITHOUT_HEATMAP = {Outcome.MISCLASSIFIED, Outcome.UNREADABLE, Outcome.ZERO_HEATMAP}
_OUTCOMES = {
    "gax": set(Outcome) - {Outcome.SCORED, Outcome.ZERO_HEATMAP},
    "ax": set(Outcome) - {Outcome.REACHED, Outcome.STEP_LIMIT, Outcome.MISCLASSIFIED},
}
_OF_IMAGE = ("prediction", "correct", "probability_before")
_OF_HEATMAP = (
    *("heatmap_row", "heatmap_sha256", "co_score"),
    *("prediction_after", "correct_after", "probability_after"),
)
_CONFIDENCE = ("max_probability", "entropy", "logit_margin", "logsumexp")


@dataclass(frozen=True)
class Fault:
    """Something in a run that is not as it should be.

    Attributes:
        what: in words that fit every case.
        count: how many rows.
        first: the first row, with its figures.
    """

    what: str
    count: int
    first: str


class Faults:
    """Faults as they are found, counted by kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, what: str, row: Row, figures: str = "") -> None:
        """Note a fault of a row."""
        self._counts[what] += 1
        key = filter(None, (row[name] for name in ("image_id", *KEYS)))
        self._first.setdefault(what, " ".join(key) + (f": {figures}" if figures else ""))

    def found(self) -> tuple[Fault, ...]:
        """Return all, in the order of their first."""
        return tuple(Fault(what, count, self._first[what]) for what, count in self._counts.items())


class StoredHeatmaps:
    """A run's stored heatmaps, each held against the hash in its row when it is read.

    Attributes:
        places: length of the array.
        checked: numbers of the heatmaps read so far.
        altered: ids of the images with a heatmap of another hash, or one that cannot be read.

    Raises:
        UserError: the array of an older run is missing or damaged.
    """

    def __init__(self, run: Run, faults: Faults) -> None:
        self.checked: set[int] = set()
        self.altered: set[str] = set()
        self._folder = run.path / "heatmaps.zarr"
        self._faults = faults
        about = run.header.get("heatmaps")
        if about is not None:
            self.places = about["num_shards"] * about["rows_per_shard"]
            return
        path = self._folder / "zarr.json"
        try:
            self.places = int(json.loads(path.read_text())["shape"][0])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"{path} is missing or damaged ({error}): restore it") from None

    def has(self, row: Row) -> bool:
        """Tell whether there is a place for the row's heatmap."""
        return row["heatmap_row"] is not None and 0 <= row["heatmap_row"] < self.places

    def read(self, rows: Sequence[Row]) -> dict[int, Float[np.ndarray, "H W 3"]]:
        """Return the rows' heatmaps as stored, by `heatmap_row`; without those that are damaged."""
        numbers = sorted({row["heatmap_row"] for row in rows})
        found, reasons = self._read(numbers)
        self.checked.update(found)
        hashes = {number: heatmap_sha256(heatmap) for number, heatmap in found.items()}
        for row in rows:
            number = row["heatmap_row"]
            if number in reasons:
                self.altered.add(row["image_id"])
                self._faults.add("heatmap that cannot be read", row, reasons[number])
            elif row["heatmap_sha256"] not in (None, hashes[number]):
                self.altered.add(row["image_id"])
                figures = f"heatmap_row {number}"
                self._faults.add("heatmap with another hash than its row's", row, figures)
        return found

    def _read(self, numbers: Sequence[int]) -> tuple[dict[int, np.ndarray], dict[int, str]]:
        """Return heatmaps by number, and why others cannot be read."""
        try:
            found = read_heatmap_rows(self._folder, dict.fromkeys(numbers))
            return dict(zip(numbers, found, strict=True)), {}
        except ValueError as error:
            if len(numbers) == 1:
                return {}, {numbers[0]: str(error)}
        heatmaps: dict[int, np.ndarray] = {}
        reasons: dict[int, str] = {}
        for number in numbers:  # one by one, to tell which
            one, reason = self._read([number])
            heatmaps |= one
            reasons |= reason
        return heatmaps, reasons


def check_rows(
    rows: Sequence[Row],
    images: ImageSet,
    run: Run,
    heatmaps: StoredHeatmaps,
    faults: Faults,
) -> None:
    """Check all rows of a run against its header and its image set.

    Args:
        rows: all of them, with the columns that name and judge them.
        images: the image set of the run.
        run: the run, for its settings.
        heatmaps: those of the run.
        faults: takes what is found.
    """
    expected = _expected_keys(run)
    records = {record.image_id: record for record in images.records}
    owners: dict[int, tuple[str, tuple[str, str | None], str | None]] = {}
    seen: set[tuple[str, _Key]] = set()
    for row in rows:
        image_id, key = row["image_id"], _key(row)
        if image_id not in records:
            faults.add("row of an image that is not in the set", row)
        else:
            for name in ("label", "label_name"):
                expected_value = getattr(records[image_id], name)
                if row[name] != expected_value:
                    figures = f"{row[name]}, not {expected_value}"
                    faults.add(f"{name} that is not the image's", row, figures)
        if key not in expected:
            faults.add(f"row of a {_KINDS} that the run does not have", row)
        if (image_id, key) in seen:
            faults.add("second row of the same image, method, layer and operation", row)
        seen.add((image_id, key))
        for contradiction in _contradictions(row, run):
            faults.add(contradiction, row, _figures(row))
        number = row["heatmap_row"]
        if number is None:
            continue
        if not heatmaps.has(row):
            figures = f"{number} of {heatmaps.places}"
            faults.add("heatmap_row beyond the stored heatmaps", row, figures)
        # Only the operations on one heatmap share it.
        elif owners.setdefault(number, (image_id, key[:2], key[3])) != (image_id, key[:2], key[3]):
            faults.add("heatmap_row of another image, method or layer", row, str(number))
    _check_completeness(seen, expected, images, run.header["status"] == "complete", faults)


def _check_completeness(
    seen: set[tuple[str, _Key]],
    expected: Sequence[_Key],
    images: ImageSet,
    complete: bool,
    faults: Faults,
) -> None:
    """Find the missing rows: of every image, or of those begun, whose rows came in one part."""
    begun = {image_id for image_id, _ in seen}
    for record in images.records:
        if not complete and record.image_id not in begun:
            continue
        for key in expected:
            if (record.image_id, key) not in seen:
                names = dict(zip(KEYS, key, strict=True))
                faults.add("row missing", {"image_id": record.image_id, **names})


def _expected_keys(run: Run) -> list[_Key]:
    if isinstance(run.method, GaxConfig):
        usual = run.method.operation
        if not run.settings:
            return [("gax", None, usual, None)]
        return [
            ("gax", None, str(setting.get("operation", usual)), as_text(setting))
            for setting in run.settings
        ]
    wanted = run.method.wanted(run.header["identity"]["layers"])
    return [(*key, operation, None) for key in wanted for operation in run.method.operations]


def _key(row: Row) -> _Key:
    method, layer, operation, setting = (row[name] for name in KEYS)
    return method, layer, operation, setting


def _contradictions(row: Row, run: Run) -> Iterator[str]:
    outcome, label = row["outcome"], row["label"]
    if outcome not in _OUTCOMES[run.header["command"]]:
        yield f"outcome that {run.header['command']} does not have"
        return
    if any((row[name] is None) != (outcome == Outcome.UNREADABLE) for name in _OF_IMAGE):
        yield "prediction that the outcome does not allow, or lacks"
    elif row["correct"] is not None and row["correct"] != (row["prediction"] == label):
        yield "correct that is not: prediction equals label"
    present = {name for name in _OF_HEATMAP if row[name] is not None}
    if 0 < len(present) < len(_OF_HEATMAP):
        yield f"score or heatmap without {', '.join(sorted(set(_OF_HEATMAP) - present))}"
    elif (outcome in _WITH_HEATMAP and not present) or (outcome in _WITHOUT_HEATMAP and present):
        yield "score and heatmap that the outcome does not allow, or lacks"
    elif present and row["correct_after"] != (row["prediction_after"] == label):
        yield "correct_after that is not: prediction_after equals label"
    told = [row[name] is not None for name in _CONFIDENCE]
    if any(told) and (row["prediction"] is None or not all(told)):
        yield "confidence that the outcome does not allow, or lacks"
    if all(told) and (row["co_score_predicted"] is None) != (row["co_score"] is None):
        yield "co_score without the one for the prediction, or the other way round"
    scored = row["co_score"] is not None
    if outcome == Outcome.REACHED and scored and not row["co_score"] >= _target(row, run):
        yield "reached with a co_score below the target"
    if outcome == Outcome.MISCLASSIFIED and row["correct"]:
        yield "misclassified although correct"
    if run.is_gax and present:
        yield from _contradictions_of_curve(row, run)


def _contradictions_of_curve(row: Row, run: Run) -> Iterator[str]:
    """Hold steps and scores of a GAX row against its curve."""
    curve, steps = row["curve"], row["steps"]
    if not curve or steps is None or not 0 <= steps < len(curve):
        yield "steps that its curve does not have"
        return
    if row["co_score_start"] != curve[0]:
        yield "co_score_start that is not where its curve starts"
    if row["outcome"] == Outcome.REACHED:
        if steps != len(curve) - 1:
            yield "reached before its curve ends"
        elif not curve[steps] >= _target(row, run):
            yield "reached with a curve that ends below the target"
    if isinstance(run.method, GaxConfig) and len(curve) > run.method.max_steps + 1:
        yield "more steps than the run allows"


def _target(row: Row, run: Run) -> float:
    return float(np.float32(run.target_of(row["setting"])))  # the run compares in float32


def _figures(row: Row) -> str:
    names = ("outcome", "label", "prediction", "prediction_after", "co_score", "heatmap_row")
    return ", ".join(f"{name} {row[name]}" for name in names)
