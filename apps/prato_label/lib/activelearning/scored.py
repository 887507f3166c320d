"""The study that the model would learn most from, as far as a short look tells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Lock
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning.questions import Asking, Question
from lib.activelearning.unlabelled import shuffled, unlabelled
from lib.infers.devices import device_named
from lib.infers.image_cache import images
from lib.infers.live_pipeline import LivePipeline, file_identity
from prato.checkpoint import CheckpointError
from prato.data.nifti import VolumeError
from prato.image_stack import ImageStack
from prato.pipeline import Prediction
from prato.request import Request
from prato.usefulness.judging import Opinion

#: Studies that are looked at for one answer. With thousands there is no time for all; the next answer looks at others.
SAMPLE = 8
#: Seconds after which no further study is looked at. What is known already counts all the same.
SECONDS = 8.0


class Scored(Strategy):
    """Of a seeded sample of the studies without a final label, the one with the highest score.

    Predictions are asked for one by one in the line of the networks' thread, so that a labeller's request waits for one of them at most.
    Opinions are kept until an image or the model changes.

    Args:
        pipelines: who may judge, by the name that a request gives as its ``model``. default: who does when it gives none.
    """

    def __init__(self, description: str, asking: Asking, pipelines: Mapping[str, LivePipeline], default: str) -> None:
        super().__init__(description)
        self._asking, self._pipelines, self._default = asking, pipelines, default
        #: By model, its version and what it thinks.
        self._known: dict[str, tuple[str, dict[Any, Opinion]]] = {}
        self._judging = Lock()

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The study with its ``score`` (0..1), the ``reason``, and how many were ``scored`` of the ``unlabelled``.

        Raises:
            HTTPException: 404 for no study, no such model or none yet, 503 for a model file or manifest that cannot be used.
        """
        start = time.monotonic()
        sample = shuffled(request, datastore)[:SAMPLE]
        model = request.get("model") or self._default
        pipeline = self._pipelines.get(model) if isinstance(model, str) else None
        if pipeline is None:
            raise HTTPException(404, f"There is no model {str(model)[:60]!r} here: choose {' or '.join(self._pipelines)}.")
        version = pipeline.version()
        if version is None:
            raise HTTPException(404, "There is no model yet that could judge the studies: ask for the strategy random or first.")
        if self._known.get(model, ("",))[0] != version:
            self._known[model] = version, {}
        known, ask = self._known[model][1], self._asking(datastore)
        found: dict[str, Opinion] = {}
        for study in sample:
            question = ask(study)
            key = study, tuple(file_identity(path) for path in question.images)
            if not found or time.monotonic() - start < SECONDS:
                with self._judging:
                    if key not in known:
                        known[key] = self._opinion(pipeline, question)
            if key in known:
                found[study] = known[key]
        best = min(found, key=lambda study: (-found[study].score, study))
        return {
            "id": best,
            "score": round(found[best].score, 4),
            "reason": found[best].reason,
            "scored": len(found),
            "unlabelled": len(unlabelled(datastore)),
            "model_version": version,
        }

    def _opinion(self, pipeline: LivePipeline, question: Question) -> Opinion:
        device = device_named(None)

        def predict(image: ImageStack, request: Request) -> Prediction:
            return pipeline.predict(device, image, request)

        try:
            return question.judge(predict, *(images.read(path) for path in question.images))
        except VolumeError as error:
            return Opinion(0.0, str(error))
        except CheckpointError as error:
            raise HTTPException(503, str(error)) from error
