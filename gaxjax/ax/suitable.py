"""Which methods an imported network can have, and what to say of them: by its graph alone."""

from collections.abc import Iterator

from gaxjax.ax.graph_rules import activations, left_plain
from gaxjax.common import UserError
from gaxjax.config import AxConfig, Method
from gaxjax.models import Graph

__all__ = ["suitable_methods", "what_to_know"]

_OF_RELU: tuple[Method, ...] = ("deconvolution", "guided_backprop")
"""Methods that differ from the gradient at a ReLU alone."""


def suitable_methods(config: AxConfig, graph: Graph) -> tuple[Method, ...]:
    """Return the chosen methods; of "all", those alone that tell something of this network.

    Raises:
        UserError: a method is named that equals saliency here, for want of any ReLU.
    """
    if activations(graph)["relu"]:
        return config.chosen_methods
    for name in _OF_RELU:
        if name in config.methods:
            raise UserError(
                f"{name} changes the backward rule of ReLU alone, and this network has none, so it "
                f"equals saliency: leave it out of --methods{_instead(graph)}"
            )
    return tuple(name for name in config.chosen_methods if name not in _OF_RELU)


def what_to_know(config: AxConfig, graph: Graph) -> Iterator[str]:
    """Yield a line for people for each method that does less here than its name promises."""
    counts = activations(graph)
    chosen = [name for name in _OF_RELU if name in config.chosen_methods]
    num_relus = counts.pop("relu", 0)
    if chosen and not num_relus:
        yield (
            f"left out: {' and '.join(chosen)}, which change the backward rule of ReLU alone and "
            "equal saliency on this network, which has none"
        )
    elif chosen and counts:
        yield (
            f"{' and '.join(chosen)} act on the {num_relus} relu of this network and leave "
            f"{_listed(counts)} at plain gradients, as Captum does"
        )
    left = left_plain(graph, config.deep_lift_curves)
    if "deep_lift" in config.chosen_methods and left:
        yield (
            f"deep_lift leaves {_listed(left)} at plain gradients, as Captum does: "
            "--deep-lift-curves all rescales them"
        )


def _listed(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    *others, last = [f"{count} {name}" for name, count in ordered]
    return f"{', '.join(others)} and {last}" if others else last


def _instead(graph: Graph) -> str:
    found = [name for name, _ in activations(graph).most_common(2)]
    return f" (its activations: {', '.join(found)})" if found else ""
