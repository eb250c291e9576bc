"""Images: from files, folders and built-in sets to records and fixed-size uint8 batches."""

from gaxjax.data.batching import Batch, Prefetch, batches
from gaxjax.data.decode import HostImage, UnreadableImageError
from gaxjax.data.digits import load_digits_arrays
from gaxjax.data.image_set import ImageRecord, ImageSet
from gaxjax.data.selection import find_image
from gaxjax.data.sources import open_images, splits_of
from gaxjax.data.splits import Duplicates, Split, SplitImage, make_split, read_split

__all__ = [
    "Batch",
    "Duplicates",
    "HostImage",
    "ImageRecord",
    "ImageSet",
    "Prefetch",
    "Split",
    "SplitImage",
    "UnreadableImageError",
    "batches",
    "find_image",
    "load_digits_arrays",
    "make_split",
    "open_images",
    "read_split",
    "splits_of",
]
