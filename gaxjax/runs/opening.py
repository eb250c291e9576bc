"""Opens what a user named: a classifier, and the images that are wanted."""

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from gaxjax.common import (
    AnyPath,
    UserError,
    is_url,
    own_numbers,
    path_to_read,
    path_to_write,
    ran_out,
    refuse_foreign_converters,
)
from gaxjax.config import (
    PAPERS,
    AxRunConfig,
    DataConfig,
    Decoding,
    GaxRunConfig,
    ModelConfig,
    to_dict,
)
from gaxjax.data import ImageSet, ModelClasses, batches, dataset_images, open_images
from gaxjax.models import (
    Classifier,
    check_image_size,
    check_outputs,
    checkpoint,
    load_classifier,
)
from gaxjax.results import changes_since, read_header
from gaxjax.runs.evaluate import baselines, require_room


@own_numbers()
def open_classifier(config: ModelConfig, *, fold: bool = True) -> Classifier:
    """Open the classifier a user named: a checkpoint, a torchvision name or a state dict.

    Torch weights are converted once and kept in the cache folder.

    Args:
        config: the name.
        fold: as for `load_classifier`.

    Raises:
        UserError: no such model, one that does not convert, or torch is missing for it.
    """
    path = path_to_read(config.model, "--model")
    if checkpoint.is_named(path):
        config.refuse_file_flags(f"{path} is a checkpoint and")
        return load_classifier(path, fold=fold, mean=config.mean, std=config.std)
    refuse_foreign_converters()
    named = not path.exists()  # else a mean and std are part of the conversion
    given: dict[str, Any] = {"mean": config.mean, "std": config.std} if named else {}
    try:
        from converters import kept_conversion

        return _load_or_rebuild(lambda: kept_conversion(config), fold, **given)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{config.model} is no checkpoint folder, and converting torch weights needs "
            f"{error.name}: install the torch extra, or run `gaxjax convert` where it is"
        ) from None


def place_for(output: AnyPath | str, config: GaxRunConfig | AxRunConfig) -> AnyPath:
    """Return a run's folder, spelt out, where results would stand alone.

    Raises:
        UserError: nothing can be written there; or it is the images' folder, or in a checkpoint.
    """
    place = path_to_write(output, "--output", urls=True)
    whole = place.resolve()
    if str(place) == config.data.data or (
        not is_url(config.data.data) and whole == Path(config.data.data).resolve()
    ):
        raise UserError(f"--output {place} is the folder of the images: give one of its own")
    if is_url(place):
        return place
    if any(map(checkpoint.is_checkpoint, (whole, *whole.parents))):
        raise UserError(f"--output {place} lies in a checkpoint: give a folder outside of it")
    return place


def say_what_it_rests_on(
    classifier: Classifier, images: ImageSet, note: Callable[[str], None]
) -> None:
    """Tell how the labels were found, and what was assumed of model and images."""
    note(f"labels: {images.labels_from}")
    for text in (*classifier.assumptions.values(), *images.notes):
        note(text)


def decoded_as_made_for(
    data: DataConfig, classifier: Classifier, note: Callable[[str], None]
) -> DataConfig:
    """Fill in how images are decoded, from the model where it was not asked for; tell what is new.

    Args:
        data: as the user gave it.
        classifier: the model.
        note: is told of what is the model's own and not the paper's.

    Returns:
        The config with every setting of decoding.

    Raises:
        UserError: as `DataConfig.resolved`.
    """
    whole = data.resolved(classifier.input_size, classifier.decoding)
    own, flags = _not_the_papers(data, whole.decoding)
    if classifier.graph is not None:
        flags = [flag for flag in flags if flag != "--size"]  # it takes no other
    if own:
        differ = f" ({', '.join(flags)} to differ)" if flags else ""
        note(f"images are decoded as the model wants them: {own}{differ}")
    return whole


def _not_the_papers(asked: DataConfig, found: Decoding) -> tuple[str, list[str]]:
    """Say what of a decoding is the model's own and not the paper's, and by which flags it goes."""
    side, said, flags = found.resize_size, [], []
    if asked.size is None and found.size != PAPERS.size:
        said.append(f"{found.size} × {found.size}")
        flags.append("--size")
    if asked.resize is None and found.resize != PAPERS.resize:
        flags.append("--resize")
    if asked.resize_size is None and side != found.size:
        flags.append("--resize-size")
    if {"--resize", "--resize-size"} & {*flags}:
        of = f"the short side made {side}" if found.resize == "crop" else f"made {side} × {side}"
        said.append(f"{of}, the centre cut")
    if asked.interpolation is None and found.interpolation != PAPERS.interpolation:
        said.append(found.interpolation)
        flags.append("--interpolation")
    return ", ".join(said), flags


def chosen_images(
    config: GaxRunConfig | AxRunConfig,
    classifier: Classifier,
    note: Callable[[str], None],
    dataset: Any = None,
) -> ImageSet:
    """Open the images, which fit the classifier; only the first ones with `first_correct`.

    Those of `dataset`, where one is given, which `config.data` then names.
    """
    check_image_size(classifier, config.data.decoding.size)
    count, names = classifier.num_classes, classifier.class_names
    if dataset is None:
        images = open_images(config.data, num_classes=count, class_names=names)
    else:
        images = dataset_images(dataset, config.data, ModelClasses(count, names))
    say_what_it_rests_on(classifier, images, note)
    for doubt in _doubts(classifier, images):
        note(doubt)
    wanted = config.first_correct
    if wanted is None:
        return images
    last = 0
    method = config.gax if isinstance(config, GaxRunConfig) else config.ax
    for positions, labels, baseline in baselines(
        classifier,
        images,
        threads=config.data.decode_threads,
        score_space=method.score_space,
        by_name=True,
    ):
        correct = positions[baseline.prediction == labels]
        if len(correct) >= wanted:
            last = int(correct[wanted - 1]) + 1
            break
        wanted -= len(correct)
    kept = images.first(last or len(images.records))
    return replace(kept, name=f"the first {len(kept.records)} of {images.name}")


def images_as_begun(
    output: AnyPath,
    config: GaxRunConfig | AxRunConfig,
    images: ImageSet,
    note: Callable[[str], None],
) -> ImageSet:
    """Return the images that a run was begun with, of which some may be others now.

    Where they lie is no part of that: in a folder, in Parquet files or in an archive they are the
    same images by the same ids, labels and bytes.

    Raises:
        UserError: some are, and they are not to be skipped.
    """
    if not (output / "run.json").exists():
        return images
    header = read_header(output)
    if images.fingerprint == header["data"]["fingerprint"]:
        return replace(images, name=header["data"]["name"])
    changes = changes_since(output, header, images, to_dict(config))
    if changes is None:
        return images
    if config.store.changed_images == "refuse":
        raise UserError(
            f"the images are not those that {output} was begun with: {changes}. Put them back as "
            "they were to resume, give --changed-images skip to go on with the rest, or choose "
            "another --output"
        )
    note(f"the run goes on without what is not as it was: {changes}")
    return changes.before


def _doubts(classifier: Classifier, images: ImageSet) -> tuple[str, ...]:
    """Try a user's own function on the first images that can be read."""
    if classifier.structure is None:
        require_room(classifier, images.size, 2)
        read = batches(images, batch_size=2, threads=1)
        with closing(read):
            for batch in read:
                if len(batch.images):
                    return check_outputs(classifier, batch.images)
    return ()


def _load_or_rebuild(cached: Callable[[], AnyPath], fold: bool, **given: Any) -> Classifier:
    """Load a cached conversion; a damaged one is made anew, once."""
    path = cached()
    try:
        return load_classifier(path, fold=fold, **given)
    except UserError as error:
        if ran_out(error):
            raise  # says nothing of the files
        shutil.rmtree(path)
        return load_classifier(cached(), fold=fold, **given)
