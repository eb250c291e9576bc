"""Are a run's stored scores true? Each is computed again in torch, from its stored heatmap.

Weights, logits and scores are torch's here; of the rest only the reading of images and store is
shared with the run.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from converters import is_published
from gaxjax.common import AnyPath, UserError, interruption, own_numbers, path_to_read
from gaxjax.config import DataConfig, ModelConfig
from gaxjax.data import (
    Batch,
    ImageSet,
    batches,
)
from gaxjax.reference.comparison import RELATIVE_TOLERANCE, Comparison, Seen, Tally, see
from gaxjax.reference.consistency import Fault, Faults, Row, StoredHeatmaps, check_rows
from gaxjax.reference.torch_classifier import (
    TorchClassifier,
    TorchImages,
    augment,
    ax_logits,
    flax_fingerprint,
    gax_logits,
    open_torch_classifier,
    to_space,
    to_torch,
)
from gaxjax.results import KEYS, Outcome, Run, open_run, own_images, read_parts

__all__ = ["Verification", "verify_run"]

_COLUMNS = (
    *("image_id", "label", *KEYS, "outcome", "co_score"),
    *("prediction", "correct", "probability_before"),
    *("prediction_after", "correct_after", "probability_after"),
    *("co_score_predicted", "max_probability", "entropy", "logit_margin", "logsumexp"),
    *("heatmap_row", "heatmap_sha256", "label_name"),
    *("steps", "curve", "co_score_start", "similarity_loss"),
)

_NAMED = 20  # images with damaged heatmaps that are named; all are in the JSON file


# --- What is found -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verification:
    """What `verify_run` found.

    Attributes:
        run: the run's folder.
        command, score_space, complete: of the run.
        num_images, num_heatmaps: how many were checked in torch.
        comparisons: one per method, layer and operation.
        altered_heatmaps: ids of the images with a heatmap that cannot be read, or that its row has
            another hash of.
        damaged_parts: files of rows that cannot be read.
        faults: all that is wrong.
        relative_tolerance: see `RELATIVE_TOLERANCE`.
        provenance: where torch's weights come from.
        torch_version, dtype: torch and its arithmetic.
        notes: what else people should know, such as labels that are read otherwise now.
    """

    run: str
    command: str
    score_space: str
    complete: bool
    num_images: int
    num_heatmaps: int
    comparisons: tuple[Comparison, ...]
    altered_heatmaps: tuple[str, ...]
    damaged_parts: tuple[str, ...]
    faults: tuple[Fault, ...]
    relative_tolerance: float
    provenance: str
    torch_version: str
    dtype: str
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Turn all of it into plain JSON values."""
        return {"passed": self.passed, **dataclasses.asdict(self)}

    def lines(self) -> list[str]:
        """Say it for people, a line each: the figures, what is wrong, and the verdict."""
        said = [
            f"{self.num_heatmaps:,} heatmaps of {self.num_images:,} images, computed again in "
            f"torch {self.torch_version}, {self.dtype} ({self.provenance})"
        ]
        for found in self.comparisons:
            name = " ".join(filter(None, (getattr(found, key) for key in KEYS)))
            scores = f"{found.scores:,} scores"
            if found.worst is not None:
                scores += f" differ by at most {found.worst:.1e}, median {found.median:.1e}"
            said.append(
                f"  {name}: {scores}; {found.differing} of {found.predictions:,} predictions "
                f"differ" + (f" and {found.ties} are tied" if found.ties else "")
            )
        said += [f"  Note: {note}" for note in self.notes]
        if not self.complete:
            said.append("  The run is unfinished: what it has done so far was checked")
        said += [
            f"  {fault.count:,} × {fault.what} (first: {fault.first})" for fault in self.faults
        ]
        if self.altered_heatmaps:
            shown = ", ".join(self.altered_heatmaps[:_NAMED])
            more = len(self.altered_heatmaps) - _NAMED
            said.append(f"  Damaged heatmaps: {shown}" + (f" and {more:,} more" * (more > 0)))
        verdict = "FAILED" if self.faults else "Passed"
        return [*said, f"{verdict} (tolerance: {self.relative_tolerance:g} of the largest logit)"]


# --- The verification ----------------------------------------------------------------------------


@own_numbers()
def verify_run(
    run: AnyPath,
    *,
    num_images: int | None = None,
    weights: AnyPath | None = None,
    seed: int = 0,
    model: str | None = None,
    data: str | None = None,
    dataset: Any = None,
    batch_size: int = 16,
    dtype: Literal["float32", "float64"] = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compute a run's scores, predictions and probabilities again, in torch on the CPU.

    All rows are checked for completeness and contradictions; of the chosen images also all that
    follows from the stored heatmaps, and the heatmaps' hashes.

    Args:
        run: folder of a GAX or AX run, finished or not.
        num_images: how many images to choose at random; all when None.
        weights: the torch file that the model was converted from, read by torch alone; when None,
            a checkpoint's weights are converted back.
        seed: of the choice.
        model: where the run's model is now, if it was moved.
        data: where the run's images are now, if they were moved.
        dataset: the run's images, where they were a dataset given in Python.
        batch_size: images, and heatmaps, side by side.
        dtype: torch's arithmetic; float64 tells who is right where float32 differs from the run.
        progress: called with the number of images done and their total.

    Raises:
        UserError: no run, one without scores or heatmaps, or not its model or its images.

    Example:
        >>> verify_run(Path("run"), num_images=100).passed  # doctest: +SKIP
        True
    """
    stored = open_run(run)
    if not stored.keeps_heatmaps:
        raise UserError(
            f"{run} stores no heatmaps to compute its scores from (--heatmaps none): "
            "run it anew with --heatmaps float16"
        )
    table, damaged_parts = read_parts(stored.path, _COLUMNS)
    rows: list[Row] = table.to_pylist()
    if not rows and not damaged_parts:
        raise UserError(f"{run} has no scores yet: let it finish its first images")
    classifier = _open_model(stored, model, weights)
    config, images = _open_data(stored, data, dataset, classifier.num_classes)
    faults = Faults()
    heatmaps = StoredHeatmaps(stored, faults)
    for part, reason in damaged_parts.items():
        named: Row = dict.fromkeys(KEYS)
        faults.add("part that is damaged", named | {"image_id": part.name}, reason)
    check_rows(rows, images, stored, heatmaps, faults)

    rows_of: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        rows_of[row["image_id"]].append(row)
    present = [i for i, record in enumerate(images.records) if record.image_id in rows_of]
    chosen = _draw(present, num_images, seed)
    if dtype == "float64":
        classifier.network.double()
    tally = Tally(rows, lambda row: stored.target_of(row["setting"]), faults)
    wanted = set(chosen)
    source = batches(
        images,
        batch_size=batch_size,
        threads=config.decode_threads,
        only=[position for position in images.order() if position in wanted],
    )
    done = 0
    for batch in source:
        interruption.check()
        for position, reason in batch.unreadable:
            for row in rows_of[images.records[position].image_id]:
                if row["outcome"] != Outcome.UNREADABLE:
                    faults.add("image unreadable here, but not in the run", row, reason)
        if len(batch.indices):
            rows_by_place = [rows_of[images.records[i].image_id] for i in batch.indices]
            for found in _recompute(stored, classifier, batch, rows_by_place, heatmaps):
                tally.add(*found)
        done += len(batch.indices) + len(batch.unreadable)
        if progress is not None:
            progress(done, len(chosen))
    return Verification(
        run=str(run),
        command=stored.header["command"],
        score_space=stored.method.score_space,
        complete=stored.header["status"] == "complete",
        num_images=len(chosen),
        num_heatmaps=len(heatmaps.checked),
        comparisons=tally.comparisons(),
        altered_heatmaps=tuple(sorted(heatmaps.altered)),
        damaged_parts=tuple(part.name for part in damaged_parts),
        faults=faults.found(),
        relative_tolerance=RELATIVE_TOLERANCE,
        provenance=classifier.provenance,
        torch_version=torch.__version__,
        dtype=dtype,
        notes=images.notes,
    )


def _recompute(
    run: Run,
    classifier: TorchClassifier,
    batch: Batch,
    rows_by_place: Sequence[Sequence[Row]],
    heatmaps: StoredHeatmaps,
) -> Iterator[tuple[Row, Seen, Seen | None]]:
    """Yield each row with torch's view of its plain image and, with a heatmap, the augmented one.

    Args:
        run: the run.
        classifier: torch's.
        batch: some images.
        rows_by_place: the rows of each image of the batch.
        heatmaps: where the rows' heatmaps are.
    """
    space, score = run.method.score_space, run.method.score
    labels = torch.from_numpy(batch.labels.astype(np.int64))
    if not run.is_gax:
        z = to_space(classifier, batch.images, space)
        plain_logits = augmented_logits = partial(ax_logits, classifier, score_space=space)
    else:
        z = to_torch(batch.images, classifier.dtype)
        gax = partial(gax_logits, classifier, score_space=space)
        plain_logits, augmented_logits = partial(gax, augmented=False), partial(gax, augmented=True)
    before = see(plain_logits(z), labels, score)
    with_heatmap = []
    for place, rows in enumerate(rows_by_place):
        for row in rows:
            if heatmaps.has(row):
                with_heatmap.append((place, row))
            else:
                yield row, before[place], None
    for start in range(0, len(with_heatmap), len(z)):
        some = with_heatmap[start : start + len(z)]
        stored = heatmaps.read([row for _, row in some])
        yield from ((row, before[i], None) for i, row in some if row["heatmap_row"] not in stored)
        some = [(place, row) for place, row in some if row["heatmap_row"] in stored]
        if not some:
            continue
        places, rows = zip(*some, strict=True)
        h = to_torch(np.stack([stored[row["heatmap_row"]] for row in rows]), classifier.dtype)
        each = zip(z[list(places)].split(1), h.split(1), rows, strict=True)
        augmented = torch.cat([augment(x, h, row["operation"]) for x, h, row in each])
        after = see(augmented_logits(augmented), labels[list(places)], score)
        if run.is_gax:
            methods = [run.methods.get(row["setting"], run.method) for row in rows]
            losses = _similarity_losses(z[list(places)], h, methods)
            after = [
                seen._replace(similarity_loss=loss)
                for seen, loss in zip(after, losses, strict=True)
            ]
        for place, row, seen in zip(places, rows, after, strict=True):
            yield row, before[place], seen


def _similarity_losses(
    pixels: TorchImages, heatmaps: TorchImages, methods: Sequence[Any]
) -> list[float]:
    """Return l_s / mean((h - x + eps)^2 / (x + eps)) of each image."""
    eps, factor = (
        pixels.new_tensor([getattr(method, name) for method in methods])
        for name in ("similarity_eps", "similarity_factor")
    )
    eps = eps[:, None, None, None]
    distances = ((heatmaps - pixels + eps) ** 2 / (pixels + eps)).mean(dim=(1, 2, 3))
    return (factor / distances).tolist()


# --- What the run was made with ------------------------------------------------------------------


def _open_model(run: Run, model: str | None, weights: AnyPath | None) -> TorchClassifier:
    config = run.config.model
    if model is not None:
        # A checkpoint knows what a state dict had to be told, but for a mean and std of the run's.
        known = ModelConfig(model=model, mean=config.mean, std=config.std)
        folder = path_to_read(model, "--model").is_dir()
        config = known if folder else dataclasses.replace(config, model=model)
    elif not Path(config.model).exists() and not is_published(config.model):
        raise UserError(
            f"{run.path} was made with the model {config.model}, which is not there: give its new "
            "place by --model"
        )
    classifier = open_torch_classifier(config, weights)
    here, there = flax_fingerprint(classifier), run.header["model"]["fingerprint"]
    if here != there:
        raise UserError(
            f"{run.path} was made with another model: {run.header['model']['name']} "
            f"{there[:16]} there, {classifier.name} {here[:16]} here ({classifier.provenance}); "
            "give the run's own by --model"
        )
    return classifier


def _open_data(
    run: Run, data: str | None, dataset: Any, num_classes: int
) -> tuple[DataConfig, ImageSet]:
    config = run.config.data
    if data is not None:
        config = dataclasses.replace(config, data=data)
    images = own_images(run, config, num_classes, dataset)
    if run.config.first_correct is not None:  # the run ended with the n-th that was correct
        count = run.header["data"]["num_images"]
        images = images.first(count)
    return config, images


def _draw(present: Sequence[int], num_images: int | None, seed: int) -> list[int]:
    if num_images is None:
        return list(present)
    if seed < 0:
        raise UserError(f"--seed must be at least 0; got {seed}")
    if not 1 <= num_images <= len(present):
        raise UserError(
            f"--num-images must be from 1 to {len(present)}, the images that the run has done; "
            f"got {num_images}"
        )
    return sorted(np.random.default_rng(seed).choice(present, num_images, replace=False).tolist())
