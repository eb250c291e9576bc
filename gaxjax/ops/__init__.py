"""Network operations in the forms that JAX runs fastest and that attribution rules can hook."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
