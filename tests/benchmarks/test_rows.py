"""Figures of rows: differences of scores, rates, arithmetic, peaks."""

import pytest

from benchmarks.measure import machine
from benchmarks.measure.rows import rates, score_difference
from benchmarks.measure.session import SCORE_TOLERANCE

H100 = "NVIDIA H100 80GB HBM3"


def test_scores_are_compared_before_and_after_the_first_update_over_the_largest():
    difference = score_difference([[1.0, 5.0], [2.0]], [[1.5, 10.0], [2.0, 7.0]])
    assert difference == {"first": 0.05, "later": 0.5}


def test_a_score_that_is_not_a_number_is_no_agreement():
    difference = score_difference([[1.0, float("nan")]], [[1.0, 2.0]])
    assert not difference["later"] <= SCORE_TOLERANCE["float32"][1]


def test_a_contestant_without_any_score_to_compare_is_refused():
    with pytest.raises(ValueError, match="no score"):
        score_difference([[], []], [[1.0], [2.0]])


def test_rates_are_of_each_turn_with_median_and_extremes():
    turns = [{"seconds": s, "image_steps": 12, "images": 0} for s in (1.0, 2.0, 4.0)]
    found = rates(turns)
    assert found["image_steps_per_s"] == {"median": 6.0, "min": 3.0, "max": 12.0}
    assert found["images_per_s"] is None


@pytest.mark.parametrize(
    ("framework", "precision", "device", "arithmetic"),
    [
        ("jax", "float32", "NVIDIA H100 80GB HBM3", "tf32"),
        ("jax", "highest", "NVIDIA H100 80GB HBM3", "float32"),
        ("torch", "float32", "NVIDIA H100 80GB HBM3", "float32"),
        ("jax", "float32", "cpu", "float32"),
        ("jax", "bfloat16", "cpu", "bfloat16"),
    ],
)
def test_float32_means_tf32_to_jax_on_a_gpu_alone(framework, precision, device, arithmetic):
    assert machine.arithmetic(framework, precision, device) == arithmetic


def test_the_peak_is_known_for_an_sxm_h100_and_neither_for_a_slower_one_nor_for_a_cpu():
    assert machine.peak_flops(H100, "bfloat16") == 989e12
    for device in ("NVIDIA H100 PCIe", "NVIDIA H100 NVL", "cpu"):
        assert machine.peak_flops(device, "bfloat16") is None
