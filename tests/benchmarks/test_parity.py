"""Finished runs as rows: what they gave, and what torch says of it."""

import json
import sys

import pytest

from benchmarks.measure.problem import make_problem, open_problem
from benchmarks.parity import ax_backends, check_run
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig, GaxConfig
from gaxjax.config.runs import AxRunConfig, BatchConfig, EngineConfig, GaxRunConfig
from gaxjax.runs.ax import run_ax
from gaxjax.runs.gax import run_gax

DIGITS = DataConfig(data="digits", size=16, num_images=8)


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("problem")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GAXJAX_TEST_DATA", raising=False)
        make_problem(folder, "small_resnet", 16)
    return open_problem(folder)


def row_of(script, monkeypatch, output, *arguments):
    """Run a script, and return the row that it appended."""
    given = ["script", *map(str, arguments), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", given)
    script.main()
    return json.loads(output.read_text())


@pytest.mark.slow
def test_a_checked_run_is_a_row_with_its_outcomes_and_worst_difference(
    problem, tmp_path, monkeypatch
):
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "cache"))
    weights = str(problem.weights_file)
    model = ModelConfig(model=weights, architecture="small_resnet", normalization="imagenet")
    gax = GaxConfig(target=2.0, max_steps=3, include_misclassified=True)
    run_gax(
        GaxRunConfig(model=model, data=DIGITS, gax=gax, engine=EngineConfig(slots=8)),
        tmp_path / "run",
    )
    row = row_of(
        check_run,
        monkeypatch,
        tmp_path / "rows.jsonl",
        tmp_path / "run",
        *("--weights", weights),
    )
    assert row["bench"] == "check_run"
    assert sum(row["outcomes"].values()) == 8
    assert row["settings"]["target"] == 2.0
    assert row["verification"]["passed"]
    (compared,) = row["verification"]["comparisons"]
    assert compared["scores"] == 8
    assert 0 <= compared["median"] <= compared["worst"] < 1e-3
    assert str(tmp_path) not in json.dumps(row)


@pytest.mark.slow
def test_two_backends_are_compared_row_by_row(problem, tmp_path, monkeypatch):
    model = ModelConfig(model=str(problem.checkpoint))
    for backend in ("jax", "captum"):
        ax = AxConfig(methods=("saliency",), backend=backend)
        run_ax(
            AxRunConfig(model=model, data=DIGITS, ax=ax, batch=BatchConfig(batch_size=8)),
            tmp_path / backend,
        )
    row = row_of(
        ax_backends,
        monkeypatch,
        tmp_path / "rows.jsonl",
        tmp_path / "jax",
        tmp_path / "captum",
    )
    assert [(one["method"], one["operation"]) for one in row["differences"]] == [
        ("saliency", "sum"),
        ("saliency", "mult"),
    ]
    assert all(one["outcomes_equal"] for one in row["differences"])
    assert all(one["co_score_worst"] < 1e-3 for one in row["differences"])
