"""The store: what is committed is whole, and only the same run may go on with it."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from altered_runs import change_parts, edit_header, part_paths

import gaxjax.results.store
from gaxjax.common.errors import UserError
from gaxjax.results.heatmap_array import heatmap_sha256
from gaxjax.results.part_writer import Result
from gaxjax.results.reading import read_heatmaps, read_scores
from gaxjax.results.run_header import read_header
from gaxjax.results.solution import Outcome, Solution
from gaxjax.results.store import Store, joined_run

SHAPE = (6, 6, 3)
IDENTITY = {"command": "gax", "target": 48.0, "model": "tiny abc", "data": "images def"}


HEADER = {
    "command": "gax",
    "config": {"anything": 1},
    "model": {"name": "tiny", "fingerprint": "abc"},
    "data": {"name": "images", "fingerprint": "def", "num_images": 200},
    "status": "running",
}
PER_PART = 64


def open_store(path, *, identity=IDENTITY, dtype="float16", num_images=200) -> Store:
    return Store(
        path,
        identity=identity,
        header=HEADER,
        image_shape=SHAPE,
        heatmap_dtype=dtype,
        num_images=num_images,
        heatmaps_per_part=PER_PART,
    )


def heatmap(number: int) -> np.ndarray:
    return np.random.default_rng(number).uniform(-1, 1, SHAPE).astype(np.float16)


def reached(number: int) -> Result:
    solution = Solution(
        number,
        Outcome.REACHED,
        label=3,
        prediction=3,
        probability_before=0.5,
        steps=2,
        co_score=48.5,
        co_score_start=1.0,
        similarity_loss=0.25,
        probability_after=1.0,
        prediction_after=3,
        curve=np.array([1, 20, 48.5], np.float32),
        heatmap=heatmap(number),
    )
    return Result(f"class/{number:03d}.png", 3, "three", solution)


def unreadable(number: int) -> Result:
    solution = Solution(number, Outcome.UNREADABLE, label=1, reason="truncated")
    return Result(f"class/{number:03d}.png", 1, "one", solution)


def test_rows_and_heatmaps_come_back_as_they_went_in(tmp_path):
    with open_store(tmp_path / "run") as store:
        store.commit([reached(0), unreadable(1), reached(2)])
        store.commit([unreadable(3), reached(4)])
    rows = read_scores(tmp_path / "run").to_pylist()
    assert [row["heatmap_row"] for row in rows] == [0, None, 1, None, PER_PART]
    assert rows[0]["curve"] == [1.0, 20.0, 48.5]
    assert (rows[0]["correct"], rows[1]["correct"]) == (True, None)
    assert rows[1]["reason"] == "truncated"
    assert rows[1]["co_score"] is None
    assert rows[1]["label_name"] == "one"
    stored = read_heatmaps(tmp_path / "run", [PER_PART, 0])
    np.testing.assert_array_equal(stored, [heatmap(4), heatmap(0)])


def test_a_part_without_a_later_column_reads_and_one_without_another_is_damaged(tmp_path):
    run = tmp_path / "run"
    with open_store(run) as store:
        store.commit([reached(0)])
    change_parts(run, lambda table: table.drop_columns(["completeness_gap"]))
    row = read_scores(run).to_pylist()[0]
    assert row["completeness_gap"] is None
    assert (row["co_score"], row["heatmap_row"]) == (48.5, 0)
    with open_store(run) as store:
        gap = dataclasses.replace(reached(1).solution, completeness_gap=0.25)
        store.commit([dataclasses.replace(reached(1), solution=gap)])
    assert read_scores(run)["completeness_gap"].to_pylist() == [None, 0.25]
    change_parts(run, lambda table: table.drop_columns(["co_score"]))
    with pytest.raises(UserError, match="is damaged"):
        read_scores(run)


def test_pandas_and_zarr_read_the_run_without_us(tmp_path):
    with open_store(tmp_path / "run") as store:
        for start in range(0, 150, 50):  # crosses a shard's border twice
            store.commit([reached(number) for number in range(start, start + 50)])
    frame = pd.read_parquet(tmp_path / "run" / "scores")
    assert len(frame) == 150
    array = zarr.open_array(tmp_path / "run" / "heatmaps.zarr", mode="r")
    assert array.dtype == np.float16
    assert array.shards is not None
    for number in (0, 63, 64, 149):
        row = frame.set_index("image_id").loc[f"class/{number:03d}.png", "heatmap_row"]
        np.testing.assert_array_equal(array[int(row)], heatmap(number))


def test_a_reopened_run_goes_on_where_it_was(tmp_path):
    with open_store(tmp_path / "run") as store:
        store.commit([reached(0), reached(1)])
    with open_store(tmp_path / "run") as store:
        assert store.done == {"class/000.png", "class/001.png"}
        store.commit([reached(2)])
    assert read_scores(tmp_path / "run")["heatmap_row"].to_pylist() == [0, 1, PER_PART]
    np.testing.assert_array_equal(read_heatmaps(tmp_path / "run", [1])[0], heatmap(1))


def test_heatmaps_without_a_part_are_removed(tmp_path, monkeypatch):
    run = tmp_path / "run"
    with open_store(run) as store:
        store.commit([reached(0)])
        with monkeypatch.context() as patch:

            def die(*_, **__):
                raise OSError("No space left on device")

            patch.setattr(pq, "write_table", die)
            with pytest.raises(OSError, match="No space"):
                store.commit([reached(1), reached(2)])
    orphan, half = run / "heatmaps.zarr" / "c.1.0.0.0", run / "scores" / ".part-00009-0.parquet.tmp"
    assert orphan.exists()
    half.write_bytes(b"half")
    with open_store(run) as store:
        assert not orphan.exists()
        assert not half.exists()
        assert store.done == {"class/000.png"}
        store.commit([unreadable(5)])
        store.commit([reached(7)])
    rows = read_scores(run).to_pylist()
    assert [row["heatmap_row"] for row in rows] == [0, None, 2 * PER_PART]
    np.testing.assert_array_equal(read_heatmaps(run, [2 * PER_PART])[0], heatmap(7))


def test_no_committed_byte_is_touched_again(tmp_path):
    run = tmp_path / "run"
    before: dict[Path, tuple[bytes, int]] = {}
    for number in range(4):
        with open_store(run) as store:
            store.commit([reached(number)])
        files = [path for path in run.glob("*/*") if path.is_file()]
        found = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
        assert before.items() <= found.items()
        before = found
    assert len(before) == 4 + 4 + 1


def test_more_heatmaps_than_a_part_takes_become_several_parts(tmp_path):
    with open_store(tmp_path / "run") as store:
        store.commit([reached(number) for number in range(PER_PART + 3)])
    assert len(part_paths(tmp_path / "run")) == 2
    rows = read_scores(tmp_path / "run").to_pylist()
    assert [row["heatmap_row"] for row in rows] == list(range(PER_PART + 3))


def test_another_run_is_refused_and_the_difference_named(tmp_path):
    with open_store(tmp_path / "run"):
        pass
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(UserError, match=r"target is 48\.0 there and 15\.0 here") as refused:
        open_store(tmp_path / "run", identity=IDENTITY | {"target": 15.0})
    assert "model is" not in str(refused.value)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"not empty and holds no gaxjax run \(found thesis.tex\)"):
        open_store(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_run_killed_while_its_first_header_was_written_starts_anew(tmp_path):
    (tmp_path / ".run.json.tmp").write_text("{")
    with open_store(tmp_path) as store:
        assert store.done == set()


def test_an_image_is_committed_once(tmp_path):
    with open_store(tmp_path / "run") as store:
        store.commit([reached(0)])
        store.commit([reached(0), reached(1)])
    assert read_scores(tmp_path / "run")["heatmap_row"].to_pylist() == [0, PER_PART]


def test_a_file_in_the_way_is_one_clear_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file; expected a folder"):
        open_store(tmp_path / "run")


def test_two_processes_cannot_write_one_run(tmp_path):
    with open_store(tmp_path / "run"), pytest.raises(UserError, match="in use by another"):
        open_store(tmp_path / "run")
    with open_store(tmp_path / "run"):
        pass  # free again


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null"])
def test_a_damaged_header_is_one_clear_line(tmp_path, text):
    with open_store(tmp_path / "run"):
        pass
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        open_store(tmp_path / "run")


def test_a_newer_format_is_refused(tmp_path):
    with open_store(tmp_path / "run"):
        pass
    edit_header(tmp_path / "run", lambda header: header.update(format=99))
    with pytest.raises(UserError, match="store format 99; this gaxjax reads formats 2 and 3"):
        read_header(tmp_path / "run")


def test_a_damaged_part_is_one_clear_line_and_stops_the_run(tmp_path):
    with open_store(tmp_path / "run") as store:
        store.commit([reached(0)])
    part = part_paths(tmp_path / "run")[0]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(UserError, match=r"part-00000-\w+\.parquet is damaged .* gaxjax inspect"):
        read_scores(tmp_path / "run")
    with pytest.raises(UserError, match=r"is damaged \(part-00000-.* --repair` drops what is"):
        open_store(tmp_path / "run")


@pytest.mark.parametrize("flips", [20, pytest.param(150, marks=pytest.mark.slow)])
def test_every_flipped_bit_of_a_part_and_of_a_shard_is_found(tmp_path, flips):
    run = tmp_path / "run"
    with open_store(run) as store:
        store.commit([reached(0), reached(1)])
    hashes = read_scores(run)["heatmap_sha256"].to_pylist()
    for path in (*part_paths(run), run / "heatmaps.zarr" / "c.0.0.0.0"):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // flips)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << place % 8
            path.write_bytes(flipped)
            with pytest.raises(UserError, match="is damaged"):
                open_store(run)
            try:
                found = [heatmap_sha256(each) for each in read_heatmaps(run, [0, 1])]
            except UserError:
                continue
            assert found == hashes  # the bit is one that no reader looks at
        path.write_bytes(whole)


@pytest.mark.parametrize("lost", ["c.1.0.0.0", "all"])
def test_committed_heatmaps_that_are_gone_are_one_clear_line(tmp_path, lost):
    run = tmp_path / "run"
    with open_store(run) as store:
        store.commit([reached(number) for number in range(70)])
    if lost == "all":
        shutil.rmtree(run / "heatmaps.zarr")
    else:
        (run / "heatmaps.zarr" / lost).unlink()
    with pytest.raises(UserError, match=r"its heatmaps are lost: c\.\d\.0\.0\.0 cannot be read"):
        open_store(run)


def test_what_describes_the_heatmaps_is_written_anew(tmp_path):
    run = tmp_path / "run"
    with open_store(run) as store:
        store.commit([reached(0)])
    file = run / "heatmaps.zarr" / "zarr.json"
    whole = file.read_bytes()
    file.write_text("{")
    with pytest.raises(UserError, match=r"heatmaps\.zarr is damaged"):
        read_heatmaps(run, [0])
    with open_store(run):
        assert file.read_bytes() == whole


def test_copies_and_renamed_parts_are_never_read(tmp_path):
    run = tmp_path / "run"
    with open_store(run) as store:
        store.commit([reached(0)])
        store.commit([reached(1)])
    first, second = part_paths(run)
    shutil.copy(first, first.with_name(f"{first.stem} (1).parquet"))
    assert len(read_scores(run)) == 2
    second.rename(second.with_name(second.name.replace("part-00001", "part-00007")))
    with pytest.raises(UserError, match="it is part 1 by what it holds"):
        read_scores(run)


def test_a_part_of_another_run_is_not_taken_for_ours(tmp_path):
    for name in ("one", "two"):
        with open_store(tmp_path / name) as store:
            store.commit([reached(0)])
    [part] = part_paths(tmp_path / "one")
    shutil.copy(part, tmp_path / "two" / "scores")
    with pytest.raises(UserError, match=r"it is of another run|there is another part 0"):
        read_scores(tmp_path / "two")
    with pytest.raises(UserError, match="is damaged"):
        open_store(tmp_path / "two")


def test_a_path_with_dots_works(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with open_store(Path("../run")) as store:
        store.commit([reached(3)])
    np.testing.assert_array_equal(read_heatmaps("../run", [0])[0], heatmap(3))


def test_no_heatmaps_are_stored_when_none_are_wanted(tmp_path):
    with open_store(tmp_path / "run", dtype=None) as store:
        store.commit([reached(0)])
    assert read_scores(tmp_path / "run")["heatmap_row"].to_pylist() == [None]
    with pytest.raises(UserError, match="stores no heatmaps"):
        read_heatmaps(tmp_path / "run", [0])


def test_a_run_that_does_not_exist_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"holds no gaxjax run: it has no run\.json"):
        read_header(tmp_path / "nowhere")


def test_what_a_single_worker_committed_counts_in_the_end(tmp_path):
    with open_store(tmp_path / "run", num_images=2) as store:
        with joined_run(tmp_path / "run", 0, 2) as worker:
            worker.commit([reached(0)])
            assert store.complete(2) == 1
            worker.commit([reached(1)])
        assert store.complete(2) == 0
    assert read_header(tmp_path / "run")["status"] == "complete"


def test_a_writer_that_checks_the_run_keeps_no_other_from_starting(tmp_path, monkeypatch):
    settings = {"identity": IDENTITY, "header": HEADER, "image_shape": SHAPE}
    settings |= {"heatmap_dtype": "float16", "num_images": 2, "heatmaps_per_part": PER_PART}
    settings |= {"writers": 2, "side_by_side": True}
    really = gaxjax.results.store.check_run

    def check(*given, **named):
        if named["ours"] == range(2):
            with Store(tmp_path / "run", writer=1, **settings) as other:
                other.commit([reached(1)])
        return really(*given, **named)

    monkeypatch.setattr("gaxjax.results.store._ENTERING", 0.1)
    monkeypatch.setattr("gaxjax.results.store.check_run", check)
    with Store(tmp_path / "run", writer=0, **settings) as store:
        store.commit([reached(0)])
        assert store.complete(2) == 0
    assert len(read_scores(tmp_path / "run")) == 2
