"""`gaxjax convert`: torch weights become a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from gaxjax.cli.command import Command
from gaxjax.cli.console import say, wrote
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
        input_size: Height and width of the images that the parity report uses, in pixels.
        class_names: Text file with one class name a line; ImageNet's names for a head of 1000
            classes.
    """

    source: tyro.conf.Positional[str]
    output: Path
    architecture: str | None = None
    normalization: Literal["auto", "imagenet", "none"] = "auto"
    input_size: int = 256
    class_names: Path | None = None

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
            input_size=self.input_size,
            class_names=self.class_names,
        )
        normalization = (
            "no normalisation"
            if metadata.mean is None
            else f"mean {metadata.mean}, std {metadata.std}"
        )
        if self.normalization == "auto":
            normalization += f", assumed for a head of {metadata.num_classes} (see --normalization)"
        say(f"{metadata.architecture}, {metadata.num_classes} classes, {normalization}")
        for name, figures in parity["folded"].items():
            say(
                f"  {name.replace('_', ' ')} against torch: largest difference "
                f"{figures['max_abs']:.1e}, relative {figures['max_rel']:.1e}"
            )
        wrote(
            (self.output, "checkpoint"),
            next_command=f"gaxjax gax --model {self.output} --data IMAGES --output RUN",
        )
        return 0
