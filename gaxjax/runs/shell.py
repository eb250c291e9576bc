"""The shell around the engines: images → engine → store, with progress and resume."""

import importlib.metadata
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gaxjax.common import (
    AnyPath,
    NotWrittenError,
    RunProgress,
    Timed,
    UserError,
    interruption,
    is_url,
)
from gaxjax.config import AxRunConfig, GaxRunConfig, SpreadConfig, to_dict
from gaxjax.data import Batch, ImageSet, batches, is_pattern
from gaxjax.models import Classifier
from gaxjax.results import (
    Result,
    SnapshotSummary,
    Solution,
    Store,
    drop_snapshots,
    keep_image_list,
)
from gaxjax.runs.slices import Slice, chosen_slice

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
        missing: images that have no rows yet: those of slices that others do.
    """

    output: AnyPath
    num_images: int
    outcomes: Counter[str]
    resumed: int
    stats: Timed | None
    snapshots: SnapshotSummary | None = None
    missing: int = 0


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


@dataclass(frozen=True)
class Plan:
    """What a run is, before anything is computed.

    Attributes:
        command: gax or ax.
        config: the run's.
        classifier: the model.
        images: the image set.
        method: settings that make two runs the same; others may change between sessions.
    """

    command: str
    config: GaxRunConfig | AxRunConfig
    classifier: Classifier
    images: ImageSet
    method: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for the run to be gone on with."""
        config, images, classifier = self.config, self.images, self.classifier
        decoding = config.data.decoding
        identity = {
            "command": self.command,
            **{name.replace("_", " "): value for name, value in self.method.items()},
            "heatmaps": config.store.heatmaps,
            "model": f"{classifier.name} {classifier.fingerprint[:16]}",
            "size": decoding.size,
            "resize": decoding.resize,
            "data": f"{images.name} {images.fingerprint[:16]}",
        }
        if decoding.interpolation != "bilinear":  # runs of before there were others have no word
            identity["interpolation"] = decoding.interpolation
        if config.first_correct is not None:
            identity["first correct"] = config.first_correct
        return identity

    def header(self) -> dict[str, Any]:
        """Return what run.json tells of it, for people and reports."""
        config, images, classifier = self.config, self.images, self.classifier
        return {
            "command": self.command,
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

    def open_store(
        self,
        output: AnyPath,
        heatmaps_per_image: int,
        *,
        writer: int = 0,
        writers: int = 1,
        side_by_side: bool = False,
    ) -> Store:
        """Open the run's folder; arguments as for `Store`.

        Raises:
            UserError: as by `Store`.
        """
        config, images = self.config, self.images
        return Store(
            output,
            identity=self.identity(),
            header=self.header(),
            image_shape=(images.size, images.size, 3),
            heatmap_dtype=None if config.store.heatmaps == "none" else config.store.heatmaps,
            num_images=len(images.records),
            heatmaps_per_part=config.store.part_size * heatmaps_per_image,
            writer=writer,
            writers=writers,
            side_by_side=side_by_side,
        )

    def session(self, hardware: dict[str, str], **more: Any) -> dict[str, Any]:
        """Return what run.json tells of a session that begins now."""
        packages = _PACKAGES + _TORCH_PACKAGES * (self.method.get("backend") == "captum")
        return {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **hardware,
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
            **more,
        }


def run_engine(plan: Plan, output: AnyPath, engine: Engine) -> RunSummary:
    """Open the store, send what is left to do through an engine, and close the run.

    With `config.spread.shard` that is one slice of the images, beside processes that do others.

    Args:
        plan: the run.
        output: the folder.
        engine: what turns its images into solutions.

    Raises:
        UserError: the folder holds another run or is in use; results cannot be written.
    """
    images = plan.images
    part = chosen_slice(plan.config.spread.shard)
    mine = Slice(0, 1) if part is None else part
    begins, ends = mine.bounds(len(images.records))
    with plan.open_store(
        output,
        engine.heatmaps_per_image,
        writer=mine.index,
        writers=mine.count,
        side_by_side=part is not None,
    ) as store:
        with store.changing():
            keep_image_list(output, images)
        resumed = len(store.done)
        wanted = images.order()[begins:ends]
        todo = [i for i in wanted if images.records[i].image_id not in store.done]
        if todo:
            drop_snapshots(output)  # of images that are computed again
            told = {} if part is None else {"shard": f"{part.index}/{part.count}"}
            store.begin_session(plan.session(engine.hardware, **told))
            interruption.raise_once()
            try:
                with RunProgress(
                    plan.command.upper(), len(wanted), done=len(wanted) - len(todo)
                ) as progress:
                    work(plan, engine, todo, store.commit, lambda: progress.advance(engine.stats))
            except BaseException:
                with suppress(UserError):  # what happened first is what is told
                    store.end_session(engine.stats.summary())
                raise
            store.end_session(engine.stats.summary())
        missing = store.complete(len(images.records))
        assert part is not None or not missing, f"{missing} images have no row"
    stats = engine.stats if todo else None
    return RunSummary(output, len(images.records), store.outcomes, resumed, stats, missing=missing)


def _with_whole_paths(config: GaxRunConfig | AxRunConfig) -> GaxRunConfig | AxRunConfig:
    """Spell out the paths of model and images, so that the run can be verified from anywhere."""

    def whole(name: str) -> str:
        if is_url(name):
            return name
        if is_pattern(name) and not Path(name).exists():
            return os.path.abspath(name)
        return str(Path(name).resolve()) if Path(name).exists() else name

    labels = config.data.labels and config.data.labels.resolve()
    return replace(
        config,
        spread=SpreadConfig(),  # a session's, not the run's
        model=replace(config.model, model=whole(config.model.model)),
        data=replace(config.data, data=whole(config.data.data), labels=labels),
    )


def work(
    plan: Plan,
    engine: Engine,
    todo: Sequence[int],
    commit: Callable[[list[Result]], object],
    advance: Callable[[], object],
) -> None:
    """Send images through the engine and commit their results, part by part.

    Args:
        plan: the run.
        engine: what turns images into solutions.
        todo: positions of the images, in the order in which they are read.
        commit: writes results; is called in a thread, one call at a time.
        advance: called for every image that is done.

    Raises:
        NotWrittenError: results cannot be written.
        KeyboardInterrupt: after a signal; what was finished is committed.
    """
    config, images = plan.config, plan.images
    part: list[Result] = []
    in_part = 0
    part_started = time.monotonic()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="store") as writer:
        engine.warm_up()
        source = batches(
            images,
            batch_size=engine.batch_size,
            threads=config.data.decode_threads,
            only=todo,
        )
        writing: Future[object] | None = None
        try:
            with closing(engine.run(source)) as found:
                for solutions in found:
                    interruption.check()
                    part += [_result(images, solution) for solution in solutions]
                    in_part += 1
                    advance()
                    full = in_part >= config.store.part_size
                    if full or time.monotonic() - part_started >= config.store.part_seconds:
                        # One commit at a time, while the device goes on.
                        _finish(writing)
                        # First emptied, then handed over: a stop in between must not commit twice.
                        whole, part, in_part = part, [], 0
                        writing = writer.submit(commit, whole)
                        part_started = time.monotonic()
        finally:
            # Also after a signal or an error: what is finished is not lost.
            _finish(writing)
            _finish(writer.submit(commit, part))


def _finish(writing: Future[object] | None) -> None:
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
