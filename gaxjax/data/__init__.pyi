from .batching import Batch, Prefetch, batches
from .decode import HostImage, UnreadableImageError
from .digits import load_digits_arrays
from .image_set import ImageRecord, ImageSet
from .selection import find_image
from .sources import open_images, reopen_images, splits_of
from .splits import Duplicates, Split, SplitImage, make_split, read_split

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
    "reopen_images",
    "splits_of",
]
