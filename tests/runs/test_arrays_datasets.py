"""Datasets in a notebook: the solutions of their pixels, bit for bit, and never whole in memory."""

import dataclasses
import gc
import threading
import tracemalloc
import weakref

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import gaxjax
from gaxjax.data.decode import fit

PIXELS = tiny.images(21)
MODEL = tiny.classifier()
LABELS = tiny.predictions(PIXELS, MODEL)
LABELS[[3, 8]] = (LABELS[[3, 8]] + 1) % tiny.CLASSES  # two that the model is wrong about
GAX = gaxjax.GaxConfig(target=60.0, max_steps=20)
AX = gaxjax.AxConfig(methods=("saliency", "input_x_gradient"))
FIELDS = ("outcome", "steps", "co_score", "probability_before", "probability_after", "heatmap")


def require_equal(found, wanted):
    assert len(found) == len(wanted)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field), field)
    for one, other in zip(found, wanted, strict=True):
        assert (one.index, one.label, one.prediction) == (
            other.index,
            other.label,
            other.prediction,
        )
        np.testing.assert_array_equal(one.curve, other.curve)


@pytest.fixture(scope="module")
def wanted():
    return gaxjax.explain(MODEL, PIXELS, LABELS, GAX)


@pytest.fixture(scope="module")
def scored():
    return gaxjax.attribute(MODEL, PIXELS, LABELS, AX)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Hugging Face's library, which reaches no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        import datasets

        datasets.disable_progress_bars()
        yield datasets


def huggingface(datasets, images=PIXELS, labels=LABELS, names=tuple("abcde")):
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "photo": datasets.Image(),
            "kind": datasets.ClassLabel(names=list(names)),
        }
    )
    rows = {
        "id": range(len(images)),
        "photo": [Image.fromarray(image) for image in images],
        "kind": list(map(int, labels)),
    }
    return datasets.Dataset.from_dict(rows, features=features)


class MapStyle(torch.utils.data.Dataset):
    def __init__(self, pixels=PIXELS, labels=LABELS, scale=None):
        self.pixels, self.labels, self.scale = pixels, labels, scale

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, position):
        image = torch.from_numpy(self.pixels[position]).permute(2, 0, 1)
        return image if self.scale is None else image / self.scale, int(self.labels[position])


class Streaming(torch.utils.data.IterableDataset):
    def __iter__(self):
        return zip(PIXELS, LABELS, strict=True)


TORCH = {
    "map-style": MapStyle,
    "iterable": Streaming,
    "loader": lambda: torch.utils.data.DataLoader(MapStyle(), batch_size=4),
    "pairs": lambda: list(zip(PIXELS, LABELS, strict=True)),
    "generator": lambda: ({"image": x, "label": y} for x, y in zip(PIXELS, LABELS, strict=True)),
}


@pytest.mark.parametrize("name", TORCH)
def test_the_solutions_of_a_dataset_are_those_of_its_arrays(name, wanted, scored):
    require_equal(gaxjax.explain(MODEL, TORCH[name](), config=GAX), wanted)
    found = gaxjax.attribute(MODEL, TORCH[name](), config=AX)
    assert found.keys() == scored.keys()
    for key in scored:
        require_equal(found[key], scored[key])


@pytest.mark.slow
def test_a_few_images_of_known_number_have_as_many_slots_as_those_of_an_array():
    few = list(zip(PIXELS[:3], LABELS[:3], strict=True))
    wanted = gaxjax.explain(MODEL, PIXELS[:3], LABELS[:3], GAX)
    require_equal(gaxjax.explain(MODEL, few, config=GAX), wanted)
    require_equal(gaxjax.explain(MODEL, MapStyle(PIXELS[:3]), config=GAX), wanted)


@pytest.mark.slow
def test_float_tensors_are_those_of_float_arrays():
    floats = PIXELS.astype(np.float32) / 255
    wanted = gaxjax.explain(MODEL, floats, LABELS, GAX)
    require_equal(gaxjax.explain(MODEL, MapStyle(scale=255), config=GAX), wanted)


@pytest.mark.slow
def test_a_torch_module_takes_a_torch_dataset():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(200, 4)
    )
    settings = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    labels = np.arange(21) % 4
    config = gaxjax.GaxConfig(target=3.0, max_steps=5, include_misclassified=True)
    wanted = gaxjax.explain(module, PIXELS, labels, config, **settings)
    found = gaxjax.explain(module, MapStyle(labels=labels), config=config, **settings)
    require_equal(found, wanted)


@pytest.mark.parametrize("form", ["whole", "streaming", "torch", "numpy"])
def test_a_hugging_face_dataset_is_found_by_its_features(form, datasets, wanted):
    dataset = huggingface(datasets)
    if form == "streaming":
        dataset = dataset.to_iterable_dataset()
    elif form != "whole":
        dataset = dataset.with_format(form)
    model = dataclasses.replace(MODEL, input_size=tiny.SIZE)
    require_equal(gaxjax.explain(model, dataset, config=GAX), wanted)


def test_two_columns_of_a_hugging_face_dataset_are_images_and_labels(datasets, wanted):
    dataset = huggingface(datasets)
    require_equal(gaxjax.explain(MODEL, dataset["photo"], dataset["kind"], GAX), wanted)


def test_columns_without_features_are_found_by_their_names(datasets, wanted):
    rows = [
        {"img": Image.fromarray(image), "label": int(label), "text": "?"}
        for image, label in zip(PIXELS, LABELS, strict=True)
    ]
    stream = datasets.IterableDataset.from_generator(lambda: iter(rows))
    assert stream.features is None
    model = dataclasses.replace(MODEL, input_size=tiny.SIZE)
    require_equal(gaxjax.explain(model, stream, config=GAX), wanted)


def test_the_classes_of_a_hugging_face_dataset_are_matched_by_name(datasets, wanted):
    names = ("Great auk", "dodo", "moa", "elephant bird", "huia")
    model = dataclasses.replace(MODEL, input_size=tiny.SIZE, class_names=names)
    dataset = huggingface(
        datasets, labels=4 - LABELS, names=["huia", "elephant_bird", "moa", "dodo", "great auk"]
    )
    require_equal(gaxjax.explain(model, dataset, config=GAX), wanted)
    found = gaxjax.attribute(model, dataset.to_iterable_dataset(), config=AX)
    assert [item.label for item in next(iter(found.values()))] == LABELS.tolist()
    indices = dataset.cast_column("kind", datasets.Value("int64")).rename_column("kind", "label")
    found = gaxjax.explain(model, indices, config=GAX)
    assert [item.label for item in found] == (4 - LABELS).tolist()


HUGGING_FACE = {
    "splits": (lambda d, data: d.DatasetDict(test=data), r"splits test: .*dataset\['test'\]"),
    "bytes": (
        lambda d, data: data.cast_column("photo", d.Image(decode=False)),
        r"not decoded: dataset.cast_column\('photo', datasets.Image\(\)\)",
    ),
    "no label": (lambda d, data: data.remove_columns("kind"), r"\(id, photo\) is its label"),
    "no image": (lambda d, data: data.remove_columns("photo"), r"\(id, kind\) is its image"),
    "two images": (
        lambda d, data: d.concatenate_datasets(
            [data, data.select_columns("photo").rename_column("photo", "mask")], axis=1
        ),
        r"2 columns of Image \(photo, mask\): rename_column\(…, 'image'\)",
    ),
    "texts": (
        lambda d, data: data.cast_column("kind", d.Value("string")).rename_column("kind", "label"),
        "the label of image 0 is the text .*class_encode_column",
    ),
    "other classes": (
        lambda d, data: data.cast_column("kind", d.ClassLabel(names=list("vwxyz"))),
        r"v is no class name of the model.*Value\('int64'\)",
    ),
    "no labels": (
        lambda d, data: data.map(lambda row: {"kind": -1}),
        "the label of image 0 is -1, which stands for none",
    ),
    "empty": (lambda d, data: data.select([]), "dataset: it is empty"),
    "raises": (
        lambda d, data: data.with_transform(lambda rows: 1 / 0),
        r"item 0 cannot be read \(ZeroDivisionError: division by zero\)",
    ),
    "columns chosen": (
        lambda d, data: data.with_format(columns=["photo"]),
        "item 0 of the dataset has no kind but photo",
    ),
}


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_what_a_hugging_face_dataset_lacks_is_one_clear_line(name, datasets):
    change, said = HUGGING_FACE[name]
    model = dataclasses.replace(MODEL, input_size=tiny.SIZE, class_names=tuple("abcde"))
    with pytest.raises(gaxjax.UserError, match=said) as caught:
        gaxjax.explain(model, change(datasets, huggingface(datasets)), config=GAX)
    assert str(caught.value).isprintable()


def test_other_classes_than_a_model_without_names_has_are_one_clear_line(datasets):
    dataset = huggingface(datasets, names=tuple("abcdefg"))
    model = dataclasses.replace(MODEL, input_size=tiny.SIZE)
    with pytest.raises(gaxjax.UserError, match="names 7 classes, and the model has 5"):
        gaxjax.explain(model, dataset, config=GAX)


@pytest.mark.parametrize("decoding", [{}, {"resize": "crop", "resize_size": 14}])
def test_pictures_are_decoded_as_the_model_wants_files(decoding):
    big = tiny.images(4).repeat(5, axis=1)  # 60 × 12
    model = dataclasses.replace(MODEL, input_size=tiny.SIZE, decoding=decoding)
    pictures = [Image.fromarray(image) for image in big]
    pixels = np.stack([fit(picture, size=tiny.SIZE, **decoding) for picture in pictures])
    config = dataclasses.replace(GAX, include_misclassified=True)
    wanted = gaxjax.explain(model, pixels, LABELS[:4], config)
    pairs = list(zip(pictures, LABELS[:4], strict=True))
    require_equal(gaxjax.explain(model, pairs, config=config), wanted)


@pytest.mark.slow
def test_pictures_are_of_the_papers_size_where_the_model_has_none():
    seen = set()

    def network(images):
        seen.add(images.shape[1:])
        return images.mean((1, 2)) @ jnp.eye(3, 4)

    config = gaxjax.GaxConfig(max_steps=1, include_misclassified=True)
    found = gaxjax.explain(network, [(Image.new("RGB", (30, 20)), 1)] * 2, config=config)
    assert found.heatmap.shape == (2, 256, 256, 3)
    assert seen == {(256, 256, 3)}


FAULTY = {
    "settings for labels": (MapStyle(), GAX, "labels: a GaxConfig; give it by its name: config=…"),
    "labels beside": (MapStyle(), LABELS, "MapStyle, whose items are read with their labels"),
    "no labels": (PIXELS, None, "labels: None; expected one integer for each of the 21 images"),
    "images alone": (list(PIXELS), None, r"item 0 of the dataset is a numpy ndarray; .*label\)"),
    "out of range": (MapStyle(labels=LABELS + 4), None, "the model has classes 0 to 4"),
}


@pytest.mark.parametrize(("call", "config"), [(gaxjax.explain, GAX), (gaxjax.attribute, AX)])
@pytest.mark.parametrize("name", FAULTY)
def test_what_does_not_fit_is_one_clear_line(call, config, name):
    images, labels, said = FAULTY[name]
    with pytest.raises(gaxjax.UserError, match=said):
        call(MODEL, images, labels, config=config)


@pytest.mark.parametrize(("call", "config"), [(gaxjax.explain, GAX), (gaxjax.attribute, AX)])
def test_what_a_dataset_raises_while_images_are_worked_on_is_told_and_ends_the_reading(
    call, config
):
    def items():
        yield from 3 * list(zip(PIXELS, LABELS, strict=True))
        raise OSError("disk gone")

    with pytest.raises(gaxjax.UserError, match=r"item 63 .*disk gone") as caught:
        call(MODEL, items(), config=config)
    assert isinstance(caught.value.__cause__, OSError)
    assert not [one for one in threading.enumerate() if one.name.endswith("(_read)")]


SIDE, MANY = 48, 1000


class Fleeting:
    """Many images, each made when it is asked for; counts those that are still there."""

    def __init__(self, count=MANY):
        self.count = count
        self.alive = self.most = 0

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        image = np.full((SIDE, SIDE, 3), position % 251, np.uint8)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(image, self._gone)
        return image, 1

    def _gone(self):
        self.alive -= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "settings"),
    [
        (gaxjax.explain, {"engine": gaxjax.EngineConfig(slots=8)}),
        (
            gaxjax.attribute,
            {
                "batch": gaxjax.BatchConfig(batch_size=8),
                "config": gaxjax.AxConfig(methods=("saliency",), operation="sum"),
            },
        ),
    ],
    ids=["explain", "attribute"],
)
def test_memory_does_not_grow_with_the_images_of_a_dataset(call, settings):
    # The label is never predicted, so that explain keeps no heatmaps.
    def network(images):
        return images.mean((1, 2)) @ jnp.ones((3, 2)) + jnp.array([1.0, 0.0])

    call(network, Fleeting(16), **settings)  # compiles, which takes its own memory
    dataset = Fleeting()
    gc.collect()
    tracemalloc.start()
    try:
        found = call(network, dataset, **settings)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    solutions = found if call is gaxjax.explain else next(iter(found.values()))
    assert len(solutions) == MANY
    assert most - kept < MANY * SIDE * SIDE * 3 / 8  # beyond what is returned
    assert dataset.most < 32
