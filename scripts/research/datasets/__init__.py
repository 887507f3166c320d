"""The data sets of the experiments: one file each, found by its registered name (:func:`register_dataset`)."""

import sys

from prato.runtime.registry import import_modules

import_modules(sys.modules[__name__])
