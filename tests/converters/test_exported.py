"""The importer: what it makes of modules, what it leaves alone, what it refuses."""

import copy
import dataclasses
import subprocess
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from imported_modules import (
    SIZE,
    TOLERANCE,
    Applied,
    agrees,
    convolution,
    head,
    operations,
    pooled,
    refusal,
)
from torch import nn

from converters.exported import import_module, import_program
from gaxjax.models import GraphNetwork, Value


def test_a_network_is_imported_with_its_weights_layers_and_classes():
    module = nn.Sequential(convolution(), nn.BatchNorm2d(4), nn.ReLU(inplace=True), head())
    imported = import_module(module, size=(SIZE, SIZE))
    graph = imported.graph
    assert operations(imported) == ["conv2d", "batch_norm", "relu", "view", "linear"]
    assert graph.image == (3, SIZE, SIZE)
    assert graph.output == graph.layers["3.1"] == graph.layers["3"] == "linear"
    assert graph.classes["2"] == "ReLU"
    assert {"0.weight", "1.running_var", "3.1.bias"} <= imported.weights.keys()
    kernel = module[0].weight.detach().numpy()
    np.testing.assert_array_equal(imported.weights["0.weight"], kernel.transpose(2, 3, 1, 0))
    assert imported.notes == ()
    agrees(module, imported)


def test_batch_norm_keeps_six_arguments():
    module = nn.Sequential(nn.BatchNorm2d(3, eps=0.25, affine=False), head(features=192))
    norm = import_module(module, size=SIZE).graph.nodes[0]
    assert norm.operation == "batch_norm"
    assert norm.arguments[1:3] == (None, None)
    assert norm.arguments[5:] == (0.25,)
    agrees(module, import_module(module, size=SIZE))


def test_the_module_stays_as_it_was():
    module = nn.Sequential(convolution(), nn.BatchNorm2d(4), nn.Dropout(), head())
    module[1].eval()
    calls = []
    module[0].register_forward_hook(lambda *_: calls.append(1))
    for parameter in module[3].parameters():
        parameter.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    hooks, modes = dict(module[0]._forward_hooks), [m.training for m in module.modules()]
    state = torch.get_rng_state()
    imported = import_module(module, size=SIZE)
    assert [m.training for m in module.modules()] == modes
    assert module[0]._forward_hooks == hooks
    assert all(p.grad is None for p in module.parameters())
    assert [p.requires_grad for p in module.parameters()] == [True] * 4 + [False] * 2
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        module[3][1].weight.zero_()
    assert np.abs(imported.weights["3.1.weight"]).max() > 0


def test_a_table_made_at_the_first_run_is_part_of_the_network():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.zeros(1, 1), persistent=False)

        def forward(self, x):
            if self.table.shape != x.shape[2:]:
                self.table = torch.arange(x.shape[2] * x.shape[3] * 1.0).view(x.shape[2:])
            return pooled(x * self.table)

    module = nn.Sequential(Positions())
    table = module[0].table
    imported = import_module(module, size=SIZE)
    assert module[0].table is table
    assert torch.equal(table, torch.zeros(1, 1))
    agrees(module, imported)


def test_a_refused_module_stays_as_it_was_too():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += x.sum()
            return pooled(x)

    module = Counting()
    message = refusal(module)
    assert "changes its buffer seen" in message
    assert module.training
    assert float(module.seen) == 0


@pytest.mark.slow
def test_two_imports_are_equal_in_any_process():
    code = (
        "from tests.converters.test_exported import *\n"
        "print(import_module(repeatable(), size=SIZE).graph.digest)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    first, second = (import_module(repeatable(), size=SIZE) for _ in range(2))
    assert first.graph == second.graph
    assert list(first.weights) == list(second.weights)
    assert run.stdout.strip() == first.graph.digest


def repeatable() -> nn.Module:
    """Return a module with computed constants, shared modules and dead branches."""
    norm = nn.utils.parametrizations.weight_norm

    def forward(x, conv, relu, dead):
        y = relu(conv(x)) + torch.arange(4.0).reshape(1, 4, 1, 1).sin()
        return {"logits": pooled(relu(y)), "aux": pooled(dead(y))}

    torch.manual_seed(0)
    return Applied(forward, conv=norm(convolution()), relu=nn.ReLU(), dead=convolution(4))


@dataclasses.dataclass
class Output:
    """As libraries return logits."""

    logits: torch.Tensor
    hidden: torch.Tensor


@pytest.mark.parametrize(
    ("make", "pick"),
    [
        (lambda y: (pooled(y), y), lambda made: made[0]),
        (lambda y: {"out": pooled(y), "features": y}, lambda made: made["out"]),
        (lambda y: Output(pooled(y), pooled(y) * 2), lambda made: made.logits),
        (lambda y: {"a": [{"logits": pooled(y)}], "b": pooled(y)}, lambda m: m["a"][0]["logits"]),
        (lambda y: y.mean((2, 3), keepdim=True), lambda made: made),
        (lambda y: pooled(y)[:, None], lambda made: made),
    ],
)
def test_the_logits_are_found(make, pick):
    module = Applied(lambda x, conv: make(conv(x)), conv=convolution())
    agrees(module, import_module(module, size=SIZE), pick)


def test_of_several_outputs_one_is_asked_for_and_the_rest_is_left_out():
    def forward(x, conv, main, aux):
        y = conv(x)
        return {"main": pooled(main(y)), "aux": pooled(aux(y))}

    parts = {"conv": convolution(), "main": convolution(4), "aux": convolution(4, 6)}
    module = Applied(forward, **parts)
    message = refusal(module)
    assert "main [1, 4], aux [1, 6]" in message
    assert "--logits main" in message
    assert "no such output; did you mean 'main'?" in refusal(module, logits="mian")
    imported = import_module(module, size=SIZE, logits="main")
    assert operations(imported) == ["conv2d", "conv2d", "mean"]
    assert "aux" not in imported.graph.layers
    assert not [name for name in imported.weights if name.startswith("aux")]
    agrees(module, imported, lambda made: made["main"])
    numbered = Applied(lambda x: (pooled(x), pooled(x) * 2))
    agrees(numbered, import_module(numbered, size=SIZE, logits=1), lambda made: made[1])
    assert "nothing to choose from" in refusal(nn.Sequential(convolution(), head()), logits="a")


def test_a_grey_network_takes_one_channel():
    module = nn.Sequential(convolution(1), head())
    imported = import_module(module, size=SIZE)
    assert imported.graph.image == (1, SIZE, SIZE)
    agrees(module, imported)
    assert "4 channels" in refusal(nn.Sequential(convolution(4), head()))


@pytest.mark.parametrize("squeezed", [False, True])
def test_one_logit_becomes_two_where_it_is_said(squeezed):
    def forward(x, conv):
        z = pooled(conv(x)).sum(1, keepdim=True)
        return z.squeeze(1) if squeezed else z

    module = Applied(forward, conv=convolution())
    assert "--binary" in refusal(module)
    imported = import_module(module, size=SIZE, binary=True)
    agrees(
        module,
        imported,
        lambda z: torch.stack([0 * z.reshape(-1), z.reshape(-1)], dim=1),
    )
    assert "has 5; leave it out" in refusal(nn.Sequential(convolution(), head()), binary=True)


def test_what_changes_nothing_vanishes():
    def forward(x, conv, drop):
        y = drop(conv(x)).contiguous().clone().detach().float()
        y = F.adaptive_avg_pool2d(y, SIZE).expand(-1, 4, -1, -1).view(len(x), 4, SIZE, SIZE)
        y = F.pad(F.interpolate(y, size=SIZE, mode="bilinear"), (0, 0, 0, 0))
        return pooled(y[:, :, :].permute(0, 1, 2, 3).transpose(2, -2))

    module = Applied(forward, conv=convolution(), drop=nn.Dropout(0.3))
    imported = import_module(module, size=SIZE)
    assert operations(imported) == ["conv2d", "mean"]
    agrees(module, imported)
    shifted = Applied(
        lambda x, conv: pooled(conv(x) * F.pad(x, (1, -1))[:, :1]), conv=convolution()
    )
    agrees(shifted, import_module(shifted, size=SIZE))


def test_what_no_image_reaches_is_computed_once():
    def forward(x, conv, table):
        places = torch.arange(SIZE)
        bias = table(places[:, None] - places[None].clamp(max=3) + 4).permute(2, 0, 1).softmax(-1)
        return pooled(conv(x) + bias + x.new_zeros(1) + torch.zeros_like(x)[:, :1])

    module = Applied(forward, conv=convolution(), table=nn.Embedding(12, 4))
    imported = import_module(module, size=SIZE)
    assert set(operations(imported)) == {"conv2d", "add", "mean"}
    assert {"conv.weight", "conv.bias", "constant"} <= imported.weights.keys()
    agrees(module, imported)


@pytest.mark.parametrize("kind", ["parametrized", "hooks", "spectral"])
def test_weights_that_are_made_of_others_are_stored_made(kind):
    make = {
        "parametrized": nn.utils.parametrizations.weight_norm,
        "hooks": nn.utils.weight_norm,
        "spectral": nn.utils.parametrizations.spectral_norm,
    }[kind]
    with warnings.catch_warnings():  # the older of the two ways is about to go
        warnings.simplefilter("ignore")
        module = nn.Sequential(make(convolution()), head())
    imported = import_module(module, size=SIZE)
    assert operations(imported) == ["conv2d", "view", "linear"]
    assert imported.graph.classes["0"] == "Conv2d"
    assert "0.weight" in imported.weights
    images = torch.zeros(1, 3, SIZE, SIZE)
    with torch.no_grad():
        wanted = module.eval()(images).numpy()
    given = GraphNetwork(imported.graph, imported.weights)(jnp.zeros((1, SIZE, SIZE, 3)))
    np.testing.assert_allclose(given, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())


def test_a_module_that_is_called_twice_is_the_layer_of_its_last_call():
    module = Applied(
        lambda x, conv, relu: pooled(relu(conv(relu(conv(x))))),
        conv=convolution(3, 3),
        relu=nn.ReLU(),
    )
    imported = import_module(module, size=SIZE)
    assert imported.graph.layers == {"conv": "conv2d_1", "relu": "relu_1"}
    agrees(module, imported)


def test_tied_weights_are_stored_once():
    one, other = convolution(3, 3), convolution(3, 3)
    other.weight = one.weight
    module = nn.Sequential(one, other, head(features=192))
    imported = import_module(module, size=SIZE)
    assert "0.weight" in imported.weights
    assert "1.weight" not in imported.weights
    agrees(module, imported)


def test_a_kernel_that_is_used_as_a_matrix_too_is_stored_in_both_orders():
    def forward(x, conv):
        return torch.cat([pooled(x * conv.weight), pooled(conv(x))], 1)

    module = Applied(forward, conv=nn.Conv2d(1, 1, SIZE))
    imported = import_module(module, size=SIZE)
    assert imported.weights["conv.weight"].shape == (SIZE, SIZE, 1, 1)
    assert imported.weights["conv.weight.again"].shape == (1, 1, SIZE, SIZE)
    agrees(module, imported)


def test_halves_are_imported_in_float32_and_stay_halves():
    module = nn.Sequential(convolution(), nn.BatchNorm2d(4), head()).half()
    imported = import_module(module, size=SIZE)
    assert {array.dtype.str for array in imported.weights.values()} == {"<f4"}
    assert module[0].weight.dtype == torch.float16
    agrees(module, imported)


def test_float64_stays_and_casts_are_told():
    module = Applied(lambda x, conv: pooled(conv(x).float().double()), conv=convolution()).double()
    imported = import_module(module, size=SIZE)
    assert imported.weights["conv.weight"].dtype == np.float64
    assert imported.notes == ("2 casts to another floating type left out",)


@pytest.mark.slow
def test_wrapped_modules_keep_their_paths():
    module = nn.Sequential(convolution(), nn.ReLU(), head())
    plain = import_module(module, size=SIZE)
    for wrapped in (torch.compile(module), nn.DataParallel(module)):
        again = import_module(wrapped, size=SIZE)
        assert again.graph == plain.graph
        assert list(again.weights) == list(plain.weights)
    inner = nn.Sequential(torch.compile(nn.Sequential(convolution(), nn.ReLU())), head())
    assert "0.0.weight" in import_module(inner, size=SIZE).weights
    with warnings.catch_warnings():  # torch is about to leave it
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(module.eval(), torch.zeros(1, 3, SIZE, SIZE))
    assert "TorchScript" in refusal(scripted)


def test_weights_in_another_order_of_memory_are_imported():
    module = nn.Sequential(convolution(), head()).to(memory_format=torch.channels_last)
    module[1][1].weight = nn.Parameter(module[1][1].weight.detach().t().contiguous().t())
    imported = import_module(module, size=SIZE)
    assert all(array.flags.c_contiguous for array in imported.weights.values())
    agrees(module, imported)


def test_heads_as_people_write_them_are_imported():
    module = nn.Sequential(
        convolution(),
        nn.ReLU(),
        head(nn.Dropout(0.5)),
        nn.Sequential(nn.Dropout(), nn.Linear(5, 2)),
    )
    imported = import_module(module, size=SIZE)
    assert operations(imported) == ["conv2d", "relu", "view", "linear", "linear"]
    agrees(module, imported)


def test_a_kernel_that_the_image_makes_is_turned():
    def forward(x, conv):
        kernel = x[:, :, :3, :3].mean(0, keepdim=True) * conv.weight
        return torch.cat(
            [pooled(F.conv2d(x[i : i + 1], kernel * x[i].mean())) for i in range(len(x))]
        )

    module = Applied(lambda x, conv: forward(x[:1], conv).expand(len(x), -1), conv=convolution())
    assert "mixes" in refusal(module)
    alone = Applied(
        lambda x, conv: torch.cat(
            [pooled(F.conv2d(one[None], conv.weight * one.mean())) for one in x]
        ),
        conv=convolution(),
    )
    imported = import_module(alone, size=SIZE)
    assert "permute" in operations(imported)
    agrees(alone, imported)


@pytest.mark.slow
def test_encoder_layers_are_imported_by_their_operations():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).requires_grad_(False)
    module = Applied(
        lambda x, conv, layer: layer(conv(x).flatten(2).transpose(1, 2)).mean(1),
        conv=convolution(),
        layer=layer,
    )
    imported = import_module(module, size=SIZE)
    assert "scaled_dot_product_attention" in operations(imported)
    agrees(module, imported)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_program_is_imported_as_its_module_is():
    module = nn.Sequential(convolution(), nn.ReLU(), nn.BatchNorm2d(4), head()).eval()
    image = torch.zeros(1, 3, SIZE, SIZE)
    program = torch.export.export(module, (image,))
    imported = import_program(program)
    assert imported.graph == import_module(module, size=SIZE).graph
    agrees(module, imported)
    batch = torch.export.Dim("batch", min=1, max=64)
    many = torch.export.export(
        module, (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=({0: batch},)
    )
    agrees(module, import_program(many))


def test_arguments_are_plain():
    module = nn.Sequential(convolution(), nn.MaxPool2d(2, ceil_mode=True), head(features=64))
    pool = next(n for n in import_module(module, size=SIZE).graph.nodes if "pool" in n.operation)
    assert pool.arguments[0] == Value("conv2d")
    assert pool.arguments[1:3] == ((2, 2), (2, 2))
