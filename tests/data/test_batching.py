"""Batches decoded ahead: every image once, in order, and no thread left behind."""

import dataclasses
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from image_folders import opened, tree

from gaxjax.data.batching import batches
from gaxjax.data.image_set import ImageSet


def test_batches_hold_every_image_once_in_order_and_are_full_but_the_last(tmp_path):
    images = opened(tree(tmp_path, a=5, b=6))
    found = list(batches(images, batch_size=4, threads=3))
    assert [len(batch.images) for batch in found] == [4, 4, 3]
    assert np.concatenate([batch.indices for batch in found]).tolist() == list(range(11))
    for batch in found:
        assert batch.indices.dtype == batch.labels.dtype == np.int32
        assert batch.images.dtype == np.uint8
        assert batch.labels.tolist() == [images.records[i].label for i in batch.indices]
        # tree() paints image i in grey value i.
        assert batch.images[:, 0, 0, 0].tolist() == batch.indices.tolist()


def test_a_batch_is_not_overwritten_by_the_next(tmp_path):
    stream = batches(opened(tree(tmp_path, a=8)), batch_size=4, threads=2)
    first = next(stream)
    kept = first.images.copy()
    next(stream)
    np.testing.assert_array_equal(first.images, kept)


def test_only_the_positions_that_are_asked_for_are_decoded_in_their_order(tmp_path):
    root = tree(tmp_path, a=10)
    (root / "a/003.png").write_bytes(b"damaged")
    images = opened(root)
    found = list(batches(images, batch_size=4, threads=2, only=[1, 2, 4, 5, 6, 7, 8]))
    assert [batch.indices.tolist() for batch in found] == [[1, 2, 4, 5], [6, 7, 8]]
    assert all(batch.unreadable == () for batch in found)
    assert list(batches(images, batch_size=4, threads=2, only=[])) == []


def test_unreadable_images_take_no_row_and_are_reported_once(tmp_path):
    root = tree(tmp_path, a=9)
    for i in (0, 4, 8):
        (root / f"a/{i:03d}.png").write_bytes(b"damaged")
    found = list(batches(opened(root), batch_size=3, threads=2))
    assert [batch.indices.tolist() for batch in found] == [[1, 2, 3], [5, 6, 7], []]
    reason = "not an image that Pillow can read"
    assert [batch.unreadable for batch in found] == [((0, reason),), ((4, reason),), ((8, reason),)]
    assert found[-1].images.shape == (0, 8, 8, 3)


def test_a_file_that_vanishes_after_listing_costs_only_itself(tmp_path):
    root = tree(tmp_path, a=3)
    images = opened(root)
    (root / "a/001.png").unlink()
    [batch] = batches(images, batch_size=3, threads=2)
    assert batch.indices.tolist() == [0, 2]
    assert batch.unreadable == ((1, "no such file"),)


def decode_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


def wait_until(holds) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def reading(images: ImageSet, read) -> ImageSet:
    return dataclasses.replace(images, read=read)


def black() -> np.ndarray:
    return np.zeros((8, 8, 3), np.uint8)


def test_exactly_one_further_batch_is_decoded_while_the_caller_works(tmp_path):
    decoded: list[str] = []

    def read(image_id: str) -> np.ndarray:
        decoded.append(image_id)
        return black()

    stream = batches(reading(opened(tree(tmp_path, a=64)), read), batch_size=8, threads=4)
    next(stream)
    assert wait_until(lambda: len(decoded) >= 16)
    time.sleep(0.1)
    assert len(decoded) == 16  # and no more: memory stays bounded
    stream.close()


def test_threads_decode_side_by_side(tmp_path):
    together = threading.Barrier(4)

    def read(image_id: str) -> np.ndarray:
        together.wait(timeout=30)  # passes when four threads are decoding at one time, or raises
        return black()

    images = reading(opened(tree(tmp_path, a=32)), read)
    assert sum(len(b.images) for b in batches(images, batch_size=8, threads=4)) == 32


def work_that_fails(stream) -> None:
    for _ in stream:
        raise RuntimeError("the device is gone")


@pytest.mark.parametrize("ending", ["closed", "dropped", "finished", "failed"])
def test_no_thread_outlives_its_iterator(tmp_path, ending):
    assert wait_until(lambda: not decode_threads())
    images = opened(tree(tmp_path, a=40))
    stream = batches(images, batch_size=4, threads=4)
    next(stream)
    assert 1 <= len(decode_threads()) <= 4
    if ending == "closed":
        stream.close()
    elif ending == "finished":
        assert len(list(stream)) == 9
    elif ending == "failed":
        with pytest.raises(RuntimeError, match="the device is gone"):
            work_that_fails(stream)
        del stream
    else:
        del stream
    assert wait_until(lambda: not decode_threads())


def test_a_bug_in_decoding_is_raised_and_not_taken_for_a_bad_image(tmp_path):
    def read(image_id: str) -> np.ndarray:
        raise ZeroDivisionError("our bug")

    images = reading(opened(tree(tmp_path, a=2)), read)
    with pytest.raises(ZeroDivisionError, match="our bug"):
        list(batches(images, batch_size=2, threads=2))


def test_importing_the_data_package_loads_neither_torch_nor_grain_nor_sklearn():
    code = (
        "import sys, gaxjax.data; "
        "print([name for name in ('torch', 'grain', 'sklearn', 'scipy.io') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
