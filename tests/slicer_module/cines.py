"""Small cines for the tests: files with phases, and a fake server that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from PratoLabelLib.server.responses import Prediction, Study
from tests.slicer_module.fake_client import SHAPE, SPACING, FakeClient, heart

CINE, PHASES, STEP_MS = "p9_4d", 4, 40.0
#: Radius of the LV cavity in each phase: the first is end-diastole, the third end-systole.
RADII = (5, 4, 2, 4)
AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])  # as the base writes its files


def write_cine(path: Path, arrays: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Store ``arrays`` (I, J, K, T)."""
    image = nib.Nifti1Image(arrays, affine)
    image.header["pixdim"][4] = STEP_MS / 1000
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def beating_heart() -> np.ndarray:
    """The masks of all phases (I, J, K, T)."""
    return np.stack([heart(radius) for radius in RADII], 3)


class CineClient(FakeClient):
    """As its base, with a cine of four phases beside the two studies.

    Attributes:
        stored: its label, where it has one.
        sent: the masks that were submitted.
        warned: of which phases warnings are.
        labels_sent: the masks that came with requests to propagate.
        found: end-diastole and end-systole, as the server finds them.
        marked: end-diastole and end-systole, as they were marked.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.names.append(CINE)
        self.marked: tuple[int, int] | None = None
        self.found = (0, 2)
        self.sent: list[np.ndarray] = []
        self.stored = beating_heart()
        self.labels_sent: list[np.ndarray | None] = []
        self.warned: dict[str, list[int]] = {}

    def studies(self) -> list[Study]:
        times = tuple(STEP_MS * phase for phase in range(PHASES))
        known = {CINE: (PHASES, times, self.marked)}
        return [Study(s.id, s.labelled, s.annotator, s.review, s.reason, *known.get(s.id, ())) for s in super().studies()]

    def download_image(self, study: str, folder: str) -> Path:
        if study != CINE:
            return super().download_image(study, folder)
        grey = np.ones((*SHAPE, PHASES), np.int16) * 10 + np.arange(PHASES, dtype=np.int16)
        return write_cine(Path(folder) / f"{study}.nii.gz", grey)

    def download_version(self, study: str, version: int, folder: str) -> Path:
        if study != CINE:
            return super().download_version(study, version, folder)
        return write_cine(Path(folder) / f"{study}_v{version}.nii.gz", self.stored)

    def infer(self, model: str, study: str, params: dict[str, Any]) -> Prediction:
        prediction = self._infer(model, study, params)
        if study != CINE:
            return prediction
        facts = {"phases": [params["phases"]], "mask_phase": params["phases"]}
        return Prediction(prediction.mask, {**prediction.reply, **facts})

    def infer_phases(self, model: str, study: str, params: dict[str, Any], progress: Any, label: Path | None = None) -> Prediction:
        reply, masks = self._infer(model, study, params).reply, beating_heart()
        progress.done, progress.phases = 2, PHASES
        self.gate.wait(0.0 if self.gate.is_set() else 0.2)
        facts = {"phases": [*range(PHASES)], "mask_phase": None, "ed": self.found[0], "es": self.found[1]}
        if "propagate" in params:
            masks, more = self._propagate(study, params["propagate"], label)
            facts |= more
        mask = write_cine(self.folder / "answer.nii.gz", masks).read_bytes()
        if self.warned:  # servers of an earlier version do not say of which phases
            facts["warned_phases"] = self.warned
        return Prediction(mask, {**reply, **facts})

    def _propagate(self, study: str, wanted: Any, label: Path | None) -> tuple[np.ndarray, dict[str, Any]]:
        """Keys as they are, in all other phases a heart of one structure: nothing that the model would say."""
        known, listed = self.states.get(study, {}), set() if wanted is True else set(wanted)
        keys = {phase for phase, state in known.items() if state.state != "proposed"} | listed
        kept = {phase for phase, state in known.items() if state.reason} - keys
        sent = np.asanyarray(nib.load(label).dataobj) if label is not None else None
        self.labels_sent.append(sent)
        masks = np.where(beating_heart() > 0, 2, 0).astype(np.uint8)
        for phase in keys | kept:
            masks[..., phase] = sent[..., phase] if sent is not None and phase in listed else self.stored[..., phase]
        filled = sorted(set(range(PHASES)) - keys - kept)
        return masks, {"keys": sorted(keys), "filled": filled, "kept": sorted(kept), "label_version": self.latest.get(study)}

    def _infer(self, model: str, study: str, params: dict[str, Any]) -> Prediction:
        """As the base; boxes by phase are united."""
        if not isinstance(params.get("roi"), dict):
            return super().infer(model, study, params)
        self._record("infer", model, study, params)
        boxes = np.array([box for found in params["roi"].values() for box in found])
        united = np.where(np.arange(6) % 2, boxes.max(axis=0), boxes.min(axis=0)).tolist()
        prediction = super().infer(model, study, {**params, "roi": [united]})
        self.requests.pop()
        return prediction

    def mark_phases(self, study: str, ed: int | None, es: int | None, annotator: str) -> None:
        self._record("mark", study, ed, es, annotator)
        self.marked = None if ed is None or es is None else (ed, es)

    def submit(self, study: str, path: Path, info: dict[str, Any]) -> dict[str, Any]:
        if study == CINE:
            self.sent.append(np.asanyarray(nib.load(path).dataobj).copy())
        return super().submit(study, path, info)
