"""The study whose label is worth most for what it costs, as far as the model's looks at the archive tell."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from lib.activelearning.looking import Looking
from lib.activelearning.unlabelled import shuffled, unlabelled
from lib.infers.image_cache import images
from lib.infers.live_pipeline import file_identity
from prato.acquisition.coverage import Look, NoSummaryError, covering, look
from prato.acquisition.judging import Predict
from prato.data.nifti import VolumeError


class Covering(Looking[Look | str]):
    """The study whose label would take away most doubt, over all studies that the model has looked at, for its own; see ``covering``.

    It looks at labelled studies, too: they say what is covered. So are studies that were handed out and are not back yet.
    """

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The study with its ``score`` (0..1), the ``reason``, and how many were ``scored`` of the ``unlabelled``.

        Raises:
            HTTPException: 404 for no study, no such model or none yet, 409 for a model that does not prune, 503 for a model file that
                cannot be used.
        """
        candidates = shuffled(request, datastore)
        everybody = sorted(datastore.list_images(), key=lambda study: sha256(study.encode()).hexdigest())

        def about(study: str) -> tuple[Hashable, Callable[[Predict], Look | str]]:
            path = Path(datastore.get_image_uri(study))

            def judge(predict: Predict) -> Look | str:
                try:
                    return look(predict, images.read(path))
                except VolumeError as error:
                    return str(error)

            return file_identity(path), judge

        try:
            found, version = self.found(request, dict.fromkeys([candidates[0], *everybody]), about)
        except NoSummaryError as error:
            raise HTTPException(409, str(error)) from error
        looks = {study: each for study, each in found.items() if isinstance(each, Look)}
        open_ones = set(candidates) & set(found)
        scores = dict.fromkeys(open_ones, 0.0)
        if looks:
            gains = covering(list(looks.values()), np.array([study not in open_ones for study in looks]))
            scores |= {study: float(gain) for study, gain in zip(looks, gains) if study in open_ones}
        best = min(scores, key=lambda study: (-scores[study], study))
        unread, times = found[best], scores[best] / max(1.0 - scores[best], 1e-9)
        worth = f"Of the doubt over {len(looks)} studies its label would take away {times:.2f} times what is in it to correct."
        return {
            "id": best,
            "score": round(scores[best], 4),
            "reason": unread if isinstance(unread, str) else worth,
            "scored": len(open_ones),
            "unlabelled": len(unlabelled(datastore)),
            "model_version": version,
        }
