"""AX over an image set into a store."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gaxjax.ax import AxEngine, what_to_know
from gaxjax.common import (
    AnyPath,
    UserError,
    affordable,
    host_free_bytes,
    own_numbers,
    refuse_foreign_converters,
)
from gaxjax.config import AxRunConfig, require_config, to_dict
from gaxjax.models import Classifier, check_classifier, gradient_bytes
from gaxjax.results import Outcome
from gaxjax.runs.opening import (
    chosen_images,
    decoded_as_made_for,
    images_as_begun,
    open_classifier,
    place_for,
)
from gaxjax.runs.shell import Engine, Plan, RunSummary, heatmap_dtype, run_engine
from gaxjax.runs.slices import chosen_slice


@own_numbers()
def run_ax(
    config: AxRunConfig,
    output: AnyPath | str,
    *,
    classifier: Classifier | None = None,
    dataset: Any = None,
    note: Callable[[str], None] = print,
) -> RunSummary:
    """Score the heatmaps of existing methods over an image set into a store; resumes likewise.

    Every image of the set ends with exactly one row per method, layer and operation.

    Args:
        config: model, images, methods, batches and store.
        output: the run's folder.
        classifier: a model that is open already, batch norm not folded, in place of
            `config.model`; the captum backend opens the latter all the same.
        dataset: a dataset with `__len__` and `__getitem__`, and items as for `explain`, in place of
            files; `config.data.data` is a name for it, `dataset:NAME`. The same resumes the run.
        note: as for `run_gax`.

    Raises:
        UserError: as `run_gax`; no such layer; the captum backend without torch.
    """
    require_config(config, AxRunConfig, "config")
    output = place_for(output, config)
    chosen_slice(config.spread.shard)  # a wrong one is said before the work
    if config.spread.ray is not None:
        from gaxjax.runs.ray_run import run_on_ray

        return run_on_ray(planned_ax, config, output, note, given=(classifier, dataset))
    plan, engine = planned_ax(config, output, classifier=classifier, dataset=dataset, note=note)
    return run_engine(plan, output, engine)


def planned_ax(
    config: AxRunConfig,
    output: AnyPath,
    *,
    classifier: Classifier | None = None,
    dataset: Any = None,
    note: Callable[[str], None] = print,
) -> tuple[Plan, Engine]:
    """Open model, images and engine of a run; arguments and errors as of `run_ax`."""
    if classifier is None:
        classifier = open_classifier(config.model, fold=False)
    check_classifier(classifier)
    config = replace(config, data=decoded_as_made_for(config.data, classifier, note))
    images = images_as_begun(output, config, chosen_images(config, classifier, note, dataset), note)
    if classifier.graph is not None:
        for line in what_to_know(config.ax, classifier.graph):
            note(line)
    engine: Any
    if config.ax.backend == "captum":
        shape = (images.size, images.size, 3)
        count = config.batch.batch_size or 1
        each, free = gradient_bytes(classifier, shape), host_free_bytes()
        affordable(count, each, free, "--batch-size", shape, halves=False)
        engine = _captum_engine(config)
    else:
        engine = AxEngine(
            classifier,
            config.ax,
            config.batch,
            image_shape=(images.size, images.size, 3),
            heatmap_dtype=heatmap_dtype(config),
            keep_heatmaps=config.store.heatmaps != "none",
        )
    method = to_dict(config.ax) | {
        "methods": list(dict.fromkeys(name for name, _ in engine.wanted)),
        "layers": [layer for _, layer in engine.wanted if layer],
        "precision": engine.stats.precision,
    }
    if config.ax.score == "logits":  # older runs have no word of it
        del method["score"]
    if "deep_lift" not in config.ax.chosen_methods:
        method = {name: value for name, value in method.items() if "deep_lift" not in name}
    elif config.ax.deep_lift_curves == "captum":  # older runs have no word of it
        del method["deep_lift_curves"]
    return Plan("ax", config, classifier, images, method), engine


def _captum_engine(config: AxRunConfig) -> Engine:
    refuse_foreign_converters()
    try:
        from gaxjax.reference import CaptumEngine, open_torch_classifier
    except ImportError as error:
        raise UserError(
            f"--backend captum needs torch and captum, which do not import here ({error}): install "
            "gaxjax with its torch extra"
        ) from None
    return CaptumEngine(
        open_torch_classifier(config.model),
        config.ax,
        config.batch,
        heatmap_dtype=heatmap_dtype(config),
        keep_heatmaps=config.store.heatmaps != "none",
    )


def explain_nothing_scored(summary: RunSummary) -> str | None:
    """Return a line for the user when AX scored no heatmap at all, else None."""
    if summary.outcomes[Outcome.SCORED] or summary.missing:
        return None
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items())
    return f"no heatmap was scored ({counts}): see the column reason, or give other --methods"
