"""Images: from files, folders and built-in sets to records and fixed-size uint8 batches."""

from gaxjax.data.batching import Batch, batches
from gaxjax.data.decode import UnreadableImageError
from gaxjax.data.digits import load_digits_arrays
from gaxjax.data.records import ImageRecord, ImageSet
from gaxjax.data.sources import open_images

__all__ = [
    "Batch",
    "ImageRecord",
    "ImageSet",
    "UnreadableImageError",
    "batches",
    "load_digits_arrays",
    "open_images",
]
