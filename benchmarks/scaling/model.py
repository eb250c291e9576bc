"""Images a second of so many workers, from what the parts of a run were measured to cost.

With n workers, N images, a device of r images a second, c seconds of a worker's own processor for
committing an image, and slices of m images:

    start   imports + network + compiling + reading what is there + n turns at the run's lock
    work    M max(1 / r, c, n b / B) for the M images of the worker that has most; b bytes an
            image, B bytes a second that the storage takes from all together
    slices  the time of `slots` images at the end of each slice, while slots empty
    last    c for the images of the last commit, which no device works beside
    end     reading the rows of all parts, twice, + n turns at the run's lock

Images a second are N over their sum. A commit is hidden behind the device as long as c < 1 / r.
"""

import math
from dataclasses import dataclass
from typing import Any

from gaxjax.runs.ray_run import slices_of


@dataclass(frozen=True)
class Costs:
    """What the parts of a run cost, in seconds.

    Attributes:
        start: a worker's imports, network and compiling.
        commit: of an image. bytes_per_image: of them in the store.
        part: reading the rows of one part. lock: a turn at the run's lock.
        driver_slice: what the driver computes for a slice. driver_call: a call of a worker.
    """

    start: float
    commit: float
    bytes_per_image: float
    part: float
    lock: float
    driver_slice: float = 0.0
    driver_call: float = 0.0


@dataclass(frozen=True)
class Setting:
    """A run to be foreseen.

    Attributes:
        images: of the run.
        rate: of a device, images a second.
        part_size: images a commit.
        slots: images that a device has at once.
        store: bytes a second that the storage takes from all workers; no limit when not given.
        there: parts that the run has when it is begun, as where it is gone on with.
        driver: whether a driver hands out slices; else each worker has one.
    """

    images: int
    rate: float
    part_size: int = 256
    slots: int = 256
    store: float | None = None
    there: int = 0
    driver: bool = False


def foreseen(costs: Costs, setting: Setting, workers: int) -> dict[str, Any]:
    """Return the seconds of each kind, images a second, and the share of the devices' best."""
    slices = -(-setting.images // workers)
    count = 1
    if setting.driver:
        divided = [len(each) for each in _divided(setting, workers)]
        count = -(-len(divided) // workers)
        slices = max(divided)
    mine = min(setting.images, count * slices)
    parts = setting.there + math.ceil(setting.images / setting.part_size)
    device, storage = 1 / setting.rate, 0.0
    if setting.store is not None:
        storage = workers * costs.bytes_per_image / setting.store
    slowest = max(device, costs.commit, storage)
    seconds = {
        "start": costs.start + setting.there * costs.part + workers * costs.lock,
        "work": mine * slowest,
        "slices": count * min(setting.slots, slices) / setting.rate,
        "last": min(setting.part_size, mine) * costs.commit,
        "end": 2 * parts * costs.part + workers * costs.lock,
    }
    total = sum(seconds.values())
    named = {device: "devices", costs.commit: "commits", storage: "storage"}
    return {
        "workers": workers,
        "seconds": seconds,
        "total_seconds": total,
        "images_per_s": setting.images / total,
        "of_ideal": setting.images / total / (workers * setting.rate),
        "limit": named[slowest],
    }


def _divided(setting: Setting, workers: int) -> list[list[int]]:
    return slices_of(list(range(setting.images)), workers, setting.slots)


def limits(costs: Costs, setting: Setting) -> dict[str, float]:
    """Return where each part of a run becomes the limit.

    Returns:
        commit_rate: images a second of one worker above which commits are the limit.
        bytes_per_s: what each worker gives the storage at the device's rate.
        files_per_s: files that each worker makes, a part and a shard a commit.
        slices_per_s: slices that the driver could hand out, asking 64 workers once a second.
        workers_at_1_gb_per_s: workers that fill a storage of 1 GB a second.
        end_seconds: reading the rows of all parts at the end.
    """
    per_second = setting.rate * costs.bytes_per_image
    spare = max(0.0, 1 - 64 * costs.driver_call)
    slice_seconds = costs.driver_slice + 2 * costs.driver_call
    return {
        "commit_rate": 1 / costs.commit,
        "bytes_per_s": per_second,
        "files_per_s": 2 * setting.rate / setting.part_size,
        "slices_per_s": spare / slice_seconds if slice_seconds else math.inf,
        "workers_at_1_gb_per_s": 1e9 / per_second,
        "end_seconds": 2 * costs.part * setting.images / setting.part_size,
    }
