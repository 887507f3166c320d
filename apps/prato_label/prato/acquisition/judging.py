"""What a study's predictions say of its usefulness. The image is all there is: no label is looked at, no box is drawn by anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prato.acquisition.disagreement import disagreement, jittered
from prato.acquisition.phases import inconsistency, volumes
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Prediction
from prato.prompts.request import Request

Predict = Callable[[ImageStack, Request], Prediction]
#: Boxes round the proposed one, and how far their bounds move at most, as a share of the edge: about as far apart as two people draw.
_BOXES, _MOVED = 3, 0.1
_NOT_FOUND = "The model finds no heart."


@dataclass(frozen=True)
class Opinion:
    """``score`` in 0..1, and the sentence that gives the ``reason``."""

    score: float
    reason: str


def by_jitter(predict: Predict, image: ImageStack) -> Opinion:
    """How much the masks differ for the proposed box and seeded ones close by; four predictions."""
    proposed = predict(image, Request())
    if not proposed.mask.any():
        return Opinion(1.0, _NOT_FOUND)
    boxes = jittered(proposed.box, proposed.mask.shape, image.axis, _MOVED, _BOXES, seed=0)
    score = disagreement([proposed.mask, *(predict(image, Request((box,), "roi")).mask for box in boxes)])
    return Opinion(score, f"Moving the box a little changes the mask: Dice {1 - score:.3f} between {_BOXES + 1} boxes.")


def by_entropy(predict: Predict, image: ImageStack) -> Opinion:
    """How undecided the network is over the tokens that it keeps in the proposed box; one prediction."""
    prediction = predict(image, Request(return_opinion=True))
    if not prediction.mask.any():
        return Opinion(1.0, _NOT_FOUND)
    score = prediction.entropy or 0.0
    return Opinion(score, f"Entropy of the classes over the kept tokens: {100 * score:.1f} % of the largest possible.")


def by_phases(predict: Predict, ed: ImageStack, es: ImageStack, known: bool) -> Opinion:
    """How little the masks of a patient's two phases can be of one heart; two predictions. ``known``: see ``phases.inconsistency``."""
    first, second = (predict(image, Request()).mask for image in (ed, es))
    if not (first.any() and second.any()):
        return Opinion(1.0, _NOT_FOUND)
    one, two = volumes(first, ed.stored.spacing), volumes(second, es.stored.spacing)
    told = ", ".join(f"{name} {one[name]:.0f} and {two[name]:.0f} ml" for name in one)
    return Opinion(inconsistency(one, two, known), f"The two phases as they are predicted: {told}.")
