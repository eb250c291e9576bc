"""Every file that we read back, damaged: it is read as it could have been written, or refused."""

import json
import math
from types import SimpleNamespace

import jax.numpy as jnp
import pytest
from damage import DAMAGES, damaged
from fuzzing import fuzz, user_errors
from hypothesis import strategies as st
from PIL import Image

from converters import convert_state_dict
from converters.random_weights import random_state_dict
from gaxjax.data.splits import make_split, read_split
from gaxjax.gax import capacity
from gaxjax.models import TrainState, checkpoint
from gaxjax.report import page, sections
from gaxjax.runs import training_state
from gaxjax.runs.training_log import TrainingLog


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "model.ckpt"
    model = convert_state_dict(random_state_dict("small_resnet", num_classes=3), "small_resnet")
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet",
        num_classes=3,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        class_names=("a", "b", "c"),
        validation_accuracy=0.5,
        decoding={"resize": "squash"},
    )
    checkpoint.save(folder, model, metadata, parity={"logits": 1e-6})
    return folder


@fuzz(100, ordinarily=10, damage=DAMAGES)
def test_a_checkpoint_with_a_damaged_description_is_as_it_was_or_refused(network, damage):
    written, parity = checkpoint.load(network)[1], checkpoint.read_parity(network)
    with damaged(network / "gaxjax.json", damage), user_errors():
        assert checkpoint.load(network)[1] == written
        assert checkpoint.read_parity(network) == parity


@pytest.fixture
def earlier(network):
    """A description as earlier versions wrote it, without its own digest."""
    file = network / "gaxjax.json"
    text = file.read_text()
    about = json.loads(text)
    del about["sha256"]
    file.write_text(json.dumps(about, indent=1))
    yield network
    file.write_text(text)


@fuzz(200, ordinarily=20, damage=DAMAGES)
def test_an_earlier_checkpoint_with_a_damaged_description_is_a_possible_one_or_refused(
    earlier, damage
):
    network = earlier
    with damaged(network / "gaxjax.json", damage), user_errors():
        _, metadata = checkpoint.load(network)
        assert metadata.num_classes == 3
        assert 1 <= metadata.input_size <= 65_536
        assert metadata.validation_accuracy is None or 0 <= metadata.validation_accuracy <= 1
        for values in (metadata.mean, metadata.std):
            assert values is None or (len(values) == 3 and all(map(math.isfinite, values)))
        assert metadata.class_names is None or len(metadata.class_names) == 3
        parity = checkpoint.read_parity(network)
        assert parity is None or isinstance(parity, dict)


LIKE = TrainState({"weights": jnp.arange(4.0)}, {}, (), jnp.int32(10))
CURVE = [
    {"iteration": 5, "loss": 0.123456789, "validation_accuracy": 2 / 3, "seconds": 1.5},
    {"iteration": 10, "loss": 0.1, "validation_accuracy": 0.75, "seconds": 3.1},
]
IDENTITY = {"command": "finetune", "seed": 0, "training images": "xray 0123"}


def training(output):
    header = {"config": {"seed": 0}, "data": "split.csv", "duplicates": []}
    return TrainingLog(output, identity=IDENTITY, header=header)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    log = training(output)
    log.begin_session()
    for row in CURVE:
        log.keep(LIKE, *row.values())
    log.write(status="complete", iterations=10, validation_accuracy=0.75, test=None)
    return output, [file for file in output.rglob("*") if file.is_file()]


@fuzz(300, damage=DAMAGES, which=st.floats(0, 1, exclude_max=True), often=st.booleans())
def test_a_training_with_a_damaged_file_goes_on_as_it_could_or_is_refused(
    trained, damage, which, often
):
    output, files = trained
    if often:  # of what is read by us and not by Orbax
        files = [file for file in files if file.name in ("finetune.json", "curve.csv")]
    file = files[int(which * len(files))]
    description = (output / "finetune.json").read_bytes()
    with damaged(file, damage), user_errors():
        log = training(output)
        log.begin_session()
        kept = training_state.latest_state(log.states)
        if kept is not None:
            state = training_state.load_state(kept, LIKE)
            assert state.params["weights"].tolist() == [0.0, 1.0, 2.0, 3.0]
            assert 0 <= log.read_until(int(state.iteration)) <= 1
            assert log.curve == CURVE
    (output / "finetune.json").write_bytes(description)


@pytest.fixture(scope="module")
def division(tmp_path_factory):
    root = tmp_path_factory.mktemp("division") / "images"
    for label in ("cat", "dog"):
        (root / "train" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (2, 2)).save(root / "train" / label / f"{number}.png")
    make_split(root).save(root.parent / "split.csv")
    return root


@fuzz(200, damage=DAMAGES)
def test_a_damaged_division_is_a_division_of_the_same_images_or_refused(division, damage):
    with damaged(division.parent / "split.csv", damage), user_errors():
        split = read_split(division.parent / "split.csv", division)
        assert len({image.image_id for image in split.images}) == len(split.images) == 8
        assert all(image.split and image.label for image in split.images)


@pytest.fixture(scope="module")
def verification(tmp_path_factory):
    file = tmp_path_factory.mktemp("verified") / "verification.json"
    found = {
        **{"passed": True, "num_heatmaps": 12, "num_images": 12, "torch_version": "2"},
        "comparisons": [{"worst": 1e-6, "differing": 0}, {"worst": None, "differing": 1}],
        "dtype": "float32",
    }
    file.write_text(json.dumps(found))
    return file


@fuzz(200, damage=DAMAGES)
def test_a_damaged_verification_is_a_possible_one_or_called_damaged(verification, damage):
    run = SimpleNamespace(path=verification.parent, keeps_heatmaps=True)
    with damaged(verification, damage):
        said = sections._verified(run)
    assert said.startswith(("passed: ", "FAILED: ", "not checked yet")) or "is damaged" in said
    assert "nan" not in said.lower()
    assert "inf" not in said.lower()


@pytest.fixture(scope="module")
def remembered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remembered")
    (folder / "slots.json").write_text(json.dumps({"cpu, net": 16, "cpu, other net": 8}))
    (folder / "figures.json").write_text(json.dumps([{"name": "a"}, {"name": "b", "title": "B"}]))
    return folder


@fuzz(200, damage=DAMAGES)
def test_a_damaged_note_of_ours_is_as_none(remembered, damage):
    with damaged(remembered / "slots.json", damage):
        slots = capacity._read(remembered / "slots.json")
        assert all(isinstance(number, int) and number >= 1 for number in slots.values())
    if damage[0] != "folder":
        with damaged(remembered / "figures.json", damage):
            page._write_figures(remembered, [])
