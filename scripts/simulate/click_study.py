"""One study corrected by clicks: what a simulated labeller points at, click by click, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import read_volume
from prato.data.structures import BACKGROUND, STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.data.view import network_view
from prato.evaluation.metrics import structure_dice
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.scores import Scores
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box, BoxPrompt
from prato.prompts.clicks import Stroke
from prato.training.simulated_labeller import Manner, point_at, wrong_parts
from scripts.common.model_files import model_file

#: A mask (X, Y, Z), the strokes so far and the new one -> the next mask.
Correct = Callable[[np.ndarray, list[Stroke], Stroke], np.ndarray]
#: What the value that a click gives to voxels is called in a request.
NAMES = {BACKGROUND: "background", **{value: name for name, value in STRUCTURES.items()}}
#: Wrong parts of fewer voxels are not clicked on: nobody sees them.
SMALLEST = 4


def read_study(file: StudyFile) -> tuple[ImageStack, np.ndarray]:
    """The image of ``file`` as networks look at it, with its slices along the last axis, and its label, uint8 (X, Y, Z), likewise: whoever
    clicks slice by slice has one grid for both.

    Raises:
        VolumeError: image or label cannot be used.
    """
    volume = read_volume(file.image)
    view = network_view(volume)
    return ImageStack(view.apply_to(volume)), view.apply(read_label(file.label, volume))


@dataclass(frozen=True)
class Draft:
    """A study before any click.

    Attributes:
        image, truth: as :func:`read_study` has them. mask: uint8 (X, Y, Z), the default network's with a tight box.
        scores: what that thought of each pixel.
    """

    file: StudyFile
    image: ImageStack
    truth: np.ndarray
    mask: np.ndarray
    scores: Scores | None


def make_drafts(files: Sequence[StudyFile]) -> Iterator[Draft]:
    """The default network's masks of ``files``, with a progress bar."""
    predictor = Predictor.from_files(model_file(DEFAULT_MODEL))
    for file in tqdm(files, desc="studies"):
        image, truth = read_study(file)
        predictor.set_image(image)
        tight = [BoxPrompt(Box.around(truth) or Box.whole(truth.shape))]
        mask = predictor.predict(tight, keep_scores=True).mask
        yield Draft(file, image, truth, mask, predictor.scores(tight))


@dataclass
class Course:
    """What happened to a study, click by click; the first entries are those before any.

    Attributes:
        dice: by structure, of the whole study. wrong: voxels. ms: each click took. right: whether each click was.
    """

    dice: list[dict[str, float]] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    @property
    def mean(self) -> list[float]:
        """DSC, mean over the structures."""
        return [sum(each.values()) / len(each) for each in self.dice]


def correct_by_clicks(mask: np.ndarray, truth: np.ndarray, correct: Correct, manner: Manner, clicks: int, seed: int) -> Course:
    """Click on ``mask`` (X, Y, Z; slices along the last axis) until it is ``truth``, or so many times: each time in the largest part of
    the whole study that is wrong."""
    random, course = np.random.default_rng(seed), Course()
    strokes: list[Stroke] = []
    parts = [wrong_parts(mask[:, :, k], truth[:, :, k]) for k in range(mask.shape[2])]
    _note(course, mask, truth)
    while len(course.ms) < clicks:  # strokes that contradict each other take the place of one another
        largest = [int(sizes.max()) for _, sizes in parts]
        k = int(np.argmax(largest))
        if largest[k] < SMALLEST:
            break
        structure, places = point_at(*parts[k], truth[:, :, k], manner, random)
        stroke = Stroke(structure, np.column_stack([places, np.full(len(places), k)]))
        course.right.append(bool((truth[tuple(stroke.points.T)] == structure).all()))
        was, start = mask, time.perf_counter()
        mask = correct(mask, strokes, stroke)
        course.ms.append(1000 * (time.perf_counter() - start))
        strokes = [old for old in strokes if not _contradicts(old, stroke)] + [stroke]
        for n in np.flatnonzero((mask != was).any((0, 1))):
            parts[n] = wrong_parts(mask[:, :, n], truth[:, :, n])
        _note(course, mask, truth)
    return course


def stamp(radius_mm: float, spacing: tuple[float, ...]) -> Correct:
    """Each click as a disc of ``radius_mm``; a scribble as a brush of that radius."""

    def correct(mask: np.ndarray, _: list[Stroke], stroke: Stroke) -> np.ndarray:
        out, k, away = mask.copy(), int(stroke.points[0, 2]), np.ones(mask.shape[:2], bool)
        away[tuple(stroke.points[:, :2].T)] = False
        out[:, :, k][ndimage.distance_transform_edt(away, sampling=spacing[:2]) <= radius_mm] = stroke.structure
        return out

    return correct


def clicks_until(values: list[float], goal: float) -> int | None:
    """How many clicks it took to reach ``goal``; None for never."""
    return next((n for n, value in enumerate(values) if value >= goal), None)


def _note(course: Course, mask: np.ndarray, truth: np.ndarray) -> None:
    course.dice.append(structure_dice(mask, truth))
    course.wrong.append(int(np.count_nonzero(mask != truth)))


def _contradicts(old: Stroke, new: Stroke) -> bool:
    return old.structure != new.structure and bool({*map(tuple, old.points.tolist())} & {*map(tuple, new.points.tolist())})
