"""The models that this app offers, by name."""

from __future__ import annotations

from pathlib import Path

from monailabel.interfaces.config import TaskConfig
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.interfaces.tasks.train import TrainTask

from lib.infers import PratoInfer
from lib.trainers.prato_trainer import PratoTrainer


class PratoInteractive(TaskConfig):
    """A box or points in, RV, myocardium and LV out; the name decides whose weights answer."""

    def infer(self) -> PratoInfer:
        folder = Path(self.model_dir)
        return PratoInfer(
            InferType.DEEPEDIT,
            needed=(folder / f"{self.name}.safetensors",),
            locator=folder / f"{_LOCATOR}.safetensors",
            description="Heart in a box: RV cavity, myocardium and LV cavity by a transformer that drops irrelevant tokens",
        )

    def trainer(self) -> TrainTask:
        return PratoTrainer(self.name, Path(self.model_dir) / f"{self.name}.safetensors")


class PratoAuto(TaskConfig):
    """A coarse pass proposes the box, then PrATo Swin UNETR prunes and segments with it. Trained through `prato_swin_unetr`."""

    def infer(self) -> PratoInfer:
        folder = Path(self.model_dir)
        locator = folder / f"{_LOCATOR}.safetensors"
        return PratoInfer(
            InferType.SEGMENTATION,
            needed=(folder / "prato_swin_unetr.safetensors", locator),
            locator=locator,
            description="The whole heart without a prompt: proposes a box, then segments RV cavity, myocardium and LV cavity with it",
        )

    def trainer(self) -> None:
        return None


_LOCATOR = "prato_locator"
_MODELS: dict[str, type[TaskConfig]] = {"prato_unetr": PratoInteractive, "prato_swin_unetr": PratoInteractive, "prato_auto": PratoAuto}


def load_configs(app_dir: str, conf: dict[str, str]) -> dict[str, TaskConfig]:
    """Every model's config, with its files in ``<app_dir>/model``: those named above, and any other model file that lies there."""
    folder = Path(app_dir) / "model"
    others = sorted(path.stem for path in folder.glob("*.safetensors") if path.stem not in (*_MODELS, _LOCATOR))
    configs = {}
    for name, config in {**_MODELS, **dict.fromkeys(others, PratoInteractive)}.items():
        configs[name] = config()
        configs[name].init(name, str(folder), conf, None)
    return configs
