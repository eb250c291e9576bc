"""Tables of the benchmark suite, from made-up rows: true to the rows, and fair."""

import json
import re
from pathlib import Path

import pytest
from benchmark_rows import H100, every_workload, make_row

from benchmarks.show.comparison import counterpart, of_workload, ratio, read_rows
from benchmarks.show.documents import with_tables, write_tables
from benchmarks.show.table import TABLES
from gaxjax.common.errors import UserError


def write(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def cells(table: str) -> list[dict[str, str]]:
    """The lines of a Markdown table, by column."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(split[0], line, strict=True)) for line in split[2:]]


def numbers(cell: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"[\d,]+\.?\d*(?:e-\d+)?", cell)]


# Rows.


def test_a_later_row_replaces_an_earlier_one_of_its_key_and_device(tmp_path):
    rows = [make_row(rates=(1.0,)), make_row(contender="bare"), make_row(rates=(2.0,))]
    rows.append(make_row(rates=(3.0,), device=H100) | {"suite": "cpu"})
    found = read_rows(write(tmp_path / "cpu.jsonl", rows))
    assert [(row["contender"], row["device"], row["turn_image_steps"][0]) for row in found] == [
        ("bare", "cpu", 30.0),
        ("ours", "cpu", 4.0),
        ("ours", H100, 6.0),
    ]


def test_suites_do_not_replace_each_others_rows(tmp_path):
    write(tmp_path / "cpu.jsonl", [make_row()])
    write(tmp_path / "quick.jsonl", [make_row() | {"suite": "quick"}])
    assert {row["suite"] for row in read_rows(tmp_path)} == {"cpu", "quick"}


def test_a_torn_line_is_skipped_and_said(tmp_path, capsys):
    path = write(tmp_path / "cpu.jsonl", [make_row(), make_row(contender="bare")])
    path.write_text(path.read_text() + '{"key": "torn, "wor')
    assert len(read_rows(path)) == 2
    assert "cpu.jsonl:3: skipped a torn line" in capsys.readouterr().err


def test_rows_of_other_benchmarks_are_left_out(tmp_path):
    write(tmp_path / "cpu.jsonl", [make_row(), {"bench": "check_run", "commit": "abc"}])
    assert len(read_rows(tmp_path)) == 1


def test_missing_results_are_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="python -m benchmarks run"):
        read_rows(tmp_path / "nothing")


def test_a_row_that_failed_before_it_knew_its_device_is_replaced_by_its_success(tmp_path):
    early = make_row(contender="bare", error="no", device=None)
    path = write(tmp_path / "cpu.jsonl", [early, make_row(), make_row(contender="bare")])
    found = read_rows(path)
    assert [row["contender"] for row in found] == ["ours", "bare"]
    assert not any("error" in row for row in found)


# Ratios.


def test_ratios_are_of_the_same_turn():
    ours, peer = make_row(rates=(10.0, 20.0, 40.0)), make_row(rates=(5.0, 40.0, 10.0))
    found = ratio(ours, peer, "image_steps")
    assert (found.median, found.low, found.high, found.by_turns) == (2.0, 0.5, 4.0, True)


def test_on_a_cpu_rows_of_two_sessions_are_not_compared():
    ours, peer = make_row(), make_row(contender="torch-eager", session="two")
    assert ratio(ours, peer, "image_steps") is None
    assert counterpart(peer, [ours, peer], "image_steps") is None
    line = cells(TABLES["fixed_steps"]([ours, peer, make_row(contender="bare")]))[0]
    assert line["contender"] == "torch-eager"
    assert line["ours ÷ this"] == "–"


def test_on_a_gpu_medians_of_two_sessions_are_compared_and_marked():
    ours = make_row(rates=(10.0, 20.0, 40.0), device=H100)
    peer = make_row(contender="torch-graph", rates=(5.0, 10.0), device=H100, session="two")
    found = ratio(ours, peer, "image_steps")
    assert (found.median, found.low, found.high, found.by_turns) == (20 / 7.5, 1.0, 8.0, False)
    table = TABLES["fixed_steps"]([ours, peer])
    assert "≈2.67× (1.00–8.00)" in table
    assert "≈: ratio of medians" in table


def test_rows_of_two_devices_are_not_compared():
    ours = make_row(device=H100, session="two")
    assert ratio(ours, make_row(contender="torch-eager"), "image_steps") is None


def test_a_peer_is_held_against_ours_in_its_own_arithmetic_then_at_its_slots():
    rows = [
        make_row(rates=(50.0,), slots=16),
        make_row(rates=(10.0,), slots=8),
        make_row(rates=(20.0,), precision="bfloat16"),
    ]

    def chosen(**settings):
        peer = make_row(contender="torch-eager", **settings)
        return counterpart(peer, rows, "image_steps")

    assert chosen(precision="float32", slots=8) is rows[1]
    assert chosen(precision="float32", slots=1) is rows[0]
    assert chosen(precision="bfloat16") is rows[2]
    assert chosen(precision="tf32", slots=1) is rows[0]


def test_a_captum_row_is_held_against_its_own_method():
    rows = [make_row("attribution", f"native:{name}") for name in ("all", "saliency")]
    peer = make_row("attribution", "captum:saliency")
    assert counterpart(peer, rows, "images") is rows[1]


def test_a_slower_ours_shows_a_ratio_below_one():
    rows = [make_row(rates=(9.98,) * 3), make_row(contender="torch-eager", rates=(10.0,) * 3)]
    line = cells(TABLES["fixed_steps"](rows))[0]
    assert line["ours ÷ this"] == "0.998×"
    assert line["ours in"] == "float32"
    assert "ours in float32: 0.998×" in TABLES["summary"](rows)


def test_the_fastest_torch_is_shown_against_our_fastest_with_both_arithmetics():
    rows = [
        make_row(rates=(15.0,)),
        make_row(rates=(9.0,), precision="bfloat16"),
        make_row(contender="torch-eager", rates=(12.0,)),
        make_row(contender="torch-compile", rates=(30.0,), precision="bfloat16"),
    ]
    line = cells(TABLES["summary"](rows))[0]
    assert line["ours"] == "15.0 float32<br>9.00 bfloat16"
    assert line["fastest batched torch in float32"].startswith("12.0 torch-eager, float32<br>")
    assert line["fastest batched torch against our fastest"] == (
        "30.0 torch-compile, bfloat16<br>ours in float32: 0.500×"
    )


# Tables.


ELSEWHERE = ("gpu_code", "coverage", "scaling", "sources")
MEASURED = [name for name in TABLES if not name.startswith(ELSEWHERE)]
# These have tests of their own.


@pytest.mark.parametrize("name", MEASURED)
def test_every_table_has_lines_and_ends_with_its_origin(name):
    table = TABLES[name](every_workload())
    assert cells(table)
    last = table.strip().splitlines()[-1]
    for part in ("cpu (AMD EPYC, 2 cores)", "jax 0.10.2, torch 2.15.0", "commit abc1234"):
        assert part in last
    assert "Random weights and real images." in last
    assert "Median (least–most) of 3 turns." in last
    assert "float32 3.1e-07 / 2.0e-03." in last


def test_numbers_in_a_table_are_the_rows():
    row = make_row(
        rates=(12_345.6, 20_000.4, 11_111.1),
        device=H100,
        fields={"tflops": 236.7, "mfu": 0.23933, "peak_device_bytes": 5.4321e9},
    )
    line = cells(TABLES["fixed_steps"]([row]))[0]
    assert numbers(line["image-steps/s"]) == [12_346, 11_111, 20_000]
    assert line["MFU"] == "23.9%"
    assert line["TFLOP/s"] == "237"
    assert numbers(line["device, GB"]) == [5.43]
    assert numbers(line["host, GB"]) == [1.23]
    assert numbers(line["compile, s"]) == [8.61]


def test_the_step_alone_and_slots_that_did_not_fit_are_shown():
    rows = [
        make_row(slots=1024, fields={"slots_used": 512}),
        make_row(contender="torch-eager", fields={"step_image_steps_per_s": 19.5}),
    ]
    torch, ours = cells(TABLES["fixed_steps"](rows))
    assert (torch["slots"], torch["step alone"]) == ("8", "19.5")
    assert (ours["slots"], ours["step alone"]) == ("1,024 (512 fitted)", "–")


def test_a_repeated_row_shows_only_in_the_noise():
    rows = every_workload()
    assert sum(row["contender"] == "ours" for row in of_workload(rows, "fixed_steps")) == 1
    (line,) = cells(TABLES["noise"](rows))
    assert numbers(line["first"]) == [15, 14, 16]
    assert numbers(line["again"]) == [15.2, 14.1, 16.1]
    assert numbers(line["again ÷ first"]) == [1.01, 1.01, 1.01]


def test_steps_outcomes_and_occupancy_are_shown():
    line = cells(TABLES["to_target"](every_workload()))[-1]
    assert line["contender"] == "ours"
    assert line["images by outcome"] == "4 reached, 1 step limit, 3 misclassified"
    assert line["steps: median / mean / most"] == "4.5 / 18.0 / 60"
    assert line["occupancy"] == "98.9%"


def test_busy_seconds_are_shown_against_the_wall():
    (line,) = cells(TABLES["end_to_end"](every_workload()))
    assert line["optimise, s (of wall)"] == "80.0 (88.9%)"
    assert line["wall, s"] == "90.0"


def test_devices_whose_results_differ_are_told():
    lines = cells(TABLES["devices"](every_workload()))
    assert [line["the same as with 1"] for line in lines] == ["yes", "yes", "no"]


def test_permuted_results_that_differ_are_told():
    same, other = cells(TABLES["permutation"](every_workload()))
    assert (same["equal bit for bit"], same["images that differ"]) == ("yes", "0")
    assert (other["equal bit for bit"], other["images that differ"]) == ("no", "4")
    assert other["that differ in the same order again"] == "2"


def test_shares_of_a_step_are_shown_and_so_is_why_there_are_none():
    table = TABLES["profile"](every_workload())
    (line,) = cells(table)
    assert (line["convolution"], line["idle"]) == ("70.0%", "30.0%")
    assert "`convolution.1` 40.0%, `fusion.2` 10.0%" in table
    unknown = {"shares": None, "top": [], "note": "no device events"}
    assert "no device events" in TABLES["profile"]([make_row("profile", fields=unknown)])


def test_milliseconds_per_image_are_the_inverse_of_the_rate():
    lines = cells(TABLES["attribution"](every_workload()))
    assert numbers(lines[0]["ms per image"]) == [400, 375, 429]


def test_a_failed_row_is_shown_with_its_reason():
    rows = [make_row(), make_row(contender="torch-compile", error="Error: a | b\nand more")]
    line = cells(TABLES["fixed_steps"](rows))[0]
    assert line["contender"] == "torch-compile"
    assert line["image-steps/s"] == r"failed: Error: a \| b and more"
    assert "failed: Error" in TABLES["summary"](rows)


@pytest.mark.parametrize("name", [name for name in MEASURED if name != "noise"])
def test_every_table_survives_rows_that_all_failed(name):
    rows = [
        make_row(row["workload"], row["contender"], error="out of memory", slots=row["slots"])
        for row in every_workload()
    ]
    assert "failed: out of memory" in TABLES[name](rows)


def test_several_commits_and_weights_are_named_in_the_caption():
    rows = [
        make_row(),
        make_row(model="squeezenet1_0") | {"weights": "real", "commit": "def5678"},
    ]
    caption = TABLES["summary"](rows).strip().splitlines()[-1]
    assert "commit abc1234, def5678" in caption or "commit def5678, abc1234" in caption
    assert "eal weights and real images (squeezenet1_0)" in caption
    assert "andom weights and real images (resnet34)" in caption


def test_tables_without_rows_are_left_out():
    made = [name for name, table in TABLES.items() if table([make_row()])]
    assert made == ["summary", "fixed_steps"]


# Markers.

PAGE = """# Page

<!-- table:fixed_steps -->
stale
<!-- end -->

Between, with `<!-- table:NAME -->` in a sentence.

<!-- table:slots -->
<!-- end -->

After.
"""


def test_markers_are_filled_and_again_the_same(tmp_path):
    results, page = write(tmp_path / "results" / "cpu.jsonl", [make_row()]), tmp_path / "page.md"
    page.write_text(PAGE)
    assert write_tables(results.parent, [page]) == [page]
    once = page.read_text()
    assert "stale" not in once
    assert "15.0 (14.0–16.0)" in once
    assert "<!-- table:slots -->\n\nnot measured yet\n\n<!-- end -->" in once
    assert once.startswith("# Page\n")
    assert "in a sentence.\n" in once
    assert once.endswith("\nAfter.\n")
    write_tables(results.parent, [page])
    assert page.read_text() == once


def test_only_files_that_are_there_and_have_markers_are_updated_unasked(tmp_path):
    page, plain = tmp_path / "page.md", tmp_path / "plain.md"
    page.write_text(PAGE)
    plain.write_text("Between, with `<!-- table:NAME -->` in a sentence.\n")
    assert with_tables([page, plain, tmp_path / "missing.md"]) == [page]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table:fixed_step -->\n<!-- end -->\n", "did you mean 'fixed_steps'.*known: summary"),
        ("<!-- table:slots -->\ntext\n", "lacks its <!-- end -->"),
        ("<!-- table:slots -->\n<!-- table:images -->\n<!-- end -->\n", "lacks its <!-- end -->"),
        ("nothing\n", "has no line like"),
    ],
)
def test_wrong_markers_are_a_users_mistake_and_nothing_is_written(tmp_path, text, message):
    results, page = write(tmp_path / "cpu.jsonl", [make_row()]), tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match=message):
        write_tables(results, [page])
    assert page.read_text() == text
