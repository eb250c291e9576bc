"""`gaxjax finetune`: the paper's training of a backbone with a new head, on the user's images.

OUTPUT/
  finetune.json  settings, data, sessions, and at the end Table 1's figures
  split.csv      which image trains, validates and tests, where the data did not say
  curve.csv      loss and validation accuracy at each validation
  state/         what training resumes from (Orbax)
  model.ckpt/    the trained classifier, for every other command
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.common import (
    StepProgress,
    UserError,
    free_bytes,
    interruption,
    is_out_of_memory,
    lock,
    own_numbers,
    path_to_write,
    refuse_strangers,
    require_memory,
)
from gaxjax.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataConfig,
    FinetuneConfig,
    to_dict,
)
from gaxjax.data import ImageSet, batches, make_split, open_images, place_of, read_split, splits_of
from gaxjax.models import (
    Trainer,
    TrainState,
    as_classifier,
    batch_rows,
    checkpoint,
    gradient_bytes,
    load_classifier,
)
from gaxjax.results import Evaluation
from gaxjax.runs import training_state
from gaxjax.runs.evaluate import evaluate_classifier
from gaxjax.runs.start import given_weights, model_to_start_from
from gaxjax.runs.training_log import TrainingLog, versions

__all__ = ["FinetuneSummary", "run_finetune"]

_MAY_CHANGE = ("min_iterations", "max_iterations", "validation_accuracy", "decode_threads")


@dataclass(frozen=True)
class FinetuneSummary:
    """How training ended.

    Attributes:
        model: folder of the trained checkpoint.
        data: what the splits are opened from.
        class_names: in the order of the logits.
        iterations: steps in all, over all sessions.
        validation_accuracy: at the last of them, in [0, 1].
        target_met: whether that is what was wanted.
        test: Table 1's figures on the test split, None where there is none.
        curve: curve.csv's rows: `iteration`, `loss`, `validation_accuracy`, `seconds`.
    """

    model: Path
    data: str
    class_names: tuple[str, ...]
    iterations: int
    validation_accuracy: float
    target_met: bool
    test: Evaluation | None
    curve: list[dict[str, Any]]


@own_numbers()
def run_finetune(
    config: FinetuneConfig, output: Path | str, *, note: Callable[[str], None] = print
) -> FinetuneSummary:
    """Train until the validation accuracy is met; the same call resumes what was cut off.

    Settings that only say when to stop may change from one call to the next.

    Args:
        config: data, backbone, and how to train.
        output: the folder.
        note: is told, before training, what the user should know.

    Raises:
        UserError: bad data or settings; another training's folder; a loss that is not finite.
    """
    output = path_to_write(output, "--output")
    place = place_of(config.data) if config.data != "digits" else None
    on_disk = place is not None and place.kind == "folder" and place.system is None
    root = Path(place.path).resolve() if place is not None and on_disk else None
    if root is not None and output.resolve().is_relative_to(root):
        raise UserError(f"--output {output} lies inside the images of --data {root}: move it")
    refuse_strangers(output, "finetune.json", "split.csv")
    with lock(output), _taken_back(output / "split.csv", unless=output / "finetune.json"):
        given = given_weights(config)
        data, duplicates = _divided(config, output, note)
        train, validation = (_open(config, data, split) for split in ("train", "val"))
        note(f"labels: {train.labels_from}")
        for text in dict.fromkeys((*train.notes, *validation.notes)):
            note(text)
        model, start = model_to_start_from(config, given, train.num_classes)
        mean, std = (
            (IMAGENET_MEAN, IMAGENET_STD) if config.normalization == "imagenet" else (None, None)
        )
        log = TrainingLog(
            output,
            identity=_identity(config, start, train, validation),
            header={"config": to_dict(config), "data": data, "duplicates": duplicates},
        )
        trainer = Trainer(model, config, mean=mean, std=std)
        if config.weights is None:
            note("the backbone starts at random; --weights resnet34 starts from torchvision's")
        state, accuracy = _trained(config, trainer, train, validation, log)
        metadata = checkpoint.CheckpointMetadata(
            architecture=config.architecture,
            num_classes=train.num_classes,
            head_bias=config.head_bias,
            mean=mean,
            std=std,
            input_size=config.size,
            decoding={} if config.resize == "squash" else {"resize": config.resize},
            class_names=train.label_names,
            validation_accuracy=accuracy,
            source="gaxjax finetune",
            versions=versions(),
        )
        path, iterations = output / "model.ckpt", int(state.iteration)
        checkpoint.save(path, trainer.model(state), metadata)
        test = None
        if "test" in splits_of(data):
            images = _open(config, data, "test")
            test = evaluate_classifier(load_classifier(path), images, threads=config.decode_threads)
        log.write(
            status="complete",
            iterations=iterations,
            validation_accuracy=accuracy,
            test=test and test.to_dict(),
        )
    names = train.label_names or tuple(map(str, range(train.num_classes)))
    met = accuracy >= config.validation_accuracy
    return FinetuneSummary(path, data, names, iterations, accuracy, met, test, log.curve)


# --- Data ----------------------------------------------------------------------------------------


@contextmanager
def _taken_back(file: Path, *, unless: Path) -> Iterator[None]:
    """Remove a division that was made for a training which was refused before it began."""
    there = file.exists()
    try:
        yield
    except UserError:
        if not there and not unless.exists():
            file.unlink(missing_ok=True)
        raise


def _divided(
    config: FinetuneConfig, output: Path, note: Callable[[str], None]
) -> tuple[str, list[list[str]]]:
    """Return what to open with --split, and groups of equal images across splits.

    A folder on a disk is divided once, into a file; all else is taken as it is divided.
    """
    place = place_of(config.data) if config.data != "digits" else None
    if place is None or place.kind != "folder" or place.system is not None:
        present = splits_of(config.data)
        missing = [name for name in ("train", "val") if name not in present]
        if missing:
            raise UserError(
                f"--data {config.data} has no split {missing[0]}: training needs train and val; "
                "give a CSV file with the columns path, label and split, or a folder with train"
            )
        return config.data, []
    root = Path(place.path)
    file = output / "split.csv"
    if (output / "finetune.json").exists():
        split = read_split(file, root)
    else:
        split = make_split(root, validation=config.validation, seed=config.seed)
        if file.exists() and read_split(file, root).images != split.images:
            raise UserError(
                f"{file} divides the images otherwise than --validation {config.validation:g} "
                f"--seed {config.seed}: give it as --data with another --output, or remove it"
            )
        split.save(file)
    counts = ", ".join(
        f"{name} {' + '.join(map(str, of_class.values()))}"
        for name, of_class in split.counts().items()
    )
    note(f"train and val are pooled and divided anew by --seed {config.seed}: {counts} images")
    found = split.duplicates()
    note(found.summary())
    return str(file), [
        [f"{image.image_id} ({image.split})" for image in group] for group in found.across_splits
    ]


def _open(config: FinetuneConfig, data: str, split: str) -> ImageSet:
    return open_images(
        DataConfig(
            data=data,
            split=split,
            size=config.size,
            resize=config.resize,
            pixel_max=config.pixel_max,
            decode_threads=config.decode_threads,
        )
    )


def _arrays(images: ImageSet, threads: int, what: str) -> tuple[jax.Array, jax.Array]:
    """Decode all images onto the device: uint8 [N, H, W, 3], and their labels int32 [N]."""
    total = len(images.records)
    pixels = np.empty((total, images.size, images.size, 3), np.uint8)
    labels = np.empty(total, np.int32)
    done = 0
    with StepProgress(f"Reading {what}", total, unit="images") as progress:
        for batch in batches(images, batch_size=64, threads=threads):
            interruption.check()
            for position, reason in batch.unreadable:
                raise UserError(
                    f"{images.records[position].image_id} cannot be read ({reason}): mend it, or "
                    "take it out of the images to train on"
                )
            pixels[batch.indices], labels[batch.indices] = batch.images, batch.labels
            done += len(batch.labels)
            progress.advance(done, "decoded")
    return jax.device_put(pixels), jax.device_put(labels)


def _identity(
    config: FinetuneConfig, start: str, train: ImageSet, validation: ImageSet
) -> dict[str, Any]:
    """Return what must be equal for training to resume."""
    settings = {
        name.replace("_", " "): value
        for name, value in to_dict(config).items()
        if name not in (*_MAY_CHANGE, "data", "weights", "pixel_max")  # the images have it
    }
    return {
        "command": "finetune",
        **settings,
        "weights": start,
        "training images": f"{train.name} {train.fingerprint[:16]}",
        "validation images": f"{validation.name} {validation.fingerprint[:16]}",
    }


# --- Training ------------------------------------------------------------------------------------


def _trained(
    config: FinetuneConfig,
    trainer: Trainer,
    train: ImageSet,
    validation: ImageSet,
    log: TrainingLog,
) -> tuple[TrainState, float]:
    """Train from where the folder stands to the end; return the state and validation accuracy."""
    state, accuracy = trainer.start(), 0.0
    kept = training_state.latest_state(log.states)
    if kept is not None:
        state = training_state.load_state(kept, jax.eval_shape(trainer.start))
        accuracy = log.read_until(int(state.iteration))
    iteration = int(state.iteration)
    if _is_over(config, iteration, accuracy):
        return state, accuracy

    _check_memory(config, trainer, len(train.records) + len(validation.records))
    images, labels = _arrays(train, config.decode_threads, "train on")
    shown, wanted = _arrays(validation, config.decode_threads, "validate on")
    log.begin_session()
    earlier = log.curve[-1]["seconds"] if log.curve else 0.0
    started = time.monotonic()
    losses: list[jax.Array] = []
    with StepProgress("Training", config.max_iterations, "iterations", iteration) as progress:
        while not _is_over(config, iteration, accuracy):
            interruption.check()
            rows = batch_rows(config, iteration, len(labels))
            try:
                state, loss = trainer.step(state, images, labels, rows)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise UserError(
                    "out of device memory: give a smaller --batch-size or --size"
                ) from error
            losses.append(loss)
            iteration += 1
            # The one before: a step ahead of the device, not a hundred.
            known = float(losses[max(0, len(losses) - 2)])
            progress.advance(iteration, f"loss {known:.4f}, validation accuracy {accuracy:.4f}")
            if iteration % config.validate_every and iteration != config.max_iterations:
                continue
            mean = float(jnp.mean(jnp.stack(losses)))
            losses.clear()
            if not np.isfinite(mean):
                raise UserError(
                    f"the loss is not finite after {iteration} iterations: give a smaller "
                    "--learning-rate, and another --output"
                )
            right = trainer.predict(state, shown) == np.asarray(wanted)
            accuracy = float(right.mean())
            seconds = earlier + time.monotonic() - started
            log.keep(state, iteration, mean, accuracy, seconds)
    return state, accuracy


def _check_memory(config: FinetuneConfig, trainer: Trainer, num_images: int) -> None:
    """Hold all images, which stay on the device, and a batch's gradients against what is free.

    Raises:
        UserError: they need more.
    """
    free, shape = free_bytes(jax.local_devices()[:1]), (config.size, config.size, 3)
    kept = num_images * math.prod(shape)
    require_memory(
        kept,
        free,
        f"--size {config.size} for {num_images:,} images",
        "give a smaller --size, or fewer images",
    )
    resting = as_classifier(trainer.model(trainer.start()), num_classes=2, fingerprint="-")
    each = gradient_bytes(resting, shape)
    flags = f"--batch-size {config.batch_size} at --size {config.size}"
    require_memory(config.batch_size * each, free - kept, flags, "give a smaller one of them")


def _is_over(config: FinetuneConfig, iteration: int, accuracy: float) -> bool:
    enough = iteration >= config.min_iterations and accuracy >= config.validation_accuracy
    validated = iteration % config.validate_every == 0
    return (enough and validated) or iteration >= config.max_iterations
