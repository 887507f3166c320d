"""Other people's ways of pruning tokens, re-made on the UNETR that PrATo runs in: one file each, found by its registered name."""

import sys

from prato.runtime.registry import import_modules

import_modules(sys.modules[__name__])
