"""Files as trainings and downloads leave them: what is read, what is refused, in which words."""

import argparse
import collections
import datetime
import enum
import gzip
import io
import os
import pathlib
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import converters
from converters.random_weights import random_state_dict
from gaxjax.common import UserError


class Colour(enum.Enum):
    RED = 1


@pytest.fixture(scope="module")
def plain():
    """A small_resnet's tensors."""
    arrays = random_state_dict("small_resnet", size=32)
    return {key: torch.tensor(value) for key, value in arrays.items()}


def averaged(tensors):
    return {
        key: value + 1 if value.is_floating_point() else value for key, value in tensors.items()
    }


def save(path, content, **settings):
    torch.save(content, path, **settings)
    return path


def under(prefix, tensors):
    return {prefix + key: value for key, value in tensors.items()}


def is_plain(weights, tensors):
    assert weights.arrays.keys() == tensors.keys()
    return all(np.array_equal(array, tensors[key]) for key, array in weights.arrays.items())


def refusal(path, **settings):
    with pytest.raises(UserError) as caught:
        converters.read_weights(path, **settings)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# --- what stands beside weights, and code ------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_weights_beside_classes_of_others_are_read_and_the_classes_named(tmp_path, plain, old):
    beside = {
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(93.2),
        "callbacks": collections.defaultdict(list, {"a": [1]}),
        "queue": collections.deque([1]),
        "folder": pathlib.PurePosixPath("/data"),
        "when": datetime.datetime(2020, 1, 1),
        "colour": Colour.RED,
        "rng": np.random.default_rng(0),
    }
    path = tmp_path / "w.pth"
    save(path, {"state_dict": plain, **beside}, _use_new_zipfile_serialization=not old)
    weights = converters.read_weights(path)
    assert is_plain(weights, plain)
    (note,) = weights.notes
    assert note.startswith("left aside, and none of its code was run: args (argparse.Namespace)")
    assert "when (datetime.datetime)" in note


def test_other_pickle_protocols_are_read(tmp_path, plain):
    content = {"model": plain, "args": argparse.Namespace()}
    for protocol in (2, 4, 5):
        path = save(tmp_path / f"{protocol}.pth", content, pickle_protocol=protocol)
        assert is_plain(converters.read_weights(path), plain)


class Attack:
    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, exec, pathlib.Path.mkdir])
def test_no_code_of_a_file_ever_runs(tmp_path, plain, function, old):
    made = tmp_path / "made"
    argument = {os.mkdir: str(made), os.system: f"mkdir {made}", pathlib.Path.mkdir: made}
    attack = Attack(function, argument.get(function, f"__import__('os').mkdir({str(made)!r})"))
    path = tmp_path / "w.pth"
    save(path, {"model": plain, "x": attack}, _use_new_zipfile_serialization=not old)
    if function is pathlib.Path.mkdir:
        assert is_plain(converters.read_weights(path), plain)  # by its name no attack
    else:
        assert "as an attack does" in refusal(path)
    assert not made.exists()
    torch.load(path, weights_only=False)  # which runs it
    assert made.exists()


def test_a_file_that_is_refused_does_not_spoil_the_next(tmp_path, plain):
    at, values = torch.tensor([[-5]]), torch.ones(1)
    sparse = torch.sparse_coo_tensor(at, values, (9,), check_invariants=False)
    save(tmp_path / "bad.pth", {"model": {"w": sparse}, "x": Attack(os.mkdir, "made")})
    assert refusal(tmp_path / "bad.pth")
    assert is_plain(converters.read_weights(save(tmp_path / "good.pth", plain)), plain)


def test_a_pickle_cannot_alter_torchs_functions_or_classes(tmp_path, plain):
    path = save(tmp_path / "w.pth", {"model": plain, "args": argparse.Namespace()})
    # BUILD with a state of slots sets attributes on whatever a name stands for.
    state = (None, {"__defaults__": (1, 2, 3)})
    name = b"ctorch._utils\n_rebuild_tensor_v2\n"
    poison = name + pickle.dumps(state, 2)[2:-1] + b"b0"
    with zipfile.ZipFile(path) as archive:
        records = {record: archive.read(record) for record in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for record, content in records.items():
            if record.endswith("data.pkl"):
                content = content[:2] + poison + content[2:]
            archive.writestr(record, content)
    before = torch._utils._rebuild_tensor_v2.__defaults__
    assert is_plain(converters.read_weights(path), plain)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


def test_whole_models_are_named_by_their_class(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    bare = refusal(save(tmp_path / "whole.pth", model))
    assert "a pickled torch.nn.modules.container.Sequential" in bare
    wrapped = refusal(save(tmp_path / "wrapped.pth", {"model": model, "epoch": 3}))
    assert "model is a torch.nn.modules.container.Sequential" in wrapped
    assert "torch.save(model.state_dict(), FILE)" in wrapped


# --- which weights -----------------------------------------------------------------------------


def ema_files(plain):
    ema = averaged(plain)
    both = {**under("model.", plain), **under("ema_model.module.", ema)}
    return {
        "timm": {"state_dict": plain, "state_dict_ema": ema},
        "torchvision": {
            "model": plain,
            "model_ema": {"n_averaged": torch.tensor(5), **under("module.", ema)},
        },
        "in one dictionary": {"state_dict": both | {"ema_model.n_averaged": torch.tensor(3)}},
        "a callback's": {
            "state_dict": under("net.", plain),
            "callbacks": {"EMACallback": {"ema_state_dict": ema}},
        },
        "Lightning's WeightAveraging": {"state_dict": ema, "current_model_state": plain},
    }


@pytest.mark.parametrize("name", ema_files({"a": torch.zeros(1)}))
def test_of_plain_and_averaged_weights_the_plain_are_taken_and_said_and_ema_takes_the_others(
    tmp_path, plain, name
):
    path = save(tmp_path / "w.pth", ema_files(plain)[name])
    weights = converters.read_weights(path)
    assert is_plain(weights, plain)
    assert "--ema takes those" in weights.assumptions["weights"]
    weights = converters.read_weights(path, ema=True)
    assert is_plain(weights, averaged(plain))
    assert not weights.assumptions
    assert "were taken, as told" in weights.notes[0] + weights.notes[-1]


def test_averaged_weights_alone_are_taken_and_said_and_none_are_refused(tmp_path, plain):
    alone = {"n_averaged": torch.tensor(5), **under("module.", plain)}
    weights = converters.read_weights(save(tmp_path / "a.pth", alone))
    assert is_plain(weights, plain)
    assert "the only ones in the file" in weights.assumptions["weights"]
    message = refusal(save(tmp_path / "b.pth", {"state_dict": plain}), ema=True)
    assert "no averaged weights" in message


def test_of_several_equal_candidates_none_is_chosen(tmp_path, plain):
    other = averaged(plain)
    files = {
        "model, state_dict": {"model": plain, "state_dict": other},
        "student.*, teacher.*": under("student.", plain) | under("teacher.", other),
        "netG, netD": {"netG": {"0.weight": torch.ones(2)}, "netD": {"0.weight": torch.zeros(2)}},
    }
    for named, content in files.items():
        message = refusal(save(tmp_path / "w.pth", content))
        assert f"nothing says which is meant: {named}; save the one" in message
    # The mend that the message gives is one.
    chosen = {
        key.removeprefix("student."): value
        for key, value in files["student.*, teacher.*"].items()
        if key.startswith("student.")
    }
    assert is_plain(converters.read_weights(save(tmp_path / "w.pth", chosen)), plain)
    twice = save(tmp_path / "w.pth", {"model": plain, "state_dict": dict(plain)})
    assert is_plain(converters.read_weights(twice), plain)


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["resnet.", "backbone.", "_orig_mod.module.", "a.b.c.", "1."])
def test_any_prefix_that_all_keys_share_goes(tmp_path, plain, prefix):
    path = save(tmp_path / "w.pth", under(prefix, plain))
    assert is_plain(converters.read_weights(path), plain)


def test_a_loss_and_metrics_beside_the_network_are_left_out_and_said(tmp_path, plain):
    for prefix in ("", "model."):
        beside = {"criterion.weight": torch.ones(7), "train_acc.tp": torch.tensor(3)}
        content = under(prefix, plain) | beside
        weights = converters.read_weights(save(tmp_path / "w.pth", content))
        assert is_plain(weights, plain)
        assert weights.notes == (
            "left out, as no part of the network: criterion.weight, train_acc.tp",
        )


def test_layers_beside_the_network_are_refused_by_name(tmp_path, plain):
    content = under("encoder.", plain) | {"head.weight": torch.ones(4, 64)}
    assert "head.weight (4, 64)" in refusal(save(tmp_path / "w.pth", content))


@pytest.mark.parametrize("shape", [(3,), (1, 3, 1, 1)])
@pytest.mark.parametrize("names", [("normalize.", "model."), ("0.", "1."), ("", "net.")])
def test_a_normalise_layer_in_front_declares_mean_and_std(tmp_path, plain, shape, names):
    layer, network = names
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    content = under(network, plain)
    content |= {f"{layer}mean": mean.reshape(shape), f"{layer}std": std.reshape(shape)}
    weights = converters.read_weights(save(tmp_path / "w.pth", content))
    assert is_plain(weights, plain)
    assert (weights.mean, weights.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert not weights.assumptions


def test_a_normalise_layer_in_units_of_255_is_divided_and_said(tmp_path, plain):
    content = under("net.", plain)
    content |= {"mean": torch.tensor([127.5] * 3), "std": torch.tensor([51.0] * 3)}
    weights = converters.read_weights(save(tmp_path / "w.pth", content))
    assert (weights.mean, weights.std) == ((0.5,) * 3, (0.2,) * 3)
    assert "units of 0 to 255" in weights.assumptions["normalization"]


@pytest.mark.parametrize("inner", ["0", "1", "linear"])
def test_a_head_of_one_linear_layer_is_read_whatever_it_is_called_inside(tmp_path, plain, inner):
    content = {key.replace("fc.", f"fc.{inner}."): value for key, value in plain.items()}
    assert is_plain(converters.read_weights(save(tmp_path / "w.pth", content)), plain)


def test_another_head_is_refused_with_the_keys_that_are_there(tmp_path, plain):
    body = {key: value for key, value in plain.items() if not key.startswith("fc.")}
    deep = body | {"fc.0.weight": torch.ones(32, 64), "fc.2.weight": torch.ones(7, 32)}
    assert "fc.0.weight (32, 64), fc.2.weight (7, 32)" in refusal(save(tmp_path / "a.pth", deep))
    renamed = body | {"last_linear.weight": plain["fc.weight"]}
    assert "last_linear.weight (7, 64)" in refusal(save(tmp_path / "b.pth", renamed))
    assert "no classifier" in refusal(save(tmp_path / "c.pth", body))
    normed = body | {"fc.weight_g": torch.ones(7, 1), "fc.weight_v": torch.ones(7, 64)}
    assert "remove_weight_norm" in refusal(save(tmp_path / "d.pth", normed))


# --- numbers -----------------------------------------------------------------------------------


def test_float64_is_rounded_and_said_once_where_that_changes_anything(tmp_path, plain):
    def doubled(by):
        return {k: v.double() + by if v.is_floating_point() else v for k, v in plain.items()}

    exact = converters.read_weights(save(tmp_path / "a.pth", doubled(0.0)))
    assert is_plain(exact, plain)
    assert not exact.assumptions
    rounded = converters.read_weights(save(tmp_path / "b.pth", doubled(1e-12)))
    assert rounded.arrays["conv1.weight"].dtype == np.float32
    assert "are float64 in the file: rounded to float32" in rounded.assumptions["rounding"]
    huge = plain | {"fc.bias": plain["fc.bias"].double() + 1e300}
    assert "fc.bias is float64 and holds values beyond" in refusal(save(tmp_path / "c.pth", huge))


STRANGE = {
    "sparse": (lambda t: t.to_sparse(), "v.to_dense()"),
    "complex64": (lambda t: t + 0j, "v.real"),
    "float8_e4m3fn": (lambda t: t.to(torch.float8_e4m3fn), "v.float()"),
    "meta": (lambda t: t.to("meta"), "after its weights are loaded"),
    "quantised": (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "v.dequantize()"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_without_plain_values_are_named_with_the_mend(tmp_path, plain, kind):
    change, mend = STRANGE[kind]
    path = save(tmp_path / "w.pth", plain | {"fc.weight": change(plain["fc.weight"])})
    message = refusal(path)
    assert f"1 of {len(plain)} tensors are" in message
    assert kind in message
    assert "(fc.weight)" in message
    assert mend in message


def test_views_that_wait_for_their_sign_are_resolved(tmp_path, plain):
    negative = (1j * -plain["fc.bias"]).conj().imag
    assert negative.is_neg()
    path = save(tmp_path / "w.pth", plain | {"fc.bias": negative})
    assert is_plain(converters.read_weights(path), plain)


def test_integers_and_negative_variances_are_refused_in_a_line(plain):
    arrays = {key: value.numpy() for key, value in plain.items()}
    wrong = {key: value.astype(np.int8) for key, value in arrays.items()}
    with pytest.raises(UserError, match=r"bn1\.bias and \d+ more are int8; a weight is a floating"):
        converters.convert_state_dict(wrong, "small_resnet")
    wrong = arrays | {"bn1.running_var": -arrays["bn1.running_var"]}
    with pytest.raises(UserError, match=r"bn1\.running_var holds a negative variance"):
        converters.convert_state_dict(wrong, "small_resnet")
    wrong = {key: value for key, value in arrays.items() if "running" not in key}
    with pytest.raises(UserError, match=r"\(1 fault\)\n  no norm keeps running statistics"):
        converters.convert_state_dict(wrong, "small_resnet")


def test_dictionaries_that_hold_themselves_are_walked_once(tmp_path, plain):
    content = {"model": plain}
    content["self"] = content
    assert is_plain(converters.read_weights(save(tmp_path / "a.pth", content)), plain)
    empty = {"epoch": 1}
    empty["self"] = empty
    assert "not a state dict" in refusal(save(tmp_path / "b.pth", empty))
    deep = plain
    for _ in range(100):
        deep = [deep]
    assert "not a state dict" in refusal(save(tmp_path / "c.pth", deep))


# --- other files -------------------------------------------------------------------------------


def in_zip(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def in_tar(*names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


KINDS = {
    "a web page": b"<!DOCTYPE html><html><head>sign in</head></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
    "a JPEG picture": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(200),
    "a PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(200),
    "a gzip archive": gzip.compress(b"weights"),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "an ONNX model": b"\x08\x08\x12\x07pytorch\x1a\x051.9.0" + bytes(200),
    "a MessagePack file": b"\x81\xa6params\x81\xa6kernel\xc0",
    "nothing but zeros": bytes(3000),
    "a plain pickle": pickle.dumps({"conv1.weight": [1.0]}),
    "a text that begins": b"epoch,loss\n1,0.3\n2,0.2\n",
    "a NumPy archive": in_zip("conv1.weight.npy"),
    "a TorchScript archive": in_zip("net/data.pkl", "net/constants.pkl", "net/code/net.py"),
    "a ZIP archive of other things (cat.jpg)": in_zip("cat.jpg"),
    "a Keras model": in_zip("config.json", "model.weights.h5"),
    "in torch's oldest format": in_tar("sys_info", "pickle", "storages", "tensors"),
    "a tar archive (net/w.pth)": in_tar("net/w.pth"),
}


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "unknown"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, kind, suffix):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(KINDS[kind])
    message = refusal(path)
    assert f"is {kind}" in message
    assert "; " in message  # and the mend


def test_weights_are_known_by_their_bytes_not_by_their_names(tmp_path, plain):
    save_file(plain, tmp_path / "safe.pth")
    save(tmp_path / "torch.pt", plain).rename(tmp_path / "torch.safetensors")
    save(tmp_path / "w.pkl", {"model": plain})
    for name in ("safe.pth", "torch.safetensors", "w.pkl"):
        assert is_plain(converters.read_weights(tmp_path / name), plain)


# --- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_flipped_bit_is_found_by_the_records_checksum(tmp_path, plain, share):
    path = save(tmp_path / "w.pth", plain)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        records = [record for record in archive.infolist() if record.file_size > 500]
    record = records[int(share * len(records))]
    content[record.header_offset + 300 + len(record.filename)] ^= 4
    path.write_bytes(content)
    assert f"its record {record.filename} is not what was written" in refusal(path)


def test_a_file_written_without_checksums_is_not_called_damaged(tmp_path, plain):
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "w.pth", plain)
    finally:
        torch.serialization.set_crc32_options(True)
    assert is_plain(converters.read_weights(path), plain)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(24, "Too many open files"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_a_file_is_not_called_damaged_because_memory_or_handles_ran_out(
    tmp_path, plain, monkeypatch, error
):
    def fails(*arguments, **keywords):
        raise error

    path = save(tmp_path / "w.pth", plain)
    monkeypatch.setattr(torch, "load", fails)
    message = refusal(path)
    assert "cannot read" in message
    assert "the file may be whole" in message
