"""A bulk run, whole: inputs, method, how it computes, what it stores."""

from dataclasses import dataclass, field, replace
from typing import Literal

from gaxjax.common import UserError
from gaxjax.config.base import Precision, Preset, require, require_types
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig, GaxConfig
from gaxjax.config.spread import SpreadConfig
from gaxjax.config.sweep import SweepConfig


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How fast: nothing here changes what a score means.

    Attributes:
        precision: Arithmetic of the network while optimising: float32, bfloat16, or highest
            (float32 without TF32 on a GPU and without Winograd's convolutions on a CPU). auto:
            bfloat16 on a GPU, float32 elsewhere. Stored scores are always re-evaluated in float32
            at the highest precision.
        slots: Images optimised side by side on each device; chosen from the memory when not given.
            auto: by a sweep of about a minute, remembered for this device and model.
        devices: Local devices to use; all when not given.
        drain: Shrink through smaller slot counts when fewer images than slots remain.
    """

    precision: Precision = "auto"
    slots: int | Literal["auto"] | None = None
    devices: int | None = None
    drain: bool = True

    def __post_init__(self) -> None:
        require_types(self)
        fits = self.slots is None or self.slots == "auto" or self.slots >= 1
        require(fits, "slots", self.slots, "at least 1, or auto")
        require(self.devices is None or self.devices >= 1, "devices", self.devices, "at least 1")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How attributions are batched: nothing here changes what a score means.

    Attributes:
        precision: Arithmetic of the attributions. highest: float32. float32: float32, or TF32
            where a GPU has it. Scores are always computed in float32 at the highest precision.
        batch_size: Images side by side on each device; 16 on a CPU and 64 elsewhere when not
            given.
        devices: Local devices to use; all when not given.
    """

    precision: Literal["highest", "float32"] = "highest"
    batch_size: int | None = None
    devices: int | None = None

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("batch_size", "devices"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """What is kept, and how often it is committed.

    Attributes:
        heatmaps: Type of the stored heatmaps. The stored score is that of the heatmap as stored.
        part_size: Commit the results after this many images.
        part_seconds: Commit the results after this many seconds, even when --part-size is not
            reached.
        changed_images: What to do where images of the run are others now than when it was begun:
            refuse to go on, or skip those, which then are unreadable, and go on with the rest.
    """

    heatmaps: Literal["float16", "float32", "none"] = "float16"
    part_size: int = 256
    part_seconds: float = 60.0
    changed_images: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        require_types(self)
        require(self.part_size >= 1, "part_size", self.part_size, "at least 1")
        require(self.part_seconds > 0, "part_seconds", self.part_seconds, "above 0 seconds")


@dataclass(frozen=True, kw_only=True)
class SnapshotConfig:
    """Heatmaps along the way, of a few images; nothing here changes what a run finds.

    Attributes:
        snapshots: Keep heatmaps along the way for this many images: the first that were optimised,
            in the order of their names. A finished run gets them when its command is given again.
        snapshot_images: Also for these images, by id or an ending that only one image has.
        snapshot_every: One after every so many updates; also the first, the last and the stored
            one.
        snapshot_scores: CO scores: also the first step whose score is at least each.
    """

    snapshots: int = 0
    snapshot_images: tuple[str, ...] = ()
    snapshot_every: int = 5
    snapshot_scores: tuple[float, ...] = ()

    @property
    def most_images(self) -> int:
        """How many images get some, at most."""
        return self.snapshots + len(self.snapshot_images)

    def __post_init__(self) -> None:
        require_types(self)
        require(self.snapshots >= 0, "snapshots", self.snapshots, "at least 0")
        require(self.snapshot_every >= 1, "snapshot_every", self.snapshot_every, "at least 1")
        for score in self.snapshot_scores:
            require(abs(score) < float("inf"), "snapshot_scores", score, "finite numbers")


@dataclass(frozen=True, kw_only=True)
class GaxRunConfig:
    """One bulk GAX run: model, images, method, settings to sweep, engine, store, snapshots, spread.

    Attributes:
        preset: Whole settings by name; flags given besides override them. default: as documented
            here. paper: the paper's text (score space raw). released: the released ImageNet code's
            quick commands (score space released, target 15).
        first_correct: Stop at the n-th image that the model classifies correctly, in the order of
            their names; all when not given.
    """

    model: ModelConfig
    data: DataConfig
    gax: GaxConfig = field(default_factory=GaxConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    snapshots: SnapshotConfig = field(default_factory=SnapshotConfig)
    spread: SpreadConfig = field(default_factory=SpreadConfig)
    preset: Preset = "default"
    first_correct: int | None = None

    def __post_init__(self) -> None:
        require_types(self)
        wanted = self.first_correct
        require(wanted is None or wanted >= 1, "first_correct", wanted, "at least 1")
        self.sweep.check(self.gax)
        if self.sweep.sweep and self.snapshots.most_images:
            raise UserError(
                "--snapshots are taken of a run with one setting: leave out either them or --sweep"
            )
        drawn = self.sweep.sweep_images
        if drawn is not None:
            asked = self.data.num_images
            if asked not in (None, drawn):
                raise UserError(f"--num-images {asked} and --sweep-images {drawn}: give one")
            object.__setattr__(self, "data", replace(self.data, num_images=drawn))
        spread = self.spread.shard or self.spread.ray
        if spread is not None and self.snapshots.most_images:
            raise UserError(
                "--snapshots are taken of a whole run by one process: leave them out, and give the "
                "command again with them, without --shard and --ray, when all is done"
            )


@dataclass(frozen=True, kw_only=True)
class AxRunConfig:
    """One bulk AX run: model, images, methods, batches, store, spread.

    Attributes:
        preset: Whole settings by name; flags given besides override them. default: as documented
            here. paper: the paper's text (score space raw). released: the released ImageNet code
            (score space released).
        first_correct: Stop at the n-th image that the model classifies correctly, in the order of
            their names; all when not given.
    """

    model: ModelConfig
    data: DataConfig
    ax: AxConfig = field(default_factory=AxConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    spread: SpreadConfig = field(default_factory=SpreadConfig)
    preset: Preset = "default"
    first_correct: int | None = None

    def __post_init__(self) -> None:
        require_types(self)
        wanted = self.first_correct
        require(wanted is None or wanted >= 1, "first_correct", wanted, "at least 1")
