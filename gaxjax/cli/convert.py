"""`gaxjax convert`: torch weights become a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from gaxjax.cli.command import Command
from gaxjax.cli.console import note, say, wrote
from gaxjax.common import UserError, refuse_foreign_converters

if TYPE_CHECKING:
    from gaxjax.models import CheckpointMetadata

__all__ = ["Convert"]


@dataclass(frozen=True, kw_only=True)
class Convert(Command):
    """Convert a torch network to a checkpoint, and prove it: logits and gradients against torch.

    Attributes:
        source: A torchvision name (resnet34, or efficientnet_b0:IMAGENET1K_V1), a timm name
            (timm:convnext_tiny.fb_in1k), a .pth, .pt or .safetensors state dict or the index of a
            sharded one, a folder as timm saves it, or mynet.py:build: a function or class that
            gives the network, for which that file is run.
        output: Folder of the checkpoint.
        architecture: Architecture of a state dict: a torchvision name, or timm:NAME. Keys of
            AlexNet, ResNet, SqueezeNet and VGG tell it themselves.
        weights: State dict for the network that the source names.
        logits: Name of the output that is the logits, of a network with several.
        as_graph: Import as a graph of torch's operations also what is written by hand here
            (AlexNet, ResNet, SqueezeNet, VGG), to compare the two.
        normalization: How the model wants its pixels. imagenet: torchvision's mean and std. none:
            as they are, in [0, 1]. auto: as its makers say; where nobody does, imagenet for a head
            of 1000 classes, none otherwise.
        mean: What was subtracted from red, green and blue pixels in [0, 1], in place of that;
            together with --std.
        std: What they were divided by then.
        input_size: Height and width of its images, in pixels. Its makers' own when not given, or
            224; 256 for AlexNet, ResNet, SqueezeNet and VGG, which take any other as well.
        class_names: Text file with one class name a line; ImageNet's names for a head of 1000
            classes.
        reference: An .npz file that proves which network was trained: inputs, [N, 3, H, W], as its
            own forward was given them, and logits, [N, C], as it returned them.
        ema: Take the averaged weights (EMA) of a file that holds both.
        binary: Make two logits, 0 and z, of a head with one logit z: class 0 is the negative, class
            1 the positive.
    """

    source: tyro.conf.Positional[str]
    output: Path
    architecture: str | None = None
    weights: Path | None = None
    logits: str | None = None
    as_graph: bool = False
    normalization: Literal["auto", "imagenet", "none"] = "auto"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    input_size: int | None = None
    class_names: Path | None = None
    reference: Path | None = None
    ema: bool = False
    binary: bool = False

    def execute(self, given: Sequence[str]) -> int:
        """Convert, and print how far the result is from torch."""
        refuse_foreign_converters()
        try:
            import converters
        except ModuleNotFoundError as error:
            raise UserError(
                f"converting torch weights needs {error.name}: install gaxjax with its torch extra"
            ) from None
        metadata, parity = converters.convert(
            self.source,
            self.output,
            architecture=self.architecture,
            weights=self.weights,
            logits=self.logits,
            as_graph=self.as_graph,
            normalization=self.normalization,
            mean=self.mean,
            std=self.std,
            input_size=self.input_size,
            class_names=self.class_names,
            reference=self.reference,
            ema=self.ema,
            binary=self.binary,
            note=note,
        )
        normalization = (
            "no normalisation"
            if metadata.mean is None
            else f"mean {metadata.mean}, std {metadata.std}"
        )
        say(f"{metadata.architecture}, {metadata.num_classes} classes, {normalization}")
        say(f"Compared with {_theirs(metadata, parity)}, largest difference:")
        for name, figures in parity["folded"].items():
            say(f"  {name.replace('_', ' ')}: {_spoken(figures)}")
        own = parity.get("reference")
        if own is not None:
            count = f"{own['images']} input{'s' * (own['images'] != 1)}"
            say(f"Compared with {own['against']}, {count}, largest difference:")
            say(f"  logits: {_spoken(own['logits'])}")
        for text in metadata.assumptions.values():
            note(text)
        wrote(
            (self.output, "checkpoint"),
            next_command=f"gaxjax gax --model {self.output} --data IMAGES --output RUN",
        )
        return 0


def _theirs(metadata: "CheckpointMetadata", parity: Mapping[str, Any]) -> str:
    """Say what the conversion was compared with."""
    if metadata.imported:
        return f"the module itself ({parity['against']}) on images of {metadata.input_size} pixels"
    whose = "a torch" if metadata.architecture == "small_resnet" else "torchvision's"
    return f"{whose} {metadata.architecture} with these weights"


def _spoken(figures: Mapping[str, float]) -> str:
    return f"{figures['max_abs']:.1e}, relative {figures['max_rel']:.1e}"
