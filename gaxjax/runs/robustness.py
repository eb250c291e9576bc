"""Disturbs what a run stored, and takes the CO scores again with the run's own classifier.

The score of a heatmap h for an image x is taken of g(x, h) as it is stored, and then

    shifted   of g(x, h moved by one pixel), the mean over the four directions; the edge that is
              left free takes the pixels beside it
    rounded   of g(x, h) clipped to [0, 1] and rounded to 8 bits, as an image file holds it
    jpeg      of those 8 bits as a JPEG file of quality 75, read again
    noisy     of g(x, h) with Gaussian noise of 2/255 in every channel, the same for all heatmaps
              of an image

each less that of the plain image. Where AX adds heatmaps to normalised pixels, clipping, rounding,
compression and noise are of the pixels all the same.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import PIL
import pyarrow as pa
from jaxtyping import Float, UInt8
from PIL import Image

from gaxjax.common import StepProgress, UserError, interruption, own_numbers, pad_rows
from gaxjax.config import Operation
from gaxjax.data import Batch, batches
from gaxjax.models import Classifier
from gaxjax.results import (
    KEYS,
    ROBUSTNESS_SCHEMA,
    Run,
    high_frequency_power,
    open_run,
    own_images,
    refuse_url,
    total_variation,
    write_robustness,
)
from gaxjax.runs.evaluate import require_room
from gaxjax.runs.opening import open_classifier
from gaxjax.score import AX_SPACES, GAX_SPACES, ScoreSpace, classify, score

__all__ = ["disturbed", "measure_robustness"]

JPEG_QUALITY = 75
NOISE = 2 / 255  # standard deviation, of pixels in [0, 1]

_BATCH = 16

_Row = dict[str, Any]


@own_numbers()
def measure_robustness(
    run: Any,
    *,
    num_images: int | None = None,
    seed: int = 0,
    model: str | None = None,
    data: str | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> None:
    """Take a run's CO scores again under disturbances, and keep the rows beside its results.

    In float32 at the highest matmul precision. Nothing is written before all is computed, so that
    a call that is cut off leaves what an earlier one wrote.

    Args:
        run: folder of a GAX or AX run, finished or not.
        num_images: how many of the images with heatmaps to draw; all when None.
        seed: of the draw.
        model: where the run's model is now, if it was moved.
        data: where the run's images are now, if they were moved.
        note: is told what people should know.

    Raises:
        UserError: no run, one without heatmaps, or not its model or its images.

    Example:
        >>> measure_robustness(Path("run"), num_images=100)  # doctest: +SKIP
        >>> table, about = gaxjax.results.read_robustness(Path("run"))  # doctest: +SKIP
    """
    refuse_url(run, "--robustness")
    if num_images is not None and num_images < 1:
        raise UserError(f"--robustness-images must be at least 1; got {num_images}")
    stored = open_run(run)
    rows_of = _rows_with_heatmaps(stored)
    drawn = sorted(rows_of)
    if num_images is not None and num_images < len(drawn):
        chosen = np.random.default_rng(seed).choice(len(drawn), num_images, replace=False)
        drawn = [drawn[place] for place in sorted(chosen)]
    classifier = _own_classifier(stored, model)
    place = stored.config.data if data is None else replace(stored.config.data, data=data)
    images = own_images(stored, place, classifier.num_classes)
    for text in images.notes:
        note(text)
    require_room(classifier, images.size, _BATCH)
    wanted = set(drawn)
    positions = [place for place in images.order() if images.records[place].image_id in wanted]
    scoring = _Scoring(stored, classifier)
    found: list[_Row] = []
    unreadable = len(wanted) - len(positions)
    done, total = 0, sum(len(rows_of[image]) for image in drawn)
    threads = stored.config.data.decode_threads
    with StepProgress("Robustness", total, "heatmaps") as progress:
        for batch in batches(images, batch_size=_BATCH, threads=threads, only=positions):
            unreadable += len(batch.unreadable)
            ids = [images.records[place].image_id for place in batch.indices]
            pairs = [(place, row) for place, image in enumerate(ids) for row in rows_of[image]]
            baselines = scoring.baselines(batch) if pairs else np.zeros(0, np.float32)
            for start in range(0, len(pairs), _BATCH):
                interruption.check()
                found += scoring.rows(batch, baselines, pairs[start : start + _BATCH])
                done += len(pairs[start : start + _BATCH])
                progress.advance(done, "disturbed")
    if unreadable:
        note(f"{unreadable:,} of {len(drawn):,} images cannot be read now, and are left out")
    if not found:
        raise UserError(f"none of the images of {stored.path} can be read: say by --data where")
    differences = [abs(row["co_score"] - row.pop("stored")) for row in found]
    note(f"computed again, the stored scores differ by at most {max(differences):.1e}")
    order = [method.name for method in stored.statistics.methods]
    found.sort(key=lambda row: (order.index(row.pop("name")), row["image_id"]))
    about = {
        "num_images": len(drawn) - unreadable,
        "num_with_heatmaps": len(rows_of),
        "seed": seed,
        "jpeg_quality": JPEG_QUALITY,
        "noise": NOISE,
        "pillow": PIL.__version__,
        "largest_difference": max(differences),
    }
    write_robustness(stored.path, pa.Table.from_pylist(found, ROBUSTNESS_SCHEMA), about)


# --- What is disturbed ---------------------------------------------------------------------------


def disturbed(
    z: Float[np.ndarray, "N H W 3"],
    heatmaps: Float[np.ndarray, "N H W 3"],
    operations: list[Operation],
    image_ids: list[str],
    mean: Float[np.ndarray, " 3"],
    std: Float[np.ndarray, " 3"],
) -> dict[str, list[Float[np.ndarray, "N H W 3"]]]:
    """Return augmented images as stored (`co_score`) and under each of `DISTURBANCES`.

    Args:
        z: the images that the heatmaps belong to.
        heatmaps: theirs.
        operations: of each.
        image_ids: of each; they seed the noise.
        mean: `std * z + mean` are pixels in [0, 1].
        std: likewise.

    Returns:
        float32; several of one name, of whose scores the mean counts.
    """
    adds = (np.array(operations) == "sum")[:, None, None, None]

    def joined(h: np.ndarray) -> np.ndarray:
        return np.where(adds, z + h, z * h)

    plain = joined(heatmaps)
    pixels = plain * std + mean
    rounded = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)

    def back(eight_bits: np.ndarray) -> np.ndarray:
        return (eight_bits.astype(np.float32) / np.float32(255) - mean) / std

    return {
        "co_score": [plain],
        "shifted": [joined(moved) for moved in _shifts(heatmaps)],
        "rounded": [back(rounded)],
        "jpeg": [back(np.stack([as_jpeg(image) for image in rounded]))],
        "noisy": [plain + np.stack([_noise(name, z.shape[1:]) for name in image_ids]) / std],
    }


def _shifts(heatmaps: np.ndarray) -> list[np.ndarray]:
    padded = np.pad(heatmaps, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = heatmaps.shape[1:3]
    corners = ((0, 1), (2, 1), (1, 0), (1, 2))  # down, up, right, left
    return [padded[:, top : top + height, left : left + width] for top, left in corners]


def as_jpeg(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return what a JPEG file of quality 75 makes of an image, by Pillow's other defaults."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    with Image.open(buffer, formats=["JPEG"]) as read:
        return np.asarray(read.convert("RGB"))


def _noise(image_id: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8])
    drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return np.float32(NOISE) * drawn


# --- Its scores ----------------------------------------------------------------------------------


class _Scoring:
    """Takes scores with a run's classifier, by two programs: of plain and of augmented images."""

    def __init__(self, run: Run, classifier: Classifier) -> None:
        name = run.method.score_space
        self._run, self._classifier = run, classifier
        self._space: ScoreSpace = (GAX_SPACES if run.is_gax else AX_SPACES)[name]
        scale = run.pixel_scale() if self._space.image else ([0.0] * 3, [1.0] * 3)
        self._mean, self._std = (np.array(values, np.float32) for values in scale)
        space, of = self._space, run.method.score

        @jax.jit
        def plain(weights: Any, images: Any, labels: Any) -> Any:
            return classify(classifier, space, weights, images, labels, of).weighted

        @jax.jit
        def augmented(weights: Any, images: Any, labels: Any, baselines: Any) -> Any:
            with jax.default_matmul_precision("highest"):
                logits = space.augmented_logits(classifier, weights, images)
                return jax.vmap(partial(score, name=of))(logits, labels, baselines).co_score

        self._plain, self._augmented = plain, augmented

    def baselines(self, batch: Batch) -> np.ndarray:
        """Return what a batch's plain images leave of κ·f, or of that of their softmax."""
        x = _unit_range(batch.images)
        return self._run_padded(self._plain, x, batch.labels)

    def rows(
        self, batch: Batch, baselines: np.ndarray, pairs: list[tuple[int, _Row]]
    ) -> list[_Row]:
        """Return rows of `ROBUSTNESS_SCHEMA`, with the stored score and the method's name beside.

        Args:
            batch: some images.
            baselines: theirs.
            pairs: places in the batch, each with a row of the run's scores.
        """
        places = [place for place, _ in pairs]
        rows = [row for _, row in pairs]
        heatmaps = self._run.heatmaps([row["heatmap_row"] for row in rows])
        z = (_unit_range(batch.images[places]) - self._mean) / self._std
        operations, ids = ([row[key] for row in rows] for key in ("operation", "image_id"))
        given = batch.labels[places], baselines[places]
        scores = {
            name: np.mean([self._run_padded(self._augmented, one, *given) for one in each], axis=0)
            for name, each in disturbed(z, heatmaps, operations, ids, self._mean, self._std).items()
        }
        scores["total_variation"] = total_variation(heatmaps)
        scores["high_frequency_power"] = high_frequency_power(heatmaps)
        return [
            {"image_id": row["image_id"], "stored": row["co_score"], "name": row["name"]}
            | {key: row[key] for key in KEYS}
            | {name: float(values[place]) for name, values in scores.items()}
            for place, row in enumerate(rows)
        ]

    def _run_padded(self, program: Callable[..., Any], *given: np.ndarray) -> np.ndarray:
        count = len(given[0])
        padded = (pad_rows(array, _BATCH, "last") for array in given)
        return np.asarray(program(self._classifier.weights, *padded))[:count]


def _unit_range(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images


# --- What the run was made with ------------------------------------------------------------------


def _rows_with_heatmaps(run: Run) -> dict[str, list[_Row]]:
    if not run.keeps_heatmaps:
        raise UserError(
            f"{run.path} stores no heatmaps to disturb (--heatmaps none): run it anew with "
            "--heatmaps float16"
        )
    run.require_scores()
    rows_of: dict[str, list[_Row]] = defaultdict(list)
    names = ["image_id", *KEYS, "co_score", "heatmap_row"]
    for row in run.scores.select(names).to_pylist():
        if row["heatmap_row"] is not None and row["co_score"] is not None:
            words = [row["method"], row["layer"], f"[{row['operation']}]", row["setting"]]
            rows_of[row["image_id"]].append(row | {"name": " ".join(filter(None, words))})
    if not rows_of:
        raise UserError(f"no image of {run.path} has a heatmap: there is nothing to disturb")
    return dict(rows_of)


def _own_classifier(run: Run, model: str | None) -> Classifier:
    config = run.config.model
    if model is not None:
        config = replace(config, model=model)
    classifier = open_classifier(config)
    here, there = classifier.fingerprint, run.header["model"]["fingerprint"]
    if here != there:
        raise UserError(
            f"{run.path} was made with another model: {run.header['model']['name']} {there[:16]} "
            f"there, {classifier.name} {here[:16]} here; give the run's own by --model"
        )
    return classifier
