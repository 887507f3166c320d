"""ACDC: whole slices round the middle of the image, or views that follow the box."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from prato.data.cases import read_label
from prato.data.nifti import read_volume
from prato.data.stack import to_stack
from prato.data.structures import STRUCTURES
from prato.data.studies import StudyFile
from prato.inference.image_stack import ImageStack
from prato.inference.window import Window, with_neighbours
from prato.prompts.box import Box
from scripts.research.datasets.base import EvalCase, View, drawn_box

#: mm a pixel of the slices that a cut is taken from: finer than whole slices, as a cut has the pixels for it.
CUT_MM = 1.5


def heart_case(files: StudyFile, condition: str, pixel: float, image: int, edge: int, boxes: float) -> EvalCase | None:
    """One study; None where its label is empty. Its slices are those in the box's range, which is the heart's under every condition.

    Args:
        condition: of the box. pixel: mm a pixel of whole slices, shown in windows of ``image`` pixels.
        edge: of the network's input. boxes: how many boxes long its view is, of slices at ``CUT_MM``; 0 for the whole window.

    Raises:
        VolumeError: image or label cannot be used.
    """
    volume = read_volume(files.image)
    truth = read_label(files.label, volume)
    if not truth.any():
        return None
    stack = ImageStack(volume)
    volume, truth = stack.volume, to_stack(truth, stack.axis)
    box = drawn_box(files.study, truth, condition)
    planes = list(range(box.start[2], box.stop[2]))
    place = volume.array.shape, volume.spacing, pixel
    # pictures are of whole slices, whatever the network sees
    whole = Window.centred(Box.whole(volume.array.shape), *place, image)
    seen = with_neighbours(whole.cut(stack.slices(pixel)), planes)
    around = np.array([whole.to_pixels(box.start), whole.to_pixels(box.stop)])
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
    if not boxes:
        return case
    own = stack.slices(CUT_MM)
    scale = np.array(own.shape[1:]) / np.array(truth.shape[:2])
    drawn = np.array([box.start[:2], box.stop[:2]], dtype=float)
    view = View.of(drawn, boxes, edge)
    image_seen = view.scaled(scale).cut(with_neighbours(own, planes))
    native = partial(_from_view, view, truth.shape, planes)
    return replace(case, image=image_seen, box=view.inside(drawn), native=native, view=View.of(around, boxes, edge))


def heart_cases(files: Iterable[StudyFile], condition: str, pixel: float, image: int, edge: int, boxes: float) -> list[EvalCase]:
    """All that hold a heart."""
    cases = (heart_case(each, condition, pixel, image, edge, boxes) for each in files)
    return [case for case in cases if case is not None]


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
