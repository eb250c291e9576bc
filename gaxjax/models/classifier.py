"""A frozen classifier: a pure function from weights and pixels to logits, and what it expects.

Weights travel as arguments, never closed over: a jitted function would bake them in as constants.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from gaxjax.common import Image, Images, Logits, UserError, at_least_float32, own_numbers


@dataclass(frozen=True)
class Classifier:
    """A classifier that never trains.

    Attributes:
        apply: `apply(weights, pixels) -> logits`; pixels [B, H, W, 3] as the network was trained
            on them (normalised where it declares a normalisation), logits [B, C] raw.
        weights: a pytree of arrays.
        num_classes: C, at least 2.
        mean, std: per-channel normalisation in [0, 1] pixel units, or None where there is none.
        class_names: one name per class, or None.
        input_size: height and width of the images it was made for, in pixels, where known.
        validation_accuracy: share of its validation images classified correctly, where known.
        assumptions: what results rest on that nobody declared, by topic: a sentence for people.
            `normalization` where the mean and std were guessed, `weights` where a file held
            several, `network` where it is known by its keys alone.
        name: for people.
        fingerprint: sha256 of weights and normalisation; a run resumes only with the same one.
        module: builds the NNX module of given weights, whose layers have names; None for another
            callable.
    """

    apply: Callable[[PyTree, Images], Logits]
    weights: PyTree
    num_classes: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    input_size: int | None = None
    validation_accuracy: float | None = None
    assumptions: Mapping[str, str] = field(default_factory=dict)
    name: str = "classifier"
    fingerprint: str = ""
    module: Callable[[PyTree], nnx.Module] | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise UserError(
                f"a CO score compares classes: the classifier has {self.num_classes}, "
                "expected at least 2"
            )
        if (self.mean is None) != (self.std is None):
            raise UserError("mean and std come together: one of them is missing")

    def normalize(self, images: Float[Array, "*B H W 3"]) -> Float[Array, "*B H W 3"]:
        """Return (x - mean) / std per channel, or x where no normalisation is declared."""
        if self.mean is None or self.std is None:
            return images
        return (images - jnp.asarray(self.mean, images.dtype)) / jnp.asarray(self.std, images.dtype)


@own_numbers()
def check_image_size(classifier: Classifier, size: int) -> None:
    """Trace the classifier and its input gradient at an image size; nothing is computed.

    Raises:
        UserError: its layers leave nothing of an image that small.
    """
    pixels = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)

    def total(pixels: Any, weights: PyTree) -> Any:
        return classifier.apply(weights, pixels).sum()

    try:
        jax.eval_shape(jax.grad(total), pixels, classifier.weights)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(
            f"{classifier.name} cannot take images of {size} × {size} ({reason}): "
            "give another --size"
        ) from None


@own_numbers()
def as_classifier(
    model: Any,
    *,
    num_classes: int,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    fingerprint: str | None = None,
) -> Classifier:
    """Make a classifier of any callable `images [B, H, W, 3] -> logits [B, C]`.

    A Flax NNX module (a copy, in eval mode), or any callable that is a pytree of arrays (an
    Equinox module, a `jax.tree_util.Partial`), has its arrays taken out and passed as arguments,
    in float32. Any other function is called as it is.

    Args:
        model: the callable; it sees pixels after normalisation.
        num_classes: C.
        mean: of the normalisation it was trained with, per channel, in [0, 1] pixel units.
        std: likewise.
        fingerprint: of the model, where it is known; else that of its arrays.

    Example:
        >>> classifier = as_classifier(lambda x: x.mean((1, 2)), num_classes=3)
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, nnx.Module):
        resting = nnx.merge(*nnx.split(model))  # a copy: the caller's may go on training
        resting.eval()
        graph, state = nnx.split(resting)

        def build(weights: PyTree) -> Any:
            return nnx.merge(graph, weights)

        def apply(weights: PyTree, pixels: Any) -> Any:
            return build(weights)(pixels)

        weights: PyTree = state
        module: Callable[[PyTree], nnx.Module] | None = build
    else:
        leaves, structure = jax.tree.flatten(model)
        is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
        static = [None if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]
        weights = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
        module = None

        def apply(weights: PyTree, pixels: Any) -> Any:
            arrays = iter(weights)
            merged = [
                next(arrays) if array else leaf
                for leaf, array in zip(static, is_array, strict=True)
            ]
            return jax.tree.unflatten(structure, merged)(pixels)

    name = (
        type(model).__name__
        if isinstance(model, nnx.Module)
        else getattr(model, "__name__", type(model).__name__)
    )
    # Scores are verified in float32, so that is what weights are kept in.
    weights = jax.tree.map(
        lambda leaf: (
            jnp.asarray(leaf, jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        ),
        weights,
    )
    return Classifier(
        apply=apply,
        weights=weights,
        num_classes=num_classes,
        mean=mean,
        std=std,
        name=name,
        fingerprint=fingerprint or _fingerprint(weights, mean, std),
        module=module,
    )


def _fingerprint(weights: PyTree, mean: Any, std: Any) -> str:
    digest = hashlib.sha256(repr((mean, std)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def as_unit_range(pixels: Any) -> Float[Array, "..."]:
    """Return float32 pixels in [0, 1]: uint8 is divided by 255, floats are taken as they are."""
    if pixels.dtype == jnp.uint8:
        return pixels.astype(jnp.float32) / 255.0
    return at_least_float32(pixels)


def network_logits(
    classifier: Classifier, network: PyTree, image: Image, *, normalized: bool
) -> Float[Array, " C"]:
    """Return one image's logits in float32: [C], raw; with `normalized`, of (x - mean) / std."""
    pixels = classifier.normalize(image) if normalized else image
    # The network computes in the type of its weights; everything around it stays float32.
    leaves = [leaf.dtype for leaf in jax.tree.leaves(network)]
    if jnp.bfloat16 in leaves:
        pixels = pixels.astype(jnp.bfloat16)
    return at_least_float32(classifier.apply(network, pixels[None])[0])
