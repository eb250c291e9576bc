"""`gaxjax convert` of networks that are not written by hand here: what it prints and refuses."""

import pytest
import torch
from torch import nn

from gaxjax.cli.main import main

OWN = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, 3))

def broken():
    return 1 / 0
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "mynet.py").write_text(OWN)
    torch.manual_seed(0)
    trained = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    torch.save({"model": trained.state_dict(), "epoch": 3}, tmp_path / "ckpt.pth")
    return tmp_path


def test_a_network_of_ones_own_is_converted_and_what_was_run_and_compared_is_said(own, capsys):
    words = ["convert", f"{own}/mynet.py:build", "--weights", f"{own}/ckpt.pth"]
    words += ["--input-size", "16", "--normalization", "none", "--output", f"{own}/own.ckpt"]
    assert main(words) == 0
    said = capsys.readouterr()
    text = " ".join((said.out + said.err).split())
    assert f"{own}/mynet.py was run, which builds the network" in text
    assert "mynet.py:build, 3 classes, no normalisation" in text
    assert "Compared with the module itself (mynet.py:build) on images of 16 pixels" in text
    assert (own / "own.ckpt" / "graph.json").is_file()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("mynet.py:broken", "broken() of {own}/mynet.py fails at mynet.py:9: ZeroDivisionError"),
        ("mynet.py:bild", "has no 'bild'; did you mean 'build'?"),
        ("none.py:build", "none.py does not exist"),
        ("mynet.py", "names no function"),
        ("ckpt.pth", "the network is not known by its 4 keys"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_status_2(own, capsys, source, words):
    assert main(["convert", f"{own}/{source}", "--output", f"{own}/x"]) == 2
    error = capsys.readouterr().err
    assert words.format(own=own) in error
    assert "Traceback" not in error
    assert not (own / "x").exists()


def test_flags_that_contradict_a_source_are_refused(own, capsys):
    for words, told in (
        ([f"{own}/mynet.py:build", "--architecture", "resnet18"], "is for a file of weights"),
        (["efficientnet_b0", "--architecture", "resnet18"], "contradicts the torchvision name"),
        ([f"{own}/ckpt.pth", "--weights", f"{own}/ckpt.pth"], "is a file of weights itself"),
        (["timm:resnet18", "--ema"], "--ema is for a torch file"),
    ):
        assert main(["convert", *words, "--output", f"{own}/x"]) == 2
        assert told in capsys.readouterr().err
