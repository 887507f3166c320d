"""What strategies that look at images share: which model they use, for how long they look, and a cache, so that none looks twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, ClassVar, Generic, TypeVar

from fastapi import HTTPException
from monailabel.interfaces.tasks.strategy import Strategy

from lib.infers.devices import device_named
from lib.infers.live_predictor import LivePredictor
from prato.acquisition.scores import ImagePredictor
from prato.data.nifti_head import VolumeError, may_pass
from prato.inference.image_stack import ImageStack
from prato.inference.prediction import Prediction
from prato.models.checkpoint import CheckpointError
from prato.prompts.base import Prompt

#: Seconds after which no further study is looked at. What is known already counts all the same.
SECONDS = 8.0

Found = TypeVar("Found")


class AcquisitionStrategy(Strategy, Generic[Found]):
    """Remembers what was ``Found`` in each study until its image or the model changes.

    Predictions are made one by one in the networks' thread, so that a labeller's request waits for one of them at most.

    Args:
        predictors: those that may be used, by the name that a request gives as its ``model``. default: the one where it gives none.

    Attributes:
        description: one line, which clients show.
    """

    description: ClassVar[str]

    def __init__(self, predictors: Mapping[str, LivePredictor], default: str) -> None:
        super().__init__(self.description)
        self._predictors, self._default = predictors, default
        #: By model, its version and what was found with it.
        self._known: dict[str, tuple[str, dict[Hashable, Found]]] = {}
        self._lock = Lock()

    def look_at(
        self,
        request: dict[str, Any],
        studies: Iterable[str],
        look: Callable[[str], tuple[Hashable, Callable[[ImagePredictor], Found]]],
        unread: Callable[[str], Found],
    ) -> tuple[dict[str, Found], str]:
        """What is found in as many of ``studies`` as there is time for, one at least; and the version of the model that was used.

        Args:
            look: for a study, what changes when its images do, and how to look at it, which may raise VolumeError.
            unread: what is found where it does, by its message; not remembered where the system is the reason, which may pass.

        Raises:
            HTTPException: 404 for no such model or none yet, 503 for a model file that cannot be used.
        """
        start = time.monotonic()
        model = request.get("model") or self._default
        live = self._predictors.get(model) if isinstance(model, str) else None
        if live is None:
            offered = [name for name, each in self._predictors.items() if each.version() is not None]
            raise HTTPException(404, f"There is no model {str(model)[:60]!r} here: choose {' or '.join(offered)}.")
        version = live.version()
        if version is None:
            raise HTTPException(404, "There is no model to score the studies with yet: use the strategy random or first.")
        if self._known.get(model, ("",))[0] != version:
            self._known[model] = version, {}
        known, predictor = self._known[model][1], _DefaultDevicePredictor(live)
        found: dict[str, Found] = {}
        for study in studies:
            images, score = look(study)
            key = study, images
            if not found or time.monotonic() - start < SECONDS:
                with self._lock:
                    if key not in known:
                        try:
                            known[key] = score(predictor)
                        except CheckpointError as error:
                            raise HTTPException(503, str(error)) from error
                        except VolumeError as error:
                            found[study] = unread(str(error))
                            if not may_pass(error):
                                known[key] = found[study]
            if key in known:
                found[study] = known[key]
        return found, version


class _DefaultDevicePredictor:
    """``live`` on the default device, as scores use a predictor."""

    def __init__(self, live: LivePredictor) -> None:
        self._live, self._device = live, device_named(None)

    def set_image(self, image: ImageStack) -> None:
        self._image = image

    def predict(self, prompts: Sequence[Prompt] = (), *, return_uncertainty: bool = False) -> Prediction:
        return self._live.predict(self._device, self._image, prompts, return_uncertainty=return_uncertainty)
