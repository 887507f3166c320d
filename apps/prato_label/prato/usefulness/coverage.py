"""Which study's label takes away most of what the model is unsure of, for what it costs to correct."""

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
        entropy: of the classes in the kept tokens (0..1). voxels: of the mask.
    """

    summary: np.ndarray
    entropy: float
    voxels: int


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
    return Look(prediction.summary.numpy(), prediction.entropy or 0.0, int(np.count_nonzero(prediction.mask)))


def covering(looks: Sequence[Look], covered: np.ndarray) -> np.ndarray:
    """What a label of each study is worth: gain / (gain + cost), (N,) in 0..1.

    The doubt over a study is its entropy times its voxels, about what there is to correct. Of each, the gain takes the share by which the
    label brings its study nearer to a covered one, of the distance to the farthest (facility location, as in Wei, Iyer, Bilmes,
    "Submodularity in data subset selection and active learning", ICML 2015). The cost is what the study would be to correct if it were of
    the mean size: small hearts must not be chosen for being small, or the model never learns the large ones. So a heart that is like many
    others and easily corrected comes early, a hard one when the model has learned to, and one like those labelled last.

    Args:
        covered: bool (N,), the studies that are labelled or about to be.
    """
    entropies, voxels = (np.array([getattr(each, name) for each in looks], dtype=float) for name in ("entropy", "voxels"))
    voxels = np.where(voxels > 0, voxels, voxels.max())  # where the model finds no heart, all of one may have to be drawn
    doubts, costs = entropies * voxels, entropies * voxels.mean()
    if not doubts.any():
        return np.zeros(len(looks))
    summaries = np.stack([each.summary for each in looks])
    spread = summaries.std(0)
    scaled = (summaries - summaries.mean(0)) / np.where(spread > 0, spread, 1.0)
    distances = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    farthest = distances.max(1)
    nearest = distances[:, covered].min(1) if covered.any() else farthest
    gains = (doubts / np.where(farthest > 0, farthest, 1.0)) @ np.maximum(nearest[:, None] - distances, 0.0)
    return np.asarray(gains / np.maximum(gains + costs, np.finfo(float).tiny))
