"""python -m benchmarks soak: a long run of small images, and whether its memory stays as it is.

Engine, shell and store are the real ones; only the images are made up as they are asked for, so
that their number is free.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.measure.machine import commit, machine
from benchmarks.measure.rows import Row, append_row, rounded
from benchmarks.measure.run import BENCHMARKS
from gaxjax.common import interruptions
from gaxjax.config import (
    DataConfig,
    EngineConfig,
    GaxConfig,
    GaxRunConfig,
    ModelConfig,
    StoreConfig,
    to_dict,
)
from gaxjax.data import HostImage, ImageRecord, ImageSet

CLASSES = 10
WARM_UP = 0.3
"""Of the images: allocators and caches fill up before memory can be flat."""
FLAT = 512
"""Bytes an image that memory may grow by: its id and its place are kept, its pixels are not. A
heatmap of 16 x 16 in float16 has 1536."""


@dataclass(frozen=True)
class Soak:
    """Run GAX over many small images; tell whether memory, open files and threads stay flat.

    Attributes:
        images: How many.
        minutes: Stop, as by Ctrl-C, after so many of work.
        size: Height and width of the images, in pixels.
        max_steps: Updates of each.
        slots: Images side by side.
        part_size: Images in each part of the store.
        every: Seconds between samples.
        folder: Keep the run there; it is removed when not given.
        output: File of rows; benchmarks/results/soak.jsonl by default.
    """

    images: int = 100_000
    minutes: float | None = None
    size: int = 16
    max_steps: int = 2
    slots: int = 128
    part_size: int = 256
    every: float = 2.0
    folder: Path | None = None
    output: Path = BENCHMARKS / "results" / "soak.jsonl"


def soak(command: Soak) -> Row:
    """Run it, append its row, and say in a line what it found."""
    from flax import nnx

    from gaxjax.gax import GaxEngine
    from gaxjax.models import as_classifier, build
    from gaxjax.runs.shell import Plan, run_engine

    config = GaxRunConfig(
        model=ModelConfig(model="small_resnet"),
        data=DataConfig(data="soak", size=command.size),
        gax=GaxConfig(target=1e9, max_steps=command.max_steps, include_misclassified=True),
        engine=EngineConfig(slots=command.slots),
        store=StoreConfig(part_size=command.part_size),
    )
    net = build("small_resnet", num_classes=CLASSES, rngs=nnx.Rngs(0))
    classifier = as_classifier(net, num_classes=CLASSES, fingerprint="soak")
    engine = GaxEngine(
        classifier,
        config.gax,
        config.engine,
        image_shape=(command.size, command.size, 3),
        heatmap_dtype=np.dtype(np.float16),
        num_images=command.images,
    )
    sampler = Sampler(engine, command.every, command.minutes)
    with tempfile.TemporaryDirectory(prefix="gaxjax-soak-") as kept, interruptions() as stopped:
        sampler.start()
        try:
            images = _images(command.images, command.size)
            plan = Plan("gax", config, classifier, images, to_dict(config.gax))
            run_engine(plan, command.folder or Path(kept) / "run", engine)
        except KeyboardInterrupt:
            if not (stopped() and sampler.out_of_time):
                raise
        finally:
            sampler.finish()
    row = _row(command, sampler)
    append_row(rounded(row), command.output)
    print(describe(row))
    return row


def describe(row: Row) -> str:
    """Return what a row found, in a line."""
    per_image, low, high = (row["bytes_per_image"][name] for name in ("slope", "low", "high"))
    rss = row["samples"]["rss_mb"]
    return (
        f"{row['num_images']:,} images in {row['seconds']:,.0f} s: memory "
        f"{'is flat' if row['flat'] else 'GROWS'}, {per_image:,.0f} bytes an image "
        f"({low:,.0f} to {high:,.0f}, 95%) after the first {WARM_UP:.0%}; resident "
        f"{rss[0]:,.0f} MB at first, {max(rss):,.0f} at most, {rss[-1]:,.0f} in the end; "
        f"{max(row['samples']['files'])} open files and {max(row['samples']['threads'])} threads "
        "at most"
    )


def growth(images: list[int], rss: list[float]) -> dict[str, float]:
    """Return the slope of the memory, in bytes an image, and the bounds of its 95% interval.

    Theil and Sen's, the median over all pairs of samples: a step, as allocators take, hardly moves
    it, growth that goes on does.
    """
    from scipy import stats

    after = [i for i, done in enumerate(images) if done >= WARM_UP * images[-1]]
    if len(after) < 3:
        return dict.fromkeys(("slope", "low", "high"), float("nan"))
    x, y = ([values[i] for i in after] for values in (images, rss))
    found = stats.theilslopes(y, x, 0.95)
    values = found.slope, found.low_slope, found.high_slope
    return dict(zip(("slope", "low", "high"), map(float, values), strict=True))


def _row(command: Soak, sampler: "Sampler") -> Row:
    samples = sampler.samples
    found = growth(samples["images"], [1e6 * each for each in samples["rss_mb"]])
    return {
        "workload": "soak",
        "suite": "soak",
        "key": f"soak/{command.images}",
        **machine(),
        "size": command.size,
        "max_steps": command.max_steps,
        "slots": command.slots,
        "part_size": command.part_size,
        "num_images": samples["images"][-1],
        "seconds": samples["seconds"][-1],
        "bytes_per_image": found,
        "flat": found["high"] < FLAT,
        "samples": samples,
        "commit": commit(),
    }


class Sampler(threading.Thread):
    """Looks at this process every few seconds, and stops it when its time is over.

    Args:
        engine: whose `stats.settled` images are done.
        every: seconds.
        minutes: stop the process, as by Ctrl-C, after so many of work.
    """

    def __init__(self, engine: Any, every: float, minutes: float | None = None) -> None:
        super().__init__(name="sampler", daemon=True)
        names = ("seconds", "images", "rss_mb", "files", "threads")
        self.samples: dict[str, list[Any]] = {name: [] for name in names}
        self.out_of_time = False
        self._engine, self._every, self._minutes = engine, every, minutes
        self._process = psutil.Process()
        self._begun = time.monotonic()
        self._over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        minutes = self._minutes
        while not self._over.wait(self._every):
            if not self._engine.stats.settled:  # it still compiles
                self._begun = time.monotonic()
                continue
            self._sample()
            worked = time.monotonic() - self._begun
            if minutes is not None and worked > 60 * minutes and not self.out_of_time:
                self.out_of_time = True
                os.kill(os.getpid(), signal.SIGINT)

    def finish(self) -> None:
        """Look a last time."""
        self._over.set()
        self.join()
        self._sample()

    def _sample(self) -> None:
        with self._process.oneshot():
            told = {
                "seconds": round(time.monotonic() - self._begun, 1),
                "images": self._engine.stats.settled,
                "rss_mb": round(self._process.memory_info().rss / 1e6, 2),
                "files": self._process.num_fds(),
                "threads": self._process.num_threads(),
            }
        for name, value in told.items():
            self.samples[name].append(value)


def _images(count: int, size: int) -> ImageSet:
    """Return so many images that are made of their number when they are read."""

    def read(image_id: str) -> HostImage:
        random = np.random.default_rng(int(image_id.removeprefix("soak/")))
        return random.integers(0, 256, (size, size, 3), dtype=np.uint8)

    return made_up_images("soak", count, size, read)


def made_up_images(name: str, count: int, size: int, read: Callable[[str], HostImage]) -> ImageSet:
    """Return so many images `NAME/00000000` and on, that a function gives by their ids."""
    return ImageSet(
        records=tuple(ImageRecord(f"{name}/{i:08d}", i % CLASSES, "") for i in range(count)),
        num_classes=CLASSES,
        label_names=None,
        fingerprint=f"{name} {count} {size}",
        name=f"{count:,} made-up images",
        size=size,
        labels_from="their numbers",
        notes=(),
        num_bytes=np.zeros(count, np.int64),
        read=read,
    )
