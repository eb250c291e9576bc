"""Over which processes a run's images are spread."""

import re
from dataclasses import dataclass

from gaxjax.common import UserError
from gaxjax.config.base import require, require_types

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})|auto(/\d{1,9})?")


@dataclass(frozen=True, kw_only=True)
class SpreadConfig:
    """Many processes for one run; nothing here changes what a run finds.

    Attributes:
        shard: Do slice i of n of the images, such as 0/8 to 7/8, beside processes that do the
            others into the same --output. auto: the slice of this task of a Slurm array. auto/8:
            that of this pod of a Kubernetes job with 8 completions.
        ray: Have workers on a Ray cluster do it: its address, or auto for the one that this machine
            belongs to, else one of its own cores and GPUs.
        workers: How many workers; as many as the cluster has devices for when not given.
        devices_per_worker: GPUs that each worker holds; one where the cluster has some when not
            given, and else none.
    """

    shard: str | None = None
    ray: str | None = None
    workers: int | None = None
    devices_per_worker: int | None = None

    def __post_init__(self) -> None:
        require_types(self)
        if self.shard is not None:
            found = _SHARD.fullmatch(self.shard)
            expected = "i/n with i from 0 to n - 1, such as 0/8, or auto, or auto/8"
            require(found is not None, "shard", self.shard, expected)
            count = self.shard.rpartition("/")[2]
            require(count == "auto" or int(count) >= 1, "shard", self.shard, "at least one slice")
            if found is not None and found[1] is not None:
                fits = int(found[1]) < int(found[2])
                last = int(found[2]) - 1
                require(fits, "shard", self.shard, f"from 0/{found[2]} to {last}/{found[2]}")
            if self.ray is not None:
                raise UserError(
                    f"--shard {self.shard} and --ray {self.ray} both divide the images: leave one "
                    "out"
                )
        for name in ("workers", "devices_per_worker"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        if self.ray is None and (self.workers or self.devices_per_worker):
            flag = "--workers" if self.workers is not None else "--devices-per-worker"
            raise UserError(f"{flag} goes with --ray, such as --ray auto")
