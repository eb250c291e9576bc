"""What each command does and prints, down to what it wrote and what to try next."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gaxjax.cli.flags import (
    Ax,
    Command,
    Convert,
    Demo,
    Evaluate,
    Finetune,
    Gax,
    Report,
    Statistics,
    Toy,
    Verify,
    View,
)
from gaxjax.common.errors import UserError
from gaxjax.common.files import checked_output, write_text

if TYPE_CHECKING:
    from gaxjax.results.evaluation import Evaluation
    from gaxjax.results.snapshots import SnapshotSummary

DIFFERS = 1
PROGRESS_COLUMNS = (
    TextColumn("{task.description}"),
    MofNCompleteColumn(),
    TextColumn("images, left"),
    TimeRemainingColumn(),
)


class _Console(Console):
    """Goes on in silence when nobody reads any more (`gaxjax … | head`), so that all is written."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_console = _Console(highlight=False, soft_wrap=True)
_tables = _Console(highlight=False, width=120)


def execute(command: Command, given: Sequence[str]) -> int:
    """Run a command; return the exit status, 0 or 1 for a failed verification.

    Args:
        command: what to do.
        given: the command line, to be repeated in what to try next.
    """
    match command:
        case Demo():
            _demo(command)
        case Convert():
            _convert(command)
        case Evaluate():
            _evaluate(command, given)
        case Finetune():
            _finetune(command)
        case Toy():
            _toy(command)
        case Gax():
            _gax(command)
        case Ax():
            _ax(command)
        case Verify():
            return _verify(command)
        case Report():
            _report(command)
        case Statistics():
            _statistics(command)
        case View():
            _view(command)
    return 0


def _demo(command: Demo) -> None:
    from gaxjax.cli.demo import run_demo

    summary, report = run_demo(command.output, _console)
    _print_outcomes(summary.outcomes, "images")
    _print_gap(command.output / "ax")
    _wrote(
        (summary.output, "GAX: scores (Parquet) and heatmaps (Zarr)"),
        (command.output / "ax", "AX: scores and heatmaps of six existing methods"),
        (command.output / "digits.ckpt", "the trained classifier"),
        (report.folder, f"{report.num_figures} figures as PNG, SVG and CSV"),
        (report.page, "all of it on one page: open it in a browser"),
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
    from gaxjax.data.sources import open_images
    from gaxjax.report.tables import FORMATS, table_1, written
    from gaxjax.runs.evaluate import evaluate
    from gaxjax.runs.opening import open_classifier

    output = command.output and checked_output(command.output, (".json", *FORMATS))
    classifier = open_classifier(command.model)
    if output is not None and output.suffix in FORMATS and classifier.num_classes != 2:
        raise UserError(
            f"--output {output}: Table 1 is of two classes, the model has "
            f"{classifier.num_classes}; give a .json file"
        )
    images = open_images(command.data, num_classes=classifier.num_classes)
    result = evaluate(classifier, images, threads=command.data.decode_threads)
    if not result.num_images:
        raise UserError(f"none of the images of {command.data.data} could be read")
    _note_size(classifier.input_size, command.data.size)
    _print_evaluation(
        result, classifier.class_names or images.label_names, classifier.validation_accuracy
    )
    if output is not None and output.suffix == ".json":
        figures = {"model": command.model.model, "data": images.name, **result.to_dict()}
        write_text(output, json.dumps(figures, indent=2) + "\n")
        _console.print(f"Wrote {output}  all figures", markup=False)
    elif output is not None:
        name = Path(command.model.model).name
        write_text(
            output, written(table_1(result, classifier.validation_accuracy), name, output.suffix)
        )
        _console.print(f"Wrote {output}  Table 1", markup=False)
    words = shlex.join(_without(given[1:], "--output"))
    _console.print(f"Next: gaxjax gax {words} --output RUN", markup=False)


def _print_evaluation(
    result: "Evaluation", names: tuple[str, ...] | None, validation_accuracy: float | None
) -> None:
    from gaxjax.report.tables import render_evaluation as render

    _console.print(
        f"{result.num_correct} of {result.num_images} images correct ({result.accuracy:.1%}), "
        f"mean probability of the right class {result.mean_probability:.3f}"
    )
    if result.num_unreadable:
        _console.print(f"{result.num_unreadable} images could not be read")
    if result.num_classes == 2:
        _tables.print(*render(result, names or ("0", "1"), validation_accuracy))


def _finetune(command: Finetune) -> None:
    from gaxjax.common.files import replacing
    from gaxjax.report.figures.learning_curve import draw_learning_curve
    from gaxjax.report.tables import FORMATS, table_1, written
    from gaxjax.runs.finetune import run_finetune

    config, output = command.config, command.output
    summary = run_finetune(
        config, output, note=lambda text: _console.print(f"Note: {text}", markup=False)
    )
    reached = "reached" if summary.target_met else "did NOT reach"
    _console.print(
        f"{summary.iterations:,} iterations {reached} the validation accuracy of "
        f"{config.validation_accuracy:g}: {summary.validation_accuracy:.4f}"
    )
    split, table = "val", []
    if summary.test is not None:
        split = "test"
        _print_evaluation(summary.test, summary.class_names, summary.validation_accuracy)
        if summary.test.num_classes == 2:
            table = [(output / f"table1{ending}", "Table 1") for ending in FORMATS]
            figures = table_1(summary.test, summary.validation_accuracy)
            for file, _ in table:
                write_text(file, written(figures, output.name, file.suffix))
    for file_format in ("png", "svg"):
        with replacing(output / f"curve.{file_format}") as temporary:
            wanted = config.validation_accuracy
            draw_learning_curve(summary.curve, wanted, temporary, file_format)
    flags = ["--model", str(summary.model), "--data", summary.data, "--split", split]
    flags += ["--size", str(config.size)]
    flags += ["--resize", config.resize] * (config.resize != "squash")
    _wrote(
        (summary.model, "the trained classifier"),
        (output / "curve.csv", "loss and validation accuracy; drawn in curve.png and curve.svg"),
        *table,
        (output / "finetune.json", "settings and all figures"),
        next_command=f"gaxjax gax {shlex.join(flags)} --bias --output RUN",
    )


def _toy(command: Toy) -> None:
    from gaxjax.cli.toy import run_toy

    files = run_toy(command.output)
    _wrote(
        *((file, _TOY_FILES[file.suffix]) for file in files),
        next_command="gaxjax demo",
    )


_TOY_FILES = {".csv": "its data", ".png": "the figure", ".svg": "the figure"}


def _without(words: Sequence[str], flag: str) -> list[str]:
    """Return a command line's words without a flag and its value."""
    kept, skip = [], False
    for word in words:
        if skip or word == flag or word.startswith(f"{flag}="):
            skip = not skip and word == flag
            continue
        kept.append(word)
    return kept


def _gax(command: Gax) -> None:
    from gaxjax.gax.stats import EngineStats
    from gaxjax.runs.gax import explain_nothing_correct, run_gax
    from gaxjax.runs.snapshots import describe_disk

    if command.run.snapshots.most_images:
        _console.print(f"Note: {describe_disk(command.run)}")
    summary = run_gax(command.run, command.output)
    if summary.resumed:
        _console.print(f"{summary.resumed:,} images were done before")
    _print_outcomes(summary.outcomes, "images")
    stats = summary.stats
    if isinstance(stats, EngineStats) and stats.image_steps:
        _console.print(
            f"{stats.image_steps:,} image-steps in {stats.seconds:,.1f} s "
            f"({stats.rate:,.1f} a second; {stats.slots} slots × {stats.devices} "
            f"device{'s' * (stats.devices > 1)}, {stats.occupancy:.0%} busy), "
            f"after {stats.compile_seconds:,.1f} s of compiling"
        )
    nothing = explain_nothing_correct(summary)
    if nothing:
        raise UserError(nothing)
    heatmaps = command.run.store.heatmaps
    files = [(summary.output, _what(heatmaps))]
    next_command = _check_or_tell(summary, heatmaps)
    if summary.snapshots is not None:
        files += _tell_snapshots(summary.snapshots, summary.output)
        if summary.snapshots.image_ids:
            words = ["gaxjax", "view", str(summary.output), summary.snapshots.image_ids[0]]
            next_command = shlex.join(words)
    _wrote(*files, next_command=next_command)


def _tell_snapshots(found: "SnapshotSummary", run: Path) -> list[tuple[Path, str]]:
    """Say what is missing or differs; return the files that were written."""
    for image_id, reason in found.left_out.items():
        _console.print(f"Note: no snapshots of {image_id}: {reason}", markup=False)
    if found.difference:
        _console.print(
            f"Note: replayed scores differ from the stored ones by up to {found.difference:.2g}"
        )
    if not found.image_ids:
        return []
    count = len(found.image_ids)
    what = f"{found.rows:,} heatmaps along the way of {count:,} image{'s' * (count != 1)}"
    return [(run / "snapshots.parquet", what)]


def _ax(command: Ax) -> None:
    from gaxjax.ax.stats import BatchStats
    from gaxjax.runs.ax import explain_nothing_scored, run_ax

    summary = run_ax(command.run, command.output)
    if summary.resumed:
        _console.print(f"{summary.resumed:,} images were done before")
    _print_outcomes(summary.outcomes, "scores of heatmaps")
    stats = summary.stats
    if isinstance(stats, BatchStats) and stats.images:
        _console.print(
            f"{stats.images:,} images and {stats.heatmaps:,} heatmaps in "
            f"{stats.seconds:,.1f} s ({stats.rate:,.2f} images a second), "
            f"after {stats.compile_seconds:,.1f} s of compiling"
        )
    nothing = explain_nothing_scored(summary)
    if nothing:
        raise UserError(nothing)
    _print_gap(summary.output)
    heatmaps = command.run.store.heatmaps
    _wrote((summary.output, _what(heatmaps)), next_command=_check_or_tell(summary, heatmaps))


def _what(heatmaps: str) -> str:
    return "scores (Parquet)" + (" and heatmaps (Zarr)" if heatmaps != "none" else "")


def _check_or_tell(summary: Any, heatmaps: str) -> str:
    if heatmaps == "none":
        return f"gaxjax report {shlex.quote(str(summary.output))}"
    return _verify_command(summary.output, summary.num_images)


def _verify_command(run: Path, num_images: int) -> str:
    return f"gaxjax verify {shlex.quote(str(run))}" + " --num-images 20" * (num_images > 20)


def _verify(command: Verify) -> int:
    try:
        from gaxjax.reference.verify import verify_run
    except ImportError as error:
        raise UserError(
            f"verifying needs torch and torchvision, which do not import here ({error}): install "
            "gaxjax with its torch extra"
        ) from None
    output = checked_output(command.output or command.run / "verification.json", (".json",))
    with Progress(*PROGRESS_COLUMNS, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Verifying", total=None)
        result = verify_run(
            command.run,
            num_images=command.num_images,
            weights=command.weights,
            seed=command.seed,
            model=command.model,
            data=command.data,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_text(output, json.dumps(result.to_dict(), indent=2) + "\n")
    for line in result.lines():
        _console.print(line, markup=False)
    _wrote(
        (output, "every figure of this verification"),
        next_command=f"gaxjax report {shlex.quote(str(command.run))}",
    )
    return 0 if result.passed else DIFFERS


def _report(command: Report) -> None:
    from gaxjax.report.page import write_report

    written = write_report(
        command.runs, command.output, num_pictures=command.num_pictures, data=command.data
    )
    for note in written.notes:
        _console.print(f"Note: {note}", markup=False)
    size = f"{written.num_bytes / 1e6:.1f} MB"
    _wrote(
        (written.page, f"the report, {size}, nothing else needed: open it in a browser"),
        (written.folder, f"its {written.num_figures} figures as PNG, SVG and CSV"),
        next_command=_after_report(command.runs[0]),
    )


def _after_report(run: Path) -> str:
    from gaxjax.results.store import read_header

    if (run / "verification.json").exists() or not (run / "heatmaps.zarr").exists():
        return f"gaxjax statistics {shlex.quote(str(run))}"
    return _verify_command(run, read_header(run)["data"]["num_images"])


def _statistics(command: Statistics) -> None:
    import csv
    import io

    from gaxjax.report.tables import render
    from gaxjax.results.statistics import rows, run_statistics, to_dict
    from gaxjax.results.store import read_header, read_scores

    header, scores = read_header(command.run), read_scores(command.run)
    output = checked_output(command.output or command.run / "statistics.json", (".json", ".csv"))
    found, wanted = len(set(scores["image_id"].to_pylist())), header["data"]["num_images"]
    statistics = run_statistics(
        scores,
        num_resamples=command.num_resamples,
        confidence=command.confidence,
        seed=command.seed,
    )
    if not statistics.methods:
        raise UserError(f"{command.run} holds no scores yet: resume the run first")
    if output.suffix == ".json":
        known = {"num_images_found": found, "num_images": wanted}
        text = json.dumps(known | to_dict(statistics), indent=2) + "\n"
    else:
        buffer = io.StringIO()
        flat = rows(statistics)
        writer = csv.DictWriter(buffer, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
        text = buffer.getvalue()
    write_text(output, text)
    _tables.print(*render(statistics))
    if found < wanted:
        _console.print(
            f"Note: these are {found:,} of the run's {wanted:,} images; give the run's command "
            "again to go on"
        )
    _wrote(
        (output, "the tables' figures"),
        next_command=f"gaxjax report {shlex.quote(str(command.run))}",
    )


def _view(command: View) -> None:
    from gaxjax.report.film import read_film
    from gaxjax.report.viewer import SUFFIXES, save_film, show_film

    save = command.save and checked_output(command.save, SUFFIXES, flag="--save")
    film = read_film(command.run, command.image, data=command.data)
    for note in film.notes:
        _console.print(f"Note: {note}", markup=False)
    run = shlex.quote(str(command.run))
    if save is None:
        show_film(film)
        again = f"gaxjax view {run} {shlex.quote(film.image_id)} --save FILE.gif"
        _console.print(f"Next: {again}", markup=False)
        return
    count = save_film(film, save)
    what = "the final state" if save.suffix == ".png" else f"{count} frame{'s' * (count != 1)}"
    _wrote((save, f"{film.image_id}: {what}"), next_command=f"gaxjax report {run}")


def _print_gap(run: Path) -> None:
    from gaxjax.report.tables import render
    from gaxjax.results.statistics import run_statistics
    from gaxjax.results.store import read_scores

    statistics = run_statistics(read_scores(run))
    if statistics.methods:
        _tables.print(render(statistics)[0])


def _note_size(made_for: int | None, given: int) -> None:
    if made_for not in (None, given):
        _console.print(
            f"Note: the model was made for images of {made_for} × {made_for}; these are "
            f"{given} × {given} (--size {made_for} would fit)"
        )


def _print_outcomes(outcomes: dict[str, int], what: str) -> None:
    total = sum(outcomes.values())
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
    _console.print(f"{total:,} {what}: {counts}")


def _wrote(*files: tuple[Path, str], next_command: str) -> None:
    width = max(len(str(path)) for path, _ in files)
    for path, what in files:
        _console.print(f"Wrote {path!s:<{width}}  {what}", markup=False)
    _console.print(f"Next: {next_command}", markup=False)
