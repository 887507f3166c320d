"""A fake of the server's client, for what the panel does with replies; the real server replies in the live tests."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.server.label_responses import LabelVersion, PhaseState
from PratoLabelLib.server.responses import Cost, ModelInfo, NextStudy, Prediction, ServerInfo, Study, TrainingState
from tests.slicer_module.fake_clicks import ClickReplies

SHAPE, SPACING = (24, 22, 5), (2.0, 2.0, 8.0)
LABELS = {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
PRUNE = ("default", "off", "50")
COST = {"default": Cost(2.0, 10.0), "off": Cost(4.0, 30.0)}


def heart(radius: int = 4) -> np.ndarray:
    """A mask (I, J, K): LV cavity of ``radius`` voxels in a wall of 2, RV cavity beside it."""
    x, y = np.meshgrid(np.arange(SHAPE[0]) - 13, np.arange(SHAPE[1]) - 11, indexing="ij")
    plane = np.zeros(SHAPE[:2], np.uint8)
    plane[np.hypot(x + 8, y) < 3] = LABELS["RV cavity"]
    plane[np.hypot(x, y) < radius + 2] = LABELS["myocardium"]
    plane[np.hypot(x, y) < radius] = LABELS["LV cavity"]
    return np.repeat(plane[:, :, None], SHAPE[2], 2)


def write(path: Path, array: np.ndarray) -> Path:
    """Store ``array`` (I, J, K)."""
    image = sitk.GetImageFromArray(array.T.astype(np.uint8))
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path))
    return path


class FakeClient(ClickReplies):
    """Two studies of one patient, one of them labelled.

    ``requests`` collects what was requested; ``failure`` is raised instead of a reply.
    """

    address = "http://fake"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.names = ["p1_ED", "p1_ES"]
        self.gate = threading.Event()  # for a test that holds a reply back
        self.requests: list[tuple[Any, ...]] = []
        self.failure: ServerError | None = None
        self.warnings: list[str] = []
        self.box_source = "proposed"  # where the request has no box
        self.conflict: dict[str, Any] | None = None
        self.labelled = {"p1_ED": "Ada"}
        self.latest = {"p1_ED": 3}
        self.next_phase: int | None = None
        self.contract = 3
        self.label_warnings: list[str] = []
        self.states: dict[str, dict[int, PhaseState]] = {"p1_ED": {0: PhaseState("corrected", "Ada")}}
        self.reviews: dict[str, tuple[str, str]] = {}
        self.state = TrainingState(False, 0, 0, 0, 0, None, "", {})

    def __call__(self, address: str, token: str) -> FakeClient:
        self.requests.append(("connect", address, token))
        return self

    def _record(self, *request: Any) -> None:
        self.requests.append(request)
        if self.failure:
            raise self.failure

    def info(self) -> ServerInfo:
        self._record("info")
        models = (ModelInfo("prato_unetr", True, LABELS, PRUNE, True, COST), ModelInfo("prato_auto", False, LABELS, PRUNE[:2], False, {}))
        return ServerInfo("PrATo Label", "0.1.0", models, ("first", "random"), 3.4, self.contract)

    def studies(self) -> list[Study]:
        self._record("studies")
        return [Study(n, n in self.labelled, self.labelled.get(n, ""), *self.reviews.get(n, ("open", ""))) for n in self.names]

    def next_study(self, strategy: str, model: str) -> NextStudy:
        self._record("next", strategy, model)
        chosen = next((n for n in self.names if n not in self.labelled and n not in self.reviews), self.names[-1])
        return NextStudy(chosen, self.next_phase)

    def download_image(self, study: str, folder: str) -> Path:
        return write(Path(folder) / f"{study}.nii.gz", np.ones(SHAPE))

    def is_same_image(self, study: str, checksum: str) -> bool:
        return True

    def download_label(self, study: str, folder: str) -> Path:
        return write(Path(folder) / f"{study}_final.nii.gz", heart(5))

    def current_version(self, study: str) -> int:
        return self.latest.get(study, 0)

    def download_version(self, study: str, version: int, folder: str) -> Path:
        self._record("version", study, version)
        return write(Path(folder) / f"{study}_v{version}.nii.gz", heart(5 if version == self.latest[study] else 3))

    def versions(self, study: str) -> list[LabelVersion]:
        count = self.latest.get(study, 0)
        states = self.states.get(study, {})
        return [LabelVersion(n, "Ada", f"2025-03-0{n}T09:30:00Z", "submitted", n == count, states) for n in range(count, 0, -1)]

    def approve(self, study: str, phases: list[int], annotator: str, version: int) -> list[str]:
        self._record("approve", study, phases, annotator, version)
        self.states[study] = {**self.states[study], **dict.fromkeys(phases, PhaseState("final", "Ada", annotator))}
        return self.label_warnings

    def send_back(self, study: str, phases: list[int], reason: str, annotator: str, version: int) -> list[str]:
        self._record("send back", study, phases, reason, annotator, version)
        self.states[study] = {**self.states[study], **dict.fromkeys(phases, PhaseState("proposed", "Ada", reason=reason))}
        return self.label_warnings

    def restore_version(self, study: str, version: int, annotator: str) -> dict[str, Any]:
        self._record("restore", study, version, annotator)
        self.latest[study] += 1
        return {"image": study, "version": self.latest[study], "voxels": {}, "conflict": None}

    def review(self, study: str, state: str, reason: str, annotator: str) -> None:
        self._record("review", study, state, reason, annotator)
        self.reviews[study] = (state, reason)

    def upload_image(self, study: str, path: Path) -> str:
        self._record("upload", study, path.read_bytes()[:2])
        return study

    def infer(self, model: str, study: str, params: dict[str, Any]) -> Prediction:
        self._record("infer", model, study, params)
        box = params.get("roi", [[1, 23, 2, 20, 0, 5]])[0]
        reply = {"label_names": LABELS, "box": box, "box_source": "roi" if "roi" in params else self.box_source, "warnings": self.warnings}
        reply |= {"kept_fraction": {"block 4": 0.5, "block 7": 0.25}, "gflops": 7.7, "gflops_dense": 8.0, "latency_ms": {"total": 698.4}}
        reply |= {"model_version": "a03b7f124ceb", "device": "cpu"}
        return Prediction(write(self.folder / "mask.nrrd", heart()).read_bytes(), reply)

    def submit(self, study: str, path: Path, info: dict[str, Any]) -> dict[str, Any]:
        self._record("submit", study, info)
        self.labelled[study], self.latest[study] = info["annotator"], self.current_version(study) + 1
        stored = {"voxels": {"LV cavity": 245}, "version": self.latest[study], "conflict": self.conflict, "warnings": self.label_warnings}
        return {"image": study, "label": study, **stored}

    def train(self, model: str, params: dict[str, Any]) -> None:
        self._record("train", model, params)

    def training(self, model: str) -> TrainingState:
        return self.state

    def stop_training(self) -> None:
        self._record("stop")

    def cancel(self) -> None:
        self.requests.append(("cancel",))
