"""The study that the model would probably learn the most from: the one with the highest score, by one of several measures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from lib.activelearning.acquisition_strategy import AcquisitionStrategy
from lib.activelearning.registry import register_strategy
from lib.activelearning.studies import list_unlabelled, name_phase, shuffle_unlabelled
from lib.datastore.entries import known_phases
from lib.datastore.studies import StudiesDatastore
from lib.infers.image_cache import images
from prato.acquisition.next_phase import guess_ed_es
from prato.acquisition.phases import find_pairs
from prato.acquisition.scores import ImagePredictor, Score, entropy_score, jitter_score, phases_score
from prato.data.file_identity import file_stamp
from prato.data.studies.folder import ManifestError, load_manifest

#: Studies that are looked at for one answer. With thousands there is no time for all; the next answer looks at others.
SAMPLE = 8
#: The images that a study is scored by, and how: called with a predictor and an ``ImageStack`` for each. Of a cine, that is the phase to be
#: labelled, or the one that stands beside the path.
StudyScore = tuple[tuple[Path | tuple[Path, int], ...], Callable[..., Score]]


class ScoreStrategy(AcquisitionStrategy[Score]):
    """Chooses the study with the highest score from a seeded sample of those to be labelled."""

    @abstractmethod
    def scorer(self, datastore: Datastore) -> Callable[[str], StudyScore]:
        """How the studies of ``datastore`` are scored, each by its id."""

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The study with its ``score`` (0..1), the ``reason``, and how many were ``scored`` of the ``unlabelled``.

        Raises:
            HTTPException: 404 for no study, no such model or none yet, 503 for a model file or manifest that cannot be used.
        """
        open_ones, scorer = shuffle_unlabelled(request, datastore), self.scorer(datastore)
        sample = list(open_ones)[:SAMPLE]

        def look(study: str) -> tuple[Hashable, Callable[[ImagePredictor], Score]]:
            found, score = scorer(study)
            places = [each if isinstance(each, tuple) else (each, open_ones[study]) for each in found]

            def read_and_score(predictor: ImagePredictor) -> Score:
                return score(predictor, *(images.read_phase(*place) for place in places))

            return tuple((file_stamp(path), phase) for path, phase in places), read_and_score

        scores, version = self.look_at(request, sample, look, partial(Score, 0.0))
        best = min(scores, key=lambda study: (-scores[study].value, study))
        return {
            "id": best,
            **name_phase(open_ones[best]),
            "score": round(scores[best].value, 4),
            "reason": scores[best].reason,
            "scored": len(scores),
            "unlabelled": len(list_unlabelled(datastore)),
            "model_version": version,
        }


@register_strategy("jitter")
class Jitter(ScoreStrategy):
    """Whether the mask depends on how exactly the box is drawn."""

    description = "The study whose mask changes most when the box is moved a little"

    def scorer(self, datastore: Datastore) -> Callable[[str], StudyScore]:
        return lambda study: ((Path(datastore.get_image_uri(study)),), jitter_score)


@register_strategy("entropy")
class Entropy(ScoreStrategy):
    """Whether the network is undecided between the classes."""

    description = "The study that the model is least certain about"

    def scorer(self, datastore: Datastore) -> Callable[[str], StudyScore]:
        return lambda study: ((Path(datastore.get_image_uri(study)),), entropy_score)


@register_strategy("phases")
class Phases(ScoreStrategy):
    """Whether a patient's two phases, labelled or not, are predicted as one heart."""

    description = "The study whose ED and ES masks fit a single heart least well"

    def scorer(self, datastore: Datastore) -> Callable[[str], StudyScore]:
        """Raises HTTPException: 503, the folder's manifest cannot be used."""
        try:
            manifest = load_manifest(datastore.folder) if isinstance(datastore, StudiesDatastore) else None
        except ManifestError as error:
            raise HTTPException(503, str(error)) from error
        # a cine has phases enough of its own: beside a patient's single frames it is neither one of two nor one too many
        frames = (study for study in datastore.list_images() if known_phases(datastore.get_image_info(study))[0] == 1)
        pairs = find_pairs(frames, manifest)

        def score_of(study: str) -> StudyScore:
            count, marked = known_phases(datastore.get_image_info(study))
            if count > 1:
                path = Path(datastore.get_image_uri(study))
                return tuple((path, each) for each in marked or guess_ed_es(count)), partial(phases_score, known=marked is not None)
            pair = pairs.get(study)
            if pair is None:
                return (), lambda predictor: Score(0.0, "The patient has no second phase here to compare with.")
            paths = tuple(Path(datastore.get_image_uri(each)) for each in (pair.ed, pair.es))
            return paths, partial(phases_score, known=pair.known)

        return score_of
