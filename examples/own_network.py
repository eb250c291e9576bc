"""A network of one's own: a plain JAX function, trained for seconds, explained by GAX and by AX.

    python examples/own_network.py

It needs no download: the images are scikit-learn's handwritten digits. The network is made of
`gaxjax.ops`, so that the attribution methods which change a gradient work on it as well.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import gaxjax
from gaxjax import ops

CHANNELS = (3, 16, 32, 64)
NUM_CLASSES = 10


def network(weights: Any, images: jax.Array) -> jax.Array:
    """Return logits [B, 10] of images [B, 16, 16, 3] in [0, 1]."""
    features = images
    for kernel, bias in weights["convolutions"]:
        features = ops.relu(ops.convolution(features, kernel, bias, padding=((1, 1), (1, 1))))
        features = ops.max_pool(features, window=(2, 2), strides=(2, 2))
    return features.reshape(len(features), -1) @ weights["head"]


def initial_weights(seed: int = 0) -> Any:
    """Draw the weights by He's rule."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        fan_in = np.prod(shape[:-1])
        return jnp.asarray(random.normal(0, np.sqrt(2 / fan_in), shape), jnp.float32)

    convolutions = [
        (draw(3, 3, few, many), jnp.zeros(many)) for few, many in itertools.pairwise(CHANNELS)
    ]
    return {"convolutions": convolutions, "head": draw(2 * 2 * CHANNELS[-1], NUM_CLASSES)}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the digits, float32 [1797, 16, 16, 3] in [0, 1], and their labels [1797]."""
    found = load_digits()
    images = np.repeat(np.repeat(found.images / 16, 2, axis=1), 2, axis=2)
    return np.repeat(images[..., None], 3, axis=-1).astype(np.float32), found.target


def train(images: np.ndarray, labels: np.ndarray, *, epochs: int = 8) -> Any:
    """Train by Adam on cross-entropy, in batches of 64; return the weights."""
    adam = optax.adam(3e-3)

    def loss(weights: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = network(weights, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(weights: Any, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
        gradients = jax.grad(loss)(weights, images, labels)
        updates, state = adam.update(gradients, state)
        return optax.apply_updates(weights, updates), state

    weights = initial_weights()
    state = adam.init(weights)
    random = np.random.default_rng(0)
    for _ in range(epochs):
        for rows in np.array_split(random.permutation(len(images)), len(images) // 64):
            rows = rows[:64]  # of one length, so that the step is compiled once
            weights, state = step(weights, state, images[rows], labels[rows])
    return weights


def main(*, epochs: int = 8, num_images: int = 32) -> None:
    """Train on three quarters of the digits, explain some of the others."""
    images, labels = digits()
    held_out = np.arange(len(images)) % 4 == 3
    weights = train(images[~held_out], labels[~held_out], epochs=epochs)

    # The weights travel as arguments; a bare `lambda images: network(weights, images)` works too.
    model = jax.tree_util.Partial(network, weights)
    images, labels = images[held_out], labels[held_out]
    correct = np.asarray(model(jnp.asarray(images))).argmax(-1) == labels
    print(f"{correct.mean():.1%} of {len(images)} held-out digits correct")

    images, labels = images[:num_images], labels[:num_images]
    config = gaxjax.GaxConfig(bias=True)  # digits are mostly black, and only the bias moves black
    solutions = gaxjax.explain(model, images, labels, config)
    print("GAX:", solutions)
    print(f"  updates: median {np.median(solutions.steps[solutions.steps >= 0]):.0f}")
    before, after = solutions.probability_before, solutions.probability_after
    print(f"  probability, right class: {np.nanmean(before):.3f}, then {np.nanmean(after):.3f}")

    # Grad-CAM needs layers with names, which a Flax NNX module has and a function has not.
    methods = ("saliency", "guided_backprop", "deep_lift")
    found = gaxjax.attribute(model, images, labels, gaxjax.AxConfig(methods=methods))
    print("AX: median CO score")
    for (method, _, operation), scored in found.items():
        print(f"  {method:<16} {operation:<4} {np.nanmedian(scored.co_score):7.2f}")


if __name__ == "__main__":
    main()
