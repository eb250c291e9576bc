"""Datasets of the user's own: what an item may be, and one line for what it may not."""

import itertools

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

from gaxjax.common import UserError
from gaxjax.config.decoding import Decoding
from gaxjax.data.dataset_items import class_index, pixels_of
from gaxjax.data.datasets import ImageStream, is_dataset
from gaxjax.data.decode import fit, to_rgb
from gaxjax.data.label_readings import ModelClasses

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 12, 3), dtype=np.uint8)
FLOATS = PIXELS.astype(np.float32) / 255
SMALL = Decoding(size=8, resize="crop", resize_size=9, interpolation="bicubic")
FIVE = ModelClasses(5)


@pytest.fixture(autouse=True)
def _as_outside_tests():
    """Types are not checked before a function runs, as they are under test."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class MapStyle(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, position):
        if isinstance(self.items[position], Exception):
            raise self.items[position]
        return self.items[position]


class Streaming(torch.utils.data.IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class OnlyDlpack:
    """A tensor that NumPy reads by DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **settings):
        return self.array.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def read(dataset, size=4, model=FIVE, decoding=SMALL):
    stream = ImageStream(dataset)
    stream.first(decoding)
    batches = list(stream.batches(size, model))
    return (
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
        np.concatenate([batch.indices for batch in batches]),
    )


CHANNELS_FIRST = [torch.from_numpy(image).permute(2, 0, 1) for image in PIXELS]
LABELS = [0, 4, 1, 3, 2, 0]
PAIRS = list(zip(PIXELS, LABELS, strict=True))
TENSORS = list(zip(CHANNELS_FIRST, map(torch.tensor, LABELS), strict=True))
FORMS = {
    "pairs": PAIRS,
    "generator": (pair for pair in PAIRS),
    "lists": [list(pair) for pair in PAIRS],
    "dicts": [{"image": image, "label": label} for image, label in PAIRS],
    "other names": [{"labels": label, "img": image, "id": 7} for image, label in PAIRS],
    "map-style": MapStyle(TENSORS),
    "subset": torch.utils.data.Subset(MapStyle(TENSORS * 2), range(6, 12)),
    "tensor dataset": torch.utils.data.TensorDataset(
        torch.stack(CHANNELS_FIRST), torch.tensor(LABELS)
    ),
    "iterable": Streaming(TENSORS),
    "loader": torch.utils.data.DataLoader(MapStyle(TENSORS), batch_size=4),
    "loader of dicts": torch.utils.data.DataLoader(
        MapStyle([{"image": image, "label": label} for image, label in TENSORS]), batch_size=4
    ),
    "loader without batches": torch.utils.data.DataLoader(MapStyle(TENSORS), batch_size=None),
    "batches of NumPy": [(PIXELS[:4], LABELS[:4]), (PIXELS[4:], np.array(LABELS[4:], np.uint8))],
    "lists of images": [(list(PIXELS[:5]), LABELS[:5]), ([PIXELS[5]], [0])],
    "jax": [(jnp.asarray(image), jnp.asarray(label)) for image, label in PAIRS],
    "DLPack": [(OnlyDlpack(image), label) for image, label in PAIRS],
    "PIL of the size": [(Image.fromarray(image), label) for image, label in PAIRS],
}


@pytest.mark.parametrize("name", FORMS)
def test_images_and_labels_are_read_in_order_and_bit_for_bit(name):
    images, labels, indices = read(FORMS[name], decoding=Decoding(size=10, resize_size=10))
    if name == "PIL of the size":
        assert images.shape == (6, 10, 10, 3)
    else:
        np.testing.assert_array_equal(images, PIXELS)
    assert labels.tolist() == LABELS
    assert labels.dtype == np.int32
    assert indices.tolist() == list(range(6))


@pytest.mark.parametrize(
    "kind", [np.float16, np.float32, np.float64, ">f4", torch.float32, torch.float64]
)
def test_floats_become_float32(kind):
    cast = FLOATS[0].astype(kind) if not isinstance(kind, torch.dtype) else None
    image = cast if cast is not None else torch.from_numpy(FLOATS[0]).permute(2, 0, 1).to(kind)
    found = pixels_of(image, SMALL, "image 0")
    assert found.dtype == np.float32
    wanted = (FLOATS[0] if cast is None else cast).astype(np.float32)
    np.testing.assert_array_equal(found, wanted)


def test_which_axis_holds_the_channels_is_the_one_of_three_and_else_the_librarys():
    odd = PIXELS[0][:3, :5]  # [3, 5, 3]: both may be
    np.testing.assert_array_equal(pixels_of(odd, SMALL, "image 0"), odd)
    tensor = torch.from_numpy(odd)
    np.testing.assert_array_equal(pixels_of(tensor, SMALL, "image 0"), odd.transpose(1, 2, 0))
    first = PIXELS[0].transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels_of(first, SMALL, "image 0"), PIXELS[0])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "I;16"])
def test_a_picture_is_decoded_as_a_file_is(mode):
    picture = Image.fromarray(PIXELS[0, :, :, 0].astype(np.uint16) * 257)
    if mode != "I;16":
        picture = Image.fromarray(PIXELS[0]).convert(mode)
    wanted = fit(to_rgb(picture), size=8, resize="crop", resize_size=9, interpolation="bicubic")
    np.testing.assert_array_equal(pixels_of(picture, SMALL, "image 0"), wanted)


def test_pictures_of_several_sizes_become_one():
    pictures = [(Image.new("RGB", size, "red"), 1) for size in ((30, 20), (8, 8), (9, 40))]
    assert read(pictures)[0].shape == (3, 8, 8, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 8, 8, 3)), False),
        (torch.zeros(2, 8, 8, 3), False),
        (jnp.zeros((2, 8, 8, 3)), False),
        ("val", False),
        ({"image": 1}, False),
        (None, False),
        (3, False),
        (MapStyle([]), True),
        (Streaming([]), True),
        (iter([]), True),
        ([], True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_array_is_no_dataset(given, said):
    assert is_dataset(given) is said


def test_a_dataset_tells_its_length_where_it_counts_images():
    assert ImageStream(MapStyle(TENSORS)).num_images == 6
    assert ImageStream(PAIRS).num_images == 6
    assert ImageStream(Streaming(TENSORS)).num_images is None
    assert ImageStream(iter(PAIRS)).num_images is None
    loader = torch.utils.data.DataLoader(MapStyle(TENSORS), batch_size=4)
    assert ImageStream(loader).num_images is None


def test_an_iterable_without_an_end_is_read_as_far_as_it_is_asked():
    stream = ImageStream(itertools.cycle(PAIRS))
    taken = list(itertools.islice(stream.batches(4, FIVE), 3))
    assert [batch.indices.tolist() for batch in taken] == [
        list(range(start, start + 4)) for start in (0, 4, 8)
    ]


class NoLength:
    def __getitem__(self, position):
        return PAIRS[position]


class Raising(Exception):
    def __str__(self):
        raise RuntimeError


GREY = PIXELS[0, :, :, :1]
NORMALISED = torch.from_numpy((FLOATS[1] - 0.5) / 0.2).permute(2, 0, 1)
FAULTY = {
    "empty": ([], "dataset: it is empty; expected at least one"),
    "empty generator": (iter([]), "it is empty"),
    "no __len__": (NoLength(), "NoLength has __getitem__ and no __len__"),
    "raises": (MapStyle([PAIRS[0], OSError("disk gone")]), r"item 1 .*\(OSError: disk gone\)"),
    "raises at once": (MapStyle([KeyError("x")]), r"item 0 cannot be read \(KeyError: 'x'\)"),
    "raises StopIteration": (MapStyle([PAIRS[0], StopIteration()]), r"item 1 cannot be read"),
    "raises wordlessly": (MapStyle([Raising()]), r"item 0 cannot be read \(Raising\)"),
    "IndexError inside": (MapStyle([PAIRS[0], IndexError("row 7")]), "item 1 .*row 7"),
    "not collated": (
        torch.utils.data.DataLoader(MapStyle([(Image.new("RGB", (8, 8)), 1)] * 2)),
        "item 0 cannot be read .*PIL.Image",
    ),
    "one image": ([PIXELS[0]], "item 0 of the dataset is a numpy ndarray; .*image, label"),
    "text": (["cat.png"], r"item 0 of the dataset is 'cat.png' \(str\)"),
    "three parts": ([(PIXELS[0], 1, 2)], "has 3 parts; .*takes the first two"),
    "one part": ([(PIXELS[0],)], "has 1 parts; expected"),
    "no label key": ([{"image": PIXELS[0], "target": 1}], "no label but image, target"),
    "no image key": ([{"x": PIXELS[0]}], "no image and no label but x"),
    "None for an image": ([PAIRS[0], (None, 1)], "image 1 is None"),
    "path for an image": ([("cat.png", 1)], r"image 0 is 'cat.png' \(str\)"),
    "grey array": ([(GREY, 1)], r"uint8 \[10, 12, 1\].*Grayscale\(3\)"),
    "grey tensor": ([(torch.zeros(1, 8, 8), 1)], r"float32 \[1, 8, 8\].*Grayscale\(3\)"),
    "two axes": ([(GREY[..., 0], 1)], r"uint8 \[10, 12\]; expected a PIL image"),
    "no pixels": ([(PIXELS[0, :0], 1)], r"uint8 \[0, 12, 3\]"),
    "integers": ([(PIXELS[0].astype(int), 1)], "int64 .*as uint8, if these are 0…255"),
    "truth values": ([(PIXELS[0] > 3, 1)], r"image 0 is bool \[10, 12, 3\]"),
    "requires grad": (
        [(torch.zeros(3, 8, 8, requires_grad=True), 1)],
        r"image 0: a torch Tensor that requires a gradient: give .detach\(\)",
    ),
    "normalised": (
        [(CHANNELS_FIRST[0] / 255, 1), (NORMALISED, 1)],
        rf"image 1 holds {float(NORMALISED.min()):.6g}, .*leave Normalize out",
    ),
    "overshot": ([(FLOATS[0] * 1.01, 1)], r"image 0 holds 1.01, .*clamp\(0, 1\)"),
    "0…255": ([(PIXELS[0].astype(np.float32), 1)], "image 0 holds 255, .*divide by 255"),
    "NaN": ([(FLOATS[0] * np.nan, 1)], "image 0 holds NaN"),
    "other shape": (
        [PAIRS[0], (PIXELS[0, :9], 1)],
        "image 1 is 9 × 12 pixels, and those before it 10 × 12: resize all to one size",
    ),
    "other type": ([PAIRS[0], (FLOATS[1], 1)], "image 1 is float32, and those before it uint8"),
    "32-bit grey": ([(Image.new("F", (8, 8)), 1)], "32 bits .*mode F"),
    "past the last": ([PAIRS[0], (PIXELS[1], 5)], "the label of image 1 is 5; the model has clas"),
    "below 0": ([(PIXELS[1], -2)], "the label of image 0 is -2; the model has classes 0 to 4"),
    "missing": ([(PIXELS[1], -1)], "the label of image 0 is -1, which stands for none"),
    "None for a label": ([(PIXELS[1], None)], "the label of image 0 is missing"),
    "text for a label": ([(PIXELS[1], "cat")], "the text 'cat'; expected a class index"),
    "float": ([(PIXELS[1], 1.0)], r"a floating-point number, 1.0; .*int\(1.0\)"),
    "bool": ([(PIXELS[1], True)], r"a truth value, True; .*int\(True\)"),
    "one-hot": ([(PIXELS[1], np.eye(5, dtype=int)[2])], r"shape \(5,\); .*argmax"),
    "one inside": ([(PIXELS[1], np.array([3]))], r"shape \(1,\); .*label.item\(\)"),
    "boxes": ([(PIXELS[1], {"boxes": 3})], "the label of image 0 is no number"),
    "fewer labels": ([(PIXELS, LABELS[:4])], "item 0 of the dataset has 6 images and 4 labels"),
    "one label for all": ([(PIXELS, 3)], r"a batch of images, and for its labels 3 \(int\)"),
    "floats in a batch": ([(PIXELS, np.ones(6))], "the label of image 0 is a floating-point"),
    "later in a batch": (
        [(PIXELS[:4], LABELS[:4]), (PIXELS[4:], [0, 9])],
        "the label of image 5 is 9",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_what_is_no_dataset_is_one_clear_line(name):
    dataset, said = FAULTY[name]
    with pytest.raises(UserError, match=said) as caught:
        read(dataset)
    assert str(caught.value).isprintable()


def test_what_a_dataset_raised_is_the_cause():
    with pytest.raises(UserError) as caught:
        read(MapStyle([PAIRS[0], OSError("disk gone")]))
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    "label", [3, np.uint8(3), np.int64(3), torch.tensor(3), jnp.asarray(3), np.array(3)], ids=repr
)
def test_integers_of_any_kind_are_labels(label):
    assert class_index(label, "the label") == 3
