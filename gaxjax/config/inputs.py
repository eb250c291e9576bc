"""Which model, and which images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gaxjax.common import UserError, spelt_out
from gaxjax.config.base import MOST_PIXELS, require, require_types
from gaxjax.config.decoding import Decoding, Interpolation, Resize, chosen_decoding, require_cut

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
"""torchvision's normalisation of RGB pixels in [0, 1]."""


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
        mean: What is subtracted from red, green and blue pixels in [0, 1], of any model: in place
            of what it declares or what would be assumed. Together with --std.
        std: What they are divided by then.
        ema: Take the averaged weights (EMA) of a file that holds both.
        binary: Make two logits, 0 and z, of a file's head with one logit z: class 0 is the
            negative, class 1 the positive.
    """

    model: str
    architecture: str | None = None
    normalization: Literal["auto", "imagenet", "none"] = "auto"
    mean: Triple | None = None
    std: Triple | None = None
    ema: bool = False
    binary: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        object.__setattr__(self, "model", spelt_out(self.model, "--model"))
        require_normalization(self.normalization, self.mean, self.std)

    def refuse_file_flags(self, what: str) -> None:
        """Refuse the flags that are for a file of weights alone.

        Args:
            what: the model that needs none of them, for the message.

        Raises:
            UserError: one of them is given.
        """
        if self.architecture is not None or self.normalization != "auto":
            raise UserError(
                f"{what} knows its architecture and normalisation: leave out --architecture and "
                "--normalization, or give --mean and --std in place of its own"
            )
        if self.ema or self.binary:
            flag = "--ema" if self.ema else "--binary"
            raise UserError(
                f"{what} holds one set of weights: leave out {flag}, which is for the torch file "
                f"(gaxjax convert FILE {flag})"
            )


def require_normalization(normalization: str, mean: Triple | None, std: Triple | None) -> None:
    """Refuse a mean and std that cannot be those of pixels in [0, 1].

    Args:
        normalization: auto, imagenet or none; with mean and std given it must be auto.
        mean: per channel, or None.
        std: likewise.

    Raises:
        UserError: one without the other, not three finite numbers, a std of 0 or below, numbers in
            units of 0 to 255, or two settings that contradict each other.
    """
    if mean is None and std is None:
        return
    if mean is None or std is None:
        given, missing = ("--std", "--mean") if mean is None else ("--mean", "--std")
        raise UserError(f"{given} is given without {missing}; they come together")
    for name, values in (("mean", mean), ("std", std)):
        fits = len(values) == 3 and all(math.isfinite(value) for value in values)
        require(fits, name, _spoken(values), "three finite numbers: red, green, blue")
    require(min(std) > 0, "std", _spoken(std), "above 0")
    if max(mean) > 1 or max(std) > 1:
        mended = [_spoken([value / 255 for value in values]) for values in (mean, std)]
        raise UserError(
            f"--mean {_spoken(mean)} --std {_spoken(std)} are in units of 0 to 255, pixels "
            f"here are in [0, 1]; divided by 255: --mean {mended[0]} --std {mended[1]}"
        )
    if normalization != "auto":
        raise UserError(
            f"--normalization {normalization} and --mean with --std say two things: leave one out"
        )


def _spoken(values: Sequence[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how a file becomes an array of pixels.

    Attributes:
        data: Images: a folder with one subfolder per class, a folder of splits (with --split), a
            flat folder (with --labels), a CSV file with the columns path and label (and split),
            Parquet files as Hugging Face's datasets have them or tar archives (a file, a folder of
            them, 'val-*.parquet', 'shard-{000..012}.tar'), each also by URL (s3://, gs://, hf://,
            https://); a MedMNIST file such as pneumoniamnist_224.npz, or the built-in set `digits`.
        split: Split to take where --data is divided into splits: train, val or test. Labels do not
            depend on it.
        classes: Keep only images of these classes, by name, such as NORMAL; all when not given.
            Labels do not depend on it.
        labels: Labels of a flat ImageNet validation folder, or of the archive it came in: Kaggle's
            LOC_val_solution.csv, or the devkit's ILSVRC2012_validation_ground_truth.txt with
            meta.mat beside it.
        label_by: How labels become classes. names: by the model's class names. indices: as the
            numbers they are, from 0. order: in sorted order, as torchvision's ImageFolder numbers
            class folders. auto: whichever fits alone; where two readings differ, one must be named.
        size: Height and width of the decoded image, in pixels; what the model was made for when
            not given, else 256.
        resize: squash: resize to size × size, as the paper does. crop: resize the short
            side to --resize-size, then cut the centre. The model's own when not given, else squash.
        resize_size: Side before the centre is cut, in pixels: of crop the short one, of squash
            both. The model's own when not given, else --size.
        interpolation: Filter of resizing, as Pillow has it. The model's own when not given, else
            bilinear.
        pixel_max: Value that is white in grey images of 16 or 32 bits, such as 4095 for X-rays of
            12 bits; 65535 for 16 bits when not given.
        num_images: Draw this many images at random; all when not given.
        seed: Seed of that draw.
        decode_threads: Threads that decode images ahead of the device; at least 16 read by URL.
    """

    data: str
    split: str | None = None
    classes: tuple[str, ...] = ()
    labels: Path | None = None
    label_by: Literal["auto", "names", "indices", "order"] = "auto"
    size: int | None = None
    resize: Resize | None = None
    resize_size: int | None = None
    interpolation: Interpolation | None = None
    pixel_max: int | None = None
    num_images: int | None = None
    seed: int = 0
    decode_threads: int = 4

    def __post_init__(self) -> None:
        require_types(self)
        object.__setattr__(self, "data", spelt_out(self.data, "--data"))
        if self.labels is not None:
            object.__setattr__(self, "labels", spelt_out(self.labels, "--labels"))
        require(
            len(set(self.classes)) == len(self.classes),
            "classes",
            " ".join(self.classes),
            "without repetition",
        )
        require(
            self.size is None or 1 <= self.size <= MOST_PIXELS,
            "size",
            self.size,
            f"from 1 to {MOST_PIXELS:,} pixels",
        )
        if self.resize_size is not None:
            require_cut(self.size or 1, self.resize_size)
        require(
            self.pixel_max is None or 1 <= self.pixel_max < 2**31,
            "pixel_max",
            self.pixel_max,
            "at least 1, such as 4095",
        )
        require(
            self.num_images is None or self.num_images >= 1,
            "num_images",
            self.num_images,
            "at least 1",
        )
        require(self.seed >= 0, "seed", self.seed, "at least 0")
        require(self.decode_threads >= 1, "decode_threads", self.decode_threads, "at least 1")

    @property
    def decoding(self) -> Decoding:
        """Every setting of decoding, with the paper's where none is given."""
        return self._chosen(None, {})

    def resolved(self, input_size: int | None, decoding: Mapping[str, Any]) -> "DataConfig":
        """Return a config whose decoding is whole: as given, else the model's, else the paper's.

        Args:
            input_size: height and width of the images that the model was made for, where known.
            decoding: the model's own `resize`, `resize_size` and `interpolation`, where known.

        Raises:
            UserError: a `resize_size` that was given is below the model's size.

        Example:
            >>> DataConfig(data="d").resolved(224, {"interpolation": "bicubic"}).size
            224
        """
        return replace(self, **asdict(self._chosen(input_size, decoding)))

    def _chosen(self, input_size: int | None, own: Mapping[str, Any]) -> Decoding:
        return chosen_decoding(
            size=self.size,
            resize=self.resize,
            resize_size=self.resize_size,
            interpolation=self.interpolation,
            input_size=input_size,
            own=own,
        )
