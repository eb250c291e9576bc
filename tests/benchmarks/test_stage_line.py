"""A stage's line, from made-up rows."""

from dataclasses import fields

from benchmark_rows import H100, every_workload, make_row

from benchmarks.measure.measurement import Measurement
from benchmarks.show.stage_line import stage_line


def stage_of(rows):
    """The measurements that the rows are of."""
    names = [field.name for field in fields(Measurement)]
    return [Measurement(**{name: row[name] for name in names}) for row in rows]


def test_a_stage_is_told_in_one_line():
    mine = {"device": H100, "precision": "bfloat16"}
    rows = [
        make_row(rates=(9.0,), slots=256, fields={"mfu": 0.30, "took_seconds": 40}, **mine),
        make_row(rates=(12.0,), slots=512, fields={"mfu": 0.356, "took_seconds": 31.4}, **mine),
        make_row(contender="torch-graph", rates=(8.0,), slots=256, session="two", **mine),
        make_row(contender="torch-compile-graph", rates=(10.0,), session="three", **mine),
        make_row(contender="bare", rates=(99.0,), **mine),
        make_row(contender="torch-eager", rates=(99.0,), precision="float32", device=H100),
        make_row("permutation", fields={"differing": 0, "worst": 0.0}, **mine),
        make_row(contender="torch-compile-max-autotune", error="prepare took more than 100 s"),
    ]
    assert stage_line("stage 1", stage_of(rows), rows) == (
        "stage 1: 8 rows, 1 failed; resnet34 in bfloat16: ours 12.0 image-steps/s at 512 slots "
        "(MFU 35.6%), 1.20 × the best torch (torch-compile-graph at 8); permutation: same bits; "
        "71 s"
    )


def test_what_a_stage_lacks_is_told_and_other_stages_rows_do_not_count():
    rows = [make_row(), make_row(contender="bare", error="late") | {"cut_off": True}]
    left = [make_row(contender="torch-eager"), make_row("profile")]
    others = make_row("permutation", fields={"differing": 3, "worst": 1e-6})
    line = stage_line("stage 2", stage_of([*rows, *left]), [*rows, others])
    assert line.startswith("stage 2: 2 rows, 1 cut off, 2 left; resnet34 in float32: ours 15.0")
    assert "permutation" not in line
    differing = stage_line("stage 1", stage_of([others]), [others])
    assert "permutation: 3 of 8 images differ, by 1.0e-06 at most" in differing
    assert stage_line("stage 3", stage_of(rows), []) == "stage 3: 0 rows, 2 left; 0 s"


def test_every_workload_has_its_words_in_a_stages_line():
    rows = every_workload()
    line = stage_line("stage 3", stage_of(rows), rows)
    for words in (
        "cpu by jax: 0.0281 TFLOP/s, 2.11 GB/s",
        "ours 2.50 images/s at 8 slots, 1.00 × the best torch (torch-eager+refill at 8)",
        "200 images of squeezenet1_0 from file to store in 90.0 s",
        "of all slots 1 the fastest",
        "AX: 1.00 × captum:all",
        "first result, cold: 13.0 s",
    ):
        assert words in line
    failures = [make_row(row["workload"], row["contender"], error="out of memory") for row in rows]
    assert stage_line("stage 3", stage_of(failures), failures).endswith("failed; 0 s")
