"""Which study's label takes away most of what the model is unsure of, for what it costs to correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from prato.acquisition.judging import Predict
from prato.inference.image_stack import ImageStack
from prato.prompts.request import Request


@dataclass(frozen=True)
class Look:
    """What one prediction says of a study.

    Attributes:
        summary: float32 (C',), what the network sees in the proposed box.
        doubt: voxels that the network is undecided about: those of the mask times the entropy in the kept tokens (0..1). The more there
            are, the more have to be corrected.
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
    return Look(prediction.summary.numpy(), (prediction.entropy or 0.0) * int(np.count_nonzero(prediction.mask)))


def covering(looks: Sequence[Look], covered: np.ndarray) -> np.ndarray:
    """What a label of each study is worth: gain / (gain + cost), (N,) in 0..1.

    The cost is the doubt over the study itself. Of the doubt over another one, the gain takes the share by which the label brings it nearer
    to a covered study, of the distance to the farthest (facility location, as in Wei, Iyer, Bilmes, "Submodularity in data subset selection
    and active learning", ICML 2015). So a heart that is like many others and easily corrected comes early, one that is hard to correct when
    the model has learned to, an outlier late, and one like those labelled last.

    Args:
        covered: bool (N,), the studies that are labelled or about to be.
    """
    doubts = np.array([each.doubt for each in looks])
    if not doubts.any():
        return np.zeros(len(looks))
    doubts = np.where(doubts > 0, doubts, doubts.max())  # where the model finds no heart, all of it may have to be drawn
    summaries = np.stack([each.summary for each in looks])
    spread = summaries.std(0)
    scaled = (summaries - summaries.mean(0)) / np.where(spread > 0, spread, 1.0)
    distances = cdist(scaled, scaled)
    farthest = np.maximum(distances.max(1), np.finfo(float).tiny)
    nearest = distances[:, covered].min(1) if covered.any() else farthest
    gains = (doubts / farthest) @ np.maximum(nearest[:, None] - distances, 0.0)
    return np.asarray(gains / (gains + doubts))
