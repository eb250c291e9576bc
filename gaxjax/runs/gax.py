"""GAX over an image set into a store."""

from dataclasses import replace
from pathlib import Path

from gaxjax.config.base import to_dict
from gaxjax.config.runs import RunConfig
from gaxjax.data.selection import find_image
from gaxjax.gax.engine import Engine
from gaxjax.results.solution import Outcome
from gaxjax.runs.opening import chosen_images, open_classifier
from gaxjax.runs.shell import RunSummary, _device, _heatmap_dtype, _run
from gaxjax.runs.snapshots import take_snapshots


def run_gax(config: RunConfig, output: Path) -> RunSummary:
    """Run GAX over an image set into a store; the same call resumes a run that was cut off.

    Every image of the set ends with exactly one row. Snapshots, where asked for, come last.

    Raises:
        UserError: bad input; the output folder holds another run or is in use; nothing was
            classified correctly; the disk is full. What was committed stays.
    """
    classifier = open_classifier(config.model)
    images = chosen_images(config, classifier)
    for name in config.snapshots.snapshot_images:  # a wrong name is said before hours of work
        find_image(name, [record.image_id for record in images.records], config.data.data)
    engine = Engine(
        classifier,
        config.gax,
        config.engine,
        image_shape=(config.data.size, config.data.size, 3),
        heatmap_dtype=_heatmap_dtype(config),
        num_images=len(images.records),
    )
    method = to_dict(config.gax) | {"precision": engine.objective.precision}
    summary = _run(
        "gax", config, output, classifier, images, engine, method, device=_device(engine)
    )
    if not config.snapshots.most_images:
        return summary
    return replace(summary, snapshots=take_snapshots(engine, config.snapshots, images, output))


def explain_nothing_correct(summary: RunSummary) -> str | None:
    """Return a line for the user when no image was optimised at all, else None."""
    if any(summary.outcomes[outcome] for outcome in (Outcome.REACHED, Outcome.STEP_LIMIT)):
        return None
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items())
    return (
        f"no image was optimised ({counts}): check that labels and model belong together, "
        "or give --include-misclassified"
    )
