"""Every setting and its default, once: frozen dataclasses, validated when made.

The command line's flags are generated from these classes, each run stores its config whole
(`to_dict`), and `from_dict` reads it back. Presets name whole settings.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from gaxjax.errors import UserError, nearest

ScoreSpace = Literal["normalized", "raw", "released"]
Operation = Literal["sum", "mult"]
Precision = Literal["auto", "float32", "bfloat16", "highest"]
Preset = Literal["default", "paper", "released"]
Method = Literal[
    "saliency",
    "input_x_gradient",
    "layer_grad_cam",
    "deconvolution",
    "guided_backprop",
    "deep_lift",
]
"""The existing methods that AX scores; Captum's names."""

METHODS: tuple[Method, ...] = typing.get_args(Method)
Wanted = tuple[Method, str | None]
"""A method, and the layer where it is layer_grad_cam."""

Pooling = Literal["captum", "complete"]

_MOST_STEPS = 1_000_000  # every slot keeps a curve of that length on the device

_T = TypeVar("_T")


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        flag = name.replace("_", "-")
        raise UserError(f"--{flag} must be {expected}; got {value}")


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
        _require(isinstance(self.classes, tuple), "classes", self.classes, "a tuple of names")
        _require(
            len(set(self.classes)) == len(self.classes),
            "classes",
            " ".join(self.classes),
            "without repetition",
        )
        _require(self.size >= 1, "size", self.size, "at least 1 pixel")
        _require(
            self.resize_size is None or self.resize == "crop",
            "resize_size",
            self.resize_size,
            "used together with --resize crop",
        )
        _require(
            self.resize_size is None or self.resize_size >= self.size,
            "resize_size",
            self.resize_size,
            f"at least --size ({self.size}), or the crop would leave the image",
        )
        _require(
            self.num_images is None or self.num_images >= 1,
            "num_images",
            self.num_images,
            "at least 1",
        )
        _require(self.seed >= 0, "seed", self.seed, "at least 0")
        _require(self.decode_threads >= 1, "decode_threads", self.decode_threads, "at least 1")


@dataclass(frozen=True, kw_only=True)
class GaxConfig:
    """What is optimised: the score, the heatmap, the loss and Adam (paper §3, eqs. 5 and 6).

    Attributes:
        score_space: Where the classifier sees its pixels. normalized: f(x) = net((x - mean) / std).
            raw: f(x) = net(x). released: baseline normalised, augmented image raw, as the released
            ImageNet code runs. All agree for a model without normalisation.
        operation: How the heatmap meets the image: sum is x + h, mult is x * h.
        bias: Use h = tanh(w * x + b), so that black pixels can move (the paper's X-ray setting).
        target: Stop an image as soon as its CO score is at least this.
        max_steps: Give an image up after this many updates and keep its best heatmap.
        learning_rate: Adam's learning rate.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        adam_eps: Adam's term against division by zero.
        similarity_factor: l_s, the weight of the similarity loss.
        similarity_eps: ε of the similarity loss, in pixel units (pixels lie in [0, 1]).
        initial_weight: Where every w starts.
        initial_bias: Where every b starts, with --bias.
        include_misclassified: Also optimise images that the model classifies wrongly; the paper
            leaves them out.
    """

    score_space: ScoreSpace = "normalized"
    operation: Operation = "sum"
    bias: bool = False
    target: float = 48.0
    max_steps: int = 1000
    learning_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    similarity_factor: float = 100.0
    similarity_eps: float = 1e-4
    initial_weight: float = 1.0
    initial_bias: float = 0.01
    include_misclassified: bool = False

    def __post_init__(self) -> None:
        finite = float("inf")
        _require(abs(self.target) < finite, "target", self.target, "a finite number")
        _require(
            0 <= self.max_steps <= _MOST_STEPS,
            "max_steps",
            self.max_steps,
            f"from 0 to {_MOST_STEPS:,}",
        )
        _require(
            0 < self.learning_rate < finite,
            "learning_rate",
            self.learning_rate,
            "a finite number above 0",
        )
        _require(0 <= self.beta1 < 1, "beta1", self.beta1, "in [0, 1)")
        _require(0 <= self.beta2 < 1, "beta2", self.beta2, "in [0, 1)")
        _require(0 < self.adam_eps < finite, "adam_eps", self.adam_eps, "above 0")
        _require(
            0 <= self.similarity_factor < finite,
            "similarity_factor",
            self.similarity_factor,
            "a finite number, at least 0",
        )
        for name in ("initial_weight", "initial_bias"):
            value = getattr(self, name)
            _require(abs(value) < finite, name, value, "a finite number")
        _require(0 < self.similarity_eps < finite, "similarity_eps", self.similarity_eps, "above 0")


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
        fits = self.slots is None or self.slots == "auto" or self.slots >= 1
        _require(fits, "slots", self.slots, "at least 1, or auto")
        _require(self.devices is None or self.devices >= 1, "devices", self.devices, "at least 1")


@dataclass(frozen=True, kw_only=True)
class AxConfig:
    """Which existing methods are scored, and how (paper §3, "AX": augmentative explanation).

    A heatmap is the attribution for the predicted class, divided by its own largest magnitude;
    its CO score is taken for the groundtruth class.

    Attributes:
        methods: The methods to score. All are signed, saliency too (Captum's default is not).
        operation: How the heatmap meets the image: sum is x + h, mult is x * h, both scores each
            heatmap twice.
        backend: jax: native and batched. captum: Captum in torch, the reference.
        score_space: Where the classifier sees its pixels. normalized: f(x) = net((x - mean) / std)
            and heatmaps belong to x. raw: f(x) = net(x). released: the image is normalised first,
            and heatmap, baseline and score all live there, as the released ImageNet code runs. All
            agree for a model without normalisation.
        layers: Layers for layer_grad_cam by name, such as conv1, layer1 or features.3; the first
            convolution when not given.
        deep_lift_baseline: Value of every pixel of DeepLift's baseline image, in the units of the
            score space.
        deep_lift_pooling: DeepLift's rule for overlapping max pools. captum: Captum's, which drops
            shares where one cell wins several windows. complete: all shares count, so that
            attributions sum to f(x) - f(baseline).
    """

    methods: tuple[Method | Literal["all"], ...] = ("all",)
    operation: Operation | Literal["both"] = "both"
    backend: Literal["jax", "captum"] = "jax"
    score_space: ScoreSpace = "normalized"
    layers: tuple[str, ...] = ()
    deep_lift_baseline: float = 0.0
    deep_lift_pooling: Pooling = "captum"

    def __post_init__(self) -> None:
        for name, choices in {
            "operation": ("sum", "mult", "both"),
            "backend": ("jax", "captum"),
            "score_space": typing.get_args(ScoreSpace),
            "deep_lift_pooling": typing.get_args(Pooling),
        }.items():
            value = getattr(self, name)
            _require(value in choices, name, value, f"one of {', '.join(choices)}")
        _require(isinstance(self.methods, tuple), "methods", self.methods, "a tuple of names")
        known = (*METHODS, "all")
        for method in self.methods:
            _require(method in known, "methods", method, f"among {', '.join(known)}")
        _require(len(self.methods) > 0, "methods", "none", "at least one")
        for name in ("methods", "layers"):
            given = getattr(self, name)
            _require(len(set(given)) == len(given), name, " ".join(given), "without repetition")
        _require(
            not self.layers or "layer_grad_cam" in self.chosen_methods,
            "layers",
            " ".join(self.layers),
            "used together with the method layer_grad_cam",
        )
        _require(
            abs(self.deep_lift_baseline) < float("inf"),
            "deep_lift_baseline",
            self.deep_lift_baseline,
            "a finite number",
        )

    @property
    def chosen_methods(self) -> tuple[Method, ...]:
        """The methods without repetition, in the order of `METHODS`."""
        return tuple(name for name in METHODS if name in self.methods or "all" in self.methods)

    def wanted(self, layers: Sequence[str]) -> tuple[Wanted, ...]:
        """Return the methods, with one entry per layer of layer_grad_cam."""
        return tuple(
            (method, layer)
            for method in self.chosen_methods
            for layer in (layers if method == "layer_grad_cam" else (None,))
        )

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations, one or both."""
        return ("sum", "mult") if self.operation == "both" else (self.operation,)


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
        for name in ("batch_size", "devices"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "at least 1")


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """What is kept, and how often it is committed.

    Attributes:
        heatmaps: Type of the stored heatmaps. The stored score is that of the heatmap as stored.
        part_size: Commit the results after this many images.
        part_seconds: Commit the results after this many seconds, even when --part-size is not
            reached.
    """

    heatmaps: Literal["float16", "float32", "none"] = "float16"
    part_size: int = 256
    part_seconds: float = 60.0

    def __post_init__(self) -> None:
        _require(self.part_size >= 1, "part_size", self.part_size, "at least 1")
        _require(self.part_seconds > 0, "part_seconds", self.part_seconds, "above 0 seconds")


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
        _require(self.snapshots >= 0, "snapshots", self.snapshots, "at least 0")
        _require(self.snapshot_every >= 1, "snapshot_every", self.snapshot_every, "at least 1")
        for score in self.snapshot_scores:
            _require(abs(score) < float("inf"), "snapshot_scores", score, "finite numbers")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One bulk GAX run: model, images, method, engine, store, snapshots.

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
    engine: EngineConfig = field(default_factory=EngineConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    snapshots: SnapshotConfig = field(default_factory=SnapshotConfig)
    preset: Preset = "default"
    first_correct: int | None = None

    def __post_init__(self) -> None:
        wanted = self.first_correct
        _require(wanted is None or wanted >= 1, "first_correct", wanted, "at least 1")


@dataclass(frozen=True, kw_only=True)
class AxRunConfig:
    """One bulk AX run: model, images, methods, batches, store.

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
    preset: Preset = "default"
    first_correct: int | None = None

    def __post_init__(self) -> None:
        wanted = self.first_correct
        _require(wanted is None or wanted >= 1, "first_correct", wanted, "at least 1")


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
        for name in ("size", "batch_size", "validate_every", "decode_threads", "max_iterations"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("seed", "min_iterations"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        _require(
            self.min_iterations <= self.max_iterations,
            "min_iterations",
            self.min_iterations,
            f"at most --max-iterations ({self.max_iterations})",
        )
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        _require(0 < self.validation < 1, "validation", self.validation, "between 0 and 1")
        _require(
            0 < self.validation_accuracy <= 1,
            "validation_accuracy",
            self.validation_accuracy,
            "above 0 and at most 1",
        )
        finite = float("inf")
        for name in ("learning_rate", "adam_eps"):
            value = getattr(self, name)
            _require(0 < value < finite, name, value, "a finite number above 0")
        _require(
            0 <= self.weight_decay < finite,
            "weight_decay",
            self.weight_decay,
            "a finite number, at least 0",
        )


AX_PRESETS: dict[Preset, AxConfig] = {
    "default": AxConfig(),
    "paper": AxConfig(score_space="raw"),
    "released": AxConfig(score_space="released"),
}

PRESETS: dict[Preset, GaxConfig] = {
    "default": GaxConfig(),
    # Paper §3, "Achieving high s_co with GAX": raw [0, 1] pixels, target 48, Adam at 0.1.
    "paper": GaxConfig(score_space="raw"),
    # The released ImageNet quick commands: baseline on normalised pixels, x + h raw, target 15.
    "released": GaxConfig(score_space="released", target=15.0),
}


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config into plain JSON values; `from_dict` is the inverse.

    Example:
        >>> from_dict(GaxConfig, to_dict(GaxConfig(target=15.0))).target
        15.0
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(config))


def from_dict(config_type: type[_T], values: Mapping[str, Any]) -> _T:
    """Rebuild a config from `to_dict`'s output.

    Raises:
        UserError: an unknown key (the nearest name is suggested) or an impossible value.
    """
    hints = typing.get_type_hints(config_type)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise UserError(
            f"unknown setting {unknown[0]!r} for {config_type.__name__}"
            + nearest(unknown[0], hints)
        )

    def rebuild(hint: Any, value: Any) -> Any:
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            return from_dict(typing.cast(Any, hint), value)
        members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if Path in members and isinstance(value, str):
            return Path(value)
        if isinstance(value, list):  # JSON has no tuples
            return tuple(value)
        if hint is float and isinstance(value, int):
            return float(value)
        return value

    return config_type(**{name: rebuild(hints[name], value) for name, value in values.items()})
