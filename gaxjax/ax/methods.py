"""The six attribution methods of one image, natively in JAX; `jax.vmap` makes it many.

One network, written once: methods differ by the backward rules of its operations. Computed
together, they share what is the same: XLA merges their forward passes, and saliency,
input × gradient and Grad-CAM are one backward pass.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gaxjax import ops
from gaxjax.ax.graph_rules import rescaled_curves
from gaxjax.ax.pairs import PairedRescale, paired_multipliers
from gaxjax.ax.rules import Deconvolution, GuidedBackprop, Recorder, Rescale
from gaxjax.common import Image, Scalar, UserError
from gaxjax.config import Curves, Pooling, Wanted

__all__ = ["attributions", "completeness_gap", "divide_by_max_abs"]

Probes = Mapping[str, Float[Array, "..."] | None]
"""What is added to the outputs of layers, by name; None adds nothing."""

Outputs = dict[str, Float[Array, "..."]]
"""What layers put out, by name."""

Features = Callable[[str, Float[Array, "1 ..."]], Float[Array, "1 P Q C"]]
"""From a layer's name and its output, or a gradient by that, to features with height and width."""

Forward = Callable[[Image, Probes], tuple[Float[Array, " C"], Outputs]]
"""From an image and what is added to layers' outputs, to logits and those outputs."""


def attributions(
    forward: Forward,
    image: Image,
    target: Int[Array, ""],
    wanted: Sequence[Wanted],
    *,
    baseline: Image | float = 0.0,
    pooling: Pooling = "captum",
    curves: Curves = "captum",
    paired: bool = False,
    features: Features | None = None,
) -> dict[Wanted, Image]:
    """Return each wanted attribution of the logit `target`, as Captum computes it.

    - saliency: the gradient, signed.
    - input_x_gradient: the image times its gradient.
    - layer_grad_cam: at a layer, channels weighted by their mean gradient and summed, not
      rectified, resized bilinearly, repeated over the image's channels (arXiv:1610.02391).
    - deconvolution, guided_backprop: the gradient under another rule for ReLU.
    - deep_lift: multipliers times (image - baseline), by the rescale rule.

    Args:
        forward: The network; its nonlinear operations are those of `gaxjax.ops`: see
            `gaxjax.attribution.nonlinearities.check_nonlinearities`.
        image: In the units that `forward` takes.
        target: A class, in [0, C).
        wanted: Methods; layers of layer_grad_cam must be known to `forward`.
        baseline: DeepLift's baseline image, or the value of all its pixels.
        pooling: DeepLift's rule for overlapping max pools; see `gaxjax.config.AxConfig`.
        curves: The nonlinearities that DeepLift rescales; likewise.
        paired: Whether DeepLift takes image and baseline back through the network side by side; see
            `gaxjax.ax.graph_rules.needs_pairs`.
        features: How a layer's output is read, where it is no [1, P, Q, C].

    Returns:
        Attributions [H, W, 3], not normalised.

    Raises:
        UserError: a layer that does not run, or whose output has no height and width.
    """
    layers = [layer for method, layer in wanted if method == "layer_grad_cam" and layer]
    methods = {method for method, _ in wanted}

    def logit(image: Image, probes: Probes) -> tuple[Scalar, Outputs]:
        logits, outputs = forward(image, probes)
        return logits[target], outputs

    def gradient(rules: ops.BackwardRules) -> Image:
        with ops.backward_rules(rules):
            return jax.grad(lambda image: logit(image, {})[0])(image)

    found: dict[Wanted, Image] = {}
    if methods & {"saliency", "input_x_gradient", "layer_grad_cam"}:
        slopes, layer_slopes, outputs = _gradients(logit, image, layers)
        found[("saliency", None)] = slopes
        found[("input_x_gradient", None)] = image * slopes
        for layer in layers:
            read = _with_height_and_width if features is None else features
            both = read(layer, outputs[layer]), read(layer, layer_slopes[layer])
            cam = _grad_cam(*both, image.shape)
            found[("layer_grad_cam", layer)] = cam
    if "deconvolution" in methods:
        found[("deconvolution", None)] = gradient(Deconvolution())
    if "guided_backprop" in methods:
        found[("guided_backprop", None)] = gradient(GuidedBackprop())
    if "deep_lift" in methods:
        plain = jnp.broadcast_to(jnp.asarray(baseline, image.dtype), image.shape)
        rescaled = rescaled_curves(curves)
        if paired:
            multipliers = paired_multipliers(
                lambda z: logit(z, {})[0], image, plain, PairedRescale(pooling, rescaled)
            )
        else:
            recorder = Recorder()
            with ops.backward_rules(recorder):
                forward(plain, {})
            multipliers = gradient(Rescale(recorder.inputs, pooling, rescaled))
        found[("deep_lift", None)] = multipliers * (image - plain)
    return {key: found[key] for key in wanted}


def completeness_gap(attribution: Image, rise: Scalar) -> Scalar:
    """Return ``|Σ attribution - rise| / |rise|``: 0 where an attribution is complete.

    Args:
        attribution: DeepLift's, of a logit.
        rise: that logit of the image less that of the baseline. Where it is 0, the gap is not
            finite.
    """
    return jnp.abs(jnp.sum(attribution) - rise) / jnp.abs(rise)


def divide_by_max_abs(attribution: Image) -> tuple[Image, Scalar]:
    """Return the attribution divided by its largest magnitude, in [-1, 1], and that magnitude.

    Zeros, never NaN, where the attribution is zero everywhere.
    """
    scale = jnp.max(jnp.abs(attribution))
    return attribution / jnp.where(scale == 0, 1, scale), scale


def _gradients(
    logit: Callable[[Image, Probes], tuple[Scalar, Outputs]], image: Image, layers: Sequence[str]
) -> tuple[Image, Outputs, Outputs]:
    """Differentiate by the image and by the layers' outputs in one pass."""
    shapes = jax.eval_shape(lambda: logit(image, dict.fromkeys(layers))[1])
    for layer in set(layers) - shapes.keys():
        raise UserError(f"layer {layer!r} does not run: give another to layer_grad_cam")
    probes = {layer: jnp.zeros(shape.shape, shape.dtype) for layer, shape in shapes.items()}
    # True gradients, computed in the order of the other rules, with which they share a pass.
    with ops.backward_rules(ops.BackwardRules()):
        gradients = jax.grad(logit, argnums=(0, 1), has_aux=True)
        (slopes, layer_slopes), outputs = gradients(image, probes)
    return slopes, layer_slopes, outputs


def _with_height_and_width(layer: str, output: Array) -> Array:
    if output.ndim != 4:
        raise UserError(
            f"layer_grad_cam needs a layer with height and width; {layer} gives "
            f"{output.shape[1:]}: give an earlier layer"
        )
    return output


def _grad_cam(
    output: Float[Array, "1 P Q C"], slopes: Float[Array, "1 P Q C"], shape: tuple[int, ...]
) -> Image:
    weights = jnp.mean(slopes, axis=(1, 2), keepdims=True)
    cam = jnp.sum(weights * output, axis=-1, keepdims=True)[0]
    # Half-pixel centres and no antialiasing: torch's bilinear with align_corners=False.
    resized = jax.image.resize(cam, (*shape[:2], 1), "bilinear", antialias=False)
    return jnp.broadcast_to(resized, shape)
