"""How useful a study's label would be, judged by its predictions. Only the image is used: no label, and no box that anybody drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np

from prato.acquisition.phases import inconsistency, volumes
from prato.data.structures import STRUCTURES
from prato.inference.image_stack import ImageStack
from prato.inference.prediction import Prediction
from prato.prompts.base import Prompt
from prato.prompts.box import Box, BoxPrompt

#: Boxes round the proposed one, and how far their bounds move at most, as a share of the edge: about as far apart as two people draw.
_BOXES, _JITTER = 3, 0.1
_NO_HEART = "The model finds no heart."


class ImagePredictor(Protocol):
    """As much of :class:`prato.inference.predictor.Predictor` as scores need."""

    def set_image(self, image: ImageStack) -> None: ...

    def predict(self, prompts: Sequence[Prompt] = (), *, return_uncertainty: bool = False) -> Prediction: ...


@dataclass(frozen=True)
class Score:
    """``value`` in 0..1, and the sentence that gives the ``reason``."""

    value: float
    reason: str


def jitter_score(predictor: ImagePredictor, image: ImageStack) -> Score:
    """How much the masks differ for the proposed box and seeded ones close by; four predictions."""
    predictor.set_image(image)
    proposed = predictor.predict()
    if not proposed.mask.any():
        return Score(1.0, _NO_HEART)
    # as networks see the image: the same heart is to get the same boxes, whatever way its voxels are stored
    boxes = jitter_box(proposed.box.rearrange(*image.order), image.volume.array.shape, _JITTER, _BOXES, seed=0)
    value = disagreement([proposed.mask, *(predictor.predict([BoxPrompt(image.stored_box(box))]).mask for box in boxes)])
    return Score(value, f"Moving the box a little changes the mask: Dice {1 - value:.3f} between {_BOXES + 1} boxes.")


def entropy_score(predictor: ImagePredictor, image: ImageStack) -> Score:
    """How undecided the network is over the tokens that it keeps in the proposed box; one prediction."""
    predictor.set_image(image)
    prediction = predictor.predict(return_uncertainty=True)
    if not prediction.mask.any():
        return Score(1.0, _NO_HEART)
    value = prediction.entropy or 0.0
    return Score(value, f"Entropy of the classes over the kept tokens: {100 * value:.1f} % of the largest possible.")


def phases_score(predictor: ImagePredictor, ed: ImageStack, es: ImageStack, known: bool) -> Score:
    """How little the masks of a patient's two phases can be of one heart; two predictions. ``known``: see ``phases.inconsistency``."""
    masks = []
    for image in (ed, es):
        predictor.set_image(image)
        masks.append(predictor.predict().mask)
    if not all(mask.any() for mask in masks):
        return Score(1.0, _NO_HEART)
    one, two = (volumes(mask, image.stored.spacing) for mask, image in zip(masks, (ed, es)))
    told = ", ".join(f"{name} {one[name]:.0f} and {two[name]:.0f} ml" for name in one)
    return Score(inconsistency(one, two, known), f"The two phases as predicted: {told}.")


def jitter_box(box: Box, shape: Sequence[int], share: float, count: int, seed: int) -> list[Box]:
    """``count`` boxes like ``box``, each bound in plane moved by up to ``share`` of the edge, clipped to an image of ``shape`` voxels with
    its slices along the last axis."""
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(count):
        start, stop = list(box.start), list(box.stop)
        for axis in (0, 1):
            low, high = (round(float(move) * box.size[axis]) for move in rng.uniform(-share, share, 2))
            start[axis] = min(max(start[axis] + low, 0), shape[axis] - 1)
            stop[axis] = min(max(stop[axis] + high, start[axis] + 1), shape[axis])
        boxes.append(Box(tuple(start), tuple(stop)))
    return boxes


def disagreement(masks: Sequence[np.ndarray]) -> float:
    """1 - the mean Dice of all pairs of ``masks`` (at least two; uint8 of one shape, values of ``prato.data.structures``).

    The Dice of a pair is the mean over the structures that at least one of the two holds; 1 where both are empty.
    """
    return 1.0 - float(np.mean([_dice(one, two) for one, two in combinations(masks, 2)]))


def _dice(one: np.ndarray, two: np.ndarray) -> float:
    by_structure = []
    for value in STRUCTURES.values():
        ours, theirs = one == value, two == value
        both = int(ours.sum()) + int(theirs.sum())
        if both:
            by_structure.append(2.0 * int((ours & theirs).sum()) / both)
    return float(np.mean(by_structure)) if by_structure else 1.0
