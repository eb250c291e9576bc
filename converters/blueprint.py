"""A network that a library builds by its name: how, and what its makers say of it."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from converters.module_weights import fill, weights_among
from converters.state_dict import TorchWeights
from gaxjax.common import UserError, one_line
from gaxjax.config import Triple

__all__ = ["Blueprint", "Preset", "build_with", "quietly", "scaled_decoding"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What is known of published weights.

    Attributes:
        size: height and width of the images, in pixels.
        num_classes: length of the logits.
        mean, std: of the normalisation, for RGB pixels in [0, 1].
        class_names: in the order of the logits; None: not known.
        decoding: as `gaxjax.models.CheckpointMetadata.decoding`; empty: not known.
        fixed_size: whether the network takes no other size.
    """

    size: int
    num_classes: int
    mean: Triple | None = None
    std: Triple | None = None
    class_names: tuple[str, ...] | None = None
    decoding: Mapping[str, int | str] = field(default_factory=dict)
    fixed_size: bool = False


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """A network without weights.

    Attributes:
        kind: torchvision or timm.
        name: as its library calls it.
        build: from keywords (`num_classes`, `channels` and `size`, each of which may be left out,
            and the `shapes` of the weights by key) to the module, with random weights.
        heads: of the module, the dotted names of its last layers.
        first: likewise of its first convolution.
        preset: what its makers say of its published weights.
        assumptions: what is taken for granted where only weights are known, by topic.
    """

    kind: str
    name: str
    build: Callable[..., nn.Module]
    heads: Callable[[nn.Module], tuple[str, ...]]
    first: Callable[[nn.Module], str | None]
    preset: Preset
    assumptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def spoken(self) -> str:
        """The network for people: ``timm's convnext_tiny``."""
        return (
            f"{self.kind}'s {self.name}"
            if self.name != "small_resnet"
            else "gaxjax's " + (self.name)
        )


def build_with(
    blueprint: Blueprint, loaded: Any, *, ema: bool = False, size: int | None = None
) -> tuple[nn.Module, TorchWeights]:
    """Build a network and fill it with weights, as many classes and channels as these have.

    Args:
        blueprint: which network.
        loaded: what `load_tensors` returns.
        ema: take the averaged weights of a file that holds both.
        size: height and width of the images; the makers' own where None.

    Raises:
        UserError: the weights do not fit, in all that differs.
    """
    probe = _probe(blueprint)
    heads, first = blueprint.heads(probe), blueprint.first(probe)
    names = probe.state_dict().keys()
    weights = weights_among(loaded, names, heads, ema=ema)
    arrays = dict(weights.arrays)
    settings: dict[str, Any] = {"size": size}
    head = next((arrays[f"{name}.weight"] for name in heads if f"{name}.weight" in arrays), None)
    if head is not None and head.ndim in (2, 4):
        settings["num_classes"] = len(head)
    kernel = arrays.get(f"{first}.weight")
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == 1:
        settings["channels"] = 1
    shapes = {key: array.shape for key, array in arrays.items()}
    module = built(blueprint, shapes=shapes, **settings)
    for name in heads:
        layer = module.get_submodule(name)
        without = f"{name}.weight" in arrays and f"{name}.bias" not in arrays
        if without and getattr(layer, "bias", None) is not None:
            layer.register_parameter("bias", None)
    fill(module, arrays, blueprint.spoken)
    return module, weights


def built(blueprint: Blueprint, **settings: Any) -> nn.Module:
    """Build a network with random weights, in eval mode; torch's random numbers stay as they are.

    Raises:
        UserError: its library does not build it so.
    """
    try:
        with quietly(), torch.random.fork_rng(devices=[]):
            return blueprint.build(**settings).float().eval()
    except UserError:
        raise
    except Exception as error:  # of a library, on settings that it does not have
        told = ", ".join(
            f"{name} {value}"
            for name, value in settings.items()
            if value is not None and name != "shapes"
        )
        raise UserError(
            f"{blueprint.spoken} cannot be built{f' with {told}' if told else ''}: "
            f"{one_line(error)}"
        ) from error


def _probe(blueprint: Blueprint) -> nn.Module:
    """Build a network for its names and layers alone: as shapes where its library can."""
    try:
        with quietly(), torch.device("meta"):
            return blueprint.build()
    except Exception:  # those that compute with their first weights have none there
        return built(blueprint)


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out what libraries warn of while they build or fetch a network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def scaled_decoding(preset: Preset, size: int) -> dict[str, int | str]:
    """Return a preset's decoding for images of another size: the same share is cut off.

    Example:
        >>> decoding = {"resize": "crop", "resize_size": 256, "interpolation": "bicubic"}
        >>> preset = Preset(size=224, num_classes=2, decoding=decoding)
        >>> scaled_decoding(preset, 448)["resize_size"]
        512
    """
    decoding = dict(preset.decoding)
    short = decoding.get("resize_size")
    if isinstance(short, int):
        decoding["resize_size"] = max(size, round(short * size / preset.size))
    return decoding


def shape_of(shapes: Mapping[str, tuple[int, ...]], ending: str) -> tuple[int, ...] | None:
    """Return the shape of the weight whose key ends so."""
    return next((shape for key, shape in shapes.items() if key.endswith(ending)), None)
