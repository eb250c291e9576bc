"""A training, whole."""

from dataclasses import dataclass
from typing import Literal

from gaxjax.common import spelt_out
from gaxjax.config.base import MOST_PIXELS, require, require_types


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How a classifier is trained (paper §3, "Experimental Method and Datasets").

    Attributes:
        data: Images in splits: a folder with train, test and perhaps val, each holding one folder
            per class; a CSV file with the columns path, label and split; or a MedMNIST .npz file.
        architecture: Backbone by name, such as resnet34 or alexnet; it gets a new head.
        weights: What the backbone starts from: a checkpoint made by `gaxjax convert`, a
            torchvision name, or a state dict, without its head; at random when not given.
        head_bias: Give the new head a bias; the paper's has none.
        normalization: How pixels enter the network. none: as they are, in [0, 1], as the paper's
            X-ray models take them. imagenet: by torchvision's mean and std.
        size: Height and width of the images, in pixels.
        resize: squash: resize to size × size, as the paper does. crop: resize the short side to
            size, then cut the centre.
        pixel_max: Value that is white in grey images of 16 or 32 bits, such as 4095 for X-rays of
            12 bits; 65535 for 16 bits when not given.
        validation: Share of a folder's training and validation images that becomes the new
            validation split, per class.
        seed: Seed of the split, the new weights, the batches and dropout.
        learning_rate: Adam's learning rate.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        adam_eps: Adam's term against division by zero.
        weight_decay: Factor of the weights added to their gradients (the paper: none; the released
            code: 1e-5).
        batch_size: Images per iteration, drawn with replacement.
        validate_every: Validate, and keep the state for resuming, after this many iterations.
        validation_accuracy: Stop as soon as the validation accuracy is at least this: 0.99 for the
            paper's variant _1, 0.8 for its _sub.
        min_iterations: Never stop before so many iterations.
        max_iterations: Stop after so many iterations in any case.
        precision: Arithmetic of training: float32, or TF32 where a GPU has it; highest: float32.
        decode_threads: Threads that decode images.
    """

    data: str
    architecture: str = "resnet34"
    weights: str | None = None
    head_bias: bool = False
    normalization: Literal["none", "imagenet"] = "none"
    size: int = 256
    resize: Literal["squash", "crop"] = "squash"
    pixel_max: int | None = None
    validation: float = 0.2
    seed: int = 0
    learning_rate: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.999
    adam_eps: float = 1e-8
    weight_decay: float = 0.0
    batch_size: int = 32
    validate_every: int = 100
    validation_accuracy: float = 0.99
    min_iterations: int = 2400
    max_iterations: int = 240_000
    precision: Literal["float32", "highest"] = "float32"
    decode_threads: int = 4

    def __post_init__(self) -> None:
        require_types(self)
        object.__setattr__(self, "data", spelt_out(self.data, "--data"))
        if self.weights is not None:
            object.__setattr__(self, "weights", spelt_out(self.weights, "--weights"))
        for name in ("size", "batch_size", "validate_every", "decode_threads", "max_iterations"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(
            self.pixel_max is None or 1 <= self.pixel_max < 2**31,
            "pixel_max",
            self.pixel_max,
            "at least 1, such as 4095",
        )
        require(self.size <= MOST_PIXELS, "size", self.size, f"at most {MOST_PIXELS:,} pixels")
        for name in ("seed", "min_iterations"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name, bits in (("seed", 63), ("max_iterations", 31)):
            value = getattr(self, name)
            require(value < 2**bits, name, value, f"below 2**{bits}")
        require(
            self.min_iterations <= self.max_iterations,
            "min_iterations",
            self.min_iterations,
            f"at most --max-iterations ({self.max_iterations})",
        )
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        require(0 < self.validation < 1, "validation", self.validation, "between 0 and 1")
        require(
            0 < self.validation_accuracy <= 1,
            "validation_accuracy",
            self.validation_accuracy,
            "above 0 and at most 1",
        )
        endless = float("inf")
        for name in ("learning_rate", "adam_eps"):
            value = getattr(self, name)
            require(0 < value < endless, name, value, "a finite number above 0")
        require(
            0 <= self.weight_decay < endless,
            "weight_decay",
            self.weight_decay,
            "a finite number, at least 0",
        )
