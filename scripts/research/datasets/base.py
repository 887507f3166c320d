"""The contract of a data set that experiments are trained and tested on, and a test case as every network is shown it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from prato.data.cases import TrainingCase
from prato.evaluation.box_conditions import BoxCondition, perturb_box, seeded_rng
from prato.prompts.box import Box
from prato.runtime.registry import Registry

#: Draws the boxes at evaluation, which are the same for all seeds of training.
_BOX_SEED = 0
#: Side of the square that a network sees of a whole slice, in mm: the whole slice of nearly every heart.
FIELD_MM = 256.0
#: Called with how many of how many files are read.
OnLoad = Callable[[int, int], object]


class ExperimentError(ValueError):
    """An experiment that cannot be run; the message is one sentence."""


@dataclass(frozen=True)
class View:
    """The part of slices that a network sees: from ``start`` to ``stop`` (each (2,), pixels), stretched to ``edge`` pixels."""

    start: np.ndarray
    stop: np.ndarray
    edge: int

    @classmethod
    def around(cls, box: np.ndarray, boxes: float, edge: int) -> View:
        """``boxes`` times as long as ``box`` (2, 2), start and stop, and with the same middle."""
        middle, half = box.mean(0), boxes * np.maximum(box[1] - box[0], 1.0) / 2
        return cls(middle - half, middle + half, edge)

    def scaled(self, scale: np.ndarray) -> View:
        """On a grid with ``scale`` (2,) times as many pixels."""
        return View(self.start * scale, self.stop * scale, self.edge)

    def inside(self, box: np.ndarray) -> np.ndarray:
        """``box`` (2, 2) in pixels of the stretched view."""
        return (box - self.start) * self.edge / (self.stop - self.start)

    def cut(self, slices: Tensor) -> Tensor:
        """``slices`` (K, C, X, Y) -> (K, C, edge, edge), as training's samples are made: bilinear, and -1 beyond the image."""
        places = self.start + (np.arange(self.edge) + 0.5)[:, None] * (self.stop - self.start) / self.edge
        grid = np.stack(np.meshgrid(*(2.0 * places / slices.shape[2:] - 1.0).T, indexing="ij")[::-1], -1)
        sampled = torch.from_numpy(grid).float().expand(len(slices), -1, -1, -1)
        return F.grid_sample(slices + 1, sampled, mode="bilinear", padding_mode="zeros", align_corners=False) - 1

    def back(self, maps: Tensor, shape: Sequence[int]) -> tuple[Tensor, tuple[slice, slice]]:
        """Maps (K, C, edge, edge) at the pixels of a ``shape`` grid whose middles are in view, and which pixels these are."""
        first = np.clip(np.ceil(self.start - 0.5), 0, shape).astype(int)
        after = np.clip(np.ceil(self.stop - 0.5), first, shape).astype(int)
        axes = [2.0 * (np.arange(a, b) + 0.5 - s) / (e - s) - 1.0 for a, b, s, e in zip(first, after, self.start, self.stop)]
        grid = torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij")[::-1], -1)).float().expand(len(maps), -1, -1, -1)
        values = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return values, (slice(first[0], after[0]), slice(first[1], after[1]))


@dataclass(frozen=True)
class EvalCase:
    """Slices of one volume, or one image.

    Attributes:
        case, patient: names; an image is its own patient.
        image: float32 (K, 3, edge, edge).
        box: (2, 2), start and stop in pixels of ``image``, the same on all slices.
        truth: uint8 (X, Y, Z) or (X, Y), on the grid that is scored. spacing: of its voxels, in mm (ISIC: pixels).
        structures: name -> value.
        native: predicted classes' maps (K, C, edge, edge) -> mask on the grid of ``truth``.
        picture: a mask on that grid -> (edge', edge') of the middle slice, for figures; and that slice in grey, and the box in it.
        view: the part of that picture that ``image`` shows; None for all of it.
    """

    __test__ = False  # no test of pytest's

    case: str
    patient: str
    image: Tensor
    box: np.ndarray
    truth: np.ndarray
    spacing: tuple[float, ...]
    structures: Mapping[str, int]
    native: Callable[[Tensor], np.ndarray]
    picture: Callable[[np.ndarray], np.ndarray]
    grey: np.ndarray
    grey_box: np.ndarray
    view: View | None = None


@dataclass(frozen=True)
class Sight:
    """How a network sees a case.

    Attributes:
        image: edge of the whole image in pixels. edge: of the network's input.
        boxes: how many boxes long its view is; 0 where it sees the whole image.
    """

    image: int
    edge: int
    boxes: float


class SegmentationDataset(ABC):
    """A labelled data set in ``folder``. A new one is a file in this package whose class has ``@register_dataset(name)``.

    Attributes:
        title: as it is written in tables. structures: name -> mask value. colours: RGB in 0..1 by structure, in the order of the values.
        unit: of distances. sample: what one call of the network segments, with its article. subjects: what a split divides, in the plural.
        can_draw: whether an experiment may take so many of its images, drawn by a hash of their names.
        reference_dice: the DSC by structure of the literature's best automatic methods; empty where there is no such comparison.
        figure: the number of the paper's figure of all methods on these data; None for data that the paper has not got.
    """

    title: ClassVar[str]
    structures: ClassVar[Mapping[str, int]]
    colours: ClassVar[Mapping[str, tuple[float, float, float]]]
    unit: ClassVar[str] = "mm"
    sample: ClassVar[str] = "a slice"
    subjects: ClassVar[str] = "patients"
    can_draw: ClassVar[bool] = False
    reference_dice: ClassVar[Mapping[str, float]] = {}
    figure: ClassVar[int | None] = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def groups(self, images: int | None) -> dict[str, str | None]:
        """Every patient or image by name, with the group that a split divides evenly (None for none).

        Args:
            images: take so many, drawn by a hash of their names; None for all.

        Raises:
            ExperimentError: the folder does not hold them.
        """

    @abstractmethod
    def training_cases(self, names: Sequence[str], image: int, fine: bool, on_load: OnLoad) -> list[TrainingCase]:
        """The cases of ``names``, without those in which nothing is labelled.

        Args:
            image: edge of a whole image in pixels. fine: at the resolution that a view of the box is cut from instead.

        Raises:
            ExperimentError, VolumeError: a file cannot be used.
        """

    @abstractmethod
    def samples(self, cases: Sequence[TrainingCase], sight: Sight, seed: int, batch: int) -> Dataset:
        """An endless stream of training samples, of which number n depends on ``seed`` and n alone; ``batch`` of them make a step."""

    @abstractmethod
    def eval_cases(self, names: Sequence[str], condition: str, sight: Sight) -> list[EvalCase]:
        """The cases of ``names`` with boxes of ``condition``, without those in which nothing is labelled.

        Raises:
            ExperimentError, VolumeError: a file cannot be used.
        """


_DATASETS: Registry[type[SegmentationDataset]] = Registry("data sets")
_Registered = TypeVar("_Registered", bound=type[SegmentationDataset])


def register_dataset(name: str) -> Callable[[_Registered], _Registered]:
    """Class decorator: experiments name the data set ``name`` from now on.

    Raises:
        ValueError: another class is registered by that name.
    """
    return _DATASETS.register(name)


def list_datasets() -> list[str]:
    """The registered names, sorted."""
    return sorted(_DATASETS)


def dataset_class(name: str) -> type[SegmentationDataset]:
    """The class registered as ``name``.

    Raises:
        ValueError: there is none.
    """
    if name not in _DATASETS:
        raise ValueError(f"No data set is registered as {name!r}: use one of {', '.join(list_datasets())}.")
    return _DATASETS[name]


def draw_box(name: str, truth: np.ndarray, condition: str) -> Box:
    """The box of ``condition`` round the structures of ``truth``; it depends on both and the case's ``name`` alone."""
    tight = Box.around(truth > 0)
    assert tight is not None
    box = perturb_box(tight, truth.shape, BoxCondition(condition), seeded_rng(_BOX_SEED, condition, name))
    assert box is not None
    return box
