"""How rough a heatmap is, by what is known of simple ones."""

import numpy as np
import pytest

from gaxjax.results.roughness import high_frequency_power, total_variation


def waves(cycles_a_pixel: float, axis: int = 1) -> np.ndarray:
    line = np.cos(2 * np.pi * cycles_a_pixel * np.arange(32))
    return np.repeat(np.moveaxis(np.broadcast_to(line, (32, 32)), 1, axis)[..., None], 3, axis=2)


def test_total_variation_is_the_mean_over_all_pairs_of_neighbours():
    heatmap = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float16)
    pairs = [
        abs(float(heatmap[i, j, c]) - float(heatmap[k, m, c]))
        for c in range(3)
        for i in range(3)
        for j in range(4)
        for k, m in ((i + 1, j), (i, j + 1))
        if k < 3 and m < 4
    ]
    assert float(total_variation(heatmap)) == pytest.approx(np.mean(pairs), rel=1e-12)


def test_a_wave_counts_as_fine_from_a_quarter_of_a_cycle_a_pixel_on():
    for axis in (0, 1):
        assert float(high_frequency_power(waves(7 / 32, axis))) == pytest.approx(0, abs=1e-12)
        assert float(high_frequency_power(waves(9 / 32, axis))) == pytest.approx(1)
    both = waves(3 / 32) + 2 * waves(12 / 32)
    assert float(high_frequency_power(both)) == pytest.approx(0.8)


def test_white_noise_has_four_fifths_of_its_power_there():
    noise = np.random.default_rng(0).normal(size=(8, 64, 64, 3))
    # 24 spectra of 4,096 frequencies: a standard error of 0.001
    assert high_frequency_power(noise).mean() == pytest.approx(1 - np.pi / 16, abs=0.01)


def test_neither_the_mean_nor_the_scale_changes_the_power():
    heatmap = np.random.default_rng(0).normal(size=(16, 16, 3))
    share = high_frequency_power(heatmap)
    assert high_frequency_power(3 * heatmap + 5) == pytest.approx(share, rel=1e-9)


def test_several_heatmaps_give_what_each_gives_alone_and_a_constant_one_is_smooth():
    heatmaps = np.random.default_rng(0).normal(size=(3, 8, 8, 3))
    heatmaps[1] = 0.1
    for measure in (total_variation, high_frequency_power):
        alone = [float(measure(heatmap)) for heatmap in heatmaps]
        assert measure(heatmaps).tolist() == pytest.approx(alone, rel=1e-12)
        assert alone[1] == 0
