"""Optimisers by name: torch's on the same gradients, and each image's by itself."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import torch

from gaxjax.common.errors import UserError
from gaxjax.config.methods import GaxConfig
from gaxjax.config.optimizers import OPTIMIZERS
from gaxjax.gax.lane import optimizer
from gaxjax.reference.gax import reference_gax, torch_optimizer
from gaxjax.results.solution import Outcome

SAME = {
    "adam": ((), ("eps_root=0",)),
    "adamw": ((), ("weight_decay=0.03", "b1=0.8")),
    "sgd": ((), ("momentum=0.9",), ("momentum=0.9", "nesterov=true")),
    "rmsprop": (
        ("eps_in_sqrt=false", "decay=0.99"),
        ("eps_in_sqrt=false", "momentum=0.9", "eps=1e-3"),
        ("eps_in_sqrt=false", "centered=true"),
    ),
}
CASES = [(name, given) for name, cases in SAME.items() for given in cases]


@pytest.mark.parametrize(("name", "given"), CASES)
def test_the_same_gradients_move_w_as_torchs_optimiser_does(name, given):
    config = GaxConfig(optimizer=name, optimizer_arguments=given, learning_rate=0.03)
    random = np.random.default_rng(0)
    start = random.normal(size=(4, 5, 3))
    gradients = random.normal(size=(30, 4, 5, 3)) * 10.0 ** random.integers(-3, 3, size=(4, 5, 3))
    w = torch.tensor(start, requires_grad=True)
    theirs = torch_optimizer(config, [w])
    with jax.enable_x64(True):
        weights = {"w": jnp.asarray(start)}
        state = optimizer(config).init(weights)
        for gradient in gradients:
            w.grad = torch.tensor(gradient)
            theirs.step()
            updates, state = optimizer(config).update({"w": jnp.asarray(gradient)}, state, weights)
            weights = optax.apply_updates(weights, updates)
        # Measured 2e-15.
        np.testing.assert_allclose(weights["w"], w.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("rmsprop", (), "but with eps_in_sqrt=false"),
        ("adam", ("nesterov=true",), "but with nesterov=false"),
        ("lion", (), "optax's lion does$"),
    ],
)
def test_torch_is_not_asked_for_an_optimiser_that_does_something_else(name, given, said):
    config = GaxConfig(optimizer=name, optimizer_arguments=given)
    with pytest.raises(UserError, match=said):
        torch_optimizer(config, [torch.zeros(3, requires_grad=True)])


def test_rmsprops_default_in_optax_is_not_torchs():
    """Where gradients are tiny, eps under the root is larger than beside it."""
    moves = []
    for given in ((), ("eps_in_sqrt=false",)):
        made = optimizer(GaxConfig(optimizer="rmsprop", optimizer_arguments=given))
        weights = {"w": jnp.ones(1)}
        updates, _ = made.update({"w": jnp.full(1, 1e-6)}, made.init(weights), weights)
        moves.append(float(updates["w"][0]))
    assert abs(moves[0]) < 0.1 * abs(moves[1])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_argument_is_one_of_optaxs(name):
    known = inspect.signature(getattr(optax, name)).parameters
    assert set(OPTIMIZERS[name]) <= set(known) - {"learning_rate"}
    for argument, kind in OPTIMIZERS[name].items():
        usual = known[argument].default
        assert usual is None or kind.holds(usual), argument
        assert isinstance(usual, bool) == (kind.expected == "true or false"), argument


RATES = {"sgd": 0.003, "lion": 0.03}
PIXELS = tiny.images(10)
CLASSIFIER = tiny.classifier()
LABELS = tiny.predictions(PIXELS, CLASSIFIER)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("sgd", "lion") else pytest.param(name, marks=pytest.mark.slow)
        for name in OPTIMIZERS
    ],
)
def test_every_optimiser_raises_scores_and_no_neighbour_changes_that(name):
    gax = GaxConfig(optimizer=name, learning_rate=RATES.get(name, 0.1), target=60.0, max_steps=80)
    found, _ = tiny.solve(PIXELS, LABELS, gax, slots=8)
    reached = [one for one in found.values() if one.outcome is Outcome.REACHED]
    assert len(reached) >= 8
    assert max(one.steps for one in reached) > 2
    some = [7, 2, 5, 9, 0]
    alone, _ = tiny.solve(PIXELS, LABELS, gax, slots=8, order=some)
    for index in some:
        assert alone[index].steps == found[index].steps
        np.testing.assert_allclose(alone[index].curve, found[index].curve, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        case
        if case == (case[0], SAME[case[0]][-1])
        else pytest.param(*case, marks=pytest.mark.slow)
        for case in CASES
        if case[1]
    ],
)
def test_the_torch_loop_takes_the_same_steps(name, given):
    gax = GaxConfig(
        optimizer=name,
        optimizer_arguments=given,
        learning_rate=RATES.get(name, 0.1),
        target=60.0,
        max_steps=40,
    )
    found, _ = tiny.solve(PIXELS[:3], LABELS[:3], gax, slots=4)
    for index, solution in found.items():
        image = PIXELS[index].astype(np.float32) / 255
        scale = {"mean": tiny.MEAN, "std": tiny.STD}
        theirs = reference_gax(_TinyInTorch(), image, int(LABELS[index]), gax, **scale)
        assert solution.steps == theirs.steps
        # Scores to 60; measured 2e-3.
        np.testing.assert_allclose(solution.curve, theirs.curve, atol=0.05)


class _TinyInTorch(torch.nn.Module):
    """The tiny net in torch."""

    def __init__(self):
        super().__init__()
        for number, weight in enumerate(tiny.weights()):
            array = np.asarray(weight)
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            self.register_parameter(f"w{number}", torch.nn.Parameter(torch.tensor(array)))

    def forward(self, images):
        x = torch.relu(torch.nn.functional.conv2d(images, self.w0, stride=2, padding=1))
        x = torch.relu(torch.nn.functional.conv2d(x, self.w1, padding=1))
        return x.permute(0, 2, 3, 1).reshape(len(x), -1) @ self.w2
