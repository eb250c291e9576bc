"""GAX: many images optimised at once in the slots of one compiled step."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
