"""Every setting and its default, once: frozen dataclasses, validated when made.

The command line's flags are generated from these classes, each run stores its config whole
(`to_dict`), and `from_dict` reads it back. Presets name whole settings.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
