"""The classifiers by name, their checkpoint, and the one form in which everything uses them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
