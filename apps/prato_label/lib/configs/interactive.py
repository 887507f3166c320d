"""The interactive models: PrATo UNETR and PrATo Swin UNETR."""

from __future__ import annotations

from pathlib import Path

from monailabel.interfaces.config import TaskConfig
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.interfaces.tasks.train import TrainTask

from lib.infers import PratoInfer
from lib.trainers import PratoTrainer


class Interactive(TaskConfig):
    """A box or points in, RV, myocardium and LV out; the name decides whose weights answer."""

    def infer(self) -> PratoInfer:
        folder = Path(self.model_dir)
        return PratoInfer(
            InferType.DEEPEDIT,
            needed=(folder / f"{self.name}.safetensors",),
            locator=folder / "prato_locator.safetensors",
            description="Heart in a box: RV cavity, myocardium and LV cavity by a transformer that drops irrelevant tokens",
        )

    def trainer(self) -> TrainTask:
        return PratoTrainer(self.name, Path(self.model_dir) / f"{self.name}.safetensors")
