"""Stored runs over a dataset given in Python: resumed, verified, refused where it is another."""

import dataclasses

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny_runs import PIXELS, run_config, tiny_model

from converters import convert_state_dict
from converters.random_weights import random_state_dict
from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import AxRunConfig, StoreConfig
from gaxjax.data.dataset_images import dataset_images
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.sources import open_images
from gaxjax.gax.engine import GaxEngine
from gaxjax.models import checkpoint
from gaxjax.reference import verify_run
from gaxjax.results.reading import read_scores
from gaxjax.results.stored_run import images_of, open_run
from gaxjax.runs.ax import run_ax
from gaxjax.runs.gax import run_gax

LABELS = tiny.predictions(PIXELS, tiny.classifier())
CONFIG = run_config("dataset:fourteen", slots=2)
FIVE = ModelClasses(tiny.CLASSES)


class MapStyle(torch.utils.data.Dataset):
    """As most are: an image and a label by position; counts how often each is read."""

    def __init__(self, pixels=PIXELS, labels=LABELS, form=lambda image: image):
        self.pixels, self.labels, self.form = pixels, labels, form
        self.reads = [0] * len(pixels)

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, position):
        self.reads[position] += 1
        return self.form(self.pixels[position]), int(self.labels[position])


def channels_first(image):
    return torch.from_numpy(image).permute(2, 0, 1)


def rows_of(run):
    columns = ("image_id", "label", "outcome", "co_score", "steps", "reason")
    rows = read_scores(run, columns=list(columns)).to_pylist()
    return sorted(rows, key=lambda row: row["image_id"])


def silent(text):
    pass


def run(output, dataset, config=CONFIG, **settings):
    with tiny_model():
        return run_gax(config, output, dataset=dataset, note=silent, **settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder, MapStyle())
    return folder


def test_a_run_over_a_dataset_is_that_over_its_files(finished, tmp_path):
    rows = ["path,label"]
    for number, (image, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        Image.fromarray(image).save(tmp_path / f"{number:06d}.png")
        rows.append(f"{number:06d}.png,{label}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    run(tmp_path / "files", None, run_config(tmp_path / "list.csv", slots=2))
    wanted = [
        row | {"image_id": row["image_id"].removesuffix(".png")}
        for row in rows_of(tmp_path / "files")
    ]
    assert rows_of(finished) == wanted
    assert [row["image_id"] for row in wanted] == [f"{i:06d}" for i in range(14)]


FORMS = {
    "tensors": MapStyle(form=channels_first),
    "ToTensor": MapStyle(form=lambda image: channels_first(image) / 255),
    "pictures": MapStyle(form=Image.fromarray),
    "list": list(zip(PIXELS, LABELS, strict=True)),
    "subset": torch.utils.data.Subset(
        MapStyle(np.concatenate([PIXELS, PIXELS]), np.concatenate([LABELS, LABELS])), range(14)
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_pixels_in_another_form_are_the_same_set(name):
    config = DataConfig(data="dataset:any", size=tiny.SIZE)
    plain, found = (dataset_images(each, config, FIVE) for each in (MapStyle(), FORMS[name]))
    assert found == plain  # the fingerprint too
    assert found.labels_from == "the dataset's labels, which are class indices (1 to 3)"
    for index, image in enumerate(PIXELS):
        np.testing.assert_array_equal(found.load(index), image)


def test_a_run_that_was_cut_off_goes_on_with_what_is_left(finished, tmp_path):
    class Stopping(GaxEngine):
        def run(self, batches):
            for number, solutions in enumerate(super().run(batches)):
                if number == 9:
                    raise KeyboardInterrupt
                yield solutions

    config = dataclasses.replace(CONFIG, store=StoreConfig(part_size=4))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", MapStyle(), config, make_engine=Stopping)
    dataset = MapStyle()
    summary = run(tmp_path / "run", dataset)
    assert 4 <= summary.resumed <= 9
    assert sum(dataset.reads) < 4 * 14  # for labels, the sample twice, and what was left
    assert rows_of(tmp_path / "run") == rows_of(finished)


def test_a_finished_run_is_not_begun_again(finished):
    assert run(finished, MapStyle()).resumed == 14


def changed(position):
    pixels = PIXELS.copy()
    pixels[position] ^= 1
    return MapStyle(pixels)


def test_a_run_refuses_another_dataset(finished):
    other = LABELS.copy()
    other[5] = (other[5] + 1) % tiny.CLASSES
    with pytest.raises(UserError, match=r"1 image changed \(000005\)"):
        run(finished, MapStyle(labels=other))
    with pytest.raises(UserError, match=r"1 image gone \(000013\)"):
        run(finished, MapStyle(PIXELS[:13], LABELS[:13]))
    with pytest.raises(UserError, match="dataset:fourteen"):
        run(finished, changed(position=0))


def test_an_image_that_cannot_be_read_has_its_outcome(tmp_path):
    class Faulty(MapStyle):
        def __getitem__(self, position):
            image, label = super().__getitem__(position)
            if position == 3 and self.reads[3] > 1:
                raise OSError("disk gone")
            if position == 5 and self.reads[5] > 3:
                label += 1
            if position == 7:
                image = image[:5]
            if position == 9:
                image = image.astype(np.float32) / 255.5
            return image, label

    summary = run(tmp_path / "run", Faulty())
    reasons = {row["image_id"]: row["reason"] for row in rows_of(tmp_path / "run") if row["reason"]}
    assert summary.outcomes["unreadable"] == 4
    assert reasons["000003"] == "OSError: disk gone"
    assert (
        reasons["000005"]
        == f"its label is {LABELS[5] + 1}, and was {LABELS[5]} when labels were read"
    )
    assert reasons["000007"].startswith("it is 5 × 12 pixels, and those of the run are 12 × 12")
    assert reasons["000009"].startswith("its floats are no values of 8 bits")


def test_settings_choose_among_the_images_of_a_dataset():
    config = DataConfig(data="dataset:any", size=tiny.SIZE, num_images=5, seed=3)
    drawn = dataset_images(MapStyle(), config, FIVE)
    assert len(drawn.records) == 5
    for index, record in enumerate(drawn.records):
        np.testing.assert_array_equal(drawn.load(index), PIXELS[int(record.image_id)])
    wanted = str(LABELS[0])
    config = dataclasses.replace(config, num_images=None, classes=(wanted,))
    kept = dataset_images(MapStyle(), config, FIVE)
    assert [int(record.image_id) for record in kept.records] == np.flatnonzero(
        LABELS[0] == LABELS
    ).tolist()


class Random(MapStyle):
    def __getitem__(self, position):
        image, label = super().__getitem__(position)
        return np.roll(image, self.reads[position], axis=0), label


FAULTY = {
    "loader": (torch.utils.data.DataLoader(MapStyle()), "by position, .*loader.dataset has"),
    "generator": (iter([]), "cannot be read by position, .*a map-style dataset has"),
    "empty": ([], "it is empty"),
    "random": (Random(), "image 000000 of dataset:any is another one each time it is read"),
    "size": (MapStyle(PIXELS[:, :8]), r"image 000000 of dataset:any: it is 8 × 12 pixels"),
    "batches": ([(PIXELS, LABELS)], "item 0 of the dataset is a batch"),
    "past the last": (MapStyle(labels=LABELS + 5), "does not fit the model's 5 classes"),
    "missing": (MapStyle(labels=LABELS * 0 - 1), "the label of image 0 is -1"),
    "splits": ({"test": MapStyle()}, "a dict; expected one dataset"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_what_cannot_be_stored_is_one_clear_line(name):
    dataset, said = FAULTY[name]
    with pytest.raises(UserError, match=said) as caught:
        dataset_images(dataset, DataConfig(data="dataset:any", size=tiny.SIZE), FIVE)
    assert str(caught.value).isprintable()


def test_a_dataset_needs_a_name_of_its_own_and_is_not_looked_for_on_the_disk(finished):
    with pytest.raises(UserError, match="a dataset is given, and --data is val: name the dataset"):
        dataset_images(MapStyle(), DataConfig(data="val"), FIVE)
    with pytest.raises(UserError, match="names a dataset that was given in Python: give it there"):
        open_images(DataConfig(data="dataset:any"))
    with pytest.raises(UserError, match="leave --split out"):
        dataset_images(MapStyle(), DataConfig(data="dataset:any", split="test"), FIVE)
    load, reason = images_of(open_run(finished))
    assert load("000000") is None
    assert "dataset:fourteen names a dataset that was given in Python" in reason


def test_labels_of_a_torchvision_dataset_are_taken_without_its_images(tmp_path):
    from torchvision.datasets import FakeData, ImageFolder

    for number in range(6):
        (tmp_path / f"class{number % 2}").mkdir(exist_ok=True)
        Image.fromarray(PIXELS[number]).save(tmp_path / f"class{number % 2}" / f"{number}.png")
    read = []
    dataset = ImageFolder(tmp_path, transform=lambda image: read.append(1) or image)
    config = DataConfig(data="dataset:any", size=tiny.SIZE)
    found = dataset_images(dataset, config, FIVE)
    assert [record.label for record in found.records] == [0, 0, 0, 1, 1, 1]
    assert len(read) == 2 * 6  # the sample, twice
    subset = torch.utils.data.Subset(dataset, [5, 0])
    assert [record.label for record in dataset_images(subset, config, FIVE).records] == [1, 0]
    mapped = ImageFolder(tmp_path, target_transform=lambda label: 4 - label)
    assert {record.label for record in dataset_images(mapped, config, FIVE).records} == {3, 4}
    fake = FakeData(3, (3, tiny.SIZE, tiny.SIZE), num_classes=5)
    assert len(dataset_images(fake, config, FIVE).records) == 3


def test_a_hugging_face_dataset_is_run_by_the_names_of_its_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    import datasets

    features = datasets.Features(
        {"photo": datasets.Image(), "kind": datasets.ClassLabel(names=list("edcba"))}
    )
    rows = {
        "photo": [Image.fromarray(image) for image in PIXELS],
        "kind": [4 - int(label) for label in LABELS],
    }
    dataset = datasets.Dataset.from_dict(rows, features=features)
    config = DataConfig(data="dataset:any", size=tiny.SIZE)
    found = dataset_images(dataset, config, ModelClasses(5, tuple("abcde")))
    assert [record.label for record in found.records] == LABELS.tolist()
    assert [record.label_name for record in found.records] == ["abcde"[i] for i in LABELS]
    np.testing.assert_array_equal(found.load(13), PIXELS[13])
    with pytest.raises(UserError, match="IterableDataset cannot be read by position"):
        dataset_images(dataset.to_iterable_dataset(), config, FIVE)


@pytest.mark.slow
def test_a_run_over_a_dataset_is_verified_by_the_same_dataset_alone(tmp_path):
    weights = random_state_dict("small_resnet", num_classes=5)
    checkpoint.save(
        tmp_path / "model.ckpt",
        convert_state_dict(weights, "small_resnet"),
        checkpoint.CheckpointMetadata(architecture="small_resnet", num_classes=5),
    )
    config = AxRunConfig(
        model=ModelConfig(model=str(tmp_path / "model.ckpt")),
        data=DataConfig(data="dataset:fourteen", size=tiny.SIZE),
        ax=AxConfig(methods=("saliency",), operation="sum"),
    )
    run_ax(config, tmp_path / "run", dataset=MapStyle(form=channels_first), note=silent)
    found = verify_run(tmp_path / "run", dataset=MapStyle())
    assert found.passed
    assert found.num_images == 14
    with pytest.raises(UserError, match="was given in Python: give it there again, as dataset=…"):
        verify_run(tmp_path / "run")
    with pytest.raises(UserError, match="made with other images"):
        verify_run(tmp_path / "run", dataset=changed(position=0))
