"""Which study stands for most of what the model is unsure of, and is like none that was labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prato.image_stack import ImageStack
from prato.request import Request
from prato.usefulness.judging import Predict


@dataclass(frozen=True)
class Look:
    """What one prediction says of a study.

    Attributes:
        summary: float32 (C',), what the network sees in the proposed box.
        doubt: ml of heart that the network is undecided about: the mask's volume times the entropy in the kept tokens (0..1).
    """

    summary: np.ndarray
    doubt: float


class NoSummaryError(ValueError):
    """The model does not prune, so that it never asks what is in the box."""


def look(predict: Predict, image: ImageStack) -> Look:
    """One prediction in the box that the model proposes.

    Raises:
        NoSummaryError: the model does not prune.
    """
    prediction = predict(image, Request(return_opinion=True))
    if prediction.summary is None:
        raise NoSummaryError("A model without pruning has no summaries of hearts: ask for another strategy.")
    ml = np.count_nonzero(prediction.mask) * float(np.prod(image.stored.spacing)) / 1000.0
    return Look(prediction.summary.numpy(), (prediction.entropy or 0.0) * ml)


def covering(looks: Sequence[Look], covered: np.ndarray) -> np.ndarray:
    """The share of an archive's doubt that a label of each study would take away: (N,) in 0..1, 0 for those that are covered.

    The doubt over a study weighs with the distance of its summary to the nearest covered one; what counts is by how much a label brings
    it nearer (facility location, as in Wei, Iyer, Bilmes, "Submodularity in data subset selection and active learning", ICML 2015).
    An outlier stands for itself alone and scores little; so does a heart like many that are labelled.

    Args:
        covered: bool (N,), the studies that are labelled or about to be.
    """
    doubts = np.array([each.doubt for each in looks])
    summaries = np.stack([each.summary for each in looks])
    spread = summaries.std(0)
    scaled = (summaries - summaries.mean(0)) / np.where(spread > 0, spread, 1.0)
    distances = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    farthest = distances.max(1)
    nearest = distances[:, covered].min(1) if covered.any() else farthest
    gains = doubts @ np.maximum(nearest[:, None] - distances, 0.0)
    whole = float(doubts @ farthest)
    return gains / whole if whole > 0 else np.zeros(len(looks))
