"""Images: from files, folders and built-in sets to records and fixed-size uint8 batches."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
