"""What each command takes: the flags are these fields, and their help is these docstrings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gaxjax.config import AxRunConfig, DataConfig, ModelConfig, RunConfig

__all__ = [
    "Ax",
    "Command",
    "Convert",
    "Demo",
    "Evaluate",
    "Gax",
    "Statistics",
    "Verify",
]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train a small net on handwritten digits and explain it: no download, under two minutes.

    Attributes:
        output: Folder for the checkpoint, the run and the picture.
    """

    output: Path = Path("gaxjax-demo")


@dataclass(frozen=True, kw_only=True)
class Convert:
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


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Count how many images a model classifies correctly."""

    model: ModelConfig
    data: DataConfig


@dataclass(frozen=True, kw_only=True)
class Gax:
    """Optimise one heatmap per image (GAX); the same command resumes a run that was cut off.

    Attributes:
        output: Folder of the run: scores as Parquet, heatmaps as Zarr.
    """

    run: RunConfig
    output: Path


@dataclass(frozen=True, kw_only=True)
class Ax:
    """Score the heatmaps of existing methods (AX); the same command resumes a cut-off run.

    Attributes:
        output: Folder of the run: scores as Parquet, heatmaps as Zarr.
    """

    run: AxRunConfig
    output: Path


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Recompute a run's stored scores in torch from its stored heatmaps; exit 1 if they differ.

    Attributes:
        run: Folder of a GAX or AX run.
        num_images: Check this many images, drawn at random; all when not given.
        weights: The torch weights that the model was converted from, read by torch alone. Without
            them the checkpoint's are converted back.
        model: Where the run's model is now, if it was moved.
        data: Where the run's images are now, if they were moved.
        seed: Seed of the draw.
        output: JSON file for the full result; verification.json in the run when not given.
    """

    run: tyro.conf.Positional[Path]
    num_images: int | None = None
    weights: Path | None = None
    model: str | None = None
    data: str | None = None
    seed: int = 0
    output: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Tell how far correct and wrong predictions lie apart in a run, per method.

    Attributes:
        run: Folder of a GAX or AX run.
        num_resamples: Bootstrap resamples behind each confidence interval.
        confidence: Of the intervals, in (0, 1).
        seed: Seed of the bootstrap.
        output: JSON or CSV file for all figures; statistics.json in the run when not given.
    """

    run: tyro.conf.Positional[Path]
    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    output: Path | None = None


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Gax, tyro.conf.subcommand("gax")]
    | Annotated[Ax, tyro.conf.subcommand("ax")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Statistics, tyro.conf.subcommand("statistics")]
)
