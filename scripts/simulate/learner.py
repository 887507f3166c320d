"""The network of the simulation: small, and trained further from round to round."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from prato.data.cases import TrainingCase, load_training_case
from prato.data.studies.folder import StudyFile, find_labelled_studies
from prato.models.checkpoint import ModelSpec, load_model, model_preset, read_spec, save_model, stored_version
from prato.phantom.frames import make_phantoms
from prato.training.trainer import Budget, Settings, Trainer

#: The shipped networks see 192 mm in pixels of 1.5 mm. A round must take seconds here: a quarter of the pixels, room for most hearts, and
#: of each pair of transformer blocks the first, on half of the channels.
PIXEL, WINDOW = 2.5, 64
SMALL: dict[str, dict[str, Any]] = {"swin_unetr": {"depths": (1, 1, 1, 1), "feature_size": 12}, "unetr": {"img_size": WINDOW}}
BATCH = 8
#: Peak rates of a training from fresh weights and of one that goes on.
FRESH, FURTHER = 1.5e-3, 1e-3


class Learner:
    """Trains networks of the preset ``name`` on labelled studies; these are read once and kept."""

    def __init__(self, name: str) -> None:
        preset = model_preset(name)
        self.spec: ModelSpec = preset.model_copy(
            update={"pixel": PIXEL, "window": WINDOW, "arguments": {**preset.arguments, **SMALL.get(name, {})}}
        )
        self._cases: dict[str, TrainingCase | None] = {}

    def teach(self, folder: Path, patients: int, made: Path, steps: int, pruned: bool) -> None:
        """Write to ``made`` a network of ``steps`` steps on generated ``patients``, kept in ``folder``; as :meth:`train` does."""
        if not (folder / "manifest.json").exists():  # written last
            shutil.rmtree(folder, ignore_errors=True)
            make_phantoms(folder, patients, 0, lambda numbers: tqdm(numbers, desc="phantoms", leave=False))
        self.train(find_labelled_studies(folder), None, made, steps, 0, pruned)

    def train(self, files: Sequence[StudyFile], start: Path | None, made: Path, steps: int, seed: int, pruned: bool) -> float:
        """Write to ``made`` the network of ``start`` (None: a fresh one) after ``steps`` steps on ``files``; returns the seconds it took.

        The result follows from the arguments alone: optimiser and rate begin anew, weights come as they were stored. Where ``made`` is
        that network already, nothing is done.
        """
        about: dict[str, Any] = {"studies": [file.study for file in files], "start": start and stored_version(start)}
        about |= {"steps": steps, "seed": seed, "pruned": pruned}
        if made.exists() and about.items() <= (training := read_spec(made).training).items():
            return float(training["seconds"])
        cases = [case for file in files if (case := self._case(file)) is not None]
        plan = self.spec.pruning_plan() if pruned else None
        torch.manual_seed(seed)
        network = self.spec.build() if start is None else load_model(start)[0]
        settings = Settings(BATCH, FRESH if start is None else FURTHER, WINDOW, seed)
        with tqdm(total=steps, desc=f"{len(cases)} studies", unit="step", leave=False, mininterval=1.0) as bar:
            trainer = Trainer(network, plan, settings, torch.device("cpu"))
            trained = trainer.fit(cases, Budget(steps=steps), lambda _: bar.update() is not False)
        made.parent.mkdir(parents=True, exist_ok=True)
        about |= {"seconds": round(trainer.seconds, 1)}
        save_model(made, trained, self.spec.with_plan(plan).model_copy(update={"training": about}))
        return round(trainer.seconds, 1)

    def _case(self, file: StudyFile) -> TrainingCase | None:
        if file.study not in self._cases:
            self._cases[file.study] = load_training_case(file, PIXEL)
        return self._cases[file.study]
