"""MedMNIST files: small ones in the documented format, and every kind that is none."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_folders import assert_says, complaint, labels_of, opened
from PIL import Image

from gaxjax.common.errors import UserError
from gaxjax.data.batching import batches
from gaxjax.data.decode import fit

COUNTS = {"train": 6, "val": 2, "test": 4}


def arrays(shape: tuple[int, ...] = (28, 28), classes: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for split, count in COUNTS.items():
        made[f"{split}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
        made[f"{split}_labels"] = (np.arange(count)[:, None] % classes).astype(np.uint8)
    return made


def medmnist(path: Path, **changed: np.ndarray) -> Path:
    np.savez_compressed(path, **(arrays() | changed))
    return path


@pytest.mark.parametrize("split", COUNTS)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_splits_images_keep_the_files_order_and_labels(tmp_path, split, save):
    made = arrays()
    save(tmp_path / "pneumoniamnist.npz", **made)
    images = opened(tmp_path / "pneumoniamnist.npz", 2, split=split, size=28)
    names = ("normal", "pneumonia")
    assert labels_of(images) == [
        (f"{split}/{i:04d}", i % 2, names[i % 2]) for i in range(COUNTS[split])
    ]
    assert (images.num_classes, images.label_names) == (2, names)
    assert images.name == f"{COUNTS[split]} images of pneumoniamnist.npz, split {split}"
    for i, grey in enumerate(made[f"{split}_images"]):
        np.testing.assert_array_equal(images.load(i), np.repeat(grey[..., None], 3, axis=2))


def test_an_image_is_resized_as_a_file_of_the_same_pixels_is(tmp_path):
    path = medmnist(tmp_path / "pneumoniamnist_64.npz")
    grey = Image.fromarray(arrays()["test_images"][1]).convert("RGB")
    for settings in ({}, {"resize": "crop", "resize_size": 40}):
        images = opened(path, split="test", size=32, **settings)
        np.testing.assert_array_equal(images.load(1), fit(grey, size=32, **settings))


def test_colour_images_and_numbered_labels_of_any_integer_type(tmp_path):
    made = arrays(shape=(28, 28, 3), classes=3)
    labels = {name: each.astype(np.int64) for name, each in made.items() if "labels" in name}
    path = medmnist(tmp_path / "bloodmnist.npz", **(made | labels))
    images = opened(path, 3, split="val", size=28)
    # No image of the validation split is of the third class, which counts all the same.
    assert [(r.label, r.label_name) for r in images.records] == [(0, "0"), (1, "1")]
    assert (images.num_classes, images.label_names) == (3, ("0", "1", "2"))
    np.testing.assert_array_equal(images.load(0), made["val_images"][0])


def test_spellings_classes_and_draws_work_as_for_folders(tmp_path):
    path = medmnist(tmp_path / "pneumoniamnist.npz")
    images = opened(path, split="training", classes=("pneumonia",), num_images=2)
    assert [record.label for record in images.records] == [1, 1]
    assert images.name == "2 of 3 images of pneumoniamnist.npz, split train, only pneumonia"
    assert opened(path, split="train").fingerprint != opened(path, split="test").fingerprint


def test_ids_sort_in_the_files_order_beyond_ten_thousand_images(tmp_path):
    count = 10_001
    path = medmnist(
        tmp_path / "octmnist.npz",
        train_images=np.zeros((count, 2, 2), np.uint8),
        train_labels=(np.arange(count)[:, None] % 4).astype(np.uint8),
    )
    records = opened(path, split="train").records
    assert (records[0].image_id, records[-1].image_id) == ("train/00000", "train/10000")
    assert [record.label for record in records] == [i % 4 for i in range(count)]


def test_the_pixels_are_read_once_for_all_threads(tmp_path, monkeypatch):
    path = medmnist(tmp_path / "pneumoniamnist.npz")
    images = opened(path, split="train")
    read, opened_members = zipfile.ZipFile.open, []

    def counting(self, name, *args, **kwargs):
        opened_members.append(name)
        return read(self, name, *args, **kwargs)

    monkeypatch.setattr(zipfile.ZipFile, "open", counting)
    [batch] = batches(images, batch_size=8, threads=4)
    assert len(batch.indices) == 6
    assert opened_members == ["train_images.npy"]


# --- Bad input: one clear line each --------------------------------------------------------------


def test_a_split_is_needed_and_must_be_one_of_three(tmp_path):
    path = medmnist(tmp_path / "pneumoniamnist.npz")
    assert_says(complaint(path), "holds splits (train, val, test)", "--split test")
    assert_says(complaint(path, split="tests"), "--split tests", "did you mean 'test'?")
    assert_says(complaint(path, split="test", labels=path), "--labels", "MedMNIST")
    assert_says(complaint(path, 1000, split="test"), "2 classes", "1000")
    assert_says(complaint(path, split="test", classes=("Normal",)), "did you mean 'normal'?")


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"test_labels": np.zeros((4, 14), np.uint8)}, ["14 labels at once"]),
        ({"test_images": np.zeros((4, 28, 28, 28), np.uint8)}, ["holds volumes"]),
        ({"test_images": np.zeros((4, 28, 28), np.float32)}, ["test_images is float32"]),
        ({"test_images": np.zeros((3, 28, 28), np.uint8)}, ["3 test images, but 4 labels"]),
        ({"test_images": np.zeros((0, 28, 28), np.uint8)}, ["test_images is uint8 [0, 28, 28]"]),
        ({"test_labels": np.zeros((4, 1), np.float32)}, ["test_labels is float32 [4, 1]"]),
        ({"test_labels": np.zeros(4, np.uint8)}, ["test_labels is uint8 [4]"]),
        ({"val_labels": np.zeros((0, 1), np.uint8)}, ["val_labels is empty"]),
        ({"test_labels": np.full((4, 1), -1)}, ["test_labels goes from -1 to -1"]),
        ({"test_labels": np.full((4, 1), 70000)}, ["from 70000 to 70000"]),
        ({"test_labels": np.array([[None]] * 4)}, ["Object arrays cannot be loaded"]),
    ],
)
def test_arrays_of_another_kind_are_named(tmp_path, changed, parts):
    path = medmnist(tmp_path / "set.npz", **changed)
    assert_says(complaint(path, split="test"), path, *parts)


def test_a_foreign_file_is_told_from_a_medmnist_file(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=np.zeros(3))
    assert_says(complaint(path, split="test"), "no array train_images, found x", "medmnist.com")
    for content in (b"", b"no zip", b"PK\x03\x04 and no more"):
        path.write_bytes(content)
        assert_says(complaint(path, split="test"), path, "damaged or no MedMNIST file")


def test_a_truncated_file_is_refused_when_opened(tmp_path):
    path = medmnist(tmp_path / "pneumoniamnist.npz")
    path.write_bytes(path.read_bytes()[:-100])
    assert_says(complaint(path, split="test"), path, "damaged")


def test_damaged_pixels_end_the_work_with_one_line(tmp_path):
    path = tmp_path / "pneumoniamnist.npz"
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    at = content.index(arrays()["test_images"].tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"pneumoniamnist\.npz is damaged .*Bad CRC") as caught:
        list(batches(opened(path, split="test"), batch_size=2, threads=2))
    assert "\n" not in str(caught.value)
    assert len(opened(path, split="train").load(0)) == 8
