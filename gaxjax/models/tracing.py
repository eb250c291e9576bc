"""Whether a user's function is a classifier: traced, and tried on a few of the user's images.

Only the user's own function is called within `try`: an error of ours stays one.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from gaxjax.common import (
    UserError,
    compiled_once,
    compiler_options,
    counted,
    described,
    own_numbers,
    what_raised,
)
from gaxjax.models.classifier import Classifier, network_logits, require_image_size

__all__ = [
    "check_classifier",
    "check_differentiable",
    "check_engine",
    "check_image_size",
    "check_outputs",
    "checked_first",
    "count_classes",
]


@runtime_checkable
class _HasImages(Protocol):
    @property
    def images(self) -> Any: ...


_Batch = TypeVar("_Batch", bound=_HasImages)
_OTHER_SIZES = (224, 256, 32, 28, 64, 299, 384)
_OTHER_BATCHES = (2, 4, 8, 16, 32, 64)


def count_classes(classifier: Classifier, image_shape: tuple[int, ...], num_images: int = 1) -> int:
    """Trace a classifier on one image and return the length of its logits; nothing is computed.

    Args:
        classifier: its `num_classes` is not used.
        image_shape: (H, W, 3).
        num_images: how many the user has; a batch size that may have been meant.

    Raises:
        UserError: it raises, or returns no float logits [1, C] of at least two classes.
    """
    returned: list[Any] = []

    def call(weights: PyTree, pixels: Any) -> Any:
        returned.append(classifier.apply(weights, pixels))
        # Whatever it is, it is looked at below; JAX would have words of its own for it.
        return returned[-1] if isinstance(returned[-1], jax.Array) else None

    shape = (1, *image_shape)
    require_image_size(classifier, image_shape, "give images of that size")
    try:
        logits = jax.eval_shape(call, classifier.weights, _floats(shape))
    except UserError:
        raise
    except Exception as error:
        raise UserError(_why(error, classifier, image_shape, num_images)) from error
    named = f"model: {classifier.name} turns images {list(shape)} into"
    if logits is None:
        raise UserError(f"{named} {described(returned[-1])}{_taken(returned[-1])}")
    if not isinstance(returned[-1], jax.core.Tracer):
        raise UserError(f"{named} a constant that does not depend on them; expected logits [1, C]")
    got, kind = list(logits.shape), logits.dtype
    if not jnp.issubdtype(kind, jnp.floating):
        raise UserError(f"{named} {kind}{got}; expected logits [1, C], floats before any argmax")
    if len(got) != 2 or got[0] != 1:
        raise UserError(f"{named} {kind}{got}; expected logits [1, C]{_reshaped(got)}")
    if got[1] < 2:
        mend = "return two, jnp.concatenate([jnp.zeros_like(z), z], -1), which have the same odds"
        raise UserError(
            f"{named} {counted(got[1], 'logit')}, and a CO score compares classes"
            + (f": {mend}" if got[1] else "")
        )
    return got[1]


def check_differentiable(classifier: Classifier, image_shape: tuple[int, ...]) -> None:
    """Trace a classifier's input gradient of several images, as the engines compute it.

    Raises:
        UserError: there is none.
    """
    count = count_classes(classifier, image_shape)
    if count != classifier.num_classes:
        raise UserError(
            f"model: {classifier.name} returns {count} logits, and num_classes is "
            f"{classifier.num_classes}"
        )

    def total(images: Any, weights: PyTree) -> Any:
        return network_logits(classifier, weights, images, normalized=True).sum()

    try:
        jax.eval_shape(jax.grad(total), _floats((2, *image_shape)), classifier.weights)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"model: {classifier.name} cannot be differentiated by its images, or not for several "
            f"side by side ({what_raised(error)}): make it of jax.numpy alone, without callbacks"
        ) from error


@own_numbers()
def check_image_size(classifier: Classifier, size: int) -> None:
    """Trace the classifier and its input gradient at an image size; nothing is computed.

    Raises:
        UserError: its layers leave nothing of an image that small; it was imported for another
            size; or it is no classifier at all.
    """
    require_image_size(classifier, (size, size), "leave --size out")
    if classifier.structure is None:
        check_differentiable(classifier, (size, size, 3))
        return
    pixels = _floats((1, size, size, 3))

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


def check_outputs(classifier: Classifier, images: np.ndarray) -> tuple[str, ...]:
    """Try on a few images whether a classifier returns logits, of each image by itself.

    Not of a network of `gaxjax.models`, which is known to.

    Args:
        classifier: the model.
        images: [N, H, W, 3], N ≥ 1, uint8 or floats in [0, 1]; the first and the last are taken.

    Returns:
        What is doubtful and no fault for certain, in sentences.

    Raises:
        UserError: it returns probabilities, or its outputs depend on an image's neighbours.
    """
    if classifier.structure is not None or not len(images):
        return ()
    largest = np.float32(255 if images.dtype == np.uint8 else 1)
    one, other = (images[row].astype(np.float32) / largest for row in (0, -1))
    if np.array_equal(one, other):
        other = one[:, ::-1] ** 0.5
    batches = [np.stack([one, other, one, other]), np.stack([one**2, one, 1 - one, other])]
    if not _takes(classifier, batches[0].shape):  # but one at a time, as the engines give them
        batches = [image[None] for batch in batches for image in batch]

    def logits(weights: PyTree, pixels: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return classifier.apply(weights, classifier.normalize(pixels))

    def run(batches: list[np.ndarray]) -> np.ndarray:
        try:
            compiled = compiled_once(
                jax.jit(logits),
                classifier.weights,
                _floats(batches[0].shape),
                options=compiler_options(jax.local_devices()[0]),
            )
            found = [np.asarray(compiled(classifier.weights, batch)) for batch in batches]
        except Exception as error:  # of the user's function: of an array it closes over
            raise UserError(
                f"model: {classifier.name} fails when it is run on images "
                f"{list(batches[0].shape)} ({what_raised(error)})"
            ) from error
        return np.concatenate(found)

    found = run(batches)
    rounding = 1e-2 if found.dtype.itemsize >= 4 else 5e-2  # also of bfloat16 on the way
    outputs = found.astype(np.float64)
    _check_alone(classifier, outputs, rounding)
    finite = outputs[np.isfinite(outputs).all(axis=1)]
    if len(finite) < 2:
        return ()  # every image will have its outcome, `not_finite`
    sums = finite.sum(axis=1)
    for total in (1, 100):  # as shares, or in per cent
        if finite.min() >= 0 and np.abs(sums - total).max() <= rounding * total:
            raise UserError(
                f"model: {classifier.name} returns probabilities (its outputs are at least 0 and "
                f"sum to {sums.min():.4g}…{sums.max():.4g} for each image), and a CO score is "
                "taken of logits: return what it has before its softmax"
            )
    if (finite == finite[0]).all():
        return (_constant(classifier),)
    if finite.min() < 0 or finite.max() > 1:
        return ()
    far = run([(40 * batches[0] - 20).astype(np.float32)])
    if far.min() >= 0 and far.max() <= 1:
        return (
            f"model: {classifier.name} returns numbers in [0, 1] ({finite.min():.3g} to "
            f"{finite.max():.3g}) whatever it is shown, as after a sigmoid: if so, return the "
            "logits before it; scores of such outputs stay below 2",
        )
    return ()


def check_classifier(classifier: Any) -> None:
    """Refuse what is no `Classifier`.

    Raises:
        UserError: says how to make one.
    """
    if not isinstance(classifier, Classifier):
        raise UserError(
            f"classifier: {described(classifier)}; expected a Classifier: load_classifier(path) "
            "opens a checkpoint, and as_classifier(model, num_classes=…) makes one of any callable"
        )


def check_engine(classifier: Any, image_shape: Any, image_dtype: Any) -> None:
    """Hold what an engine is made for against what it can take.

    Raises:
        UserError: no `Classifier`, or images of another kind; it cannot classify such images.
    """
    check_classifier(classifier)
    whole = isinstance(image_shape, tuple | list) and len(image_shape) == 3
    if not (whole and all(isinstance(side, int | np.integer) for side in image_shape)):
        raise UserError(f"image_shape: {image_shape!s:.60}; expected (H, W, 3)")
    if image_shape[2] != 3 or min(image_shape) < 1:
        raise UserError(f"image_shape: {image_shape!s:.60}; expected (H, W, 3)")
    try:
        kind = np.dtype(image_dtype)
    except TypeError:
        kind = None
    if kind not in (np.uint8, np.float32):
        raise UserError(f"image_dtype: {image_dtype!s:.60}; expected uint8, or float32 in [0, 1]")
    if classifier.structure is None:
        check_differentiable(classifier, tuple(image_shape))


def checked_first(classifier: Classifier, batches: Iterable[_Batch]) -> Iterator[_Batch]:
    """Yield batches, and try the classifier on the images of the first that has some.

    Raises:
        UserError: as `check_outputs`.
    """
    tried = classifier.structure is not None
    for batch in batches:
        if not tried and len(batch.images):
            check_outputs(classifier, batch.images)
            tried = True
        yield batch


def _check_alone(classifier: Classifier, outputs: np.ndarray, rounding: float) -> None:
    """Compare the outputs of the same image among others, where a batch was taken."""
    pairs = ((0, 5), (0, 2), (1, 7), (1, 3))  # rows of one image in the two batches
    finite = outputs[np.isfinite(outputs)]
    spread = float(np.ptp(finite)) if finite.size else 0.0
    allowed = rounding * (spread + 1e-3 * np.abs(finite).max(initial=0.0))
    for here, there in pairs:
        a, b = outputs[here], outputs[there]
        alike = np.isfinite(a) == np.isfinite(b)
        both = np.isfinite(a) & np.isfinite(b)
        worst = np.abs(a[both] - b[both]).max(initial=0.0)
        if not alike.all() or worst > allowed:
            change = f"by up to {worst:.3g}" if alike.all() else "from finite numbers to others"
            raise UserError(
                f"model: an image's outputs of {classifier.name} change {change} (they span "
                f"{spread:.3g}) with the images beside it in the batch: each image must be "
                "classified by itself. Is batch norm or dropout in training mode, or an axis of "
                "the batch summed over?"
            )


def _constant(classifier: Classifier) -> str:
    return (
        f"model: {classifier.name} returns the same for every image tried: heatmaps cannot change "
        "its scores"
    )


# --- In words ------------------------------------------------------------------------------------


def _floats(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _why(
    error: Exception, classifier: Classifier, image_shape: tuple[int, ...], num_images: int
) -> str:
    """Say why a function could not be traced, and what may mend it."""
    height, width, channels = image_shape
    shape = f"images [1, {height}, {width}, {channels}]"
    name, said = f"model: {classifier.name}", what_raised(error)
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return f"{name} uses NumPy on its images ({said}): write it with jax.numpy"
    if isinstance(
        error, jax.errors.ConcretizationTypeError | jax.errors.NonConcreteBooleanIndexError
    ):
        return (
            f"{name} decides by the values of its images, as Python's `if`, `for`, int() and "
            f"float() do ({said}): use jnp.where, or jax.lax.cond"
        )
    for batch in (num_images, *_OTHER_BATCHES):
        if batch > 1 and _takes(classifier, (batch, *image_shape)):
            return (
                f"{name} takes batches of {batch} alone and not {shape} ({said}): write it for "
                "any batch size, x.reshape(len(x), -1)"
            )
    if _takes(classifier, (1, channels, height, width)):
        return (
            f"{name} wants channels first and raises for {shape} ({said}): give "
            "`lambda images: model(images.transpose(0, 3, 1, 2))`"
        )
    if _takes(classifier, image_shape):
        return f"{name} takes one image, and raises for {shape} ({said}): give `jax.vmap(model)`"
    for size in _OTHER_SIZES:
        if _takes(classifier, (1, size, size, channels)):
            return (
                f"{name} takes images of {size} × {size}, and raises for {shape} ({said}): resize "
                "them"
            )
    if re.search(r"required (positional|keyword-only) argument|takes \d+ positional", said):
        return (
            f"{name} is called with {shape} and nothing else ({said}): bind its other arguments, "
            "`lambda images: model(images, train=False)`"
        )
    return f"{name} raises for {shape}, float32 in [0, 1] before its normalisation ({said})"


def _takes(classifier: Classifier, shape: tuple[int, ...]) -> bool:
    """Tell whether it turns images of a shape into something with as many rows."""
    try:
        found = jax.eval_shape(classifier.apply, classifier.weights, _floats(shape))
    except Exception:  # of a user's function
        return False
    rows = getattr(found, "shape", ())[:1]
    return len(shape) == 3 or rows == shape[:1]


def _taken(returned: Any) -> str:
    """Say how to take logits out of what was returned."""
    expected = "; expected logits [1, C] as a JAX array"
    if isinstance(returned, tuple | list) and returned:
        return f"{expected}: take one of its {len(returned)} items, `model(images)[0]`"
    if isinstance(returned, dict):
        names = ", ".join(map(repr, list(returned)[:5]))
        return f"{expected}: take one of its items ({names})"
    if hasattr(returned, "logits"):
        return f"{expected}: take its `.logits`"
    if isinstance(returned, np.ndarray):
        return f"{expected}, which has a gradient: write it with jax.numpy"
    if returned is None:
        return f"{expected}: does it lack a `return`?"
    return expected


def _reshaped(shape: list[int]) -> str:
    if len(shape) > 2 and shape[0] == 1 and np.prod(shape) == max(shape):
        return ": .reshape(len(images), -1) makes them so"
    if len(shape) == 2 and shape[0] > 1:
        return f": is a batch of {shape[0]} written into it? x.reshape(len(x), -1) takes any"
    if len(shape) == 1 and shape[0] > 1:
        return ": keep the axis of the batch"
    return ""
