"""The built-in digits, real images, and the order, draw and fingerprint of a source."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from image_folders import (
    TEST_DATA,
    assert_says,
    complaint,
    labels_of,
    manifest,
    needs_data,
    opened,
    tree,
)

from gaxjax.data.batching import batches
from gaxjax.data.digits import digits_split, load_digits_arrays

# --- The built-in digits -------------------------------------------------------------------------


def test_the_digits_are_the_held_out_split_and_equal_the_test_arrays():
    images = opened("digits", 10, size=32)
    train_images, train_labels, test_images, test_labels = load_digits_arrays(32)
    assert train_images.shape == (1348, 32, 32, 3)
    assert test_images.shape == (449, 32, 32, 3)
    assert train_images.dtype == test_images.dtype == np.uint8
    assert [record.label for record in images.records] == test_labels.tolist()
    assert images.records[0].image_id == "digits/0003"
    loaded = np.stack([images.load(i) for i in range(449)])
    np.testing.assert_array_equal(loaded, test_images)
    assert (loaded.min(), loaded.max()) == (0, 255)
    assert set(train_labels.tolist()) == set(range(10))


def test_no_digit_is_both_trained_on_and_held_out():
    train, test = digits_split()
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(1797))
    assert np.bincount(load_digits_arrays(8)[3]).min() >= 40


def test_a_digit_at_its_own_size_is_the_original_times_255_over_16():
    from sklearn.datasets import load_digits

    pixels = opened("digits", size=8).load(0)[..., 0]
    np.testing.assert_allclose(pixels, load_digits().images[3] * 255 / 16, atol=0.5)


# --- Order, draw and fingerprint -----------------------------------------------------------------


def test_a_draw_is_sorted_without_repeats_and_set_by_the_seed(tmp_path):
    root = tree(tmp_path, a=30, b=30)
    whole = labels_of(opened(root))
    draws = [labels_of(opened(root, num_images=20, seed=seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] == sorted(set(draws[0]))
    assert set(draws[0]) < set(whole)
    assert len(draws[0]) == 20
    assert opened(root, num_images=20).name == "20 of 60 images in 2 class folders"
    assert labels_of(opened(root, num_images=60)) == whole


def test_the_order_does_not_depend_on_the_file_systems(tmp_path, monkeypatch):
    root = tree(tmp_path, b=3, a=3)
    forwards = opened(root)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            self.entries = sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return self.entries

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    backwards = opened(root)
    assert backwards.records == forwards.records
    assert backwards.fingerprint == forwards.fingerprint


def test_the_fingerprint_changes_with_ids_labels_file_sizes_and_decode_settings(tmp_path):
    tree(tmp_path, x=2)
    path = manifest(tmp_path, "path,label\nx/000.png,0\nx/001.png,1\n")

    def fingerprints() -> list[str]:
        return [
            opened(path).fingerprint,
            opened(path, size=9).fingerprint,
            opened(path, resize="crop").fingerprint,
            opened(path, resize="crop", resize_size=9).fingerprint,
            opened(path, num_images=1).fingerprint,
        ]

    before = fingerprints()
    assert before == fingerprints()
    assert opened(path, decode_threads=1, seed=3).fingerprint == before[0]
    assert opened(path, resize="crop", resize_size=8).fingerprint == before[2]
    path.write_text("path,label\nx/000.png,0\nx/001.png,0\n")
    relabelled = opened(path).fingerprint
    (tmp_path / "x/000.png").write_bytes(b"shorter")
    resized = opened(path).fingerprint
    assert len({*before, relabelled, resized}) == 7


def test_the_fingerprint_is_the_documented_hash(tmp_path):
    root = tree(tmp_path, cat=1)
    size = (root / "cat/000.png").stat().st_size
    lines = [[8, "squash", None], ["cat/000.png", 0, size]]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert opened(root).fingerprint == hashlib.sha256(text.encode()).hexdigest()


# --- Real images ---------------------------------------------------------------------------------


@pytest.mark.data
@needs_data
def test_the_imagenet_sample_has_500_images_of_500_classes_all_readable():
    images = opened(Path(TEST_DATA, "data/imagenet_sample"), 1000, size=256)
    assert images.name == "500 images in 500 class folders (ImageNet wnids)"
    assert images.num_classes == 1000
    wnids = Path(TEST_DATA, "data/imagenet_wnids.txt").read_text().split()
    assert all(wnids[record.label] == record.label_name for record in images.records)
    found = list(batches(images, batch_size=64, threads=2))
    assert [len(batch.indices) for batch in found] == [64] * 7 + [52]
    assert sum(len(batch.unreadable) for batch in found) == 0
    # Photographs fill the range; a wrong scale or an all-black decode would not.
    mean = np.mean([batch.images.mean() for batch in found])
    assert 100 < mean < 130


@pytest.mark.data
@needs_data
def test_the_chest_x_rays_have_two_classes_and_a_draw_holds_both():
    images = opened(Path(TEST_DATA, "data/chest_xray/test"), 2, size=64, num_images=100)
    assert images.label_names == ("NORMAL", "PNEUMONIA")
    assert images.name == "100 of 624 images in 2 class folders"
    [batch] = batches(images, batch_size=100, threads=2)
    assert set(batch.labels.tolist()) == {0, 1}
    assert_says(complaint(Path(TEST_DATA, "data/chest_xray"), 2), "holds splits (test, train)")
