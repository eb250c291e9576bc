"""What a training starts from: a backbone at random or of given weights, under a new head."""

from flax import nnx

from gaxjax import models
from gaxjax.common import UserError, path_to_read
from gaxjax.config import FinetuneConfig, ModelConfig
from gaxjax.models import Classifier, as_classifier, check_image_size, checkpoint
from gaxjax.runs.opening import open_classifier

__all__ = ["given_weights", "model_to_start_from"]


def given_weights(config: FinetuneConfig) -> Classifier | None:
    """Open what the backbone starts from, None where that is random.

    Raises:
        UserError: it cannot be read, does not train, or is another architecture.
    """
    if config.weights is None:
        return None
    is_file = path_to_read(config.weights, "--weights").is_file()
    named = ModelConfig(model=config.weights, architecture=config.architecture if is_file else None)
    try:
        given = open_classifier(named, fold=False)
    except UserError as error:
        raise UserError(f"--weights {config.weights}: {error}") from None
    if given.graph is not None:
        raise UserError(
            f"--weights {config.weights} is an imported {given.name}, which explains and does not "
            f"train: give one of {', '.join(models.architectures())}"
        )
    if given.name != config.architecture:
        raise UserError(
            f"--weights {config.weights} is a {given.name}, not a {config.architecture}: give "
            f"--architecture {given.name}"
        )
    return given


def model_to_start_from(
    config: FinetuneConfig, given: Classifier | None, num_classes: int
) -> tuple[nnx.Module, str]:
    """Build the architecture with a new head, over converted weights where they are given.

    Args:
        config: architecture and seed of what is new.
        given: from `given_weights`.
        num_classes: of the new head.

    Returns:
        The model, and what its backbone is: random, or a fingerprint.

    Raises:
        UserError: too few classes, or images too small for the architecture.
    """
    if num_classes < 2:
        raise UserError(f"--data {config.data} has {num_classes} class; training needs at least 2")
    model = models.build(
        config.architecture,
        num_classes=num_classes,
        head_bias=config.head_bias,
        rngs=nnx.Rngs(config.seed),
    )
    resting = as_classifier(model, num_classes=num_classes, fingerprint="-")
    check_image_size(resting, config.size)
    if given is None:
        return model, "random"
    assert given.module is not None
    head = f"{models.head_name(config.architecture)}."
    source = checkpoint.named_weights(given.module(given.weights))
    state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    for keys, leaf in nnx.to_flat_state(state):
        name = ".".join(map(str, keys))
        if not name.startswith(head):
            leaf.set_value(source[name])
    nnx.update(model, state)
    return model, given.fingerprint[:16]
