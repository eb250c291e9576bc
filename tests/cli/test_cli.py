"""The command line as a stranger uses it: one clear line for a mistake, exit status 2."""

import importlib
import json
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

import gaxjax
from gaxjax import cli
from gaxjax.cli.command import Command
from gaxjax.cli.gax import Gax
from gaxjax.cli.main import COMMANDS, main, parse
from gaxjax.results.reading import read_scores


def fails(capsys, *arguments: str) -> str:
    """Run a command that must fail with status 2; return its one line."""
    try:
        status = main(arguments)
    except SystemExit as exit_:  # tyro's own
        status = exit_.code
    error = capsys.readouterr().err
    assert status == 2, error
    assert "Traceback" not in error
    return " ".join(error.replace("│", " ").split())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in ("cat", "dog", "owl"):
        (folder / name).mkdir()
        Image.fromarray(np.full((9, 9, 3), 99, np.uint8)).save(folder / name / "1.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from flax import nnx

    from gaxjax import models
    from gaxjax.models import checkpoint

    path = tmp_path_factory.mktemp("model") / "small.ckpt"
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
    checkpoint.save(
        path, net, checkpoint.CheckpointMetadata(architecture="small_resnet", num_classes=10)
    )
    return path


def gax(*arguments: str) -> list[str]:
    return ["gax", "--model", "m", "--data", "d", "--output", "o", *arguments]


def test_flags_mirror_the_config():
    command = parse(gax("--target", "15", "--bias", "--slots", "4", "--heatmaps", "none"))
    assert isinstance(command, Gax)
    assert command.run.gax.target == 15
    assert command.run.gax.bias is True
    assert command.run.engine.slots == 4
    assert command.run.store.heatmaps == "none"


def test_a_preset_sets_defaults_and_flags_override_it():
    released = parse(gax("--preset", "released")).run
    assert (released.gax.score_space, released.gax.target) == ("released", 15.0)
    assert released.preset == "released"
    assert parse(gax("--preset=released", "--target", "48")).run.gax.target == 48
    assert parse(gax("--preset", "paper")).run.gax.score_space == "raw"


def test_every_command_is_listed_once():
    for module in pkgutil.iter_modules(cli.__path__, "gaxjax.cli."):
        importlib.import_module(module.name)
    assert sorted(map(str, COMMANDS)) == sorted(map(str, Command.__subclasses__()))


def test_a_command_is_called_like_its_file_and_its_class():
    for command in COMMANDS:
        assert command.__module__ == f"gaxjax.cli.{command.__name__.lower()}"


def test_an_unknown_flag_suggests_the_nearest(capsys):
    assert "--target" in fails(capsys, *gax("--targt", "3"))


def test_an_unknown_preset_suggests_the_nearest(capsys):
    said = fails(capsys, *gax("--preset", "papr"))
    assert said == (
        "gaxjax: no preset 'papr'; did you mean 'paper'? (there are: default, paper, released)"
    )


def test_an_impossible_value_is_one_clear_line(capsys):
    assert (
        fails(capsys, *gax("--slots", "0")) == "gaxjax: --slots must be at least 1, or auto; got 0"
    )
    assert fails(capsys, *gax("--target", "nan")) == (
        "gaxjax: --target must be a finite number; got nan"
    )


def test_an_unknown_command_lists_the_commands(capsys):
    said = fails(capsys, "gux")
    for name in ("demo", "convert", "evaluate", "gax", "ax", "verify", "statistics"):
        assert name in said


def test_no_command_shows_the_help(capsys):
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 0
    assert "convert" in capsys.readouterr().out


def test_a_missing_folder_is_one_clear_line(capsys, model, tmp_path):
    missing = str(tmp_path / "nowhere")
    output = str(tmp_path / "run")
    said = fails(capsys, "gax", "--model", str(model), "--data", missing, "--output", output)
    assert said.startswith("gaxjax: ")
    assert missing in said
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_is_one_clear_line(capsys, model, tmp_path):
    (tmp_path / "empty").mkdir()
    said = fails(
        capsys,
        *("gax", "--model", str(model), "--data", str(tmp_path / "empty")),
        *("--output", str(tmp_path / "run")),
    )
    assert "empty" in said
    assert not (tmp_path / "run").exists()


def test_labels_that_do_not_fit_the_model_are_one_clear_line(capsys, model, images, tmp_path):
    said = fails(
        capsys,
        *("gax", "--model", str(model), "--data", str(images), "--output", str(tmp_path / "run")),
    )
    assert "3" in said
    assert "10" in said
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_checkpoint_is_one_clear_line(capsys, images, tmp_path):
    said = fails(capsys, "evaluate", "--model", str(images), "--data", "digits", "--size", "16")
    assert str(images) in said


def test_a_truncated_checkpoint_is_one_clear_line(capsys, model, tmp_path):
    import shutil

    copy = tmp_path / "copy.ckpt"
    shutil.copytree(model, copy)
    largest = max((p for p in copy.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-50])
    said = fails(capsys, "evaluate", "--model", str(copy), "--data", "digits", "--size", "16")
    assert "damaged" in said


def test_an_output_folder_of_something_else_is_one_clear_line(capsys, model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    said = fails(
        capsys,
        *("gax", "--model", str(model), "--data", "digits", "--size", "16"),
        *("--num-images", "3", "--output", str(tmp_path)),
    )
    assert "not empty and holds no gaxjax run" in said
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == ["notes.txt"]


@pytest.mark.slow
def test_no_correct_image_is_one_clear_line_after_a_complete_run(capsys, model, tmp_path):
    black = np.zeros((1, 16, 16, 3), np.uint8)
    wrong = (int(tiny.predictions(black, gaxjax.load_classifier(model))[0]) + 1) % 10
    manifest, output = tmp_path / "images.csv", tmp_path / "run"
    Image.fromarray(black[0]).save(tmp_path / "black.png")
    manifest.write_text(f"path,label\nblack.png,{wrong}\n")
    arguments = (
        *("--model", str(model), "--data", str(manifest), "--size", "16"),
        *("--output", str(output), "--max-steps", "1"),
    )
    said = fails(capsys, "gax", *arguments)
    assert "no image was optimised (1 misclassified)" in said
    assert "--include-misclassified" in said
    assert read_scores(output)["outcome"].to_pylist() == ["misclassified"]


def test_a_run_prints_what_it_wrote_and_what_to_try_next(capsys, model, tmp_path):
    output = tmp_path / "run"
    arguments = [
        *("gax", "--model", str(model), "--data", "digits", "--size", "16", "--num-images", "5"),
        *("--include-misclassified", "--max-steps", "2", "--output", str(output)),
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "5 images: 5 step_limit" in said
    assert f"Wrote {output}" in said
    assert "Next: " in said
    assert main(arguments) == 0
    assert "5 images were done before" in capsys.readouterr().out


@pytest.mark.slow
def test_an_image_too_small_for_the_model_is_one_clear_line(capsys, tmp_path):
    from flax import nnx

    from gaxjax import models
    from gaxjax.models import checkpoint

    path = tmp_path / "squeeze.ckpt"
    net = models.build("squeezenet1_1", num_classes=10, rngs=nnx.Rngs(0))
    metadata = checkpoint.CheckpointMetadata(architecture="squeezenet1_1", num_classes=10)
    checkpoint.save(path, net, metadata)
    said = fails(
        capsys,
        *("gax", "--model", str(path), "--data", "digits", "--size", "8"),
        *("--output", str(tmp_path / "run")),
    )
    assert "squeezenet1_1 cannot take images of 8 × 8" in said
    assert not (tmp_path / "run").exists()


def test_flags_that_a_checkpoint_answers_itself_are_refused(capsys, model):
    said = fails(
        capsys, "evaluate", "--model", str(model), "--data", "digits", "--architecture", "alexnet"
    )
    assert "leave out --architecture and --normalization" in said


def test_evaluate_names_the_size_the_model_was_made_for_and_repeats_the_flags(capsys, model):
    arguments = ["--model", str(model), "--data", "digits", "--size", "16", "--num-images", "4"]
    assert main(["evaluate", *arguments]) == 0
    said = capsys.readouterr().out
    assert "made for images of 256 × 256; these are 16 × 16" in said
    assert f"Next: gaxjax gax {' '.join(arguments)} --output RUN" in said


def test_evaluate_tells_of_labels_that_count_from_1(capsys, model, tmp_path):
    classifier = gaxjax.load_classifier(model)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    rows = ["path,label"]
    for number, label in enumerate(tiny.predictions(pixels, classifier)):
        assert label < 9, "such a label has no successor among the ten"
        Image.fromarray(pixels[number]).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{label + 1}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = str(tmp_path / "labels.csv")
    assert main(["evaluate", "--model", str(model), "--data", data, "--size", "16"]) == 0
    assert "3 of the 3 predictions are the label less 1" in capsys.readouterr().out


@pytest.mark.slow
def test_more_slots_than_images_are_not_made(capsys, model, tmp_path):
    arguments = [
        *("gax", "--model", str(model), "--data", "digits", "--size", "16", "--num-images", "3"),
        *("--slots", "1000", "--include-misclassified", "--max-steps", "1"),
    ]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    assert "3 slots" in capsys.readouterr().out


@pytest.mark.slow
def test_an_image_beyond_the_memory_is_one_clear_line(capsys, model, tmp_path):
    said = fails(
        capsys,
        *("gax", "--model", str(model), "--data", "digits", "--size", "60000"),
        *("--output", str(tmp_path / "run")),
    )
    assert "GiB are free: give a smaller --size" in said
    assert not (tmp_path / "run").exists()


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gaxjax 0.")


@pytest.mark.slow
def test_an_interruption_that_got_lost_still_stops_the_run(capsys, model, tmp_path, monkeypatch):
    from gaxjax.common import interruption
    from gaxjax.runs import shell as run

    made, calls = run._result, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 5:
            interruption._interrupted.set()  # as if the exception had landed in a callback
        return made(*arguments)

    monkeypatch.setattr(run, "_result", interrupted)
    arguments = [
        *("gax", "--model", str(model), "--data", "digits", "--size", "16", "--num-images", "30"),
        *("--include-misclassified", "--max-steps", "1", "--output", str(tmp_path / "run")),
    ]
    assert main(arguments) == 130
    assert "finished images are stored" in capsys.readouterr().err
    assert len(read_scores(tmp_path / "run")) == 5
    interruption.check()  # forgotten afterwards: the next call in this process is another


def test_the_core_never_imports_torch():
    script = (
        "import json, pkgutil, sys, importlib, gaxjax\n"
        "for module in pkgutil.walk_packages(gaxjax.__path__, 'gaxjax.'):\n"
        "    if not module.name.startswith('gaxjax.reference') and '__main__' not in module.name:\n"
        "        importlib.import_module(module.name)\n"
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in"
        " ('torch', 'torchvision', 'captum', 'converters')]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == []
