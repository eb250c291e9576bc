"""A frozen classifier: a pure function from weights and pixels to logits, and what it expects.

Weights travel as arguments, never closed over: a jitted function would bake them in as constants.
"""

import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from gaxjax.common import Images, Logits, UserError, at_least_float32, described, own_numbers
from gaxjax.models.graph.form import Graph
from gaxjax.models.strangers import check_arrays, check_callable


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
        decoding: how its images are made of files, where known: `resize`, `resize_size` and
            `interpolation`, as in `gaxjax.config.DataConfig`.
        validation_accuracy: share of its validation images classified correctly, where known.
        assumptions: what results rest on that nobody declared, by topic: a sentence for people.
            `normalization` where the mean and std were guessed, `weights` where a file held
            several, `network` where it is known by its keys alone.
        name: for people.
        fingerprint: sha256 of weights and normalisation; a run resumes only with the same one.
        module: builds the NNX module of given weights, whose layers have names; None for another
            callable.
        structure: equal for two classifiers whose `apply` is the same function, and only where
            that is known: of networks made of `gaxjax.models` alone. Their outputs are logits.
    """

    apply: Callable[[PyTree, Images], Logits]
    weights: PyTree
    num_classes: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    input_size: int | None = None
    decoding: Mapping[str, int | str] = field(default_factory=dict)
    validation_accuracy: float | None = None
    assumptions: Mapping[str, str] = field(default_factory=dict)
    name: str = "classifier"
    fingerprint: str = ""
    module: Callable[[PyTree], nnx.Module] | None = None
    structure: Hashable | None = None

    def __post_init__(self) -> None:
        count = self.num_classes
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            raise UserError(f"num_classes: {described(count)}; expected a whole number, at least 2")
        if count < 2:
            raise UserError(
                f"a CO score compares classes: the classifier has {self.num_classes}, "
                "expected at least 2"
            )
        mean, std = checked_normalization(self.mean, self.std)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    def normalize(self, images: Float[Array, "*B H W 3"]) -> Float[Array, "*B H W 3"]:
        """Return (x - mean) / std per channel, or x where no normalisation is declared."""
        if self.mean is None or self.std is None:
            return images
        return (images - jnp.asarray(self.mean, images.dtype)) / jnp.asarray(self.std, images.dtype)

    @property
    def graph(self) -> Graph | None:
        """The operations of an imported network; None of any other."""
        if self.structure is None or self.module is None:
            return None
        return _graph_of(self.module(self.weights))


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

    Raises:
        UserError: it is no such callable, or mean and std are no such numbers; says what to give.

    Example:
        >>> classifier = as_classifier(lambda x: x.mean((1, 2)), num_classes=3)
    """
    if isinstance(model, Classifier):
        return model
    check_callable(model)
    weights: PyTree
    module: Callable[[PyTree], nnx.Module] | None
    structure: Hashable | None
    if isinstance(model, nnx.Module):
        resting = nnx.merge(*nnx.split(model))  # a copy: the caller's may go on training
        resting.eval()
        graph, weights = nnx.split(resting)
        structure = graph if _is_ours(resting) else None

        def build(weights: PyTree) -> Any:
            return nnx.merge(graph, weights)

        def apply(weights: PyTree, pixels: Any) -> Any:
            return build(weights)(pixels)

        module = build
    else:
        leaves, tree = jax.tree.flatten(model)
        is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
        static = [None if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]
        weights = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
        module, structure = None, None

        def apply(weights: PyTree, pixels: Any) -> Any:
            arrays = iter(weights)
            merged = [
                next(arrays) if array else leaf
                for leaf, array in zip(static, is_array, strict=True)
            ]
            return jax.tree.unflatten(tree, merged)(pixels)

    name = (
        type(model).__name__
        if isinstance(model, nnx.Module)
        else getattr(model, "__name__", type(model).__name__)
    )
    check_arrays(weights)
    imported = _graph_of(model)
    # Scores are verified in float32, so that is what weights are kept in.
    weights = jax.tree.map(
        lambda leaf: (
            jnp.asarray(leaf, jnp.float32)
            if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
            else leaf
        ),
        weights,
    )
    mean, std = checked_normalization(mean, std)
    return Classifier(
        apply=apply,
        weights=weights,
        num_classes=num_classes,
        mean=mean,
        std=std,
        name=str(name),
        fingerprint=fingerprint or _fingerprint(weights, mean, std, imported),
        module=module,
        structure=structure,
    )


def renormalized(classifier: Classifier, mean: Any, std: Any) -> Classifier:
    """Return a classifier that wants its pixels otherwise; it is another one to a run.

    Args:
        classifier: any; what was assumed of its normalisation is forgotten.
        mean: as for `as_classifier`.
        std: likewise.

    Raises:
        UserError: as `as_classifier`.

    Example:
        >>> other = renormalized(classifier, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    """
    mean, std = checked_normalization(mean, std)
    assumptions = {
        topic: said for topic, said in classifier.assumptions.items() if topic != "normalization"
    }
    fingerprint = classifier.fingerprint
    if (mean, std) != (classifier.mean, classifier.std):
        fingerprint = hashlib.sha256(repr((fingerprint, mean, std)).encode()).hexdigest()
    return replace(classifier, mean=mean, std=std, fingerprint=fingerprint, assumptions=assumptions)


def checked_normalization(mean: Any, std: Any) -> tuple[Any, Any]:
    """Return mean and std as triples of floats, or two Nones.

    Raises:
        UserError: one is missing; or they are no one or three numbers, in [0, 1] pixel units.
    """
    if mean is None and std is None:
        return None, None
    if mean is None or std is None:
        raise UserError("mean and std come together: one of them is missing")
    triples = []
    for name, given in (("mean", mean), ("std", std)):
        try:
            values = np.asarray(given)
            numbers = [float(value) for value in values.reshape(-1)]
        except Exception as error:  # of whatever was given
            raise UserError(
                f"{name}: {described(given)}; expected three numbers, one per channel"
            ) from error
        if values.dtype.kind not in "fiu" and not jnp.issubdtype(values.dtype, jnp.floating):
            raise UserError(f"{name}: {described(given)}; expected three numbers, one per channel")
        if len(numbers) not in (1, 3):
            raise UserError(f"{name} has {len(numbers)} numbers; expected three, one per channel")
        if not np.isfinite(numbers).all():
            raise UserError(f"{name} is {numbers}; expected finite numbers")
        if np.abs(numbers).max() > _LARGEST:
            raise UserError(
                f"{name} is {numbers}, in units of 0…255 as it seems; expected those of pixels in "
                "[0, 1]: divide by 255"
            )
        kept = isinstance(given, tuple) and len(given) == 3
        if not (kept and all(type(number) in (int, float) for number in given)):
            given = tuple(numbers * (3 if len(numbers) == 1 else 1))
        triples.append(given)
    if min(triples[1]) <= 0:
        raise UserError(f"std is {list(triples[1])}; expected numbers above 0: pixels are divided")
    return tuple(triples)


_LARGEST = 2.0  # of a mean or std in units of pixels in [0, 1]; in units of 0…255 they are tens


def _graph_of(model: Any) -> Graph | None:
    graph = getattr(model, "graph", None)
    return graph if isinstance(graph, Graph) else None


def _is_ours(model: nnx.Module) -> bool:
    """Tell whether a network has no layer but those of `gaxjax.models`, whose code is known."""
    return all(
        type(layer) in (nnx.Dict, nnx.List, nnx.Dropout)
        or type(layer).__module__.startswith("gaxjax.models")
        for _, layer in nnx.iter_modules(model)
    )


def _fingerprint(weights: PyTree, mean: Any, std: Any, graph: Graph | None) -> str:
    digest = hashlib.sha256((repr((mean, std)) + (graph.digest if graph else "")).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        is_key = jax.dtypes.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def require_image_size(classifier: Classifier, shape: tuple[int, ...], mend: str) -> None:
    """Hold images against the size that an imported network takes; any other classifier passes.

    Args:
        classifier: the model.
        shape: (H, W, …) of an image.
        mend: what to do where the size may stay the network's.

    Raises:
        UserError: it was imported for another size.
    """
    graph = classifier.graph
    if graph is None or graph.image[1:] == tuple(shape[:2]):
        return
    height, width = shape[:2]
    again = f"convert again with --input-size {height}"
    if height != width:
        again = f"import it again for {height} × {width}"
    raise UserError(
        f"{classifier.name} was imported for images of {graph.image[1]} × {graph.image[2]}: "
        f"{mend}, or {again}"
    )


def as_unit_range(pixels: Any) -> Float[Array, "..."]:
    """Return float32 pixels in [0, 1]: uint8 is divided by 255, floats are taken as they are."""
    if pixels.dtype == jnp.uint8:
        return pixels.astype(jnp.float32) / 255.0
    return at_least_float32(pixels)


def network_logits(
    classifier: Classifier, network: PyTree, images: Images, *, normalized: bool
) -> Logits:
    """Return logits in float32, [B, C], raw; with `normalized`, of (x - mean) / std.

    A network of `gaxjax.models` is given the batch as it is, in which XLA finds more to fuse. Any
    other, which may not take several images, or may mix them, is given one at a time.
    """
    pixels = classifier.normalize(images) if normalized else images
    # The network computes in the type of its weights; everything around it stays float32.
    leaves = [leaf.dtype for leaf in jax.tree.leaves(network)]
    if jnp.bfloat16 in leaves:
        pixels = pixels.astype(jnp.bfloat16)
    if classifier.structure is not None or len(pixels) == 1:
        return at_least_float32(classifier.apply(network, pixels))
    one = jax.vmap(lambda image: classifier.apply(network, image[None])[0])
    return at_least_float32(one(pixels))
