"""``python -m prato.retraining``: the process that trains (``worker``), started in half the time.

MONAI imports every optional package that it finds, for reports and event handlers that no training here uses. In this process, and in no
other, it finds none of them: a module that is None counts as not installed.
"""

import sys

for _name in ("mlflow", "ignite", "tensorboard", "tensorboardX", "pandas", "matplotlib"):
    sys.modules[_name] = None  # type: ignore[assignment]

from prato.retraining.worker import main  # noqa: E402

if __name__ == "__main__":
    main()
