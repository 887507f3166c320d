"""ACDC: whole slices round the middle of the image, or views that follow the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from prato.data.cases import TrainingCase, load_training_case, read_label
from prato.data.nifti import read_volume
from prato.data.resampling import stack_neighbours
from prato.data.structures import COLOURS, STRUCTURES
from prato.data.studies.folder import StudyFile, find_labelled_studies, load_manifest
from prato.inference.image_stack import ImageStack
from prato.inference.window import Window
from prato.prompts.box import Box
from prato.training.augmentation import SliceDataset
from scripts.research.datasets.base import (
    FIELD_MM,
    EvalCase,
    ExperimentError,
    OnLoad,
    SegmentationDataset,
    Sight,
    View,
    draw_box,
    register_dataset,
)

#: mm a pixel of the slices that a cut is taken from: finer than whole slices, as a cut has the pixels for it.
CUT_MM = 1.5


@register_dataset("acdc")
class ACDC(SegmentationDataset):
    """A studies folder as ``scripts/import_acdc.py`` makes it."""

    title = "ACDC"
    structures = STRUCTURES
    colours = COLOURS
    #: The nnU-Net family on the official test set.
    reference_dice = {"RV cavity": 0.92, "myocardium": 0.91, "LV cavity": 0.95}
    figure = 3

    def groups(self, images: int | None) -> dict[str, str | None]:
        manifest = load_manifest(self.folder)
        known = {study.patient: study.group for study in manifest.studies.values()} if manifest else {}
        return {files.patient: known.get(files.patient) for files in self._studies()}

    def training_cases(self, names: Sequence[str], image: int, fine: bool, on_load: OnLoad) -> list[TrainingCase]:
        files, found = self._studies_of(names), []
        for done, each in enumerate(files, start=1):
            found.append(load_training_case(each, CUT_MM if fine else FIELD_MM / image))
            on_load(done, len(files))
        return [case for case in found if case is not None]

    def samples(self, cases: Sequence[TrainingCase], sight: Sight, seed: int, batch: int) -> Dataset:
        return SliceDataset(list(cases), sight.edge, seed, 2**40, "image", sight.boxes, elastic=False)

    def eval_cases(self, names: Sequence[str], condition: str, sight: Sight) -> list[EvalCase]:
        cases = (heart_case(files, condition, sight) for files in self._studies_of(names))
        return [case for case in cases if case is not None]

    def _studies_of(self, names: Sequence[str]) -> list[StudyFile]:
        return [files for files in self._studies() if files.patient in names]

    def _studies(self) -> list[StudyFile]:
        files = find_labelled_studies(self.folder)
        if not files:
            raise ExperimentError(f"{self.folder} has no labelled studies: make them with scripts/import_acdc.py, or name their folder.")
        return files


def heart_case(files: StudyFile, condition: str, sight: Sight) -> EvalCase | None:
    """One study; None where its label is empty. Its slices are those in the box's range, which is the heart's under every condition.

    Args:
        condition: of the box. sight: whole slices of ``FIELD_MM``, or a view of slices at ``CUT_MM``.

    Raises:
        VolumeError: image or label cannot be used.
    """
    volume = read_volume(files.image)
    truth = read_label(files.label, volume)
    if not truth.any():
        return None
    stack = ImageStack(volume)
    volume, truth = stack.volume, stack.to_stack(truth)
    box = draw_box(files.study, truth, condition)
    planes = list(range(box.start[2], box.stop[2]))
    pixel = FIELD_MM / sight.image
    # pictures are of whole slices, whatever the network sees
    whole = Window.from_centre(Box.whole(volume.array.shape), volume.array.shape, volume.spacing, pixel, sight.image)
    seen = stack_neighbours(whole.cut(stack.slices(pixel)), planes)
    around = np.array([box.start[:2], box.stop[:2]]) * whole.scale - whole.corner
    middle = len(planes) // 2
    case = EvalCase(
        case=files.study,
        patient=files.patient,
        image=seen,
        box=around,
        truth=truth,
        spacing=volume.spacing,
        structures=STRUCTURES,
        native=partial(_native, whole, truth.shape, planes),
        picture=partial(_picture, whole, planes[middle]),
        grey=seen[middle, 1].numpy(),
        grey_box=around,
    )
    if not sight.boxes:
        return case
    own = stack.slices(CUT_MM)
    scale = np.array(own.shape[1:]) / np.array(truth.shape[:2])
    drawn = np.array([box.start[:2], box.stop[:2]], dtype=float)
    view = View.around(drawn, sight.boxes, sight.edge)
    image_seen = view.scaled(scale).cut(stack_neighbours(own, planes))
    native = partial(_from_view, view, truth.shape, planes)
    return replace(case, image=image_seen, box=view.inside(drawn), native=native, view=View.around(around, sight.boxes, sight.edge))


def _native(window: Window, shape: tuple[int, ...], planes: list[int], maps: Tensor) -> np.ndarray:
    values, (x, y) = window.to_native(maps)
    mask = np.zeros(shape, dtype=np.uint8)
    mask[x, y, planes] = values.argmax(1).to(torch.uint8).permute(1, 2, 0).numpy()
    return mask


def _from_view(view: View, shape: tuple[int, ...], planes: list[int], maps: Tensor) -> np.ndarray:
    values, (x, y) = view.back(maps, shape[:2])
    mask = np.zeros(shape, dtype=np.uint8)
    mask[x, y, planes] = values.argmax(1).to(torch.uint8).permute(1, 2, 0).numpy()
    return mask


def _picture(window: Window, plane: int, mask: np.ndarray) -> np.ndarray:
    """Slice ``plane`` of ``mask`` in the window, by the nearest voxel."""
    axes = [
        np.floor((np.arange(window.size) + 0.5 + corner) * native / resampled).astype(int)
        for corner, native, resampled in zip(window.corner, window.native, window.resampled)
    ]
    rows, columns = ((axis >= 0) & (axis < n) for axis, n in zip(axes, window.native))
    nearest = np.ix_(*(np.clip(axis, 0, n - 1) for axis, n in zip(axes, window.native)))
    return np.where(np.outer(rows, columns), mask[..., plane][nearest], 0).astype(np.uint8)
