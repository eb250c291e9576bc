"""The shell around the engines: images → engine → store, with progress and resume."""

import importlib.metadata
import platform
import time
from collections import Counter
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from gaxjax import interruption
from gaxjax.attribution.engine import AxEngine
from gaxjax.classifier import Classifier, check_image_size, open_classifier
from gaxjax.config import AxRunConfig, RunConfig, to_dict
from gaxjax.data import Batch, ImageSet, batches, find_image, open_images
from gaxjax.engine import Engine
from gaxjax.errors import UserError
from gaxjax.evaluate import baselines
from gaxjax.progress import RunProgress
from gaxjax.snapshot_store import SnapshotSummary, drop_snapshots
from gaxjax.snapshots import take_snapshots
from gaxjax.solution import Outcome, Solution
from gaxjax.stats import BatchStats, EngineStats
from gaxjax.store import Result, Store, read_scores

_PACKAGES = ("gaxjax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow", "tensorstore")
_TORCH_PACKAGES = ("torch", "torchvision", "captum")


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    Attributes:
        output: the run's folder.
        num_images: of the image set.
        outcomes: rows per outcome, over all sessions of the run.
        resumed: images that earlier sessions had done.
        stats: of this session; None when nothing was left to do.
        snapshots: which ones the run has, where some were asked for.
    """

    output: Path
    num_images: int
    outcomes: Counter[str]
    resumed: int
    stats: EngineStats | BatchStats | None
    snapshots: SnapshotSummary | None = None


@runtime_checkable
class _Worker(Protocol):
    """What turns batches into solutions: the GAX engine, or an AX engine of either backend."""

    stats: Any

    @property
    def batch_size(self) -> int: ...

    def warm_up(self) -> Any: ...

    def run(
        self, batches: Iterable[Batch]
    ) -> Generator[Solution, None, None] | Generator[list[Solution], None, None]: ...


def run_gax(config: RunConfig, output: Path) -> RunSummary:
    """Run GAX over an image set into a store; the same call resumes a run that was cut off.

    Every image of the set ends with exactly one row. Snapshots, where asked for, come last.

    Raises:
        UserError: bad input; the output folder holds another run or is in use; nothing was
            classified correctly; the disk is full. What was committed stays.
    """
    classifier = open_classifier(config.model)
    images = _chosen_images(config, classifier)
    for name in config.snapshots.snapshot_images:  # a wrong name is said before hours of work
        find_image(name, [record.image_id for record in images.records], config.data.data)
    engine = Engine(
        classifier,
        config.gax,
        config.engine,
        image_shape=(config.data.size, config.data.size, 3),
        heatmap_dtype=_heatmap_dtype(config),
        num_images=len(images.records),
    )
    method = to_dict(config.gax) | {"precision": engine.objective.precision}
    summary = _run(
        "gax", config, output, classifier, images, engine, method, device=_device(engine)
    )
    if not config.snapshots.most_images:
        return summary
    return replace(summary, snapshots=take_snapshots(engine, config.snapshots, images, output))


def run_ax(config: AxRunConfig, output: Path) -> RunSummary:
    """Score the heatmaps of existing methods over an image set into a store; resumes likewise.

    Every image of the set ends with exactly one row per method, layer and operation.

    Raises:
        UserError: as `run_gax`; no such layer; the captum backend without torch.
    """
    classifier = open_classifier(config.model, fold=False)
    images = _chosen_images(config, classifier)
    engine: Any
    if config.ax.backend == "captum":
        engine = _captum_engine(config, classifier)
        device = {"device": f"1 × {engine.device}", "platform": engine.device}
    else:
        engine = AxEngine(
            classifier,
            config.ax,
            config.batch,
            image_shape=(config.data.size, config.data.size, 3),
            heatmap_dtype=_heatmap_dtype(config),
            keep_heatmaps=config.store.heatmaps != "none",
        )
        device = _device(engine)
    method = to_dict(config.ax) | {
        "methods": list(config.ax.chosen_methods),
        "layers": [layer for _, layer in engine.wanted if layer],
        "precision": engine.stats.precision,
    }
    if "deep_lift" not in config.ax.chosen_methods:
        method = {name: value for name, value in method.items() if "deep_lift" not in name}
    return _run("ax", config, output, classifier, images, engine, method, device=device)


def _chosen_images(config: RunConfig | AxRunConfig, classifier: Classifier) -> ImageSet:
    """Open the images, which fit the classifier; only the first ones with `first_correct`."""
    images = open_images(config.data, num_classes=classifier.num_classes)
    check_image_size(classifier, config.data.size)
    wanted = config.first_correct
    if wanted is None:
        return images
    last = 0
    method = config.gax if isinstance(config, RunConfig) else config.ax
    for positions, labels, baseline in baselines(
        classifier, images, threads=config.data.decode_threads, score_space=method.score_space
    ):
        correct = positions[baseline.prediction == labels]
        if len(correct) >= wanted:
            last = int(correct[wanted - 1]) + 1
            break
        wanted -= len(correct)
    kept = images.records[: last or None]
    return replace(images, records=kept, name=f"the first {len(kept)} of {images.name}")


def _captum_engine(config: AxRunConfig, classifier: Classifier) -> Any:
    try:
        from gaxjax.reference.ax import CaptumEngine
        from gaxjax.reference.torch_classifier import open_torch_classifier
    except ImportError as error:
        raise UserError(
            f"--backend captum needs torch and captum, which do not import here ({error}): install "
            "gaxjax with its torch extra"
        ) from None
    return CaptumEngine(
        open_torch_classifier(config.model),
        config.ax,
        config.batch,
        heatmap_dtype=_heatmap_dtype(config),
        keep_heatmaps=config.store.heatmaps != "none",
    )


def _heatmap_dtype(config: RunConfig | AxRunConfig) -> Any:
    return np.dtype("float32" if config.store.heatmaps == "none" else config.store.heatmaps)


def _device(engine: Engine | AxEngine) -> dict[str, str]:
    device: jax.Device = engine.devices[0]
    return {
        "device": f"{len(engine.devices)} × {device.device_kind}",
        "platform": device.platform,
    }


def _run(
    command: str,
    config: RunConfig | AxRunConfig,
    output: Path,
    classifier: Classifier,
    images: ImageSet,
    worker: _Worker,
    method: dict[str, Any],
    *,
    device: dict[str, str],
) -> RunSummary:
    """Open the store, send what is left to do through the worker, and close the run."""
    stored = None if config.store.heatmaps == "none" else config.store.heatmaps
    identity = {
        "command": command,
        **{name.replace("_", " "): value for name, value in method.items()},
        "heatmaps": config.store.heatmaps,
        "model": f"{classifier.name} {classifier.fingerprint[:16]}",
        "size": config.data.size,
        "resize": config.data.resize,
        "data": f"{images.name} {images.fingerprint[:16]}",
    }
    if config.first_correct is not None:
        identity["first correct"] = config.first_correct
    header = {
        "command": command,
        "config": to_dict(_with_whole_paths(config)),
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
        image_shape=(config.data.size, config.data.size, 3),
        heatmap_dtype=stored,
        num_heatmaps=len(images.records) * len(getattr(worker, "wanted", ("gax",))),
    ) as store:
        resumed = len(store.done)
        todo = [i for i, record in enumerate(images.records) if record.image_id not in store.done]
        if todo:
            drop_snapshots(output)  # of images that are computed again
            earlier = store.header["sessions"]
            packages = _PACKAGES + _TORCH_PACKAGES * (method.get("backend") == "captum")
            session = {
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                **device,
                "python": platform.python_version(),
                "versions": {name: importlib.metadata.version(name) for name in packages},
            }
            store.write_header(sessions=[*earlier, session])
            try:
                _work(command.upper(), config, worker, images, todo, store)
            finally:
                store.write_header(sessions=[*earlier, session | worker.stats.summary()])
        missing = len(images.records) - len(store.done)
        assert not missing, f"{missing} images have no row"
        if store.header["status"] != "complete":
            store.write_header(status="complete")
        outcomes = Counter(read_scores(output, columns=["outcome"])["outcome"].to_pylist())
    return RunSummary(
        output, len(images.records), outcomes, resumed, worker.stats if todo else None
    )


def _with_whole_paths(config: RunConfig | AxRunConfig) -> RunConfig | AxRunConfig:
    """Spell out the paths of model and images, so that the run can be verified from anywhere."""

    def whole(name: str) -> str:
        return str(Path(name).resolve()) if Path(name).exists() else name

    labels = config.data.labels and config.data.labels.resolve()
    return replace(
        config,
        model=replace(config.model, model=whole(config.model.model)),
        data=replace(config.data, data=whole(config.data.data), labels=labels),
    )


def _work(
    name: str,
    config: RunConfig | AxRunConfig,
    worker: _Worker,
    images: ImageSet,
    todo: list[int],
    store: Store,
) -> None:
    """Send the images through the worker and commit their results, part by part."""
    total = len(images.records)
    skip = set(range(total)) - set(todo)
    part: list[Result] = []
    in_part = 0
    part_started = time.monotonic()
    with (
        RunProgress(name, total, done=total - len(todo)) as progress,
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="store") as writer,
    ):
        worker.warm_up()
        source = batches(
            images,
            batch_size=worker.batch_size,
            threads=config.data.decode_threads,
            skip=skip,
        )
        writing: Future[None] | None = None
        try:
            with closing(worker.run(source)) as found:
                for solutions in found:
                    interruption.check()
                    # One image's, whether of GAX or of several methods: committed together.
                    several = [solutions] if isinstance(solutions, Solution) else solutions
                    part += [_result(images, solution) for solution in several]
                    in_part += 1
                    progress.advance(worker.stats)
                    full = in_part >= config.store.part_size
                    if full or time.monotonic() - part_started >= config.store.part_seconds:
                        # One commit at a time, while the device goes on.
                        _finish(writing)
                        # First emptied, then handed over: Ctrl-C in between must not commit twice.
                        whole, part, in_part = part, [], 0
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


def explain_nothing_scored(summary: RunSummary) -> str | None:
    """Return a line for the user when AX scored no heatmap at all, else None."""
    if summary.outcomes[Outcome.SCORED]:
        return None
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items())
    return f"no heatmap was scored ({counts}): see the column reason, or give other --methods"


def explain_nothing_correct(summary: RunSummary) -> str | None:
    """Return a line for the user when no image was optimised at all, else None."""
    if any(summary.outcomes[outcome] for outcome in (Outcome.REACHED, Outcome.STEP_LIMIT)):
        return None
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items())
    return (
        f"no image was optimised ({counts}): check that labels and model belong together, "
        "or give --include-misclassified"
    )
