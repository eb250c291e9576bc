"""GAX over an image set into a store."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gaxjax.common import AnyPath, UserError, is_url, own_numbers
from gaxjax.config import GaxConfig, GaxRunConfig, require_config, to_dict
from gaxjax.data import find_image
from gaxjax.gax import GaxEngine
from gaxjax.models import Classifier, check_classifier
from gaxjax.results import Outcome
from gaxjax.runs.opening import (
    chosen_images,
    decoded_as_made_for,
    images_as_begun,
    open_classifier,
    place_for,
)
from gaxjax.runs.shell import Plan, RunSummary, heatmap_dtype, run_engine
from gaxjax.runs.slices import chosen_slice
from gaxjax.runs.snapshots import describe_disk, take_snapshots


@own_numbers()
def run_gax(
    config: GaxRunConfig,
    output: AnyPath | str,
    *,
    classifier: Classifier | None = None,
    dataset: Any = None,
    make_engine: Callable[..., GaxEngine] = GaxEngine,
    note: Callable[[str], None] = print,
) -> RunSummary:
    """Run GAX over an image set into a store; the same call resumes a run that was cut off.

    Every image of the set ends with exactly one row. Snapshots, where asked for, come last.

    Args:
        config: model, images, method, engine and store.
        output: the run's folder.
        classifier: a model that is open already, in place of `config.model`.
        dataset: a dataset with `__len__` and `__getitem__`, and items as for `explain`, in place of
            files; `config.data.data` is a name for it, `dataset:NAME`. The same resumes the run.
        make_engine: makes the engine, with the arguments of `GaxEngine`.
        note: is told, before the work, what the run rests on: how images are decoded where that is
            the model's own, labels, what was assumed; and the disk that snapshots take.

    Raises:
        UserError: bad input; the output folder holds another run or is in use; nothing was
            classified correctly; the disk is full. What was committed stays.
    """
    require_config(config, GaxRunConfig, "config")
    output = place_for(output, config)
    chosen_slice(config.spread.shard)  # a wrong one is said before the work
    if config.snapshots.most_images and is_url(output):
        raise UserError(f"--snapshots are kept in a folder alone, and --output {output} is a URL")
    if config.spread.ray is not None:
        from gaxjax.runs.ray_run import run_on_ray

        return run_on_ray(planned_gax, config, output, note, given=(classifier, dataset))
    plan, engine = planned_gax(
        config,
        output,
        classifier=classifier,
        dataset=dataset,
        make_engine=make_engine,
        note=note,
    )
    summary = run_engine(plan, output, engine)
    if not config.snapshots.most_images:
        return summary
    found = take_snapshots(engine, config.snapshots, plan.images, output)
    return replace(summary, snapshots=found)


def planned_gax(
    config: GaxRunConfig,
    output: AnyPath,
    *,
    classifier: Classifier | None = None,
    dataset: Any = None,
    make_engine: Callable[..., GaxEngine] = GaxEngine,
    note: Callable[[str], None] = print,
) -> tuple[Plan, GaxEngine]:
    """Open model, images and engine of a run; arguments and errors as of `run_gax`."""
    if classifier is None:
        classifier = open_classifier(config.model)
    check_classifier(classifier)
    config = replace(config, data=decoded_as_made_for(config.data, classifier, note))
    if config.snapshots.most_images:
        note(describe_disk(config))
    images = images_as_begun(output, config, chosen_images(config, classifier, note, dataset), note)
    for name in config.snapshots.snapshot_images:  # a wrong name is said before hours of work
        find_image(name, [record.image_id for record in images.records], config.data.data)
    engine = make_engine(
        classifier,
        config.gax,
        config.engine,
        image_shape=(images.size, images.size, 3),
        heatmap_dtype=heatmap_dtype(config),
        num_images=len(images.records),
        sweep=config.sweep.settings,
    )
    method = _told(config.gax) | {"precision": engine.objective.precision}
    if config.sweep.sweep:
        method["sweep"] = list(config.sweep.sweep)
    return Plan("gax", config, classifier, images, method), engine


_LATER = (
    *("optimizer", "optimizer_arguments"),
    *("score", "generator", "sigma", "grid", "total_variation_factor"),
)
"""Settings that runs of earlier versions do not tell of: at their defaults those resume."""


def _told(gax: GaxConfig) -> dict[str, Any]:
    usual = to_dict(GaxConfig())
    return {
        name: value
        for name, value in to_dict(gax).items()
        if name not in _LATER or value != usual[name]
    }


def explain_nothing_correct(summary: RunSummary) -> str | None:
    """Return a line for the user when no image was optimised at all, else None."""
    if any(summary.outcomes[outcome] for outcome in (Outcome.REACHED, Outcome.STEP_LIMIT)):
        return None
    if summary.missing:  # others may find some
        return None
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items())
    # The reason of most images, for the mend is another one.
    most = max(summary.outcomes, key=summary.outcomes.__getitem__, default="")
    mend = "check that labels and model belong together, or give --include-misclassified"
    if most == Outcome.NOT_FINITE:
        mend = (
            "scores ran over every number: give a smaller --learning-rate or --similarity-factor, "
            "or look for NaN in the model's weights"
        )
    elif most == Outcome.UNREADABLE:
        mend = "see the column reason of each, and what --data holds"
    return f"no image was optimised ({counts}): {mend}"
