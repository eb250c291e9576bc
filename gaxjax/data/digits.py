"""The built-in image set: scikit-learn's bundled handwritten digits, which need no download.

1797 images of 8×8 grey pixels from the UCI "Optical Recognition of Handwritten Digits" data
(https://doi.org/10.24432/C50P49). Every fourth image (449) is held out as the test split; that
rule needs no random numbers, so the split is the same on every machine for ever.
"""

import functools

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from gaxjax.config import Interpolation
from gaxjax.data.decode import HostImage, fit

NUM_CLASSES = 10
"""The digits 0 to 9."""


def digits_split() -> tuple[Int32[np.ndarray, " train"], Int32[np.ndarray, " test"]]:
    """Return the positions of the training images and of the held-out test images.

    Example:
        >>> [len(part) for part in digits_split()]
        [1348, 449]
    """
    positions = np.arange(len(grey_digits()[1]), dtype=np.int32)
    held_out = positions % 4 == 3
    return positions[~held_out], positions[held_out]


def load_digits_arrays(
    size: int,
) -> tuple[
    UInt8[np.ndarray, "train S S 3"],
    Int32[np.ndarray, " train"],
    UInt8[np.ndarray, "test S S 3"],
    Int32[np.ndarray, " test"],
]:
    """Load all digits as arrays, for training a small classifier on them.

    Args:
        size: height and width of the images, in pixels.

    Returns:
        Training images uint8 `[1348, size, size, 3]`, 0 to 255, and labels int32 `[1348]`; test
        images `[449, size, size, 3]` and labels `[449]`. The test images are those of the image
        set `digits`, in the same order.

    Example:
        >>> train_images, train_labels, test_images, test_labels = load_digits_arrays(32)
        >>> test_images.shape
        (449, 32, 32, 3)
    """
    labels = grey_digits()[1]
    train, test = digits_split()

    def images(positions: np.ndarray) -> np.ndarray:
        return np.stack([digit_image(int(position), size=size) for position in positions])

    return images(train), labels[train], images(test), labels[test]


def digit_image(
    position: int, *, size: int, interpolation: Interpolation = "bilinear"
) -> HostImage:
    """Return one digit as RGB, enlarged to `size × size`, 0 to 255; a square is never cropped."""
    grey = Image.fromarray(grey_digits()[0][position])
    return fit(grey.convert("RGB"), size=size, interpolation=interpolation)


@functools.cache
def grey_digits() -> tuple[UInt8[np.ndarray, "N 8 8"], Int32[np.ndarray, " N"]]:
    """Return the images as they are, 0 to 255, and their labels."""
    from sklearn.datasets import load_digits  # takes over a second, and few runs need it

    digits = load_digits()
    # Pixels count the inked dots of a 4×4 cell: 0 to 16.
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int32)
