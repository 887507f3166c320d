"""Other people's ways of pruning tokens, re-made on the UNETR that PrATo runs in: one file each, found by its registered name."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
