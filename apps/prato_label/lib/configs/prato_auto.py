"""PrATo without a prompt: what next-sample auto-run calls."""

from __future__ import annotations

from pathlib import Path

from monailabel.interfaces.config import TaskConfig
from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.infers import PratoInfer


class PratoAuto(TaskConfig):
    """A coarse pass proposes the box, then PrATo Swin UNETR prunes and segments with it. Trained through `prato_swin_unetr`."""

    def infer(self) -> PratoInfer:
        folder = Path(self.model_dir)
        locator = folder / "prato_locator.safetensors"
        return PratoInfer(
            InferType.SEGMENTATION,
            needed=(folder / "prato_swin_unetr.safetensors", locator),
            locator=locator,
            description="The whole heart without a prompt: proposes a box, then segments RV cavity, myocardium and LV cavity with it",
        )

    def trainer(self) -> None:
        return None
