"""What the strategies that look at images share: who looks, for how long, and that nothing is looked at twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from threading import Lock
from typing import Any, Generic, TypeVar

from fastapi import HTTPException
from monailabel.interfaces.tasks.strategy import Strategy

from lib.infers.devices import device_named
from lib.infers.live_pipeline import LivePipeline
from prato.acquisition.judging import Predict
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Prediction
from prato.models.checkpoint import CheckpointError
from prato.prompts.request import Request

#: Seconds after which no further study is looked at. What is known already counts all the same.
SECONDS = 8.0

Found = TypeVar("Found")


class Looking(Strategy, Generic[Found]):
    """Keeps what was ``Found`` in a study until the image or the model changes.

    Predictions are asked for one by one in the line of the networks' thread, so that a labeller's request waits for one of them at most.

    Args:
        pipelines: who may look, by the name that a request gives as its ``model``. default: who does when it gives none.
    """

    def __init__(self, description: str, pipelines: Mapping[str, LivePipeline], default: str) -> None:
        super().__init__(description)
        self._pipelines, self._default = pipelines, default
        #: By model, its version and what it found.
        self._known: dict[str, tuple[str, dict[Hashable, Found]]] = {}
        self._looking = Lock()

    def found(
        self, request: dict[str, Any], studies: Iterable[str], look: Callable[[str], tuple[Hashable, Callable[[Predict], Found]]]
    ) -> tuple[dict[str, Found], str]:
        """What is found in as many of ``studies`` as there is time for, one at least; and the version of the model that looked.

        Args:
            look: for a study, what changes when its images do, and how to look at it.

        Raises:
            HTTPException: 404 for no such model or none yet, 503 for a model file that cannot be used.
        """
        start = time.monotonic()
        model = request.get("model") or self._default
        pipeline = self._pipelines.get(model) if isinstance(model, str) else None
        if pipeline is None:
            raise HTTPException(404, f"There is no model {str(model)[:60]!r} here: choose {' or '.join(self._pipelines)}.")
        version = pipeline.version()
        if version is None:
            raise HTTPException(404, "There is no model yet that could judge the studies: ask for the strategy random or first.")
        if self._known.get(model, ("",))[0] != version:
            self._known[model] = version, {}
        known, predict = self._known[model][1], _predicting(pipeline)
        found: dict[str, Found] = {}
        for study in studies:
            images, judge = look(study)
            key = study, images
            if not found or time.monotonic() - start < SECONDS:
                with self._looking:
                    if key not in known:
                        try:
                            known[key] = judge(predict)
                        except CheckpointError as error:
                            raise HTTPException(503, str(error)) from error
            if key in known:
                found[study] = known[key]
        return found, version


def _predicting(pipeline: LivePipeline) -> Predict:
    device = device_named(None)

    def predict(image: ImageStack, request: Request) -> Prediction:
        return pipeline.predict(device, image, request)

    return predict
