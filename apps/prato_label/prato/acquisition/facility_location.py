"""Facility location: the study whose label removes the most uncertainty over all studies, for what it costs to correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from prato.acquisition.scores import ImagePredictor
from prato.inference.image_stack import ImageStack


@dataclass(frozen=True)
class StudySummary:
    """What one prediction says of a study.

    Attributes:
        features: float32 (C',), what the network sees in the proposed box.
        uncertainty: voxels that the network is undecided about: those of the mask times the entropy in the kept tokens (0..1). The more
            there are, the more have to be corrected.
    """

    features: np.ndarray
    uncertainty: float


class NoSummaryError(ValueError):
    """The model does not prune, so that it never measures relevance to what is in the box."""


def summarise(predictor: ImagePredictor, image: ImageStack) -> StudySummary:
    """One prediction in the box that the model proposes.

    Raises:
        NoSummaryError: the model does not prune.
    """
    predictor.set_image(image)
    prediction = predictor.predict(return_uncertainty=True)
    if prediction.summary is None:
        raise NoSummaryError("A model without pruning has no summaries of hearts: ask for another strategy.")
    return StudySummary(prediction.summary.numpy(), (prediction.entropy or 0.0) * int(np.count_nonzero(prediction.mask)))


def facility_location(summaries: Sequence[StudySummary], covered: np.ndarray) -> np.ndarray:
    """What a label of each study is worth: gain / (gain + cost), (N,) in 0..1.

    The cost is the uncertainty over the study itself. Of the uncertainty over another one, the gain takes the share by which the label
    brings it nearer to a covered study, of the distance to the farthest (facility location, as in Wei, Iyer, Bilmes, "Submodularity in data
    subset selection and active learning", ICML 2015). So a heart that is like many others and easily corrected comes early, one that is
    hard to correct when the model has learned to, an outlier late, and one like those labelled last.

    Args:
        covered: bool (N,), the studies that are labelled or about to be.
    """
    uncertainty = np.array([each.uncertainty for each in summaries])
    if not uncertainty.any():
        return np.zeros(len(summaries))
    uncertainty = np.where(uncertainty > 0, uncertainty, uncertainty.max())  # where the model finds no heart, all may have to be drawn
    features = np.stack([each.features for each in summaries])
    spread = features.std(0)
    scaled = features / np.where(spread > 0, spread, 1.0)
    distances = cdist(scaled, scaled)
    farthest = np.maximum(distances.max(1), np.finfo(float).tiny)
    nearest = distances[:, covered].min(1) if covered.any() else farthest
    gains = (uncertainty / farthest) @ np.maximum(nearest[:, None] - distances, 0.0)
    return np.asarray(gains / (gains + uncertainty))
