"""The paper's two-dimensional example: what GAX does where everything has a closed form.

Sections 2 and 2.1 and appendix A.1 of Tjoa et al. (2022). An invertible W mixes two hidden
amounts a into a sample x that an observer sees, and the perfect classifier unmixes them:

    x = W a = a_1 x^(1) + a_2 x^(2),    f(x) = σ(W^-1 x) = σ(a),    c = argmax_i (W^-1 x)_i

GAX trains w, from w = 1, so that the heatmap h = w * x raises the score of the correct class. Here
that is done by formula (`closed_form_heatmap`) and by gradient ascent (`gradient_ascent`).
Labels count from 0, as everywhere in gaxjax: the paper's c = 1 is label 0.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from numpy.lib.recfunctions import unstructured_to_structured

from gaxjax.common import Scalar
from gaxjax.score import co_score

Pair = Float[Array, "2"]
"""Two components: of a, x, w, h or y."""

Transform = Float[Array, "2 2"]
"""An invertible W."""

Activation = Callable[[Pair], Pair]
"""A strictly increasing σ, elementwise; `raw` is what the paper's experiments use."""

Objective = Callable[[Pair, Transform, Pair], Scalar]
"""What is ascended: of w, W and a, to one number; `delta` or `score_of_weights`."""

FIGURE_AMOUNTS = (0.95, 0.7, 0.55)  # a_1 of the panels, left to right; a_2 = 1 - a_1
FIGURE_K_ETA = 1.2
FIGURE_1_WINDOWS = ((0.0, np.pi / 2), (-np.pi / 8, 3 * np.pi / 8), (-np.pi / 4, np.pi / 4))
FIGURE_6_WINDOWS = ((-np.pi, np.pi),) * 3


def raw(outputs: Pair) -> Pair:
    """Return the outputs as they are: σ(z) = z."""
    return outputs


def rotation(theta: Scalar | float) -> Transform:
    """Return W = [[cos θ, -sin θ], [sin θ, cos θ]], for θ in radians.

    Example:
        >>> rotation(0.0).tolist()
        [[1.0, -0.0], [0.0, 1.0]]
    """
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    return jnp.array([[cos, -sin], [sin, cos]])


def sample(transform: Transform, amounts: Pair) -> Pair:
    """Return x = W a = a_1 x^(1) + a_2 x^(2), in pixels."""
    return _times(transform, amounts)


def unmix(transform: Transform, pixels: Pair) -> Pair:
    """Return W^-1 of a sample, which is its a, or of a heatmap, which is eq. 2's (A, B)."""
    return _times(jnp.linalg.inv(transform), pixels)


def classify(transform: Transform, pixels: Pair, activation: Activation = raw) -> Pair:
    """Return f(x) = σ(W^-1 x), the perfect classifier's two outputs."""
    return activation(unmix(transform, pixels))


def score(
    transform: Transform,
    pixels: Pair,
    heatmap: Pair,
    label: Int[Array, ""] | int,
    activation: Activation = raw,
) -> Scalar:
    """Return the CO score s(x, h) = (1, -1)·[f(x + h) - f(x)] (paper eq. 1).

    For label 1, the paper's c = 2, the factor is (-1, 1). It is eq. 5 with two classes.

    Args:
        transform: W, shape [2, 2].
        pixels: x, shape [2].
        heatmap: h, shape [2].
        label: the groundtruth class, 0 or 1.
        activation: σ; with `raw` the score of label 0 is eq. 3's Δ.
    """
    after = classify(transform, pixels + heatmap, activation)
    return co_score(after, classify(transform, pixels, activation), label)


def _times(matrix: Transform, vector: Pair) -> Pair:
    return jnp.dot(matrix, vector, precision="highest")  # a GPU's default would round to TF32


def delta(weights: Pair, transform: Transform, amounts: Pair) -> Scalar:
    """Return Δ = A - B, what GAX maximises for label 0 (paper eqs. 2 and 3).

    The heatmap in the basis of the samples (eq. 2), with V = W^-1:

        h = w * x = A x^(1) + B x^(2) = W (A, B),    (A, B) = V (w * x)

    so, for any invertible W,

        Δ = w_1 (V_11 - V_21) x_1 + w_2 (V_12 - V_22) x_2
        x_1 = a_1 W_11 + a_2 W_12,    x_2 = a_1 W_21 + a_2 W_22

    Eq. 3 says the same: its second term is -(V_22 - V_12), its indices are right, and "W^-1_ij" is
    an entry of the inverse, not a reciprocal. Two lines around it are not right. The expansion
    before it writes x_2 as "a_2 W_21 + a_2 W_22", its first a_2 for a_1. The score after it,
    "σ(a_1) - σ(a_2) + σ(A) - σ(B)", is for no σ that of eq. 1, which is
    [σ(a_1 + A) - σ(a_1)] - [σ(a_2 + B) - σ(a_2)]; only this is Δ for the raw σ(z) = z.
    """
    a, b = unmix(transform, weights * sample(transform, amounts))
    return a - b


def delta_gradient(transform: Transform, amounts: Pair) -> Pair:
    """Return ∇_w Δ = ((V_11 - V_21) x_1, (V_12 - V_22) x_2), the same at every w: Δ is linear."""
    inverse = jnp.linalg.inv(transform)
    return (inverse[0] - inverse[1]) * sample(transform, amounts)


def closed_form_heatmap(
    transform: Transform, amounts: Pair, k_eta: Scalar | float = FIGURE_K_ETA
) -> Pair:
    """Return h = (1 + kη ∇_w Δ) * x, the heatmap after k steps of rate η from w = 1 (eq. 4).

    The gradient never changes, so k steps move w by exactly k times the first step, and only the
    product kη matters. Each step raises Δ by η |∇_w Δ|². `k_eta` = 0 gives h = x.
    """
    return (1 + k_eta * delta_gradient(transform, amounts)) * sample(transform, amounts)


class Ascent(NamedTuple):
    """Trained weights, and the objective before the first step and after each."""

    weights: Pair
    objective: Float[Array, " steps_and_one"]


def score_of_weights(
    weights: Pair, transform: Transform, amounts: Pair, *, activation: Activation = raw
) -> Scalar:
    """Return the CO score of h = w * x for the sample's own label: an `Objective`."""
    x = sample(transform, amounts)
    return score(transform, x, weights * x, jnp.argmax(amounts), activation)


@functools.partial(jax.jit, static_argnames=("num_steps", "objective"))
def gradient_ascent(
    transform: Transform,
    amounts: Pair,
    *,
    rate: Scalar | float,
    num_steps: int,
    objective: Objective = delta,
) -> Ascent:
    """Train w from 1 by `num_steps` steps w <- w + η ∇_w objective (text before paper eq. 4).

    Example:
        >>> w = gradient_ascent(rotation(0.0), jnp.array([0.95, 0.05]), rate=0.1, num_steps=12)[0]
        >>> w.round(3).tolist()  # the closed form's 1 + 1.2 · (0.95, -0.05)
        [2.140000104904175, 0.940000057220459]
    """
    optimiser = optax.sgd(rate)

    def loss(weights: Pair) -> Scalar:
        return -objective(weights, transform, amounts)

    def step(carry: tuple[Pair, optax.OptState], _: None) -> tuple[tuple, Scalar]:
        weights, state = carry
        value, gradient = jax.value_and_grad(loss)(weights)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(weights, updates), state), -value

    start = jnp.ones_like(amounts)
    (weights, _), values = jax.lax.scan(step, (start, optimiser.init(start)), length=num_steps)
    return Ascent(weights, jnp.append(values, -loss(weights)))


def figure_table(windows: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the curves of Fig. 1 or 6 as one tidy structured array, a row per panel and angle.

    Both figures show the samples a = (0.95, 0.05), (0.7, 0.3) and (0.55, 0.45), rotated by θ, with
    kη = 1.2. The text gives neither figure's range of θ nor Fig. 6's amounts. "Fig. 6 left at
    θ ≈ π" needs the whole turn, and "Fig. 6 right" has "a_1 ≈ a_2". The released code draws the
    same three samples twice, over the whole turn (gax/src/basic/twoDplot.py) and over the ranges
    that §2.1 and A.1 call non-negative (twoDplot_zoom.py); we take the first for Fig. 6 and the
    second for Fig. 1. Those scripts multiply the gradient by η twice: the published dotted lines
    would then be of kη = 1.44, not the captions' 1.2, which is used here.

    Args:
        windows: of each panel, the range of θ that its figure draws; rows exist for all θ.

    Returns:
        columns `theta`, `a1`, `a2`, `k_eta`, the sample `x1`, `x2`, the heatmap `h1`, `h2`; then,
        for h = x before training and for h after it, Δ, which is the CO score of raw outputs
        (`delta_before`, `delta_after`), and the CO scores of the other activations
        (`leaky_relu_before` ... `sigmoid_after`); and `drawn`, whether θ is in its panel's window.
    """
    theta = np.linspace(-np.pi, np.pi, 257)  # has all multiples of π/128
    panels = []
    # In float64: what is equal on paper (h_2 = x_2 at π/4) then differs by 1e-16, not 1e-8.
    with jax.enable_x64(True):
        for a1, (low, high) in zip(FIGURE_AMOUNTS, windows, strict=True):
            drawn = (theta > low - 1e-9) & (theta < high + 1e-9)  # both ends, despite rounding
            panels.append(np.column_stack([_figure_rows(theta, jnp.array([a1, 1 - a1])), drawn]))
    return unstructured_to_structured(np.concatenate(panels), np.dtype(_COLUMNS))


_SIGMAS: dict[str, Activation] = {
    "delta": raw,
    "leaky_relu": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
}
_NUMBERS = ["theta", "a1", "a2", "k_eta", "x1", "x2", "h1", "h2"]
_NUMBERS += [f"{name}_{when}" for name in _SIGMAS for when in ("before", "after")]
_COLUMNS = [(name, float) for name in _NUMBERS] + [("drawn", bool)]


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None))
def _figure_rows(theta: Scalar, amounts: Pair) -> Float[Array, " columns"]:
    transform = rotation(theta)
    x = sample(transform, amounts)
    h = closed_form_heatmap(transform, amounts)
    scores = [score(transform, x, heat, 0, sigma) for sigma in _SIGMAS.values() for heat in (x, h)]
    return jnp.array([theta, *amounts, FIGURE_K_ETA, *x, *h, *scores])
