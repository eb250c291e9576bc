"""Small pictures, the gallery and the evolution: what the page is given."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import stored_runs
from altered_runs import change_parts
from reading import load

from gaxjax.report.film import MOST_IMAGES, MOST_STEPS, evolutions, read_film, spread_snapshots
from gaxjax.report.gallery import choose, gallery
from gaxjax.report.pictures import augmented, color_table, heatmap_picture
from gaxjax.report.sampling import thinned
from gaxjax.results import class_names
from gaxjax.results.reading import read_scores
from gaxjax.results.stored_run import images_of


def test_a_heatmap_picture_says_its_scale_and_its_largest_magnitude():
    heatmap = np.zeros((8, 8, 3), np.float32)
    heatmap[..., 1] = -0.5
    found = heatmap_picture(heatmap, 8)
    assert (found["scale"], found["max"]) == (0.5, 0.5)
    assert heatmap_picture(np.zeros((8, 8, 3), np.float32), 4)["max"] == 0
    assert heatmap_picture(np.ones((8, 8, 3), np.float32), 4)["strip"].startswith("data:image/webp")


def test_the_augmented_picture_is_x_plus_h_where_the_two_meet():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    heatmap = np.random.default_rng(1).normal(size=(4, 4, 3)).astype(np.float32)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    z = (image / 255 - np.array(mean)) / np.array(std)
    expected = (z + heatmap) * np.array(std) + np.array(mean)
    expected = (expected - expected.min()) / np.ptp(expected)
    assert augmented(image, heatmap, "sum", (mean, std)) == pytest.approx(expected, abs=1e-5)
    plain = image / 255 * heatmap
    plain = (plain - plain.min()) / np.ptp(plain)
    found = augmented(image, heatmap, "mult", ([0.0] * 3, [1.0] * 3))
    assert found == pytest.approx(plain, abs=1e-5)


def test_the_colours_are_white_in_the_middle_and_symmetric_in_number():
    colors = bytes.fromhex(color_table())
    assert len(colors) == 3 * 255
    assert min(colors[3 * 127 : 3 * 128]) > 240
    assert colors[0] < colors[2], "negative is blue"
    assert colors[-3] > colors[-1], "positive is red"


def test_the_gallery_has_every_row_with_its_numbers(gax, ax):
    runs = [load(gax), load(ax)]
    found = gallery(runs, [images_of(run)[0] for run in runs], 40)
    columns = found["columns"]
    rows = [row for run in runs for row in run.scores.to_pylist()]
    assert {len(column) for column in columns.values()} == {len(rows)}
    for place in (0, 6, 59, 60, len(rows) - 1):
        row = rows[place]
        assert found["images"][columns["image"][place]] == row["image_id"]
        assert found["classes"][columns["label"][place]] == row["label_name"]
        score = columns["score"][place]
        assert score == (row["co_score"] and pytest.approx(row["co_score"], rel=1e-4))
        assert columns["steps"][place] == row["steps"]
    assert len(found["pictures"]["heatmaps"]) <= 40
    assert all(rows[int(place)]["heatmap_row"] is not None for place in found["pictures"]["rows"])


def test_extremes_and_every_kind_of_outcome_get_a_picture():
    rows = [
        {
            "image_id": f"{i:04d}",
            "co_score": float((i * 37) % 400),
            "steps": (i * 11) % 400,
            "probability_before": ((i * 7) % 400) / 1000,
            "probability_after": 0.9,
            "outcome": "step_limit" if i == 123 else "reached",
            "correct": True,
        }
        for i in range(400)
    ]
    chosen = choose(rows, 30)
    ids = {row["image_id"] for row in chosen}
    assert len(chosen) == len(ids) == 30
    assert "0123" in ids
    for key in ("co_score", "steps"):
        for end in (min, max):
            assert end(rows, key=lambda row: row[key])["image_id"] in ids
    assert choose(rows, 400) == rows
    assert choose(rows, 0) == []


def evolved(run):
    return evolutions(run, images_of(run)[0], 0, MOST_IMAGES)


def test_snapshots_become_steps_with_their_scores_classes_and_changes(gax):
    found = evolved(load(gax))
    assert len(found) == 3
    [first, second, *_] = found[-1]["steps"]
    assert (first["step"], second["step"], second["score"]) == (0, 1, 5.0)
    assert first["change"] is None
    assert first["heatmap"]["max"] == pytest.approx(1 / 40, rel=1e-2)
    assert second["change"]["max"] == pytest.approx(1 / 40 / 3, rel=2e-2), "mean of the channels"
    assert first["top"] == [["PNEUMONIA", 0.5], ["NORMAL", 0.5]]


def test_an_images_heatmaps_share_one_scale_and_the_stored_step_is_among_them(gax):
    run = load(gax)
    for image in evolved(run):
        assert len({step["heatmap"]["scale"] for step in image["steps"]}) == 1
        [row] = [row for row in run.scores.to_pylist() if row["image_id"] == image["name"]]
        assert image["stored"] == row["steps"]
        assert row["steps"] in [step["step"] for step in image["steps"]]
        assert [score for _, score in image["curve"]] == pytest.approx(row["curve"], rel=1e-4)


def test_the_viewer_shows_at_most_so_many_images_and_steps(data, tmp_path):
    path = stored_runs.gax_run(tmp_path / "run", data)
    rows = [row for row in load(path).scores.to_pylist() if row["steps"] is not None]
    stored_runs.add_snapshots(path, [row["image_id"] for row in rows[: MOST_IMAGES + 4]])
    found = evolved(load(path))
    assert len(found) == MOST_IMAGES
    longest = found[0]
    steps = [step["step"] for step in longest["steps"]]
    assert (len(steps), steps[0], steps[-1]) == (MOST_STEPS, 0, longest["stored"])
    assert longest["taken"] == longest["stored"] + 1 > MOST_STEPS


def test_a_stored_step_in_the_middle_stays_among_the_shown():
    rows = [{"step": step} for step in range(100)]
    for final in (0, 1, 37, 98, 99):
        steps = [row["step"] for row in spread_snapshots(rows, final, 8)]
        assert len(steps) == 8
        assert steps == sorted(set(steps))
        assert final in steps
    assert spread_snapshots(rows, 5, 100) == rows


def test_snapshots_of_a_row_computed_anew_are_not_shown(data, tmp_path):
    path = stored_runs.gax_run(tmp_path / "run", data)
    image = load(path).scores["image_id"][0].as_py()
    stored_runs.add_snapshots(path, [image])
    assert len(evolved(load(path))) == 1
    scores = read_scores(path)
    place = scores.schema.get_field_index("steps")
    later = pc.add(scores["steps"], pa.scalar(40, pa.int32()))
    change_parts(path, lambda _: scores.set_column(place, scores.schema.field("steps"), later))
    assert evolved(load(path)) == []
    assert "has no snapshots" in read_film(path, image).notes[0]


def test_a_long_curve_keeps_its_ends_and_the_stored_step():
    curve = np.arange(5000.0).tolist()
    steps = [step for step, _ in thinned(curve, 1234)]
    assert steps == sorted(set(steps))
    assert {0, 1234, 4999} <= set(steps)
    assert len(steps) <= 201


def test_two_classes_of_one_name_get_their_numbers(gax, monkeypatch):
    monkeypatch.setattr(
        class_names, "_checkpoint_names", lambda *_: {0: "crane", 1: "crane", 2: "ox"}
    )
    run = load(gax)
    assert [run.class_name(i) for i in range(4)] == ["crane (0)", "crane (1)", "ox", "class 3"]
