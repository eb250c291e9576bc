"""What decides how images are decoded: the user, then the model, then the paper."""

import pytest

from gaxjax.common import UserError
from gaxjax.config import PAPERS, DataConfig, Decoding, from_dict, to_dict

CROP = {"resize": "crop", "resize_size": 232, "interpolation": "bicubic"}


def resolved(input_size, decoding, **asked) -> Decoding:
    return DataConfig(data="d", **asked).resolved(input_size, decoding).decoding


def test_without_a_word_of_user_or_model_it_is_the_papers():
    assert Decoding(size=256, resize="squash", resize_size=256, interpolation="bilinear") == PAPERS
    assert DataConfig(data="d").decoding == resolved(None, {}) == PAPERS


def test_a_resolved_config_has_every_setting_and_stays_so():
    whole = DataConfig(data="d").resolved(224, CROP)
    assert (whole.size, whole.resize) == (224, "crop")
    assert (whole.resize_size, whole.interpolation) == (232, "bicubic")
    assert whole.resolved(64, {"resize": "squash", "interpolation": "box"}) == whole
    assert from_dict(DataConfig, to_dict(whole)).decoding == whole.decoding


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (224, "crop", 232, "bicubic")),
        ({"size": 112}, (112, "crop", 116, "bicubic")),
        ({"size": 256}, (256, "crop", 265, "bicubic")),
        ({"resize": "crop"}, (224, "crop", 232, "bicubic")),
        ({"resize": "squash"}, (224, "squash", 224, "bicubic")),
        ({"resize_size": 300}, (224, "crop", 300, "bicubic")),
        ({"resize": "squash", "resize_size": 250}, (224, "squash", 250, "bicubic")),
        ({"interpolation": "bilinear"}, (224, "crop", 232, "bilinear")),
        ({"size": 1}, (1, "crop", 1, "bicubic")),
    ],
)
def test_what_is_asked_for_wins_and_the_rest_follows_it(asked, expected):
    found = resolved(224, CROP, **asked)
    assert (found.size, found.resize, found.resize_size, found.interpolation) == expected


@pytest.mark.parametrize(
    ("input_size", "own", "expected"),
    [
        (64, {}, (64, "squash", 64, "bilinear")),
        (None, {"resize_size": 292}, (256, "crop", 292, "bilinear")),
        (224, {"resize": "squash", "resize_size": 248}, (224, "squash", 248, "bilinear")),
        (448, {"resize": "crop", "resize_size": 389}, (448, "crop", 448, "bilinear")),
        (32, {"interpolation": "nearest"}, (32, "squash", 32, "nearest")),
    ],
)
def test_a_model_may_say_any_part(input_size, own, expected):
    found = resolved(input_size, own)
    assert (found.size, found.resize, found.resize_size, found.interpolation) == expected


def test_a_side_below_the_models_size_is_refused_where_it_was_asked_for():
    said = r"--resize-size must be at least --size \(224\), or the crop would .*; got 200"
    with pytest.raises(UserError, match=said):
        resolved(224, CROP, resize_size=200)
    with pytest.raises(UserError, match=r"--size \(256\)"):
        _ = DataConfig(data="d", resize_size=200).decoding


def test_the_config_of_an_older_run_means_what_it_meant():
    stored = {"data": "d", "size": 224, "resize": "crop", "resize_size": None}
    expected = Decoding(size=224, resize="crop", resize_size=224, interpolation="bilinear")
    assert from_dict(DataConfig, stored).decoding == expected
