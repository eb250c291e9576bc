"""The shell around the engines: images → engine → store, with progress and resume."""

import importlib.metadata
import platform
import time
from collections import Counter
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gaxjax.ax import BatchStats
from gaxjax.common import NotWrittenError, RunProgress, UserError, interruption
from gaxjax.config import AxRunConfig, GaxRunConfig, to_dict
from gaxjax.data import Batch, ImageSet, batches
from gaxjax.gax import EngineStats
from gaxjax.models import Classifier
from gaxjax.results import (
    Result,
    SnapshotSummary,
    Solution,
    Store,
    drop_snapshots,
    keep_image_list,
    read_scores,
)

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
class Engine(Protocol):
    """What turns images into solutions: `GaxEngine`, `AxEngine`, or one of your own.

    Attributes:
        stats: what was done, for progress and run.json.
    """

    stats: Any

    @property
    def batch_size(self) -> int:
        """Images per batch that `run` works on best."""
        ...

    @property
    def heatmaps_per_image(self) -> int:
        """The most heatmaps that one image's solutions hold."""
        ...

    @property
    def hardware(self) -> dict[str, str]:
        """`device`, a number and a name, and `platform`: cpu, gpu, cuda."""
        ...

    def warm_up(self) -> object:
        """Compile everything; `run` does it when it was not done before."""
        ...

    def run(self, batches: Iterable[Batch]) -> Generator[list[Solution], None, None]:
        """Yield each image's solutions, in any order; every image has some, also unreadable ones.

        Closing the generator ends the work.
        """
        ...


def heatmap_dtype(config: GaxRunConfig | AxRunConfig) -> Any:
    """Return the type in which a run hands out and scores its heatmaps."""
    return np.dtype("float32" if config.store.heatmaps == "none" else config.store.heatmaps)


def run_engine(
    command: str,
    config: GaxRunConfig | AxRunConfig,
    output: Path,
    classifier: Classifier,
    images: ImageSet,
    engine: Engine,
    method: dict[str, Any],
) -> RunSummary:
    """Open the store, send what is left to do through an engine, and close the run.

    Args:
        command: gax or ax.
        config: the run's.
        output: the folder.
        classifier: the model, for the header.
        images: the image set.
        engine: what turns its images into solutions.
        method: settings that make two runs the same; others may change between sessions.

    Raises:
        UserError: the folder holds another run or is in use; results cannot be written.
    """
    stored = None if config.store.heatmaps == "none" else config.store.heatmaps
    decoding = config.data.decoding
    identity = {
        "command": command,
        **{name.replace("_", " "): value for name, value in method.items()},
        "heatmaps": config.store.heatmaps,
        "model": f"{classifier.name} {classifier.fingerprint[:16]}",
        "size": decoding.size,
        "resize": decoding.resize,
        "data": f"{images.name} {images.fingerprint[:16]}",
    }
    if decoding.interpolation != "bilinear":  # runs of before there were others have no word of it
        identity["interpolation"] = decoding.interpolation
    if config.first_correct is not None:
        identity["first correct"] = config.first_correct
    header = {
        "command": command,
        "config": to_dict(_with_whole_paths(config)),
        "model": {"name": classifier.name, "fingerprint": classifier.fingerprint}
        | {name: getattr(classifier, name) for name in ("num_classes", "mean", "std")}
        | {"class_names": classifier.class_names, "assumptions": dict(classifier.assumptions)},
        "data": {
            "name": images.name,
            "fingerprint": images.fingerprint,
            "num_images": len(images.records),
            "labels_from": images.labels_from,
            "notes": images.notes,
        },
        "status": "running",
    }
    with Store(
        output,
        identity=identity,
        header=header,
        image_shape=(images.size, images.size, 3),
        heatmap_dtype=stored,
        num_images=len(images.records),
        heatmaps_per_part=config.store.part_size * engine.heatmaps_per_image,
    ) as store:
        keep_image_list(output, images)
        resumed = len(store.done)
        todo = [i for i, record in enumerate(images.records) if record.image_id not in store.done]
        if todo:
            drop_snapshots(output)  # of images that are computed again
            packages = _PACKAGES + _TORCH_PACKAGES * (method.get("backend") == "captum")
            session = {
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                **engine.hardware,
                "python": platform.python_version(),
                "versions": {name: importlib.metadata.version(name) for name in packages},
            }
            store.header.begin_session(session)
            interruption.raise_once()
            try:
                _work(command.upper(), config, engine, images, todo, store)
            except BaseException:
                with suppress(UserError):  # what happened first is what is told
                    store.header.update_session(engine.stats.summary())
                raise
            store.header.update_session(engine.stats.summary())
        missing = len(images.records) - len(store.done)
        assert not missing, f"{missing} images have no row"
        if store.header["status"] != "complete":
            store.header.write(status="complete")
        outcomes = Counter(read_scores(output, columns=["outcome"])["outcome"].to_pylist())
    return RunSummary(
        output, len(images.records), outcomes, resumed, engine.stats if todo else None
    )


def _with_whole_paths(config: GaxRunConfig | AxRunConfig) -> GaxRunConfig | AxRunConfig:
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
    config: GaxRunConfig | AxRunConfig,
    engine: Engine,
    images: ImageSet,
    todo: list[int],
    store: Store,
) -> None:
    """Send the images through the engine and commit their results, part by part."""
    total = len(images.records)
    skip = set(range(total)) - set(todo)
    part: list[Result] = []
    in_part = 0
    part_started = time.monotonic()
    with (
        RunProgress(name, total, done=total - len(todo)) as progress,
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
            with closing(engine.run(source)) as found:
                for solutions in found:
                    interruption.check()
                    part += [_result(images, solution) for solution in solutions]
                    in_part += 1
                    progress.advance(engine.stats)
                    full = in_part >= config.store.part_size
                    if full or time.monotonic() - part_started >= config.store.part_seconds:
                        # One commit at a time, while the device goes on.
                        _finish(writing)
                        # First emptied, then handed over: a stop in between must not commit twice.
                        whole, part, in_part = part, [], 0
                        writing = writer.submit(store.commit, whole)
                        part_started = time.monotonic()
        finally:
            # Also after a signal or an error: what is finished is not lost.
            _finish(writing)
            _finish(writer.submit(store.commit, part))


def _finish(writing: Future[None] | None) -> None:
    if writing is None:
        return
    try:
        writing.result()
    except (OSError, ValueError) as error:  # TensorStore says ValueError for a full disk
        raise NotWrittenError(
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
