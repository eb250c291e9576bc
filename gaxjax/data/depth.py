"""Do 16-bit images use their 16 bits? An X-ray of 12 bits in a 16-bit file comes out black.

Told when the images are opened, before hours of work, from a few of them spread over the set.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gaxjax.common import counted
from gaxjax.data.decode import open_image, takes_pixel_max, tile_arguments
from gaxjax.data.decoding_memory import bytes_to_decode

SAMPLED = 16
"""Images that are looked at."""

_MOST_BYTES = 2**28  # a sampled image that takes more is not looked at


@dataclass(frozen=True)
class _Deep:
    """An image of more than 8 bits per channel: its largest value, of those that it may have."""

    largest: int
    grey: bool


def depth_notes(
    encoded: Callable[[str], Path | bytes], image_ids: Sequence[str], pixel_max: int | None
) -> tuple[str, ...]:
    """Say where images of more than 8 bits would come out dark, or `pixel_max` would not fit.

    Args:
        encoded: gives the file, or the bytes, of the image with an id.
        image_ids: of many, some are looked at.
        pixel_max: the value that is to be white, None where files decide.

    Example:
        >>> depth_notes(Path, ["cat.jpg"], None)
        ()
    """
    count = min(SAMPLED, len(image_ids))
    sampled = [image_ids[i * len(image_ids) // count] for i in range(count)]
    found = [deep for image_id in sampled if (deep := _look(encoded, image_id)) is not None]
    of = f"of the {counted(len(sampled), 'image')} looked at"
    notes = []
    colour = [deep for deep in found if not deep.grey and deep.largest < 128]
    if colour:
        most = max(deep.largest for deep in colour)
        notes.append(
            f"{len(colour)} {of} have 16 bits a colour but come out dark (at most {most} of 255), "
            "as where only 12 are used; save them with 8 bits a colour"
        )
    grey = [deep.largest for deep in found if deep.grey]
    if pixel_max is None:
        dark = [largest for largest in grey if largest < 2**15]
        if 2 * len(dark) >= max(len(grey), 1):
            bits = max(8, max(dark).bit_length())
            notes.append(
                f"{len(dark)} {of} are grey with 16 bits but no value above {max(dark)}, and come "
                f"out dark (at most {max(dark) >> 8} of 255): they look like {bits} bits; "
                f"--pixel-max {2**bits - 1} scales them"
            )
    elif not grey:
        notes.append(
            f"--pixel-max {pixel_max} changes grey images of 16 or 32 bits alone; none {of} is one"
        )
    elif max(grey) > pixel_max:
        notes.append(
            f"{sum(largest > pixel_max for largest in grey)} {of} have values above --pixel-max "
            f"{pixel_max} (up to {max(grey)}), which all become white"
        )
    return tuple(notes)


def _look(encoded: Callable[[str], Path | bytes], image_id: str) -> _Deep | None:
    """Return what an image has above 8 bits; None of 8 bits, and of those that cannot be read."""
    try:
        with open_image(encoded(image_id)) as image:
            raw = str(tile_arguments(image))
            grey = takes_pixel_max(image) and image.mode != "F"
            if not (grey or ";16" in raw) or bytes_to_decode(image) > _MOST_BYTES:
                return None
            pixels = np.asarray(image)
            return _Deep(int(pixels.max()), grey)
    except Exception:  # Pillow's decoders raise nearly every type; the run says why, image by image
        return None
