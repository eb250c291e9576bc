"""The places that images are read from: the table of what was measured, and a rehearsal of it."""

import json

import places
import pytest

from benchmarks.show.table import TABLES
from benchmarks.sources import Sources, describe, sources


def row(**settings):
    rate = {"median": 600.0, "min": 500.0, "max": 700.0}
    opening = {"first_opening_seconds": 1.5, "opening_seconds": 0.25}
    found = {name: {**opening, "images_per_s": rate} for name in ("folder", "s3 tar")}
    return {
        "workload": "sources",
        "suite": "sources",
        "key": "sources/500",
        "device": "cpu",
        "num_images": 500,
        "threads": {"folder": 4, "s3 tar": 16},
        "places": found,
    } | settings


def test_the_table_has_a_line_for_each_place():
    lines = TABLES["sources"]([row(), row(workload="soak")]).splitlines()
    assert lines[2] == "| class folders on the disk | 4 | 600 (500–700) | 1.50 | 0.25 |"
    assert lines[3].startswith("| tar archives by `s3://` | 16 |")
    assert "images/s: folder 600, s3 tar 600" in describe(row())


@pytest.mark.slow
def test_all_places_hold_the_same_images_and_are_timed(tmp_path):
    pytest.importorskip("datasets")
    pytest.importorskip("webdataset")
    images = places.write_folder(tmp_path / "images", places.pictures())
    file = tmp_path / "rows.jsonl"
    sources(Sources(data=images, size=16, shards=2, turns=1, output=file))
    found = json.loads(file.read_text())
    assert found["num_images"] == 12
    assert [*found["places"]] == ["folder", "parquet", "tar", "s3 folder", "s3 parquet", "s3 tar"]
    assert all(len(each["turns"]) == 1 for each in found["places"].values())
