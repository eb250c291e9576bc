"""What the page's gallery sorts, filters and shows: all rows' numbers, some rows' pictures."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gaxjax.report.figures.style import title_of
from gaxjax.report.pictures import heatmap_picture, image_picture
from gaxjax.report.sampling import rounded, spread, thinned
from gaxjax.results import Run, RunImages

__all__ = ["MOST_ROWS", "choose", "gallery"]

MOST_ROWS = 300_000
"""Rows that a page can sort and filter at once; beyond, images are taken evenly by their names."""

_GALLERY_SIZE = 96  # height and width of a picture, in pixels
_COLUMNS = (
    *("run", "image", "label", "prediction", "after", "method", "outcome"),
    *("correct", "steps", "score", "before", "later", "drawn"),
)


class _Names:
    """Texts by number: each is written once into the page."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Return a text's number, a new one for a new text."""
        if text not in self._places:
            self._places[text] = len(self.texts)
            self.texts.append(text)
        return self._places[text]


def gallery(runs: Sequence[Run], images: Sequence[RunImages], num_pictures: int) -> dict[str, Any]:
    """Return the gallery's data, ready for JSON; undefined numbers are None.

    Args:
        runs: the runs, in the page's order.
        images: of each run, its images.
        num_pictures: about so many heatmaps get pictures, over all runs.

    Raises:
        UserError: heatmaps are damaged.

    Example:
        >>> from gaxjax.results.stored_run import images_of, open_run
        >>> run = open_run("gax-run")
        >>> rows = gallery([run], [images_of(run)[0]], num_pictures=2)["columns"]
    """
    total = sum(len(run.scores) for run in runs)
    texts = {name: _Names() for name in ("images", "classes", "methods", "outcomes")}
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    pictures: dict[str, Any] = {"images": {}, "heatmaps": {}, "rows": {}}
    for number, (run, load) in enumerate(zip(runs, images, strict=True)):
        rows = run.scores.drop_columns("curve").to_pylist()
        if total > MOST_ROWS:
            image_ids = sorted({row["image_id"] for row in rows})
            kept = set(spread(image_ids, len(image_ids) * MOST_ROWS // total))
            rows = [row for row in rows if row["image_id"] in kept]
        first = len(columns["run"])
        for row in rows:
            values = _values(row, number, run, texts)
            for name, column in columns.items():
                column.append(values[name])
        _add_pictures(pictures, run, load, rows, first, number, num_pictures // len(runs))
    return {
        "runs": [
            {
                "name": run.name,
                "path": str(run.path),
                "gax": run.is_gax,
                "scale": run.pixel_scale(),
                "target": run.target,
            }
            for run in runs
        ],
        **{name: names.texts for name, names in texts.items()},
        "columns": columns,
        "pictures": pictures,
    }


def _values(row: dict[str, Any], number: int, run: Run, texts: dict[str, _Names]) -> dict[str, Any]:
    """Return a row's entry in each column; `texts` takes up the names that it brings."""

    def class_of(index: int | None) -> int | None:
        return None if index is None else texts["classes"].place(run.class_name(index))

    method = f"{title_of(row['method'], row['layer'])} [{row['operation']}]"
    return {
        "run": number,
        "image": texts["images"].place(row["image_id"]),
        "label": class_of(row["label"]),
        "prediction": class_of(row["prediction"]),
        "after": class_of(row["prediction_after"]),
        "method": texts["methods"].place(method),
        "outcome": texts["outcomes"].place(row["outcome"].replace("_", " ")),
        "correct": None if row["correct"] is None else int(row["correct"]),
        "steps": row["steps"],
        "score": rounded(row["co_score"]),
        "before": rounded(row["probability_before"]),
        "later": rounded(row["probability_after"]),
        "drawn": int(row["heatmap_row"] is not None),
    }


def _add_pictures(
    pictures: dict[str, Any],
    run: Run,
    load: RunImages,
    rows: list[dict[str, Any]],
    first: int,
    number: int,
    budget: int,
) -> None:
    """Add the pictures of chosen images: each with all its heatmaps, within the budget."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        if row["heatmap_row"] is not None:
            places.setdefault(row["image_id"], []).append(place)
    if not places:
        return
    each = max(len({rows[place]["heatmap_row"] for place in found}) for found in places.values())
    chosen = choose([rows[found[0]] for found in places.values()], budget // each)
    wanted = [place for row in chosen for place in places[row["image_id"]]]
    numbers = sorted({rows[place]["heatmap_row"] for place in wanted})
    for start in range(0, len(numbers), 64):  # a shard's worth in memory at a time
        part = numbers[start : start + 64]
        for heatmap_row, heatmap in zip(part, run.heatmaps(part), strict=True):
            pictures["heatmaps"][f"{number}-{heatmap_row}"] = heatmap_picture(
                heatmap, _GALLERY_SIZE
            )
    for row in chosen:
        pixels = load(row["image_id"])
        if pixels is not None:
            key = f"{number}-{row['image_id']}"
            pictures["images"][key] = image_picture(pixels, _GALLERY_SIZE)
    mine = run.scores.filter(pc.is_in(run.scores["heatmap_row"], pa.array(numbers, pa.int64())))
    curves = dict(zip(mine["heatmap_row"].to_pylist(), mine["curve"].to_pylist(), strict=True))
    for place in wanted:
        row = rows[place]
        curve = curves[row["heatmap_row"]]
        image = f"{number}-{row['image_id']}"
        pictures["rows"][str(first + place)] = {
            "image": image if image in pictures["images"] else None,
            "heatmap": f"{number}-{row['heatmap_row']}",
            "operation": row["operation"],
            "curve": thinned(curve, row["steps"]) if curve else None,
        }


def choose(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Choose rows worth a picture: extremes of score, steps and gain, then evenly by score.

    Example:
        >>> row = {"probability_before": 0.5, "probability_after": 0.9} | {"outcome": "reached"}
        >>> rows = [row | {"correct": True, "steps": n, "co_score": n} for n in range(9)]
        >>> rows = [row | {"image_id": str(row["steps"])} for row in rows]
        >>> [row["steps"] for row in choose(rows, 2)]
        [0, 8]
    """
    if count >= len(rows):
        return rows

    def by(value: Iterable[float | None]) -> list[int]:
        keys = [(-math.inf if v is None or not math.isfinite(v) else v) for v in value]
        return sorted(range(len(rows)), key=lambda place: (keys[place], rows[place]["image_id"]))

    def gain(row: dict[str, Any]) -> float | None:
        before, after = row["probability_before"], row["probability_after"]
        return None if before is None or after is None else after - before

    score = by(row["co_score"] for row in rows)
    orders = [score, by(row["steps"] for row in rows), by(map(gain, rows))]
    extremes = max(1, count // 12)
    places = [place for order in orders for place in (*order[:extremes], *order[-extremes:])]
    # One of every outcome, and of right and wrong predictions, is to be seen.
    kinds = {(row["outcome"], row["correct"]): i for i, row in reversed(list(enumerate(rows)))}
    wanted = list(dict.fromkeys([*kinds.values(), *places]))[:count]
    for place in (*spread(score, count), *score):
        if len(wanted) >= count:
            break
        if place not in wanted:
            wanted.append(place)
    return [rows[place] for place in wanted]
