"""The command line: `gaxjax demo | convert | evaluate | gax`; flags are the configs' fields."""

import importlib.metadata
import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from gaxjax.config import PRESETS, DataConfig, GaxConfig, ModelConfig, RunConfig, to_dict
from gaxjax.errors import UserError, nearest
from gaxjax.interruption import interruptions

STOPPED = 130

_console = Console(highlight=False, soft_wrap=True)


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


Command = Demo | Convert | Evaluate | Gax


def entry() -> None:
    """Run the console script: also stop on SIGTERM, and leave at once after a stop."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets "?" for "×"
    status = main()
    if status == STOPPED:
        # Threads of XLA and torch may still compute, and crash when Python takes itself down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 2 for a user's mistake, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"gaxjax {importlib.metadata.version('gaxjax')}")
        return 0
    try:
        with interruptions() as interrupted:
            try:
                _dispatch(parse(given), given)
            except UserError:
                # A library interrupted halfway may have called the interruption something else.
                if interrupted():
                    raise KeyboardInterrupt from None
                raise
    except UserError as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(
            f"gaxjax: {error}"
        )
        return 2
    except KeyboardInterrupt:
        kept = (
            "; finished images are stored, the same command resumes" if "gax" in given[:1] else ""
        )
        print(f"\ngaxjax: stopped{kept}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `gaxjax … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def parse(arguments: Sequence[str]) -> Command:
    """Turn a command line into a command; unknown flags exit with status 2 and the nearest name.

    Raises:
        UserError: an impossible value.
    """
    commands = (
        Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Convert, tyro.conf.subcommand("convert")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Gax, tyro.conf.subcommand("gax")]
    )
    return tyro.cli(
        commands,
        prog="gaxjax",
        description="Heatmaps that raise an image classifier's confidence, in bulk.",
        args=[*arguments[:1], *_preset_flags(arguments), *arguments[1:]] or ["--help"],
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _preset_flags(arguments: Sequence[str]) -> list[str]:
    """Spell a --preset out as flags, to stand before the user's own: of two, the last one counts.

    Raises:
        UserError: no such preset.
    """
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--preset":
            value = value if equals else "".join(arguments[position + 1 : position + 2])
            if value not in PRESETS:
                known = ", ".join(PRESETS)
                raise UserError(
                    f"no preset {value!r}{nearest(value, PRESETS)} (there are: {known})"
                )
            preset, default = to_dict(PRESETS[value]), to_dict(GaxConfig())
            changed = {key: item for key, item in preset.items() if item != default[key]}
            return [f"--{key.replace('_', '-')}={item}" for key, item in changed.items()]
    return []


def _dispatch(command: Command, given: Sequence[str]) -> None:
    match command:
        case Demo():
            _demo(command)
        case Convert():
            _convert(command)
        case Evaluate():
            _evaluate(command, given)
        case Gax():
            _gax(command)


def _demo(command: Demo) -> None:
    from gaxjax.demo import run_demo

    summary, picture = run_demo(command.output, _console)
    _print_outcomes(summary.outcomes)
    _wrote(
        (summary.output, "scores (Parquet) and heatmaps (Zarr)"),
        (command.output / "digits.ckpt", "the trained classifier"),
        (picture, "five digits, their heatmaps and curves: open it"),
        next_command="gaxjax convert WEIGHTS.pth --output MODEL.ckpt",
    )


def _convert(command: Convert) -> None:
    try:
        import converters
    except ModuleNotFoundError as error:
        raise UserError(
            f"converting torch weights needs {error.name}: install gaxjax with its torch extra"
        ) from None
    metadata, parity = converters.convert(
        command.source,
        command.output,
        architecture=command.architecture,
        normalization=command.normalization,
        input_size=command.input_size,
        class_names=command.class_names,
    )
    normalization = (
        "no normalisation" if metadata.mean is None else f"mean {metadata.mean}, std {metadata.std}"
    )
    if command.normalization == "auto":
        normalization += f", assumed for a head of {metadata.num_classes} (see --normalization)"
    _console.print(f"{metadata.architecture}, {metadata.num_classes} classes, {normalization}")
    for name, figures in parity["folded"].items():
        _console.print(
            f"  {name.replace('_', ' ')} against torch: largest difference "
            f"{figures['max_abs']:.1e}, relative {figures['max_rel']:.1e}"
        )
    _wrote(
        (command.output, "checkpoint"),
        next_command=f"gaxjax gax --model {command.output} --data IMAGES --output RUN",
    )


def _evaluate(command: Evaluate, given: Sequence[str]) -> None:
    from gaxjax.data import open_images
    from gaxjax.evaluate import evaluate
    from gaxjax.run import open_classifier

    classifier = open_classifier(command.model)
    images = open_images(command.data, num_classes=classifier.num_classes)
    result = evaluate(classifier, images, threads=command.data.decode_threads)
    readable = result.num_images - result.num_unreadable
    if not readable:
        raise UserError(f"none of the images of {command.data.data} could be read")
    _note_size(classifier.input_size, command.data.size)
    _console.print(
        f"{result.num_correct} of {readable} images correct "
        f"({result.num_correct / readable:.1%}), "
        f"mean probability of the right class {result.mean_probability:.3f}"
    )
    if result.num_unreadable:
        _console.print(f"{result.num_unreadable} images could not be read")
    _console.print(f"Next: gaxjax gax {shlex.join(given[1:])} --output RUN", markup=False)


def _gax(command: Gax) -> None:
    from gaxjax.run import explain_nothing_correct, run_gax

    summary = run_gax(command.run, command.output)
    if summary.resumed:
        _console.print(f"{summary.resumed:,} images were done before")
    _print_outcomes(summary.outcomes)
    if summary.stats is not None and summary.stats.image_steps:
        stats = summary.stats
        _console.print(
            f"{stats.image_steps:,} image-steps in {stats.seconds:,.1f} s "
            f"({stats.rate:,.1f} a second; {stats.slots} slots × {stats.devices} "
            f"device{'s' * (stats.devices > 1)}, {stats.occupancy:.0%} busy), "
            f"after {stats.compile_seconds:,.1f} s of compiling"
        )
    nothing = explain_nothing_correct(summary)
    if nothing:
        raise UserError(nothing)
    what = "scores (Parquet)"
    if command.run.store.heatmaps != "none":
        what += " and heatmaps (Zarr)"
    _wrote(
        (summary.output, what),
        next_command='python -c "import gaxjax; '
        f"print(gaxjax.read_scores('{summary.output}').select(['image_id', 'co_score']))\"",
    )


def _note_size(made_for: int | None, given: int) -> None:
    if made_for not in (None, given):
        _console.print(
            f"Note: the model was made for images of {made_for} × {made_for}; these are "
            f"{given} × {given} (--size {made_for} would fit)"
        )


def _print_outcomes(outcomes: dict[str, int]) -> None:
    total = sum(outcomes.values())
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
    _console.print(f"{total:,} images: {counts}")


def _wrote(*files: tuple[Path, str], next_command: str) -> None:
    width = max(len(str(path)) for path, _ in files)
    for path, what in files:
        _console.print(f"Wrote {path!s:<{width}}  {what}")
    _console.print(f"Next: {next_command}", markup=False)
