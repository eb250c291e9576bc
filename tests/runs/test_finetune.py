"""Training: the folder it leaves, resuming to the bit, when it stops, and what it refuses."""

import csv
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from gaxjax import models
from gaxjax.cli.main import main
from gaxjax.common.errors import UserError
from gaxjax.config.finetune import FinetuneConfig
from gaxjax.config.inputs import DataConfig
from gaxjax.data.sources import open_images
from gaxjax.data.splits import make_split
from gaxjax.models import checkpoint
from gaxjax.models.checkpoint import load_classifier
from gaxjax.models.layers import Dropout, Linear
from gaxjax.models.training import Trainer, batch_rows
from gaxjax.report.tables import table_1_text
from gaxjax.results.evaluation import Evaluation
from gaxjax.runs import finetune, training_state
from gaxjax.runs.evaluate import evaluate_classifier
from gaxjax.runs.finetune import run_finetune

SIZE = 16
COUNTS = {"train": 20, "test": 6}


@pytest.fixture(scope="module")
def xray(tmp_path_factory):
    """A folder of splits without val: dark images are NORMAL, bright ones PNEUMONIA."""
    root, random = tmp_path_factory.mktemp("data") / "xray", np.random.default_rng(0)
    for split, count in COUNTS.items():
        for label, (low, high) in {"NORMAL": (0, 120), "PNEUMONIA": (130, 256)}.items():
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(low, high, (SIZE, SIZE), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return root


def settings(xray, **changes):
    return FinetuneConfig(
        data=str(xray),
        **{
            "architecture": "small_resnet",
            "size": SIZE,
            "batch_size": 8,
            "validate_every": 5,
            "min_iterations": 20,
            "max_iterations": 20,
            "decode_threads": 1,
        }
        | changes,
    )


@pytest.fixture(scope="module")
def trained(xray, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "model"
    return run_finetune(settings(xray), output)


def curve(output):
    with (output / "curve.csv").open() as file:
        return list(csv.DictReader(file))


def weights(output):
    return checkpoint.fingerprint(checkpoint.load(output / "model.ckpt")[0])


# --- What it leaves ------------------------------------------------------------------------------


def test_it_learns_to_tell_dark_from_bright(trained):
    assert trained.iterations == 20
    assert trained.test.num_images == 12
    rows = curve(trained.model.parent)
    assert [row["iteration"] for row in rows] == ["5", "10", "15", "20"]
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert trained.validation_accuracy == float(rows[-1]["validation_accuracy"])


def test_the_checkpoint_says_what_it_is(trained, xray):
    model, metadata = checkpoint.load(trained.model.parent / "model.ckpt")
    assert metadata.architecture == "small_resnet"
    assert metadata.class_names == ("NORMAL", "PNEUMONIA")
    assert (metadata.head_bias, metadata.mean, metadata.input_size) == (False, None, SIZE)
    assert metadata.validation_accuracy == trained.validation_accuracy
    assert model.fc.bias is None
    images = open_images(DataConfig(data=str(xray), split="test", size=SIZE))
    again = evaluate_classifier(load_classifier(trained.model.parent / "model.ckpt"), images)
    assert again.to_dict() == trained.test.to_dict()
    stored = json.loads((trained.model.parent / "finetune.json").read_text())
    assert stored["test"] == trained.test.to_dict()
    assert stored["status"] == "complete"


def test_the_validation_images_are_a_fifth_of_each_class_and_not_trained_on(trained):
    with (trained.model.parent / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    of = {s: {row["path"] for row in rows if row["split"] == s} for s in ("train", "val", "test")}
    assert {name: len(paths) for name, paths in of.items()} == {"train": 32, "val": 8, "test": 12}
    assert not of["train"] & of["val"]


# --- Resuming ------------------------------------------------------------------------------------


def test_training_cut_off_between_validations_resumes_to_the_same_bits(
    trained, xray, tmp_path, monkeypatch
):
    step, calls = Trainer.step, []

    def cut_off(self, *arguments):
        calls.append(None)
        if len(calls) == 13:  # three iterations past the second validation
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "step", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(settings(xray), tmp_path)
    assert not (tmp_path / "model.ckpt").exists()
    # The crash came after the curve was written and before the state was.
    with (tmp_path / "curve.csv").open("a") as file:
        file.write("15,0.1,0.5,9.0\n")
    again = run_finetune(settings(xray), tmp_path)
    assert len(calls) == 13 + 10
    assert again.iterations == 20
    assert weights(tmp_path) == weights(trained.model.parent)
    kept, whole = curve(tmp_path), curve(trained.model.parent)
    for column in ("iteration", "loss", "validation_accuracy"):
        assert [row[column] for row in kept] == [row[column] for row in whole]
    sessions = json.loads((tmp_path / "finetune.json").read_text())["sessions"]
    assert len(sessions) == 2


def test_what_is_trained_already_is_not_trained_again(trained, xray, monkeypatch):
    monkeypatch.setattr(Trainer, "step", None)
    before = weights(trained.model.parent)
    again = run_finetune(settings(xray), trained.model.parent)
    assert (again.iterations, weights(trained.model.parent)) == (20, before)
    assert again.test.to_dict() == trained.test.to_dict()


def test_a_process_killed_while_it_keeps_a_state_goes_on_from_the_one_before(
    trained, xray, tmp_path
):
    shutil.copytree(trained.model.parent, tmp_path / "copy")
    states = tmp_path / "copy/state"
    assert [path.name for path in states.iterdir()] == ["000000020"]
    (states / "000000025.partial/weights").mkdir(parents=True)
    again = run_finetune(settings(xray, min_iterations=25, max_iterations=25), tmp_path / "copy")
    assert again.iterations == 25
    assert [path.name for path in states.iterdir()] == ["000000025"]


def test_other_settings_are_refused_by_name(trained, xray):
    with pytest.raises(UserError, match=r"learning rate is 0.001 there and 0.1 here"):
        run_finetune(settings(xray, learning_rate=0.1), trained.model.parent)
    with pytest.raises(UserError, match=r"seed is 0 there and 1 here"):
        run_finetune(settings(xray, seed=1), trained.model.parent)


def test_a_damaged_state_is_one_clear_line(trained, xray, tmp_path):
    shutil.copytree(trained.model.parent, tmp_path / "copy")
    victim = max((tmp_path / "copy/state").rglob("*"), key=lambda file: file.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"training state .* is damaged .* train anew"):
        run_finetune(settings(xray), tmp_path / "copy")


@pytest.mark.slow
def test_a_killed_training_resumes(xray, tmp_path):
    flags = "--architecture small_resnet --batch-size 8 --validate-every 5 --max-iterations 3000"
    command = [sys.executable, "-m", "gaxjax", "finetune", "--data", str(xray), *flags.split()]
    command += ["--size", str(SIZE), "--min-iterations", "3000", "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command)
    while not training_state.latest_state(tmp_path / "out/state"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rows = curve(tmp_path / "out")
    ended = [*command, "--min-iterations", "1", "--validation-accuracy", "0.01"]
    assert subprocess.run(ended, check=False).returncode == 0
    assert [row["iteration"] for row in curve(tmp_path / "out")][: len(rows) - 1] == [
        row["iteration"] for row in rows[:-1]
    ]


# --- When it stops -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iteration", "accuracy", "over"),
    [
        (2300, 1.0, False),  # before the least number of iterations
        (2400, 0.98, False),
        (2400, 0.99, True),
        (2450, 0.99, False),  # that accuracy is of an earlier iteration
        (2500, 0.995, True),
        (240_000, 0.1, True),
    ],
)
def test_it_stops_as_the_paper_does(iteration, accuracy, over):
    assert finetune._is_over(FinetuneConfig(data="-"), iteration, accuracy) is over


def test_batches_are_drawn_with_replacement_from_seed_and_iteration():
    config = FinetuneConfig(data="-", batch_size=1000)
    rows = batch_rows(config, 7, 100)
    assert rows.shape == (1000,)
    assert set(rows.tolist()) == set(range(100))
    np.testing.assert_array_equal(rows, batch_rows(config, 7, 100))
    assert (rows != batch_rows(config, 8, 100)).any()
    assert (rows != batch_rows(dataclasses.replace(config, seed=1), 7, 100)).any()


def test_a_loss_that_is_not_finite_ends_it(xray, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "step", lambda self, state, *_: (state, jnp.float32(jnp.nan)))
    with pytest.raises(UserError, match="the loss is not finite after 5 iterations: give a small"):
        run_finetune(settings(xray), tmp_path)
    assert not (tmp_path / "state").exists()


# --- Dropout -------------------------------------------------------------------------------------


class Dropping(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([Dropout(0.5), Linear(3, 2, rngs=rngs), Dropout(0.5)])

    def __call__(self, images):
        x = images.mean((1, 2))
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.slow
def test_dropout_differs_by_iteration_and_seed_and_rests_in_predictions():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (64, 4, 4, 3), dtype=np.uint8))
    labels, rows = jnp.zeros(64, jnp.int32), np.arange(64, dtype=np.int32)

    def losses(seed, rate=1e-9):
        config = FinetuneConfig(data="-", seed=seed, learning_rate=rate)
        trainer = Trainer(Dropping(nnx.Rngs(0)), config)
        state, found = trainer.start(), []
        for _ in range(2):
            state, loss = trainer.step(state, images, labels, rows)
            found.append(float(loss))
        return found, trainer.predict(state, images)

    (first, second), predicted = losses(0)
    assert first != second
    assert losses(0)[0] == [first, second]
    assert losses(1)[0] != [first, second]
    np.testing.assert_allclose(predicted, losses(1)[1], atol=1e-6)


# --- Where it starts -----------------------------------------------------------------------------


@pytest.mark.slow
def test_given_weights_fill_the_backbone_and_not_the_head(tmp_path, xray):
    given = models.build("small_resnet", num_classes=7, rngs=nnx.Rngs(5))
    metadata = checkpoint.CheckpointMetadata(architecture="small_resnet", num_classes=7)
    checkpoint.save(tmp_path / "given.ckpt", given, metadata)
    config = settings(xray, weights=str(tmp_path / "given.ckpt"))
    model, start = finetune._model_to_start_from(config, 2)
    assert start == load_classifier(tmp_path / "given.ckpt").fingerprint[:16]
    np.testing.assert_array_equal(model.conv1.kernel[...], given.conv1.kernel[...])
    np.testing.assert_array_equal(model.layer3[0].bn2.mean[...], given.layer3[0].bn2.mean[...])
    assert model.fc.kernel[...].shape == (64, 2)
    with pytest.raises(UserError, match="is a small_resnet, not a resnet34: give --architecture"):
        finetune._model_to_start_from(dataclasses.replace(config, architecture="resnet34"), 2)


# --- What it refuses -----------------------------------------------------------------------------


def test_a_folder_with_other_things_in_it_is_refused(xray, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"not empty and holds no gaxjax run \(found thesis.tex\)"):
        run_finetune(settings(xray), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_image_that_cannot_be_read_is_named_before_training(xray, tmp_path):
    shutil.copytree(xray, tmp_path / "xray")
    (tmp_path / "xray/train/NORMAL/00.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"train/NORMAL/00.png cannot be read .* take it out"):
        run_finetune(settings(tmp_path / "xray"), tmp_path / "out")


def test_a_division_that_someone_else_made_is_not_overwritten(xray, tmp_path):
    file = tmp_path / "split.csv"
    make_split(xray).save(file)
    text = file.read_text().replace(",val,", ",train,", 1)
    file.write_text(text)
    with pytest.raises(UserError, match=r"split.csv divides the images otherwise than --valid"):
        run_finetune(settings(xray), tmp_path)
    assert file.read_text() == text


def test_an_output_inside_the_images_is_refused(xray):
    with pytest.raises(UserError, match="lies inside the images of --data"):
        run_finetune(settings(xray), xray / "train" / "out")
    assert not (xray / "train" / "out").exists()


def test_images_without_splits_are_refused(tmp_path, xray, capsys):
    flags = ["--output", str(tmp_path / "out"), "--architecture", "small_resnet"]
    assert main(["finetune", "--data", str(xray / "train"), *flags]) == 2
    assert "holds no split folders" in capsys.readouterr().err
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\na.png,NORMAL\n")
    assert main(["finetune", "--data", str(manifest), *flags]) == 2
    assert "has no split train: training needs train and val" in capsys.readouterr().err
    assert main(["finetune", "--data", "digits", *flags]) == 2
    assert "--data digits has no split train" in capsys.readouterr().err
    assert main(["finetune", "--data", str(xray), "--weights", "nothing.pth", *flags]) == 2
    assert "--weights nothing.pth: " in capsys.readouterr().err
    assert not (tmp_path / "out/split.csv").exists()


def test_a_division_for_a_training_that_is_refused_is_taken_back(xray, tmp_path, monkeypatch):
    def refuse(*_):
        assert (tmp_path / "split.csv").exists()
        raise UserError("too small")

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "model_to_start_from", refuse)
        with pytest.raises(UserError, match="too small"):
            run_finetune(settings(xray), tmp_path)
    assert not (tmp_path / "split.csv").exists()
    make_split(xray).save(tmp_path / "split.csv")
    monkeypatch.setattr(finetune, "model_to_start_from", refuse)
    with pytest.raises(UserError, match="too small"):
        run_finetune(settings(xray), tmp_path)
    assert (tmp_path / "split.csv").exists()  # it was there before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 1.0}, "--validation must be between 0 and 1"),
        ({"validation_accuracy": 1.5}, "--validation-accuracy must be above 0 and at most 1"),
        ({"min_iterations": 21}, r"--min-iterations must be at most --max-iterations \(20\)"),
        ({"learning_rate": 0.0}, "--learning-rate must be a finite number above 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
    ],
)
def test_impossible_settings_are_named(xray, changes, message):
    with pytest.raises(UserError, match=message):
        settings(xray, **changes)


# --- Table 1 and the learning curve --------------------------------------------------------------


def test_table_1_as_markdown_latex_and_csv():
    figures = {"accuracy": 0.8, "recall": None, "val. acc.": 0.99}
    assert table_1_text(figures, "a_1|b", ".md") == (
        "| model | accuracy | recall | val. acc. |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| a_1\\|b | 0.800 | – | 0.990 |\n"
    )
    latex = table_1_text(figures, "a_1 & b", ".tex")
    assert "model & accuracy & recall & val. acc. \\\\\n" in latex
    assert "a\\_1 \\& b & 0.800 & -- & 0.990 \\\\\n" in latex
    assert table_1_text(figures, "x,y", ".csv") == (
        'model,accuracy,recall,val. acc.\n"x,y",0.8,,0.99\n'
    )


@pytest.mark.slow
def test_the_finetune_command_writes_table_1_and_its_curve(trained, xray, capsys):
    output = trained.model.parent
    words = f"--architecture small_resnet --size {SIZE} --batch-size 8 --validate-every 5"
    words += " --min-iterations 20 --max-iterations 20 --decode-threads 1"
    assert main(["finetune", "--data", str(xray), "--output", str(output), *words.split()]) == 0
    printed = capsys.readouterr().out
    assert "20 iterations" in printed
    assert printed.splitlines()[-1].endswith(f"--split test --size {SIZE} --bias --output RUN")
    row = (output / "table1.csv").read_text().splitlines()[1].split(",")
    assert float(row[1]) == trained.test.accuracy
    assert float(row[-1]) == trained.validation_accuracy
    with Image.open(output / "curve.png") as picture:
        assert picture.size[0] > 500
    assert (output / "curve.svg").read_text().count("<svg") == 1


def test_precision_recall_and_auroc_equal_scikit_learns():
    from sklearn.metrics import confusion_matrix, precision_score, recall_score, roc_auc_score

    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200).astype(np.int32)
    positive = np.clip(0.6 * labels + random.uniform(-0.2, 0.6, 200), 0, 1)
    predictions = (positive > 0.5).astype(np.int32)
    probabilities = np.where(labels == 1, positive, 1 - positive)
    found = Evaluation(2, 0, labels, predictions, probabilities)
    figures = found.binary()
    assert figures["precision"] == pytest.approx(precision_score(labels, predictions))
    assert figures["recall"] == pytest.approx(recall_score(labels, predictions))
    assert figures["auroc"] == pytest.approx(roc_auc_score(labels, positive))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, predictions))
    assert found.accuracy == pytest.approx((labels == predictions).mean())


def test_figures_that_are_not_defined_are_none():
    healthy = np.zeros(3, np.int32)
    found = Evaluation(2, 1, healthy, healthy, np.full(3, 0.9))
    assert found.binary() == {"precision": None, "recall": None, "auroc": None}
    assert found.to_dict()["num_unreadable"] == 1
    nothing = Evaluation(2, 4, healthy[:0], healthy[:0], np.zeros(0))
    assert nothing.to_dict()["accuracy"] is None


def test_the_command_prints_table_1_and_what_to_do_next(trained, xray, capsys):
    output = trained.model.parent.parent / "figures.json"
    command = ["evaluate", "--model", str(trained.model.parent / "model.ckpt"), "--data", str(xray)]
    command += ["--split", "test", "--size", str(SIZE), "--output", str(output)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Positive: PNEUMONIA" in printed
    assert "val. acc." in printed
    following = printed.splitlines()[-1]
    assert following.startswith("Next: gaxjax gax --model ")
    assert str(output) not in following
    assert json.loads(output.read_text())["confusion"] == trained.test.confusion.tolist()
    assert jax.config.jax_enable_x64 is False
