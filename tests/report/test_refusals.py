"""What cannot be reported is said in one line, before anything is written."""

import json
import shutil

import pytest
from altered_runs import edit_header, part_paths
from reading import payload

from gaxjax.cli.main import main
from gaxjax.common.errors import UserError
from gaxjax.report.page import write_report


def damage(run, how):
    if how == "empty":
        shutil.rmtree(run / "scores")
        return "holds no scores yet"
    if how == "no run.json":
        (run / "run.json").unlink()
        return "holds no gaxjax run"
    if how == "header":
        edit_header(run, lambda header: header.pop("data"))
        return "missing required field `data`"
    if how == "config":
        edit_header(run, lambda header: header["config"].pop("model"))
        return "damaged"
    if how == "checksum":
        header = json.loads((run / "run.json").read_text())
        header["config"]["gax"]["target"] = 47.0
        (run / "run.json").write_text(json.dumps(header))
        return "it is not what was written, by its own checksum"
    if how == "scores":
        part_paths(run)[0].write_bytes(b"PAR1 nothing")
        return "is damaged"
    if how == "heatmaps":
        shutil.rmtree(run / "heatmaps.zarr")
        return "heatmaps.zarr is missing"
    if how == "shard":
        (run / "heatmaps.zarr" / "c.0.0.0.0").unlink()
        return "heatmaps.zarr is damaged"
    if how == "snapshots":
        (run / "snapshots.parquet").write_bytes(b"nothing")
        return "snapshots.parquet is damaged"
    if how == "snapshot array":
        shutil.rmtree(run / "snapshots.zarr")
        return "snapshots.zarr is damaged"
    raise AssertionError(how)


@pytest.mark.parametrize(
    "how",
    [
        *("empty", "no run.json", "header", "config", "checksum", "scores", "heatmaps", "shard"),
        *("snapshots", "snapshot array"),
    ],
)
def test_a_damaged_or_empty_run_is_refused_in_one_line(how, gax, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(gax, run)
    expected = damage(run, how)
    assert main(["report", str(run), "--output", str(tmp_path / "r.html")]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("output", ["r.pdf", "missing/r.html"])
def test_a_page_that_cannot_be_written_is_refused_first(output, gax, tmp_path):
    with pytest.raises(UserError, match=r"must end in|cannot write"):
        write_report([gax], tmp_path / output)


def test_the_command_says_what_it_wrote_and_what_comes_next(gax, tmp_path, capsys):
    output = tmp_path / "r.html"
    assert main(["report", str(gax), "--output", str(output), "--num-pictures", "5"]) == 0
    said = capsys.readouterr().out
    assert f"Wrote {output}" in said
    assert "r_figures" in said
    assert "Next: gaxjax verify" in said
    assert len(payload(output.read_text())["pictures"]["heatmaps"]) == 5
