"""What a config takes from a source: one of its splits, some of its classes, or all of it."""

from collections.abc import Sequence
from pathlib import Path

from gaxjax.common import UserError, nearest
from gaxjax.config import DataConfig
from gaxjax.data.label_readings import LabelSpace

SPLITS = ("train", "val", "test")
"""The splits by the names that we write."""

DATASET = "dataset:"
"""What the name of a dataset begins with that is given in Python and is in no file."""

_SPELLINGS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_MOST_LISTED = 10


def canonical_split(name: str) -> str:
    """Return the name that we write for a split; a name that is none of the usual stays as it is.

    Example:
        >>> canonical_split("Validation"), canonical_split("fold 3")
        ('val', 'fold 3')
    """
    return _SPELLINGS.get(name.casefold(), name)


def chosen_split(config: DataConfig, present: Sequence[str]) -> str:
    """Return which of the splits that a source holds `config.split` means, as the source spells it.

    Args:
        config: the source, and the wanted split in any usual spelling.
        present: the splits that the source holds, in its own spelling; at least one.

    Raises:
        UserError: no split is wanted, the source has no such split, or two of its names mean it.

    Example:
        >>> chosen_split(DataConfig(data="chest_xray", split="val"), ["train", "validation"])
        'validation'
    """
    wanted, holds = config.split, ", ".join(present)
    if wanted is None:
        example = next((name for name in present if canonical_split(name) == "test"), present[0])
        raise UserError(
            f"--data {config.data} holds splits ({holds}); choose one by --split, such as "
            f"--split {example}"
        )
    if wanted in present:
        return wanted
    meant = [name for name in present if canonical_split(name) == canonical_split(wanted)]
    if len(meant) > 1:
        raise UserError(
            f"--split {wanted} may mean {' or '.join(meant)} of --data {config.data}; give one of "
            "these names"
        )
    if not meant:
        usual = [
            name for name, split in _SPELLINGS.items() if split in map(canonical_split, present)
        ]
        raise UserError(
            f"--split {wanted} is no split of --data {config.data}, which holds {holds}"
            + nearest(wanted, [*present, *usual])
        )
    return meant[0]


def refuse_split(config: DataConfig, kind: str) -> None:
    """Raise UserError where a split is wanted from a source of this kind, which has none."""
    if config.split is not None:
        raise UserError(
            f"--split {config.split} goes with a set that is divided into splits, but --data "
            f"{config.data} is {kind}; leave --split out"
        )


def refuse_labels(config: DataConfig, kind: str) -> None:
    """Raise UserError where a label file is given beside a source of this kind."""
    if config.labels is not None:
        raise UserError(
            f"--labels {config.labels} goes with a flat ImageNet validation folder, but --data "
            f"{config.data} is {kind}; leave --labels out"
        )


def refuse_dataset_name(data: str) -> None:
    """Refuse to look for a dataset on the disk.

    Raises:
        UserError: `data` names a dataset that was given in Python.
    """
    if data.startswith(DATASET):
        raise UserError(
            f"--data {data} names a dataset that was given in Python: give it there again, as "
            "dataset=…"
        )


def chosen_classes(
    labelled: Sequence[tuple[str, str]], space: LabelSpace, config: DataConfig
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Keep the images of the classes in `config.classes`; all where it is empty.

    Args:
        labelled: (image id, label text) of each image.
        space: the class index of each label text; it is not narrowed.
        config: the label names to keep.

    Returns:
        The kept images, and the names of the kept classes in index order (none where all are).

    Raises:
        UserError: no class has that name, or no image is left.

    Example:
        >>> space = LabelSpace(2, ("cat", "dog"), {"cat": 0, "dog": 1}, "names")
        >>> config = DataConfig(data="pets", classes=("dog",))
        >>> chosen_classes([("a.png", "cat"), ("b.png", "dog")], space, config)
        ([('b.png', 'dog')], ('dog',))
    """
    if not config.classes:
        return list(labelled), ()
    for name in config.classes:
        if name not in space.indices:
            raise UserError(
                f"--classes {name}: no label of --data {config.data} has this name"
                + _nearest_class(name, space)
            )
    names = tuple(sorted(config.classes, key=lambda name: (space.indices[name], name)))
    wanted = {space.indices[name] for name in names}
    kept = [(image_id, text) for image_id, text in labelled if space.indices[text] in wanted]
    if not kept:
        raise UserError(
            f"--classes {' '.join(names)} keeps none of the {len(labelled)} images of "
            f"{described(config, classes=False)}; name a class that has images there"
        )
    return kept, names


def described(config: DataConfig, *, classes: bool = True) -> str:
    """Write which images are meant by their flags, for messages.

    Example:
        >>> described(DataConfig(data="xray", split="test", classes=("NORMAL",)))
        '--data xray --split test --classes NORMAL'
    """
    flags = f"--data {config.data}"
    if config.split is not None:
        flags += f" --split {config.split}"
    if classes and config.classes:
        flags += f" --classes {' '.join(config.classes)}"
    return flags


def _nearest_class(name: str, space: LabelSpace) -> str:
    known = sorted(space.indices, key=lambda text: (space.indices[text], text))
    same = [text for text in known if text.casefold() == name.casefold()]
    if hint := nearest(same[0] if same else name, known):
        return hint
    listed = ", ".join(known[:_MOST_LISTED]) + (", …" if len(known) > _MOST_LISTED else "")
    return f"; its labels are {listed}"


def find_image(name: str, image_ids: Sequence[str], where: Path | str) -> str:
    """Return the id of the image with this id, or with the only id that ends so.

    Args:
        name: what a user calls it.
        image_ids: all there are.
        where: of what, for the message.

    Raises:
        UserError: there is none, or there are several.

    Example:
        >>> find_image("0042", ["digits/0041", "digits/0042"], "digits")
        'digits/0042'
    """
    if name in image_ids:
        return name
    ending = [image_id for image_id in image_ids if name and image_id.endswith(name)]
    if len(ending) > 1:
        raise UserError(
            f"{len(ending)} images of {where} end in {name!r}, such as {ending[0]} and "
            f"{ending[1]}: give more of the name"
        )
    if not ending:
        names = [Path(image_id).name for image_id in image_ids]
        hint = nearest(name, [*image_ids, *names]) or "".join(
            f" (one is {image_id})" for image_id in image_ids[:1]
        )
        raise UserError(f"no image {name!r} in {where}{hint}")
    return ending[0]
