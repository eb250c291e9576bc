"""What is measured, one contender at one workload, and what a contender must be able to do."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Workload = Literal[
    "device_check",
    "fixed_steps",
    "to_target",
    "end_to_end",
    "attribution",
    "slots",
    "images",
    "devices",
    "first_result",
    "permutation",
    "profile",
]
NetworkPrecision = Literal["float32", "tf32", "bfloat16", "highest"]
Fields = dict[str, Any]
"""Part of a row: plain values for JSON."""

CHECKED_IMAGES, CHECKED_UPDATES = 2, 3
"""The scores by which contenders are compared before they are timed."""

OTHER_MODELS = ("squeezenet1_0", "alexnet", "resnet50", "vgg16")
"""What the suites measure beside ResNet34."""

IMPORTED_MODELS = ("mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_16", "densenet121")
"""What is imported from torch as a graph of its operations."""

TARGET, UNREACHABLE = 48.0, 1e9
"""The score that ends an image in `to_target`, and one that none reaches."""


@dataclass(frozen=True)
class Measurement:
    """One row to measure.

    Attributes:
        workload: what is done; see benchmarks/README.md.
        contender: who does it.
        model: a name of `gaxjax.models.architectures`, or of `IMPORTED_MODELS`.
        size: height and width of the images.
        precision: of the network; tf32 is torch's alone, highest JAX's.
        slots: images side by side, per device.
        num_images: images per turn.
        max_steps: most updates per image; in `fixed_steps` every image gets just as many.
        score_space: normalized or raw.
        devices: local devices, simulated on a CPU.
        turns: timed turns.
        warm_up_turns: turns before them, which do not count.
        repeat: 1 for the same measurement once more, to show the machine's noise.
        most_seconds: on a GPU, what compiling and all turns may take before the next one's turn.
    """

    workload: Workload
    contender: str
    model: str = "resnet34"
    size: int = 256
    precision: NetworkPrecision = "float32"
    slots: int = 8
    num_images: int = 8
    max_steps: int = 5
    score_space: Literal["normalized", "raw"] = "normalized"
    devices: int = 1
    turns: int = 3
    warm_up_turns: int = 1
    repeat: int = 0
    most_seconds: int = 180

    @property
    def group(self) -> str:
        """Name of what is measured together, so that its rows may be compared."""
        return f"{self.workload}/{self.model}-{self.size}-{self.score_space}"

    @property
    def key(self) -> str:
        """Name of the row, one of a kind in a suite."""
        again = "/again" if self.repeat else ""
        return (
            f"{self.group}/{self.contender}/{self.precision}/{self.devices}x{self.slots}"
            f"/{self.num_images}x{self.max_steps}{again}"
        )

    @property
    def framework(self) -> Literal["torch", "jax"]:
        """Whose process it is, and who may take an accelerator's memory there."""
        peers = ("torch", "released", "captum")
        return "torch" if self.contender.startswith(peers) else "jax"

    def as_fields(self) -> Fields:
        """Return the settings as part of a row."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Turn:
    """What one timed turn did.

    Attributes:
        seconds: wall clock, until the device was done.
        image_steps: forward passes with input gradient, each of one image; 0 where there are none.
        images: images finished; in `to_target` without those that nobody optimises.
    """

    seconds: float
    image_steps: int
    images: int


class Contestant(Protocol):
    """A contender at its workload, in a process of its own.

    Making one may import and load, but must not touch an accelerator: the next contestant is made
    while this one is timed.
    """

    def prepare(self) -> Fields:
        """Compile, warm up, and say so.

        Returns:
            `compile_seconds`: everything that happens once, before the first steady step, loading
            included.
            `scores`: CO scores of the first `CHECKED_IMAGES` images after 0, 1, ...
            `CHECKED_UPDATES` updates, for workloads that optimise; they are held against torch in
            float64 before anything is timed.
            Other fields go into the row as they are.
        """

    def turn(self) -> Turn:
        """Do the work of `num_images` images once, and time it."""

    def finish(self) -> Fields:
        """Return what is known only now, such as peak_device_bytes or a histogram of steps."""
