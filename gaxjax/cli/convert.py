"""`gaxjax convert`: torch weights become a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from gaxjax.cli.command import Command
from gaxjax.cli.console import note, say, wrote
from gaxjax.common import UserError, refuse_foreign_converters

__all__ = ["Convert"]


@dataclass(frozen=True, kw_only=True)
class Convert(Command):
    """Convert torch weights to a checkpoint, and prove it: logits and gradients against torch.

    Attributes:
        source: A .pth, .pt or .safetensors state dict, or a torchvision name (resnet34, or
            resnet50:IMAGENET1K_V2).
        output: Folder of the checkpoint.
        architecture: Architecture of a state dict, where its keys do not tell.
        normalization: How the model wants its pixels. imagenet: torchvision's mean and std. none:
            as they are, in [0, 1]. auto: imagenet for a head of 1000 classes, none otherwise.
        mean: What was subtracted from red, green and blue pixels in [0, 1], in place of that;
            together with --std.
        std: What they were divided by then.
        input_size: Height and width of the images that the parity report uses, in pixels.
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
    normalization: Literal["auto", "imagenet", "none"] = "auto"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    input_size: int = 256
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
        whose = "a torch" if metadata.architecture == "small_resnet" else "torchvision's"
        say(
            f"Compared with {whose} {metadata.architecture} with these weights, largest difference:"
        )
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


def _spoken(figures: Mapping[str, float]) -> str:
    return f"{figures['max_abs']:.1e}, relative {figures['max_rel']:.1e}"
