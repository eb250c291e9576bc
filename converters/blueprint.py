"""A network that a library builds by its name: how, and what its makers say of it."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from gaxjax.config import Triple

__all__ = ["Blueprint", "Preset", "quietly", "scaled_decoding", "shape_of"]


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
