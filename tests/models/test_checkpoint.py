"""Checkpoints: what goes in comes out, and damage is named."""

import errno
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gaxjax import models
from gaxjax.common.errors import UserError
from gaxjax.common.stored import with_checksum
from gaxjax.models import arrays, checkpoint
from gaxjax.models.checkpoint import CheckpointMetadata

METADATA = CheckpointMetadata(
    architecture="small_resnet",
    num_classes=3,
    head_bias=False,
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
    input_size=32,
    class_names=("cat", "dog", "owl"),
    source="pets.pth",
    source_sha256="ab12",
    versions={"jax": "0.10.2"},
)


@pytest.fixture(scope="module")
def model():
    return models.build("small_resnet", num_classes=3, head_bias=False, rngs=nnx.Rngs(7))


@pytest.fixture
def saved(tmp_path, model):
    checkpoint.save(tmp_path / "pets", model, METADATA, parity={"logits": 1e-6})
    return tmp_path / "pets"


def refusal(path):
    with pytest.raises(UserError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_checkpoint_gives_back_the_same_weights_metadata_and_parity_report(saved, model):
    loaded, metadata = checkpoint.load(saved)
    assert metadata == METADATA
    assert checkpoint.read_parity(saved) == {"logits": 1e-6}
    jax.tree.map(np.testing.assert_array_equal, nnx.state(loaded), nnx.state(model))
    graphs = [nnx.graphdef(net) for net in (loaded, model)]
    assert graphs[0] == graphs[1]  # the same layers, in the same mode


def test_saving_leaves_nothing_beside_the_checkpoint(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["pets"]


def test_an_earlier_checkpoint_is_replaced_and_an_empty_folder_used(saved, model):
    later = models.build("small_resnet", num_classes=3, head_bias=False, rngs=nnx.Rngs(8))
    checkpoint.save(saved, later, METADATA)
    loaded, _ = checkpoint.load(saved)
    assert checkpoint.fingerprint(loaded) == checkpoint.fingerprint(later)
    assert checkpoint.fingerprint(loaded) != checkpoint.fingerprint(model)
    empty = saved.parent / "empty"
    empty.mkdir()
    checkpoint.save(empty, model, METADATA)
    assert checkpoint.is_checkpoint(empty)


def test_a_folder_with_other_things_in_it_is_not_overwritten(tmp_path, model):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists and is no gaxjax checkpoint"):
        checkpoint.save(tmp_path, model, METADATA)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_save_that_fails_keeps_the_earlier_checkpoint(saved, model, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays.ocp, "save", full_disk)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.save(saved, model, METADATA)
    assert [path.name for path in saved.parent.iterdir()] == ["pets"]
    assert checkpoint.load(saved)[1] == METADATA


def test_a_missing_path_says_so_and_how_to_make_a_checkpoint(tmp_path):
    message = refusal(tmp_path / "nowhere")
    assert "nothing is there" in message
    assert "gaxjax convert" in message


def test_a_folder_that_is_no_checkpoint_says_so(tmp_path):
    assert "no gaxjax checkpoint" in refusal(tmp_path)


def data_files(path):
    """The files that hold weights, the largest first."""
    files = [file for file in (path / "weights").rglob("d/*") if file.is_file()]
    return sorted(files, key=lambda file: -file.stat().st_size)


def test_truncated_weights_are_damage(saved):
    file = data_files(saved)[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert f"{file.name} is truncated or altered" in refusal(saved)


def test_one_altered_byte_is_damage(saved):
    file = data_files(saved)[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert f"{file.name} is truncated or altered" in refusal(saved)


def test_missing_weights_are_damage(saved):
    shutil.rmtree(saved / "weights")
    message = refusal(saved)
    assert "is damaged" in message
    assert "is missing" in message


def test_a_number_that_became_another_is_damage(saved):
    description = saved / "gaxjax.json"
    text = description.read_text()
    before = f'"input_size": {METADATA.input_size}'
    assert before in text
    description.write_text(text.replace(before, f"{before[:-1]}9"))
    assert "it is not what was written, by its own checksum" in refusal(saved)


def test_a_truncated_description_is_damage(saved):
    description = saved / "gaxjax.json"
    description.write_text(description.read_text()[:40])
    assert "is damaged" in refusal(saved)


def alter_metadata(path, **changes):
    description = json.loads((path / "gaxjax.json").read_text())
    description["metadata"] |= changes
    del description["sha256"]  # as an earlier version wrote it
    (path / "gaxjax.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"num_classes": 4, "class_names": None},
            "fc.kernel is float32(64, 3), not float32(64, 4)",
        ),
        ({"head_bias": True}, "fc.bias is missing"),
        ({"architecture": "resnet18"}, "is missing"),
    ],
)
def test_weights_that_do_not_fit_the_description_are_named(saved, changes, fault):
    alter_metadata(saved, **changes)
    assert fault in refusal(saved)


def test_weights_of_another_type_are_refused_not_cast(tmp_path, model):
    half = nnx.clone(model)
    nnx.update(half, jax.tree.map(lambda w: w.astype(jnp.bfloat16), nnx.state(half)))
    checkpoint.save(tmp_path / "half", half, METADATA)
    assert "bfloat16" in refusal(tmp_path / "half")


def test_a_checkpoint_of_a_later_format_asks_for_conversion(saved):
    description = json.loads((saved / "gaxjax.json").read_text()) | {"format": 99}
    (saved / "gaxjax.json").write_text(json.dumps(with_checksum(description)))
    assert "format 99" in refusal(saved)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.5, 0.5, 0.5)},
        {"class_names": ("cat",)},
        {"std": (0.0, 1.0, 1.0), "mean": (0.0,) * 3},
    ],
)
def test_impossible_metadata_is_refused(wrong):
    with pytest.raises(UserError):
        CheckpointMetadata(architecture="alexnet", num_classes=2, **wrong)


def test_loading_needs_no_torch(saved):
    code = (
        "import sys; sys.modules['torch'] = None; from gaxjax.models import checkpoint; "
        f"print(checkpoint.load({str(saved)!r})[1].architecture)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "small_resnet", done.stderr


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "weights/a"),
        OSError(errno.EMFILE, "Too many open files", "weights/a"),
    ],
)
def test_files_that_cannot_be_read_are_not_called_damaged(saved, error, monkeypatch):
    def refuse(path):
        raise error

    monkeypatch.setattr("gaxjax.models.arrays.file_sha256", refuse)
    with pytest.raises(UserError, match=r"cannot read weights/a: (no permission|too many files)"):
        checkpoint.load(saved)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 9 GiB")])
def test_a_checkpoint_is_whole_though_memory_ran_out(saved, error, monkeypatch):
    def refuse(*arguments):
        raise error

    monkeypatch.setattr("gaxjax.models.arrays.ocp.load", refuse)
    with pytest.raises(UserError, match=r"^cannot read .*") as caught:
        checkpoint.load(saved)
    assert "damaged" not in str(caught.value)
