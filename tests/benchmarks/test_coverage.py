"""The coverage of networks: its table from made-up rows, its limits, its names."""

import json

import pytest

from benchmarks.coverage.cover import Coverage, cover
from benchmarks.coverage.zoo import DOZEN, SETS, zoo_model
from benchmarks.show.coverage import reason
from benchmarks.show.table import TABLES
from gaxjax.common import UserError


def row(model: str, gradient: float = 2e-15, **more):
    return {
        **{"workload": "coverage", "model": model, "size": 64, "nodes": 70, "numbers": 1_234_567},
        **{"operations": {"conv2d": 3, "hardswish": 2}, "notes": []},
        "float64": {"logits": 1e-15, "gradient": gradient},
        "float32": {"logits": 3e-7, "gradient": 4e-7},
        **{"bfloat16": {"logits": 1.5e-2}, "products": 4, "float32_products": 0},
        **more,
    }


def test_the_tables_count_and_list_networks():
    rows = [
        row("timm:b"),
        row("torchvision:z"),
        row("torchvision:a", 2e-9, float64_throughout={"logits": 1e-15, "gradient": 3e-15}),
        row("torchvision:w", 2e-9, float64_throughout={"logits": 1e-15, "gradient": 2e-9}),
        {"workload": "coverage", "model": "torchvision:f", "size": 64, "error": "no | way"},
    ]
    listed = TABLES["coverage"](rows).splitlines()[2:]
    names = [line.split(" | ")[0].removeprefix("| ") for line in listed]
    assert names == [*(f"torchvision:{name}" for name in "afwz"), "timm:b"]
    assert "1/6 in float32: 3.0e-15 without" in listed[0]
    assert "failed: no \\| way" in listed[1]
    assert "unexplained" in listed[2]
    (summary, other) = TABLES["coverage_summary"](rows).splitlines()[2:]
    assert summary.startswith("| torchvision | 4 | 3 | 1 | 1 | 3.0e-07 (3.0e-07) |")
    assert other.startswith("| timm | 1 | 1 | 1 | 0 |")
    assert TABLES["coverage"]([]) == TABLES["coverage_summary"]([]) == ""


def test_a_network_that_magnifies_roundings_is_told_apart():
    throughout = {"logits": 7e-13, "gradient": 8e-11}
    wild = row("timm:d", 8e-11, float64_throughout=throughout, one_rounding={"gradient": 5e-11})
    assert "move by 5.0e-11" in reason(wild)
    steady = wild | {"one_rounding": {"gradient": 1e-15}}
    assert reason(steady) == "unexplained"


def test_a_torch_that_contradicts_itself_is_named():
    found = row("timm:x", 1.3, float64_throughout={"logits": 1e-15, "gradient": 1.3})
    assert reason(found) == "unexplained"
    turned = found | {"of_two_images": {"logits": 1e-15, "gradient": 2e-15}}
    assert reason(turned).startswith("torch contradicts itself: 2.0e-15")


def test_a_cast_in_a_networks_own_code_is_named():
    cast = row(
        "timm:c",
        1e-8,
        float64_throughout={"logits": 1e-15, "gradient": 1e-15},
        notes=["2 casts to another floating type left out"],
        operations={"conv2d": 1},
    )
    assert reason(cast) == "its own code casts to float32: 1.0e-15 without"


@pytest.mark.parametrize(
    ("limit", "words"),
    [({"seconds": 0.1}, "more than 0.1 s"), ({"gigabytes": 1e-4}, "more than 0.0001 GB")],
)
def test_a_network_that_takes_too_much_is_given_up_with_a_row(tmp_path, limit, words):
    output = tmp_path / "rows.jsonl"
    command = Coverage(models=("torchvision:alexnet",), output=output, **limit)
    (made,) = cover(command)
    assert words in made["error"]
    assert json.loads(output.read_text())["model"] == "torchvision:alexnet"


def test_what_has_a_row_is_not_compared_again(tmp_path):
    output = tmp_path / "rows.jsonl"
    output.write_text(json.dumps(row("torchvision:alexnet")) + "\n")
    assert cover(Coverage(models=("torchvision:alexnet",), output=output)) == []


@pytest.mark.parametrize("name", ["torchvision:resnet19", "keras:resnet50"])
def test_unknown_networks_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"did you mean 'resnet18'|no library 'keras'"):
        cover(Coverage(models=(name,), output=tmp_path / "rows.jsonl"))


def test_the_sets_are_as_large_as_is_said():
    timm = pytest.importorskip("timm")
    assert len(SETS["torchvision"]()) == 80
    names = [zoo_model(key).name for key in SETS["timm"]()]
    assert set(names) <= set(timm.list_models())
    families = {timm.models._registry._model_to_module[name] for name in names}
    assert len(names) >= 110
    assert len(families) >= 45
    assert set(DOZEN) <= set(SETS["all"]())
