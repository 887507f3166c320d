"""A studies folder with hearts, labels and their versions, and a server's app with small models and a past: what each fault begins with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import requests
import torch

from demo_client import DemoServer, copied_app
from faults.asking import MODEL, Bench
from prato.checkpoint import ModelSpec, save_model
from prato.data.nifti import Volume, read_volume
from prato.data.phantom import make_phantoms
from prato.locator import LOCATOR
from prato.presets import PRESETS

_SMALL = {"img_size": 64, "feature_size": 4, "hidden_size": 24, "mlp_dim": 24, "num_heads": 3}


@dataclass(frozen=True)
class Base:
    """Folders to be copied, true labels by study, and the SHA-256 of each version that a server has acknowledged so far."""

    folder: Path
    labels: dict[str, Volume]
    acknowledged: dict[tuple[str, int], str]

    def bench(self, folder: Path, seed: int) -> Bench:
        """A copy of its own in ``folder``."""
        return Bench(self.folder, folder, self.labels, dict(self.acknowledged), seed)


def made(folder: Path, seed: int) -> Base:
    """Three phantom patients, versions of two labels, two versions of a model, a training that ended and one that was stopped.

    Raises:
        ServerError: the server did not start or refused one of these.
    """
    app, studies = copied_app(folder / "app"), folder / "studies"
    for shipped in (app / "model").glob("prato_*"):
        shipped.unlink()
    small_model(app / "model" / f"{MODEL}.safetensors", seed)
    locator = LOCATOR.model_copy(update={"arguments": {**LOCATOR.arguments, "channels": (4, 4), "strides": (2,)}})
    _saved(app / "model" / "prato_locator.safetensors", locator, seed)
    small_model(folder / "other.safetensors", seed + 1)
    make_phantoms(studies, 3, seed)
    labels = {path.name.removesuffix(".nii.gz"): read_volume(path) for path in sorted((studies / "labels" / "final").iterdir())}
    (studies / "labels" / "final" / f"{list(labels)[-1]}.nii.gz").unlink()  # a study to be labelled next
    base = Base(folder, labels, {})
    made_with = Bench(None, folder, labels, base.acknowledged, seed)
    with DemoServer(app, studies, folder / "made.log", made_with.settings) as server:
        made_with.server = server
        for study in (*list(labels)[:2], *list(labels)[:1]):
            made_with.submit(study)
        with (folder / "other.safetensors").open("rb") as file:
            requests.put(f"{server.url}/model/{MODEL}", files={"file": file}, timeout=60).raise_for_status()
        server.train(MODEL, {"max_steps": 2}, lambda stats: None)
        made_with.train_until_step(1)
        made_with.ask("DELETE", "/train/")
    if made_with.wrong:
        raise RuntimeError(json.dumps(made_with.wrong))
    (folder / "made.log").unlink()
    return base


def small_model(path: Path, seed: int) -> None:
    """Save a small UNETR with random weights to ``path``."""
    spec = PRESETS["unetr"]
    _saved(path, spec.model_copy(update={"arguments": {**spec.arguments, **_SMALL}, "window": 64, "pixel": 3.0}), seed)


def _saved(path: Path, spec: ModelSpec, seed: int) -> None:
    torch.manual_seed(seed)
    save_model(path, spec.build(), spec)
