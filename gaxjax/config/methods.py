"""How heatmaps are made and scored: GAX and the existing methods, with their presets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gaxjax.config.base import (
    METHODS,
    Curves,
    GeneratorName,
    Method,
    Operation,
    Pooling,
    Preset,
    ScoreName,
    ScoreSpace,
    Wanted,
    require,
    require_types,
)
from gaxjax.config.optimizers import Optimizer, parse_arguments

_MOST_STEPS = 1_000_000  # every slot keeps a curve of that length on the device


@dataclass(frozen=True, kw_only=True)
class GaxConfig:
    """What is optimised: the score, the heatmap, the loss, and how (paper §3, eqs. 5 and 6).

    Attributes:
        score_space: Where the classifier sees its pixels. normalized: f(x) = net((x - mean) / std).
            raw: f(x) = net(x). released: baseline normalised, augmented image raw, as the released
            ImageNet code runs. All agree for a model without normalisation.
        score: Of what the CO score is taken. logits: the paper's. log_softmax: the same score, for
            κ sums to zero. softmax: of probabilities, bounded by C / (C - 1): give a --target
            below it, such as 0.9; its gradient vanishes where the classifier is sure.
        operation: How the heatmap meets the image: sum is x + h, mult is x * h.
        bias: Use h = tanh(w * x + b), so that black pixels can move (the paper's X-ray setting).
        target: Stop an image as soon as its CO score is at least this.
        max_steps: Give an image up after this many updates and keep its best heatmap.
        optimizer: What updates w, each image by itself: one of optax's. The paper's is Adam.
        optimizer_arguments: Arguments of the optimizer beside the learning rate by optax's names,
            such as momentum=0.9 nesterov=true for sgd. Adam's first three are the next settings.
        learning_rate: The optimizer's learning rate.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        adam_eps: Adam's term against division by zero.
        similarity_factor: l_s, the weight of the similarity loss.
        similarity_eps: ε of the similarity loss, in pixel units (pixels lie in [0, 1]).
        total_variation_factor: Weight of the total variation of h in the loss, a mean over pixels
            and channels: smoother heatmaps. 0 leaves it out, as the paper does.
        initial_weight: Where every w starts.
        initial_bias: Where every b starts, with --bias.
        generator: How w becomes the heatmap. pixel: h = tanh(w * x), the paper's. smooth: w is
            blurred by a Gaussian before it meets x. coarse: w is a small grid, resized to the image
            bilinearly. With --bias b is made as w is.
        sigma: Of the smooth generator, the Gaussian's standard deviation in pixels.
        grid: Of the coarse generator, the cells of w along each side.
        include_misclassified: Also optimise images that the model classifies wrongly; the paper
            leaves them out.
    """

    score_space: ScoreSpace = "normalized"
    score: ScoreName = "logits"
    operation: Operation = "sum"
    bias: bool = False
    target: float = 48.0
    max_steps: int = 1000
    optimizer: Optimizer = "adam"
    optimizer_arguments: tuple[str, ...] = ()
    learning_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    similarity_factor: float = 100.0
    similarity_eps: float = 1e-4
    total_variation_factor: float = 0.0
    initial_weight: float = 1.0
    initial_bias: float = 0.01
    generator: GeneratorName = "pixel"
    sigma: float = 2.0
    grid: int = 14
    include_misclassified: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        endless = float("inf")
        require(abs(self.target) < endless, "target", self.target, "a finite number")
        require(
            0 <= self.max_steps <= _MOST_STEPS,
            "max_steps",
            self.max_steps,
            f"from 0 to {_MOST_STEPS:,}",
        )
        require(
            0 < self.learning_rate < endless,
            "learning_rate",
            self.learning_rate,
            "a finite number above 0",
        )
        require(0 <= self.beta1 < 1, "beta1", self.beta1, "in [0, 1)")
        require(0 <= self.beta2 < 1, "beta2", self.beta2, "in [0, 1)")
        require(0 < self.adam_eps < endless, "adam_eps", self.adam_eps, "above 0")
        for name in ("similarity_factor", "total_variation_factor"):
            value = getattr(self, name)
            require(0 <= value < endless, name, value, "a finite number, at least 0")
        for name in ("initial_weight", "initial_bias"):
            value = getattr(self, name)
            require(abs(value) < endless, name, value, "a finite number")
        require(0 < self.similarity_eps < endless, "similarity_eps", self.similarity_eps, "above 0")
        require(0 < self.sigma < endless, "sigma", self.sigma, "a finite number above 0")
        require(self.grid >= 1, "grid", self.grid, "at least 1")
        for generator, name in (("smooth", "sigma"), ("coarse", "grid")):
            if self.generator != generator:
                self._require_usual(name, f"left out but with --generator {generator}")
        if self.optimizer != "adam":
            for name in ("beta1", "beta2", "adam_eps"):
                expected = (
                    f"left out with --optimizer {self.optimizer}, whose arguments are given by "
                    "--optimizer-arguments"
                )
                self._require_usual(name, expected)
        parse_arguments(self.optimizer, self.optimizer_arguments)

    def _require_usual(self, name: str, expected: str) -> None:
        usual = type(self).__dataclass_fields__[name].default
        require(getattr(self, name) == usual, name, getattr(self, name), expected)

    @property
    def optimizer_keywords(self) -> dict[str, Any]:
        """Arguments of optax's function of that name, beside the learning rate."""
        given = parse_arguments(self.optimizer, self.optimizer_arguments)
        if self.optimizer != "adam":
            return given
        return {"b1": self.beta1, "b2": self.beta2, "eps": self.adam_eps, **given}


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
        score: Of what the CO score is taken. logits: the paper's. log_softmax: the same score, for
            κ sums to zero. softmax: of probabilities.
        layers: Layers for layer_grad_cam by name, such as conv1, layer1 or features.3; the first
            convolution when not given.
        deep_lift_baseline: Value of every pixel of DeepLift's baseline image, in the units of the
            score space.
        deep_lift_curves: What DeepLift rescales. captum: as Captum, ReLU, ELU, LeakyReLU, sigmoid,
            tanh, softplus, max pools and nn.Softmax; all others keep their plain gradients. all:
            every activation, such as ReLU6, GELU and SiLU too.
        deep_lift_pooling: DeepLift's rule for overlapping max pools. captum: Captum's, which drops
            shares where one cell wins several windows. complete: all shares count, so that
            attributions sum to f(x) - f(baseline).
    """

    methods: tuple[Method | Literal["all"], ...] = ("all",)
    operation: Operation | Literal["both"] = "both"
    backend: Literal["jax", "captum"] = "jax"
    score_space: ScoreSpace = "normalized"
    score: ScoreName = "logits"
    layers: tuple[str, ...] = ()
    deep_lift_baseline: float = 0.0
    deep_lift_curves: Curves = "captum"
    deep_lift_pooling: Pooling = "captum"

    def __post_init__(self) -> None:
        require_types(self)
        require(len(self.methods) > 0, "methods", "none", "at least one")
        for name in ("methods", "layers"):
            given = getattr(self, name)
            require(len(set(given)) == len(given), name, " ".join(given), "without repetition")
        require(
            not self.layers or "layer_grad_cam" in self.chosen_methods,
            "layers",
            " ".join(self.layers),
            "used together with the method layer_grad_cam",
        )
        require(
            abs(self.deep_lift_baseline) < float("inf"),
            "deep_lift_baseline",
            self.deep_lift_baseline,
            "a finite number",
        )

        require(
            self.backend == "jax" or self.deep_lift_curves == "captum",
            "deep_lift_curves",
            self.deep_lift_curves,
            "captum with --backend captum, which knows no other",
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


AX_PRESETS: dict[Preset, AxConfig] = {
    "default": AxConfig(),
    "paper": AxConfig(score_space="raw"),
    "released": AxConfig(score_space="released"),
}

GAX_PRESETS: dict[Preset, GaxConfig] = {
    "default": GaxConfig(),
    # Paper §3, "Achieving high s_co with GAX": raw [0, 1] pixels, target 48, Adam at 0.1.
    "paper": GaxConfig(score_space="raw"),
    # The released ImageNet quick commands: baseline on normalised pixels, x + h raw, target 15.
    "released": GaxConfig(score_space="released", target=15.0),
}
