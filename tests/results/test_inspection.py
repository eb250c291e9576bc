"""What inspect finds in a run, and what it does about it."""

import shutil

import numpy as np
import pytest
import stored_runs
from altered_runs import part_paths, to_old_format

from gaxjax.cli.main import main
from gaxjax.common.errors import UserError
from gaxjax.results.inspection import inspect_run
from gaxjax.results.reading import read_heatmaps, read_scores
from gaxjax.results.snapshots import has_snapshots
from gaxjax.results.stored_run import open_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return stored_runs.image_folder(tmp_path_factory.mktemp("images") / "images", 6)


@pytest.fixture
def run(data, tmp_path):
    path = stored_runs.gax_run(tmp_path / "run", data, parts=4)
    stored_runs.add_snapshots(path, read_scores(path)["image_id"].to_pylist()[:2])
    return path


def test_a_whole_run_is_told_and_nothing_is_damaged(run, capsys):
    assert main(["inspect", str(run)]) == 0
    said = capsys.readouterr().out
    assert "Done      12 of 12 images, complete" in said
    assert "Parts     4" in said
    assert "Nothing is damaged" in said
    assert main(["inspect", str(run), "--repair"]) == 0
    assert "Repaired" not in capsys.readouterr().out


def flip(path, place=0.5):
    whole = bytearray(path.read_bytes())
    whole[int(place * len(whole))] ^= 4
    path.write_bytes(whole)


def test_damage_is_listed_whole_and_repaired_part_by_part(run, capsys):
    before = {row["image_id"]: row for row in read_scores(run).to_pylist()}
    parts = part_paths(run)
    flip(parts[0])
    flip(run / "heatmaps.zarr" / "c.2.0.0.0")
    (run / "heatmaps.zarr" / "zarr.json").write_text("{}")
    (run / "snapshots.zarr" / "c.0.0.0.0").write_bytes(b"")
    assert main(["inspect", str(run)]) == 1
    said = capsys.readouterr().out
    assert said.count("Damaged: ") == 4
    assert f"{parts[0].name}: its bytes are not those that were written" in said
    assert f"{parts[2].name}: its heatmaps are lost: c.2.0.0.0 is not what was written" in said
    assert f"Next: gaxjax inspect {run} --repair" in said
    assert part_paths(run) == parts, "nothing is touched without --repair"

    assert main(["inspect", str(run), "--repair"]) == 0
    said = capsys.readouterr().out
    assert "Repaired: dropped 2 parts" in said
    assert "Repaired: wrote heatmaps.zarr/zarr.json anew" in said
    assert "Repaired: dropped the snapshots" in said
    assert "6 images have no rows: give the run's command again" in said
    assert part_paths(run) == [parts[1], parts[3]]
    assert not has_snapshots(run)
    assert not open_run(run).finished
    assert inspect_run(run).damages == ()
    kept = read_scores(run).to_pylist()
    assert len(kept) == 6
    assert all(before[row["image_id"]] == row for row in kept)
    numbers = [row["heatmap_row"] for row in kept if row["heatmap_row"] is not None]
    assert np.isfinite(read_heatmaps(run, numbers)).all()


def test_leftovers_and_strangers_are_told_and_only_leftovers_removed(run, capsys):
    part = part_paths(run)[1]
    copy = part.with_name(f"{part.stem} (1).parquet")
    shutil.copy(part, copy)
    orphan = run / "heatmaps.zarr" / "c.9.0.0.0"
    orphan.write_bytes(b"half")
    assert main(["inspect", str(run)]) == 0
    said = capsys.readouterr().out
    assert "c.9.0.0.0: not committed" in said
    assert "(1).parquet: not of this run, and never read" in said
    assert main(["inspect", str(run), "--repair"]) == 0
    assert not orphan.exists()
    assert copy.exists()


def test_a_part_replaced_by_a_folder_is_dropped_too(run):
    part = part_paths(run)[1]
    part.unlink()
    part.mkdir()
    (part / "file").write_text("")
    assert inspect_run(run).damages == (f"{part.name}: it is a folder",)
    assert inspect_run(run, repair=True).repaired == ("dropped 1 part",)
    assert inspect_run(run).damages == ()


def test_a_damaged_description_is_one_line_with_status_2(run, capsys):
    (run / "run.json").write_text("{")
    assert main(["inspect", str(run), "--repair"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_in_use_is_not_repaired(run):
    from gaxjax.common.files import lock

    with lock(run), pytest.raises(UserError, match="in use by another"):
        inspect_run(run, repair=True)


# --- Runs of the old format ----------------------------------------------------------------------


def test_a_run_of_the_old_format_is_read_reported_and_inspected(data, tmp_path, capsys):
    run = stored_runs.gax_run(tmp_path / "run", data, parts=3)
    before = read_scores(run).to_pylist()
    rows = [row["heatmap_row"] for row in before if row["heatmap_row"] is not None]
    heatmaps = read_heatmaps(run, rows)
    to_old_format(run)
    after = read_scores(run).to_pylist()
    for old, new in zip(before, after, strict=True):
        assert old | {"heatmap_row": 0} == new | {"heatmap_row": 0}
    rows = [row["heatmap_row"] for row in after if row["heatmap_row"] is not None]
    assert rows == list(range(len(rows)))
    np.testing.assert_array_equal(read_heatmaps(run, rows), heatmaps)
    assert main(["inspect", str(run)]) == 0
    assert main(["report", str(run), "--output", str(tmp_path / "r.html")]) == 0
    assert main(["statistics", str(run)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(run), "--repair"]) == 2
    assert "can be read, but not repaired" in capsys.readouterr().err

    flip(run / "heatmaps.zarr" / "c" / "0" / "0" / "0" / "0", 0.1)
    assert main(["inspect", str(run)]) == 1
    assert "heatmaps.zarr, row " in capsys.readouterr().out


def test_a_run_of_the_old_format_is_not_gone_on_with(data, tmp_path):
    run = stored_runs.gax_run(tmp_path / "run", data)
    to_old_format(run)
    with pytest.raises(UserError, match=r"begun by an earlier gaxjax .* choose another --output"):
        stored_runs.gax_run(run, data)
