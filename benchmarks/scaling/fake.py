"""Images that are made up, and a device that only takes the time: all but the store is free."""

import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.soak import made_up_images
from gaxjax.common import Timed
from gaxjax.config import DataConfig, GaxRunConfig, ModelConfig, SpreadConfig, StoreConfig
from gaxjax.data import Batch, HostImage, ImageSet
from gaxjax.models import Classifier
from gaxjax.results import Outcome, Solution
from gaxjax.runs.shell import Plan

CLASSES = 10
_DIFFERENT = 64  # heatmaps, used in turn


@dataclass
class FakeStats(Timed):
    """What a fake device did."""

    settled: int = 0
    rate: float = 0.0

    def describe(self) -> str:
        """Return the progress line's figures."""
        return f"{self.settled:,} images"

    def summary(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"seconds": self.seconds, "compile_seconds": self.compile_seconds}


@dataclass
class FakeEngine:
    """An `Engine` whose device sleeps for as long as a batch takes.

    Attributes:
        size: height and width of the heatmaps.
        rate: images a second; 0 takes no time.
        batch_size: images at a time.
        start: seconds until it is warm.
        drain: seconds in which its slots empty, at the end of each call of `run`.
    """

    size: int
    rate: float = 0.0
    batch_size: int = 256
    start: float = 0.0
    drain: float = 0.0
    stats: FakeStats = field(default_factory=FakeStats)
    heatmaps_per_image: int = 1
    _warm: bool = False

    def __post_init__(self) -> None:
        self._heatmaps = heatmaps(_DIFFERENT, self.size)

    @property
    def hardware(self) -> dict[str, str]:
        """None."""
        return {"device": "1 × simulated", "platform": "none"}

    def warm_up(self) -> None:
        """Sleep as long as compiling takes, once."""
        if not self._warm:
            time.sleep(self.start)
        self._warm = True

    def run(self, batches: Iterable[Batch]) -> Generator[list[Solution], None, None]:
        """Yield a solution for each image, when the device would have it."""
        self.warm_up()
        self.stats.clock()
        due = time.monotonic()
        with closing(iter(batches)) as source:  # type: ignore[type-var]
            for batch in source:
                if self.rate:
                    # A device works on while the host commits: it is late, never early.
                    due = (
                        max(due, time.monotonic() - 1 / self.rate) + len(batch.indices) / self.rate
                    )
                    time.sleep(max(0.0, due - time.monotonic()))
                for index in batch.indices.tolist():
                    yield [self._solution(index)]
                    self.stats.settled += 1
                self.stats.clock()
        time.sleep(self.drain)

    def _solution(self, index: int) -> Solution:
        correct = index * 7919 % 10 < 7
        label = index % CLASSES
        before = (index * 104_729 % 1000) / 1000
        return Solution(
            index=index,
            outcome=Outcome.REACHED if correct else Outcome.MISCLASSIFIED,
            label=label,
            prediction=label if correct else (label + 1) % CLASSES,
            steps=5,
            co_score=48.0 + 3 * before if correct else 50 * before,
            co_score_start=before,
            similarity_loss=0.1,
            probability_before=before,
            probability_after=1.0,
            prediction_after=label,
            curve=np.array([0.0, 10.0, 20.0, 30.0, 40.0, 48.0], np.float32),
            # An array of its own: the store keeps one row for each.
            heatmap=self._heatmaps[index % _DIFFERENT].copy(),
        )


def heatmaps(count: int, size: int) -> np.ndarray:
    """Return heatmaps as a few updates of GAX leave them: tanh(w x), each w a few equal steps.

    float16, as they are stored; noise in `x` makes them about as hard to compress as photographs'.
    """
    random = np.random.default_rng(0)
    shape = (count, size, size, 3)
    x = random.normal(0, 1, shape).astype(np.float32)
    w = 1 + 0.1 * random.integers(-5, 6, shape)
    return np.tanh(w * x).astype(np.float16)


def fake_images(count: int, size: int) -> ImageSet:
    """Return so many images, all of which are black."""
    black = np.zeros((size, size, 3), np.uint8)

    def read(image_id: str) -> HostImage:
        return black

    return made_up_images("fake", count, size, read)


def fake_plan(
    images: ImageSet, *, part_size: int = 256, part_seconds: float = 60.0, shard: str | None = None
) -> Plan:
    """Return a run of GAX over such images, of a classifier that is never asked."""
    config = GaxRunConfig(
        model=ModelConfig(model="fake"),
        data=DataConfig(data="fake", size=images.size, decode_threads=1),
        store=StoreConfig(part_size=part_size, part_seconds=part_seconds),
        spread=SpreadConfig(shard=shard),
    )
    classifier = Classifier(
        lambda weights, pixels: pixels, (), CLASSES, name="fake", fingerprint="fake"
    )
    return Plan("gax", config, classifier, images, {})
