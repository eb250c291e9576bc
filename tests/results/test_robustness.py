"""What is left of scores under disturbances: summed up, kept beside a run, and read again."""

import numpy as np
import pyarrow as pa
import pytest
import stored_runs
from altered_runs import edit_header

from gaxjax.common.errors import UserError
from gaxjax.results.inspection import inspect_run
from gaxjax.results.robustness import (
    DISTURBANCES,
    ROBUSTNESS_SCHEMA,
    read_robustness,
    summarise_robustness,
    write_robustness,
)

ABOUT = {"num_images": 4, "num_with_heatmaps": 9, "seed": 0, "jpeg_quality": 75, "noise": 2 / 255}


def table(scores, disturbed, **key) -> pa.Table:
    names = {"method": "gax", "layer": None, "operation": "sum", "setting": None} | key
    rows = [
        {"image_id": f"{place}.png", "co_score": score, "total_variation": 0.1 * place}
        | names
        | {"high_frequency_power": 0.5}
        | dict.fromkeys(DISTURBANCES, other)
        for place, (score, other) in enumerate(zip(scores, disturbed, strict=True))
    ]
    return pa.Table.from_pylist(rows, ROBUSTNESS_SCHEMA)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust")
    data = stored_runs.image_folder(folder / "images", 4)
    return stored_runs.gax_run(folder / "run", data)


def test_a_ratio_is_of_scores_above_0_and_a_share_of_those_at_the_target():
    found = summarise_robustness(table([50, 60, 40, -2], [25, 50, 60, 9]), lambda _: 48.0)
    [one] = found
    assert (one.num_images, one.num_above_zero, one.num_at_target) == (4, 3, 2)
    assert (one.mean, one.median) == (37, 45)
    kept = one.kept["jpeg"]
    assert kept.ratio == pytest.approx(np.median([25 / 50, 50 / 60, 60 / 40]))
    assert kept.at_target == 0.5  # 50 of 60 is, 25 of 50 is not; 60 of 40 was not before
    assert kept.ratio_interval[0] <= kept.ratio <= kept.ratio_interval[1]
    assert one.total_variation == pytest.approx(0.15)


def test_no_share_is_said_of_methods_without_a_target_and_no_ratio_of_scores_below_0():
    [one] = summarise_robustness(table([-1, -2], [3, 3], method="saliency"), lambda _: None)
    assert one.num_above_zero == one.num_at_target == 0
    for kept in one.kept.values():
        assert kept.ratio is kept.ratio_interval is kept.at_target is None


def test_each_setting_is_summed_up_by_its_own_target():
    both = pa.concat_tables(
        [table([50, 50], [45, 45], setting=f"target={target}") for target in (40, 48)]
    )
    first, second = summarise_robustness(both, lambda text: float(text.partition("=")[2]))
    assert [one.setting for one in (first, second)] == ["target=40", "target=48"]
    assert (first.kept["noisy"].at_target, second.kept["noisy"].at_target) == (1, 0)
    assert first.row()["noisy_ratio"] == pytest.approx(0.9)


def test_an_interval_holds_about_95_of_100_medians_of_the_same_kind():
    generator = np.random.default_rng(0)
    hit = 0
    for number in range(100):
        ratios = generator.exponential(size=60)
        [one] = summarise_robustness(
            table([1.0] * 60, ratios), lambda _: None, num_resamples=200, seed=number
        )
        low, high = one.kept["jpeg"].ratio_interval
        hit += low <= np.log(2) <= high
    assert 88 <= hit <= 100


def test_rows_are_read_as_written_and_damage_and_strangers_are_told(run):
    assert read_robustness(run) is None
    rows = table([50, 60], [25, 50])
    path = write_robustness(run, rows, ABOUT)
    found, about = read_robustness(run)
    assert (found, about) == (rows, ABOUT)
    assert inspect_run(run).damages == ()

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"robustness\.parquet is damaged .*: delete it, and"):
        read_robustness(run)
    assert "robustness.parquet" in inspect_run(run).damages[0]
    path.write_bytes(whole)
    edit_header(run, lambda header: header.update(run_id="another"))
    with pytest.raises(UserError, match="is of another run"):
        read_robustness(run)
