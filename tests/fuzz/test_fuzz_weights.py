"""Files that are nearly weights: the network that they hold, or a line that says what."""

import argparse
import datetime
import io
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import TEXTS, fuzz, user_errors
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors

from converters import convert_state_dict, guess_architecture, read_state_dict, torch_state_dict
from converters.random_weights import random_state_dict

STATE = {
    name: torch.tensor(array)
    for name, array in random_state_dict("small_resnet", num_classes=3).items()
}
PLAIN = {name: tensor.numpy() for name, tensor in STATE.items()}


def _saved(value, **options) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


FILES = (
    _saved(STATE),
    _saved({"state_dict": STATE, "epoch": 3}),
    _saved(STATE, _use_new_zipfile_serialization=False),
    save_safetensors(STATE),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@st.composite
def damaged(draw):
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        near = st.integers(0, 300) | st.integers(max(len(data) - 4000, 0), len(data))
        at = min(draw(near | st.integers(0, len(data))), max(len(data) - 1, 0))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "end", "fill"]))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 200))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        elif kind == "fill":
            data[at : at + 4] = b"\xff" * 4
        else:
            del data[at:]
    return bytes(data)


@fuzz(
    250,
    data=damaged() | st.binary(max_size=60),
    suffix=st.sampled_from([".pth", ".safetensors", ".pt", ".bin", ".ckpt", ""]),
)
def test_a_damaged_file_is_refused_or_read(folder, data, suffix):
    path = folder / f"model{suffix}"
    path.write_bytes(data)
    with user_errors():
        read_state_dict(path)


def _other(draw, key, tensor):
    """One tensor of a state dict, changed in a way that a training or a mistake may leave."""
    return draw(
        st.sampled_from(
            [
                lambda: tensor.double(),
                lambda: tensor.half(),
                lambda: tensor.to(torch.bfloat16),
                lambda: tensor.to(torch.int32),
                lambda: tensor.to(torch.complex64),
                lambda: tensor.unsqueeze(0),
                lambda: tensor.flatten(),
                lambda: tensor.to_sparse() if tensor.ndim else tensor,
                lambda: tensor.to("meta"),
                lambda: (
                    torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor
                ),
                lambda: -tensor.abs() - 1 if tensor.is_floating_point() else tensor,
                lambda: torch.empty(0),
                lambda: tensor.requires_grad_(False).t() if tensor.ndim == 2 else tensor,
                lambda: (
                    torch.nn.Parameter(tensor.clone()) if tensor.is_floating_point() else tensor
                ),
                lambda: tensor.to(torch.float8_e4m3fn) if tensor.is_floating_point() else tensor,
            ]
        )
    )()


@st.composite
def variants(draw):
    """(what is saved, whether nothing but the wrapping was changed)."""
    state, plain = dict(STATE), True
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(sorted(state)))
        kind = draw(st.sampled_from(["drop", "change", "rename", "add"]))
        plain = False
        if kind == "drop":
            del state[key]
        elif kind == "change":
            state[key] = _other(draw, key, state[key])
        elif kind == "rename":
            state[draw(TEXTS)] = state.pop(key)
        else:
            state[draw(TEXTS | st.sampled_from(["n_averaged", "criterion.weight", "iter"]))] = (
                torch.ones(2)
            )
    prefix = draw(st.sampled_from(["", "module.", "model.", "net.backbone.", "encoder.", "x.y.z."]))
    state = {prefix + key: tensor for key, tensor in state.items()}
    beside = st.sampled_from(
        [
            {},
            {"epoch": 3},
            {"args": argparse.Namespace(lr=0.1)},
            {"best": np.float64(0.9), "when": datetime.datetime(2020, 1, 1)},
            {"path": Path("runs") / "x", "scheduler": OrderedDict(step=3)},
            {
                "optimizer": {
                    "state": {0: {"exp_avg": torch.ones(3)}},
                    "param_groups": [{"lr": 1.0}],
                }
            },
        ]
    )
    wrapper = draw(st.sampled_from([None, "state_dict", "model_state_dict", "model", "net"]))
    saved = {wrapper: state, **draw(beside)} if wrapper else OrderedDict(state)
    return saved, plain


@pytest.mark.slow
@fuzz(80, drawn=variants())
def test_what_converts_is_the_network_that_the_file_holds(folder, drawn):
    saved, plain = drawn
    path = folder / "variant.pth"
    try:
        torch.save(saved, path)
    except (RuntimeError, NotImplementedError, TypeError, UnicodeEncodeError):
        return  # torch itself does not save it
    worked = False
    with user_errors():
        state_dict = read_state_dict(path)
        architecture = guess_architecture(state_dict)
        model = convert_state_dict(state_dict, architecture)
        for name, array in torch_state_dict(model, architecture).items():
            if not name.endswith("num_batches_tracked"):
                np.testing.assert_allclose(array, state_dict[name], rtol=1e-6)
        worked = True
    assert worked or not plain, "an ordinary training's file was refused"
