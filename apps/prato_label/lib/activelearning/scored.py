"""The study that the model would learn most from, as far as a short look tells."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore

from lib.activelearning.looking import Looking
from lib.activelearning.questions import Asking
from lib.activelearning.unlabelled import shuffled, unlabelled
from lib.infers.image_cache import images
from lib.infers.live_pipeline import LivePipeline, file_identity
from prato.acquisition.judging import Opinion, Predict
from prato.data.nifti import VolumeError

#: Studies that are looked at for one answer. With thousands there is no time for all; the next answer looks at others.
SAMPLE = 8


class Scored(Looking[Opinion]):
    """Of a seeded sample of the studies without a final label, the one with the highest score."""

    def __init__(self, description: str, asking: Asking, pipelines: Mapping[str, LivePipeline], default: str) -> None:
        super().__init__(description, pipelines, default)
        self._asking = asking

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The study with its ``score`` (0..1), the ``reason``, and how many were ``scored`` of the ``unlabelled``.

        Raises:
            HTTPException: 404 for no study, no such model or none yet, 503 for a model file or manifest that cannot be used.
        """
        sample, ask = shuffled(request, datastore)[:SAMPLE], self._asking(datastore)

        def look(study: str) -> tuple[Hashable, Callable[[Predict], Opinion]]:
            question = ask(study)

            def judge(predict: Predict) -> Opinion:
                try:
                    return question.judge(predict, *(images.read(path) for path in question.images))
                except VolumeError as error:
                    return Opinion(0.0, str(error))

            return tuple(file_identity(path) for path in question.images), judge

        found, version = self.found(request, sample, look)
        best = min(found, key=lambda study: (-found[study].score, study))
        return {
            "id": best,
            "score": round(found[best].score, 4),
            "reason": found[best].reason,
            "scored": len(found),
            "unlabelled": len(unlabelled(datastore)),
            "model_version": version,
        }
