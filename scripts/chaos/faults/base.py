"""A studies folder with hearts, labels and their versions, and a server's app with small models and a past: what each fault begins with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from prato.data.nifti import Volume, read_volume
from prato.models.checkpoint import ModelSpec, model_preset, save_model
from prato.models.registry import DEFAULT_MODEL
from prato.phantom.frames import make_phantoms
from prato.retraining.model_store import ModelStore
from scripts.chaos.faults.bench import MODEL, Bench
from scripts.common.demo_client import DemoServer, ServerError, copy_app

_SMALL = {"img_size": 64, "feature_size": 4, "hidden_size": 24, "mlp_dim": 24, "num_heads": 3}
_SMALL_STACK = {"filters": (8, 8, 12, 16, 16), "overview_dim": 16, "overview_depth": 1}


@dataclass(frozen=True)
class Base:
    """Folders to be copied, true labels by study, and the SHA-256 of each version that a server has acknowledged so far."""

    folder: Path
    labels: dict[str, Volume]
    acknowledged: dict[tuple[str, int], str]

    def bench(self, folder: Path, seed: int) -> Bench:
        """A copy of its own in ``folder``."""
        return Bench(self.folder, folder, self.labels, dict(self.acknowledged), seed)


def lay_out(folder: Path, seed: int) -> Base:
    """Three phantom patients with labels but for one study, and two versions of a small model: what no server has seen yet."""
    app, studies = copy_app(folder / "app"), folder / "studies"
    for shipped in (app / "model").glob("prato_*"):
        shipped.unlink()
    model = app / "model" / f"{MODEL}.safetensors"
    small_model(model, seed)
    small_model(folder / "other.safetensors", seed + 1)
    ModelStore(model).upload((folder / "other.safetensors").read_bytes())
    stack = model_preset("overview_unet")
    small = {"arguments": {**stack.arguments, **_SMALL_STACK}, "pixel": 3.0}
    _save(app / "model" / f"{DEFAULT_MODEL}.safetensors", stack.model_copy(update=small), seed)
    make_phantoms(studies, 3, seed)
    labels = {path.name.removesuffix(".nii.gz"): read_volume(path) for path in sorted((studies / "labels" / "final").iterdir())}
    (studies / "labels" / "final" / f"{list(labels)[-1]}.nii.gz").unlink()  # a study to be labelled next
    return Base(folder, labels, {})


def make_base(folder: Path, seed: int) -> Base:
    """The same with a past: versions of two labels, a training that ended and one that was stopped.

    Raises:
        ServerError: the server did not start or refused one of these.
    """
    base = lay_out(folder, seed)
    bench = Bench(None, folder, base.labels, base.acknowledged, seed)
    with DemoServer(bench.app, bench.studies, folder / "made.log", bench.settings) as server:
        bench.server = server
        for study in (*list(base.labels)[:2], *list(base.labels)[:1]):
            bench.submit(study)
        server.train(MODEL, {"max_steps": 2}, lambda stats: None)
        bench.train_until_step(1)
        bench.request("DELETE", "/train/")
    if bench.wrong:
        raise ServerError(bench.wrong[0])
    (folder / "made.log").unlink()
    return base


def small_model(path: Path, seed: int) -> None:
    """Save a small UNETR with random weights to ``path``."""
    spec = model_preset("unetr")
    _save(path, spec.model_copy(update={"arguments": {**spec.arguments, **_SMALL}, "window": 64, "pixel": 3.0}), seed)


def _save(path: Path, spec: ModelSpec, seed: int) -> None:
    torch.manual_seed(seed)
    save_model(path, spec.build(), spec)
