"""Prompt-driven adaptive token pruning (PrATo, arXiv 2506.16369) for vision-transformer segmentation networks.

Plain torch and MONAI: nothing in this package knows of MONAI Label or 3D Slicer.
"""

from prato.runtime.monai_import import import_monai_lightly

import_monai_lightly()
