from .batching import Batch, Prefetch, batches
from .dataset_images import dataset_images
from .datasets import ImageStream, is_dataset
from .decode import HostImage, UnreadableImageError
from .digits import load_digits_arrays
from .image_set import ImageRecord, ImageSet
from .image_source import ImageSource, SourceGoneError
from .label_readings import ModelClasses
from .places import is_pattern, place_of
from .selection import find_image
from .sources import open_images, reopen_images, splits_of
from .splits import Duplicates, Split, SplitImage, make_split, read_split

__all__ = [
    "Batch",
    "Duplicates",
    "HostImage",
    "ImageRecord",
    "ImageSet",
    "ImageSource",
    "ImageStream",
    "ModelClasses",
    "Prefetch",
    "SourceGoneError",
    "Split",
    "SplitImage",
    "UnreadableImageError",
    "batches",
    "dataset_images",
    "find_image",
    "is_dataset",
    "is_pattern",
    "load_digits_arrays",
    "make_split",
    "open_images",
    "place_of",
    "read_split",
    "reopen_images",
    "splits_of",
]
