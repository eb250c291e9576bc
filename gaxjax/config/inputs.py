"""Which model, and which images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaxjax.common import spelt_out
from gaxjax.config.base import MOST_PIXELS, require, require_choices


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which classifier.

    Attributes:
        model: A checkpoint made by `gaxjax convert`, a torchvision name (resnet34, or
            resnet50:IMAGENET1K_V2), or a .pth or .safetensors state dict.
        architecture: Architecture of a state dict, where its keys do not tell.
        normalization: How a state dict's model wants its pixels. imagenet: torchvision's mean and
            std. none: as they are, in [0, 1]. auto: imagenet for a head of 1000 classes, none
            otherwise.
    """

    model: str
    architecture: str | None = None
    normalization: Literal["auto", "imagenet", "none"] = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", spelt_out(self.model, "--model"))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how a file becomes an array of pixels.

    Attributes:
        data: Images: a folder with one subfolder per class, a folder of splits (with --split), a
            flat folder (with --labels), a CSV file with the columns path and label (and split), a
            MedMNIST file such as pneumoniamnist_224.npz, or the built-in set `digits`.
        split: Split to take where --data is divided into splits: train, val or test. Labels do not
            depend on it.
        classes: Keep only images of these classes, by name, such as NORMAL; all when not given.
            Labels do not depend on it.
        labels: Labels of a flat ImageNet validation folder: Kaggle's LOC_val_solution.csv, or the
            devkit's ILSVRC2012_validation_ground_truth.txt with meta.mat beside it.
        size: Height and width of the decoded image, in pixels.
        resize: squash: resize to size × size, as the paper does. crop: resize the short
            side to --resize-size, then cut the centre.
        resize_size: Length of the short side before the centre crop, in pixels; --size when not
            given.
        num_images: Draw this many images at random; all when not given.
        seed: Seed of that draw.
        decode_threads: Threads that decode images ahead of the device.
    """

    data: str
    split: str | None = None
    classes: tuple[str, ...] = ()
    labels: Path | None = None
    size: int = 256
    resize: Literal["squash", "crop"] = "squash"
    resize_size: int | None = None
    num_images: int | None = None
    seed: int = 0
    decode_threads: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", spelt_out(self.data, "--data"))
        if self.labels is not None:
            object.__setattr__(self, "labels", spelt_out(self.labels, "--labels"))
        require_choices(self)
        require(isinstance(self.classes, tuple), "classes", self.classes, "a tuple of names")
        require(
            len(set(self.classes)) == len(self.classes),
            "classes",
            " ".join(self.classes),
            "without repetition",
        )
        require(
            1 <= self.size <= MOST_PIXELS, "size", self.size, f"from 1 to {MOST_PIXELS:,} pixels"
        )
        require(
            self.resize_size is None or self.resize == "crop",
            "resize_size",
            self.resize_size,
            "used together with --resize crop",
        )
        require(
            self.resize_size is None or self.resize_size >= self.size,
            "resize_size",
            self.resize_size,
            f"at least --size ({self.size}), or the crop would leave the image",
        )
        require(
            self.num_images is None or self.num_images >= 1,
            "num_images",
            self.num_images,
            "at least 1",
        )
        require(self.seed >= 0, "seed", self.seed, "at least 0")
        require(self.decode_threads >= 1, "decode_threads", self.decode_threads, "at least 1")
