"""The models that this app offers, by name."""

from __future__ import annotations

import logging
from pathlib import Path

from monailabel.interfaces.config import TaskConfig
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.interfaces.tasks.train import TrainTask

from lib.configs.options import Options
from lib.infers import PratoInfer
from lib.trainers.prato_trainer import PratoTrainer
from prato.models.registry import DEFAULT_MODEL

logger = logging.getLogger(__name__)


class PratoInteractive(TaskConfig):
    """A box or points in, RV, myocardium and LV out; the name decides whose weights answer."""

    def infer(self) -> PratoInfer:
        folder = Path(self.model_dir)
        return PratoInfer(
            InferType.DEEPEDIT,
            model=folder / f"{self.name}.safetensors",
            locator=folder / f"{DEFAULT_MODEL}.safetensors",
            description="Heart in a box: RV cavity, myocardium and LV cavity by a transformer that drops irrelevant tokens",
        )

    def trainer(self) -> TrainTask:
        return PratoTrainer(self.name, Path(self.model_dir) / f"{self.name}.safetensors")


class PratoAuto(TaskConfig):
    """The default network under a name by which stock clients send no box. Trained through its own name."""

    def infer(self) -> PratoInfer:
        model = Path(self.model_dir) / f"{DEFAULT_MODEL}.safetensors"
        return PratoInfer(
            InferType.SEGMENTATION,
            model=model,
            locator=model,
            description="The whole heart without a prompt: RV cavity, myocardium and LV cavity, computed where the overview sees the heart",
        )

    def trainer(self) -> None:
        return None


#: In the order in which clients show them.
_MODELS: dict[str, type[TaskConfig]] = {
    DEFAULT_MODEL: PratoInteractive,
    "prato_overview_unet_small": PratoInteractive,
    "prato_overview_swin_unetr": PratoInteractive,
    "prato_swin_unetr": PratoInteractive,
    "prato_unetr": PratoInteractive,
    "prato_auto": PratoAuto,
}
#: Weights that earlier versions shipped and this one has no use for.
_RETIRED = "prato_locator"


def load_configs(app_dir: str, conf: dict[str, str]) -> dict[str, TaskConfig]:
    """The models' configs, with their files in ``<app_dir>/model``: of those named above, and of any other model file that lies there.

    Raises:
        OptionsError: ``conf`` chooses what is not among them.
    """
    options = Options.parse(conf)
    folder = Path(app_dir) / "model"
    found = [path.stem for path in folder.glob("*.safetensors")]
    if _RETIRED in found:
        logger.warning("%s.safetensors is no longer used, as %s proposes the boxes: it may be deleted.", _RETIRED, DEFAULT_MODEL)
    others = sorted(name for name in found if name not in (*_MODELS, _RETIRED))
    offered = {**_MODELS, **dict.fromkeys(others, PratoInteractive)}
    configs = {name: offered[name]() for name in options.choose_models(offered)}
    for name, config in configs.items():
        config.init(name, str(folder), conf, None)
    return configs
