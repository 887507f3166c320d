"""What is asked of a study by each strategy that looks at images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from lib.datastore.studies import StudiesDatastore
from prato.acquisition.judging import Opinion, by_entropy, by_jitter, by_phases
from prato.acquisition.phases import pairs
from prato.data.studies import ManifestError, load_manifest


@dataclass(frozen=True)
class Question:
    """The ``images`` that have to be read, and what judges them: called with ``Predict`` and an ``ImageStack`` for each."""

    images: tuple[Path, ...]
    judge: Callable[..., Opinion]


#: What a strategy asks of a study, once it has seen which studies there are.
Asking = Callable[[Datastore], Callable[[str], Question]]


def jitter(datastore: Datastore) -> Callable[[str], Question]:
    """Whether the mask hangs on how exactly the box is drawn."""
    return lambda study: Question((Path(datastore.get_image_uri(study)),), by_jitter)


def entropy(datastore: Datastore) -> Callable[[str], Question]:
    """Whether the network is undecided between the classes."""
    return lambda study: Question((Path(datastore.get_image_uri(study)),), by_entropy)


def phases(datastore: Datastore) -> Callable[[str], Question]:
    """Whether a patient's two phases, labelled or not, are predicted as one heart.

    Raises:
        HTTPException: 503, the folder's manifest cannot be used.
    """
    try:
        manifest = load_manifest(datastore.folder) if isinstance(datastore, StudiesDatastore) else None
    except ManifestError as error:
        raise HTTPException(503, str(error)) from error
    of_study = pairs(datastore.list_images(), manifest)

    def question(study: str) -> Question:
        pair = of_study.get(study)
        if pair is None:
            return Question((), _alone)
        images = tuple(Path(datastore.get_image_uri(each)) for each in (pair.ed, pair.es))
        return Question(images, partial(by_phases, known=pair.known))

    return question


def _alone(predict: Any) -> Opinion:
    return Opinion(0.0, "The patient has no second phase here to compare with.")
