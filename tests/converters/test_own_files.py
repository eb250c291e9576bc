"""A file of the user's own that makes a torch module."""

import pytest
import torch
from opened_modules import agree, refusal, save
from torch import nn

from converters import rebuild
from converters.torch_module import open_source

OWN = """
from torch import nn
import layers_of_mine

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), layers_of_mine.Last())

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(*build())

ready = build()

def broken():
    raise ValueError("no such thing")

def number():
    return 3

def leaves():
    raise SystemExit(3)
"""
LAYERS = """
from torch import nn

class Last(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "layers_of_mine", raising=False)
    (tmp_path / "mynet.py").write_text(OWN)
    (tmp_path / "layers_of_mine.py").write_text(LAYERS)
    return tmp_path / "mynet.py"


@pytest.mark.parametrize("name", ["build", "Net", "ready"])
def test_a_file_of_ones_own_is_run_and_that_is_said(own, name):
    torch.manual_seed(0)
    opened = open_source(f"{own}:{name}")
    assert f"{own} was run, which builds the network" in opened.notes
    assert opened.name == f"mynet.py:{name}"
    trained = nn.Sequential(*opened.module)
    for parameter in trained.parameters():
        parameter.data += 1
    path = save(own.parent / "ckpt.pth", {"model": trained.state_dict()})
    opened = open_source(f"{own}:{name}", weights=path)
    assert opened.source == "ckpt.pth"
    assert agree(opened.module, trained, size=8)
    assert agree(rebuild(opened.origin, path), trained, size=8)
    assert "ckpt.pth" in refusal(rebuild, opened.origin)
    own.write_text(OWN + "\n")
    assert "has changed since" in refusal(rebuild, opened.origin, path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "fails at mynet.py:15: ValueError: no such thing"),
        ("leaves", "SystemExit"),
        ("number", "gives 3 (int); expected a torch module"),
        ("bild", "has no 'bild'; did you mean 'build'?"),
    ],
)
def test_errors_of_a_file_of_ones_own_are_one_line_with_its_place(own, name, words):
    message = refusal(open_source, f"{own}:{name}")
    assert words in message
    assert "\n" not in message


def test_a_file_that_cannot_be_run_or_is_not_there_says_so(own):
    own.write_text("x = 1\nimport nowhere_at_all\n")
    assert "mynet.py:2: ModuleNotFoundError" in refusal(open_source, f"{own}:build")
    own.write_text("def build(:\n")
    assert "mynet.py:1: SyntaxError" in refusal(open_source, f"{own}:build")
    assert "does not exist" in refusal(open_source, f"{own.parent}/none.py:build")
    assert "names no function" in refusal(open_source, str(own))


def test_weights_that_do_not_fit_ones_own_network_are_told_by_key(own):
    path = save(own.parent / "ckpt.pth", {"0.weight": torch.ones(4, 3, 3, 3)})
    message = refusal(open_source, f"{own}:build", weights=path)
    assert "nothing fills 0.bias (4,)" in message
