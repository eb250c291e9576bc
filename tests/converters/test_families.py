"""The four hand-written families, imported as graphs: the same numbers, and where not, why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from converters import convert_state_dict, import_module, random_state_dict, torch_model
from gaxjax.ax.layers import tap
from gaxjax.models import GraphNetwork, fold_batch_norm

SIZE = 64
FAMILIES = {"squeezenet1_0": "features"}
SLOW = {
    "resnet18": "layer4",
    "alexnet": "features",
    "vgg11_bn": "features",
    "resnext50_32x4d": "layer4",
}


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [*FAMILIES.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())],
)
def test_an_imported_family_computes_what_the_hand_written_network_does(architecture, layer):
    weights = random_state_dict(architecture)
    written = fold_batch_norm(convert_state_dict(weights, architecture))
    found = import_module(torch_model(architecture, 7, True, weights), size=SIZE)
    imported = fold_batch_norm(GraphNetwork(found.graph, found.weights))
    image = jax.random.uniform(jax.random.key(0), (1, SIZE, SIZE, 3))

    outputs = tap(written, {layer: None})
    logits = np.asarray(written(image))
    theirs, taps = imported.run(image, {layer: None})
    # Convolutions, pools and norms are the same calls: not a bit differs.
    np.testing.assert_array_equal(np.asarray(taps[layer]), np.asarray(outputs[layer]))
    # A linear layer keeps torch's weight, [O, I], and the hand-written one its transpose: XLA's
    # matrix product adds up in another order. Measured: 0 (SqueezeNet, which has none), 2e-7
    # (ResNet18), 1.5e-6 (AlexNet), of the largest logit.
    np.testing.assert_allclose(theirs, logits, rtol=0, atol=5e-6 * np.abs(logits).max())
    assert (architecture == "squeezenet1_0") <= np.array_equal(theirs, logits)


@pytest.mark.slow
def test_the_gradient_through_convolutions_is_the_same_to_the_bit():
    weights = random_state_dict("squeezenet1_0")
    written = convert_state_dict(weights, "squeezenet1_0")
    found = import_module(torch_model("squeezenet1_0", 7, True, weights), size=SIZE)
    imported = GraphNetwork(found.graph, found.weights)
    image = jax.random.uniform(jax.random.key(0), (1, SIZE, SIZE, 3))

    def gradient(network):
        return jax.jit(jax.grad(lambda image: jnp.sum(network(image)[0, :3])))(image)

    np.testing.assert_array_equal(gradient(written), gradient(imported))
