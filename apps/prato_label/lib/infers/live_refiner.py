"""The network behind a click, loaded when first needed and again when its file changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lib.infers.live_predictor import run_in_correction_thread
from prato.data.file_identity import file_stamp
from prato.models.checkpoint import CheckpointError
from prato.refinement.refiner import Refiner

_T = TypeVar("_T")
#: It serves every model, and is no model that clients choose.
REFINER = Path(__file__).resolve().parents[2] / "refiner" / "click_refiner.safetensors"


class LiveRefiner:
    """The refiner of the model file ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: dict[str, tuple[object, Refiner]] = {}

    def run(self, device: str, call: Callable[[Refiner], _T]) -> _T:
        """What ``call`` returns, run in the thread of corrections with the file as it is now.

        Raises:
            CheckpointError: there is no such file, or it cannot be used.
        """
        return run_in_correction_thread(lambda: call(self._load(device)), device)

    def _load(self, device: str) -> Refiner:
        identity = file_stamp(self.path)
        if identity is None:
            raise CheckpointError(f"The click model {self.path.name} is missing: restore the shipped file.")
        if device not in self._loaded or self._loaded[device][0] != identity:
            self._loaded[device] = identity, Refiner.from_file(self.path, device)
        return self._loaded[device][1]


live_refiner = LiveRefiner(REFINER)
