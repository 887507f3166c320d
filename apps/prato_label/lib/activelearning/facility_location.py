"""The study whose label is worth the most for its cost, judged by the predictions over the archive."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from lib.activelearning.acquisition_strategy import AcquisitionStrategy
from lib.activelearning.registry import register_strategy
from lib.activelearning.studies import list_unlabelled, name_phase, shuffle_unlabelled
from lib.datastore.entries import known_phases
from lib.infers.image_cache import images
from prato.acquisition.facility_location import NoSummaryError, StudySummary, facility_location, summarise
from prato.acquisition.scores import ImagePredictor
from prato.data.file_identity import file_stamp
from prato.data.wording import counted


@register_strategy("coverage")
class FacilityLocation(AcquisitionStrategy[StudySummary | str]):
    """The study whose label takes away most uncertainty, over all studies that the model has looked at, for its own.

    It looks at labelled studies, too: they say what is covered. So are studies that were handed out and are not back yet.
    """

    description = "The study whose label removes the most uncertainty for its cost"

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The study with its ``score`` (0..1), the ``reason``, and how many were ``scored`` of the ``unlabelled``.

        Raises:
            HTTPException: 404 for no study, no such model or none yet, 409 for a model that does not prune, 503 for a model file that
                cannot be used.
        """
        candidates = shuffle_unlabelled(request, datastore)
        everybody = sorted(datastore.list_images(), key=lambda study: sha256(study.encode()).hexdigest())

        def look(study: str) -> tuple[Hashable, Callable[[ImagePredictor], StudySummary | str]]:
            path, (count, marked) = Path(datastore.get_image_uri(study)), known_phases(datastore.get_image_info(study))
            phase = candidates.get(study, (marked or (0,))[0] if count > 1 else None)

            return (file_stamp(path), phase), lambda predictor: summarise(predictor, images.read_phase(path, phase))

        try:
            found, version = self.look_at(request, dict.fromkeys([next(iter(candidates)), *everybody]), look, str)
        except NoSummaryError as error:
            raise HTTPException(409, str(error)) from error
        summaries = {study: each for study, each in found.items() if isinstance(each, StudySummary)}
        open_ones = set(candidates) & set(found)
        scores = dict.fromkeys(open_ones, 0.0)
        if summaries:
            gains = facility_location(list(summaries.values()), np.array([study not in open_ones for study in summaries]))
            scores |= {study: float(gain) for study, gain in zip(summaries, gains) if study in open_ones}
        best = min(scores, key=lambda study: (-scores[study], study))
        unread, times = found[best], scores[best] / max(1.0 - scores[best], 1e-9)
        over = counted(len(summaries), "study", "studies")
        worth = f"Over {over}, its label would remove {times:.2f} times the uncertainty that there is to correct in it."
        return {
            "id": best,
            **name_phase(candidates[best]),
            "score": round(scores[best], 4),
            "reason": unread if isinstance(unread, str) else worth,
            "scored": len(open_ones),
            "unlabelled": len(list_unlabelled(datastore)),
            "model_version": version,
        }
