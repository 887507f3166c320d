"""The data sets of the experiments: one file each, found by its registered name (:func:`register_dataset`)."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
