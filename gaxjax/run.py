"""The shell around the engine: images → engine → store, with progress and resume."""

import hashlib
import importlib.metadata
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from gaxjax import checkpoint, interruption
from gaxjax.classifier import Classifier, check_image_size, load_classifier
from gaxjax.config import ModelConfig, RunConfig, to_dict
from gaxjax.data import ImageSet, batches, open_images
from gaxjax.engine import Engine
from gaxjax.errors import UserError
from gaxjax.progress import RunProgress
from gaxjax.solution import Outcome, Solution
from gaxjax.stats import EngineStats
from gaxjax.store import Result, Store, read_scores

_PACKAGES = ("gaxjax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow", "tensorstore")


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    Attributes:
        output: the run's folder.
        outcomes: images per outcome, over all sessions of the run.
        resumed: images that earlier sessions had done.
        stats: of this session; None when nothing was left to do.
    """

    output: Path
    outcomes: Counter[str]
    resumed: int
    stats: EngineStats | None


def open_classifier(config: ModelConfig) -> Classifier:
    """Open the classifier a user named: a checkpoint, a torchvision name or a state dict.

    Torch weights are converted once and kept in the cache folder.

    Raises:
        UserError: no such model, one that does not convert, or torch is missing for it.
    """
    path = Path(config.model)
    if path.is_dir():
        if config.architecture is not None or config.normalization != "auto":
            raise UserError(
                f"{path} is a checkpoint and knows its architecture and normalisation: leave out "
                "--architecture and --normalization, or convert the weights again"
            )
        return load_classifier(path)
    try:
        import converters
    except ModuleNotFoundError as error:
        raise UserError(
            f"{config.model} is no checkpoint folder, and converting torch weights needs "
            f"{error.name}: install the torch extra, or run `gaxjax convert` where it is"
        ) from None
    if not path.exists():
        return _load_or_rebuild(lambda: converters.pretrained(config.model))
    settings = (converters.file_sha256(path), config.architecture, config.normalization)
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    cached = converters.cache_folder() / f"{path.stem}-{key}"

    def converted() -> Path:
        if not checkpoint.is_checkpoint(cached):
            converters.convert(
                config.model,
                cached,
                architecture=config.architecture,
                normalization=config.normalization,
            )
        return cached

    return _load_or_rebuild(converted)


def _load_or_rebuild(cached: Callable[[], Path]) -> Classifier:
    """Load a cached conversion; a damaged one is made anew, once."""
    path = cached()
    try:
        return load_classifier(path)
    except UserError:
        shutil.rmtree(path)
        return load_classifier(cached())


def run_gax(config: RunConfig, output: Path) -> RunSummary:
    """Run GAX over an image set into a store; the same call resumes a run that was cut off.

    Every image of the set ends with exactly one row.

    Raises:
        UserError: bad input; the output folder holds another run or is in use; nothing was
            classified correctly; the disk is full. What was committed stays.
    """
    classifier = open_classifier(config.model)
    images = open_images(config.data, num_classes=classifier.num_classes)
    check_image_size(classifier, config.data.size)
    stored = None if config.store.heatmaps == "none" else config.store.heatmaps
    shape = (config.data.size, config.data.size, 3)
    engine = Engine(
        classifier,
        config.gax,
        config.engine,
        image_shape=shape,
        heatmap_dtype=stored or np.float32,
        num_images=len(images.records),
    )
    device = engine.devices[0]
    identity = {
        **{name.replace("_", " "): value for name, value in to_dict(config.gax).items()},
        "precision": engine.objective.precision,
        "heatmaps": config.store.heatmaps,
        "model": f"{classifier.name} {classifier.fingerprint[:16]}",
        "size": config.data.size,
        "resize": config.data.resize,
        "data": f"{images.name} {images.fingerprint[:16]}",
    }
    header = {
        "config": to_dict(config),
        "model": {"name": classifier.name, "fingerprint": classifier.fingerprint}
        | {name: getattr(classifier, name) for name in ("num_classes", "mean", "std")},
        "data": {
            "name": images.name,
            "fingerprint": images.fingerprint,
            "num_images": len(images.records),
        },
        "status": "running",
    }
    with Store(
        output,
        identity=identity,
        header=header,
        image_shape=shape,
        heatmap_dtype=stored,
        num_images=len(images.records),
    ) as store:
        resumed = len(store.done)
        todo = [i for i, record in enumerate(images.records) if record.image_id not in store.done]
        if todo:
            earlier = store.header["sessions"]
            session = {
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "device": f"{len(engine.devices)} × {device.device_kind}",
                "platform": device.platform,
                "python": platform.python_version(),
                "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
            }
            store.write_header(sessions=[*earlier, session])
            try:
                _optimise(config, engine, images, todo, store)
            finally:
                store.write_header(sessions=[*earlier, session | engine.stats.summary()])
        if store.header["status"] != "complete":
            store.write_header(status="complete")
        outcomes = Counter(read_scores(output, columns=["outcome"])["outcome"].to_pylist())
    return RunSummary(output, outcomes, resumed, engine.stats if todo else None)


def _optimise(
    config: RunConfig, engine: Engine, images: ImageSet, todo: list[int], store: Store
) -> None:
    """Send the images through the engine and commit their results, part by part."""
    total = len(images.records)
    skip = set(range(total)) - set(todo)
    part: list[Result] = []
    part_started = time.monotonic()
    with (
        RunProgress(total, done=total - len(todo)) as progress,
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="store") as writer,
    ):
        engine.warm_up()
        source = batches(
            images,
            batch_size=engine.batch_size,
            threads=config.data.decode_threads,
            skip=skip,
        )
        writing: Future[None] | None = None
        try:
            with closing(engine.run(source)) as solutions:
                for solution in solutions:
                    interruption.check()
                    part.append(_result(images, solution))
                    progress.advance(engine.stats)
                    full = len(part) >= config.store.part_size
                    if full or time.monotonic() - part_started >= config.store.part_seconds:
                        # One commit at a time, while the device goes on.
                        _finish(writing)
                        # First emptied, then handed over: Ctrl-C in between must not commit twice.
                        whole, part = part, []
                        writing = writer.submit(store.commit, whole)
                        part_started = time.monotonic()
        finally:
            # Also after Ctrl-C or an error: what is finished is not lost.
            _finish(writing)
            _finish(writer.submit(store.commit, part))


def _finish(writing: Future[None] | None) -> None:
    if writing is None:
        return
    try:
        writing.result()
    except (OSError, ValueError) as error:  # TensorStore says ValueError for a full disk
        raise UserError(
            f"could not write results ({str(error).splitlines()[0]}): what was committed before "
            "is safe; mend it and give the same command again to resume"
        ) from error


def _result(images: ImageSet, solution: Solution) -> Result:
    record = images.records[solution.index]
    return Result(
        image_id=record.image_id,
        label=record.label,
        label_name=record.label_name,
        solution=replace(solution, label=record.label),
    )


def explain_nothing_correct(summary: RunSummary) -> str | None:
    """Return a line for the user when no image was optimised at all, else None."""
    if any(summary.outcomes[outcome] for outcome in (Outcome.REACHED, Outcome.STEP_LIMIT)):
        return None
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items())
    return (
        f"no image was optimised ({counts}): check that labels and model belong together, "
        "or give --include-misclassified"
    )
