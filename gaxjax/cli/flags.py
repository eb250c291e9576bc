"""What each command takes: the flags are these fields, and their help is these docstrings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gaxjax.config.finetune import FinetuneConfig
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.runs import AxRunConfig, RunConfig

__all__ = [
    "Ax",
    "Command",
    "Convert",
    "Demo",
    "Evaluate",
    "Finetune",
    "Gax",
    "Report",
    "Statistics",
    "Toy",
    "Verify",
    "View",
]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train a small net on handwritten digits and explain it: no download, under two minutes.

    Attributes:
        output: Folder for the checkpoint, the runs and the report.
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
    """Tell how well a model classifies images; of two classes also precision, recall and AUROC.

    Attributes:
        output: File for the figures: .json for all, the confusion matrix among them; .md, .tex or
            .csv for Table 1 of a model with two classes.
    """

    model: ModelConfig
    data: DataConfig
    output: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Train a backbone with a new head on images in splits; the same command resumes.

    Attributes:
        output: Folder for the trained checkpoint, the split, the curve and the figures.
    """

    config: FinetuneConfig
    output: Path


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Draw the paper's two-dimensional example: Figs. 1 and 6, and the data behind them.

    Attributes:
        output: Folder for the figures (PNG, SVG) and their data (CSV).
    """

    output: Path = Path("gaxjax-toy")


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
class Report:
    """Draw an HTML page of stored runs: figures, tables, a gallery, and the heatmaps' evolution.

    Attributes:
        runs: Folders of GAX and AX runs.
        output: The page, one file; its figures go to a folder beside it (PNG, SVG, CSV).
        num_pictures: Show the pictures of about so many heatmaps in the gallery; every one makes
            the page some 10 KB larger.
        data: Where the runs' images are now, if they were moved.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    output: Path = Path("report.html")
    num_pictures: int = 200
    data: str | None = None


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


@dataclass(frozen=True, kw_only=True)
class View:
    """Show how one image's heatmap grew, with a slider; or save it as an animation.

    Attributes:
        run: Folder of a GAX run.
        image: Id of the image, such as digits/0042, or an ending that only one image has.
        save: Write a .gif or .mp4 of all snapshots, or a .png of the final state, and open no
            window.
        data: Where the run's images are now, if they were moved.
    """

    run: tyro.conf.Positional[Path]
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    save: Path | None = None
    data: str | None = None


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Finetune, tyro.conf.subcommand("finetune")]
    | Annotated[Gax, tyro.conf.subcommand("gax")]
    | Annotated[Ax, tyro.conf.subcommand("ax")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Statistics, tyro.conf.subcommand("statistics")]
    | Annotated[View, tyro.conf.subcommand("view")]
    | Annotated[Toy, tyro.conf.subcommand("toy")]
)
