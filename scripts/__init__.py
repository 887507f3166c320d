"""What a user runs, and the research."""

import prato  # noqa: F401  (before any script imports MONAI, which is then imported in half the time)
