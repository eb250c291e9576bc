"""Which class a label is that a file numbers and names: Hugging Face's `ClassLabel`."""

import pytest

from gaxjax.common.errors import UserError
from gaxjax.data.class_labels import class_label_space
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.labels import imagenet_wnids

WNIDS = imagenet_wnids()


def indices(names, model, used=None, **settings):
    used = set(names) if used is None else used
    return class_label_space(names, used, model, source="pets", **settings).indices


def test_wnids_have_their_index_of_the_1000_wherever_they_stand():
    some = [WNIDS[7], WNIDS[3]]
    for model in (ModelClasses(1000), ModelClasses()):
        assert [indices(some, model)[name] for name in some] == [7, 3]
    assert indices(some, ModelClasses(2)) == {WNIDS[7]: 0, WNIDS[3]: 1}


def test_numbers_are_indices_though_the_file_sorts_them_as_text():
    assert indices(["0", "1", "10", "2"], ModelClasses(11))["10"] == 10


def test_names_are_the_models_whatever_their_numbers():
    model = ModelClasses(3, ("Cat", "Dog", "Great White"))
    assert indices(["dog", "great_white", "cat"], model) == {"dog": 1, "great_white": 2, "cat": 0}
    assert indices(["dog", "cat"], model) == {"dog": 1, "cat": 0}


def test_without_names_in_the_model_the_files_own_numbers_count():
    assert indices(["dog", "cat"], ModelClasses(2)) == {"dog": 0, "cat": 1}
    with pytest.raises(UserError, match=r"has 2 classes .dog, cat, ….*but the model has 3"):
        indices(["dog", "cat"], ModelClasses(3))


def test_synonyms_of_the_models_names_leave_the_numbers_as_they_are():
    own = (*(f"animal {i}" for i in range(19)), "crane bird")
    names = [*(f"animal {i}, Animalis {i}" for i in range(19)), "crane"]
    space = class_label_space(names, set(names), ModelClasses(20, own), source="pets")
    assert list(space.indices.values()) == list(range(20))
    [note] = space.notes
    assert "19 of 20" in note
    assert "19 is crane here, crane bird in the model" in note


def test_names_that_are_not_the_models_are_refused_unless_the_numbers_are_asked_for():
    model = ModelClasses(3, ("cat", "dog", "cow"))
    other = ["cat, Felis", "cow, Bos", "dog, Canis"]  # two of three stand elsewhere
    with pytest.raises(
        UserError, match=r"cat, Felis is none of the model's 3 .*--label-by indices"
    ):
        indices(other, model)
    assert list(indices(other, model, by="indices").values()) == [0, 1, 2]
    with pytest.raises(UserError, match="--label-by names"):
        indices(other, ModelClasses(3), by="names")


def test_the_names_of_imagenet_fit_torchvisions_networks():
    """Hugging Face has the synonyms; 134 is its crane and 517 its crane2."""
    meta = pytest.importorskip("torchvision.models._meta")
    own = tuple(meta._IMAGENET_CATEGORIES)
    names = [f"{name}, another name {index}" for index, name in enumerate(own)]
    names[134], names[517] = "crane", "crane2"
    found = class_label_space(names, set(names), ModelClasses(1000, own), source="imagenet-1k")
    assert list(found.indices.values()) == list(range(1000))
