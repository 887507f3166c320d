"""The models that this app offers, by name."""

from __future__ import annotations

from pathlib import Path

from monailabel.interfaces.config import TaskConfig

from lib.configs.interactive import Interactive
from lib.configs.prato_auto import PratoAuto

_MODELS: dict[str, type[TaskConfig]] = {"prato_unetr": Interactive, "prato_swin_unetr": Interactive, "prato_auto": PratoAuto}


def configs(app_dir: str, conf: dict[str, str]) -> dict[str, TaskConfig]:
    """Every model's config, with its files in ``<app_dir>/model``."""
    made = {}
    for name, kind in _MODELS.items():
        made[name] = kind()
        made[name].init(name, str(Path(app_dir) / "model"), conf, None)
    return made
