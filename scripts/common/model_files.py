"""Where the model that a command names lies."""

from __future__ import annotations

from pathlib import Path

from prato.models.registry import DEFAULT_MODEL
from scripts.common.paths import MODELS

#: Of the file of every model that ``train.py`` trains, in the folder of its run.
TRAINED_NAME = "model.safetensors"


def model_file(name: str) -> Path:
    """The file of a shipped model (``prato_unetr``, ...), or ``name`` itself if it is a path of a ``.safetensors`` file.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(name) if name.endswith(".safetensors") else MODELS / f"{name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(path.stem for path in MODELS.glob("*.safetensors")))
        raise ValueError(f"There is no model {name}: name a shipped model ({shipped}) or a .safetensors file.")
    return path.absolute()


def model_name(path: Path) -> str:
    """What tables call the model in ``path``: by its file, or by its folder where ``train.py`` wrote it, whose files all have one name.

    ``model/prato_unetr.safetensors`` -> ``prato_unetr``, ``out/train/mine/model.safetensors`` -> ``mine``.
    """
    return path.absolute().parent.name if path.name == TRAINED_NAME else path.stem


def locator_file() -> Path | None:
    """The shipped model that proposes boxes to those that need one, where it is shipped."""
    path = MODELS / f"{DEFAULT_MODEL}.safetensors"
    return path if path.is_file() else None
