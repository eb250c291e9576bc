"""The torch path, kept plain on purpose: the yardstick that the JAX path is held to."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
