"""Which patients are labelled next."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from hashlib import sha256

import numpy as np
from tqdm import tqdm

from prato.acquisition.facility_location import facility_location, summarise
from prato.acquisition.phases import Pair
from prato.acquisition.scores import Score, entropy_score, jitter_score, phases_score
from prato.inference.predictor import Predictor
from scripts.simulate.oracle import Oracle

#: Patients labelled before the first round and in each.
A_ROUND = 2


class Strategy(str, Enum):
    """How the next patients are chosen."""

    random = "random"
    jitter = "jitter"
    entropy = "entropy"
    phases = "phases"
    coverage = "coverage"


def shuffle(patients: Iterable[str], seed: int, number: int) -> list[str]:
    """``patients`` in an order that follows from ``seed`` and ``number``."""
    return sorted(patients, key=lambda patient: sha256(f"{seed}:{number}:{patient}".encode()).hexdigest())


def choose_patients(
    predictor: Predictor,
    strategy: Strategy,
    left: list[str],
    labelled: list[str],
    sample: int,
    oracle: Oracle,
    pairs: dict[str, Pair],
) -> list[str]:
    """Of the patients ``left``, those whose study is the most useful as ``strategy`` judges it; for "random" the first ones.

    All but "coverage" look at the first ``sample`` patients alone, as the server does for one answer.
    """
    if strategy is Strategy.random:
        return left[:A_ROUND]
    if strategy is Strategy.coverage:
        return _facility_location(predictor, left, labelled, oracle)
    studies = {patient: oracle.studies(patient) for patient in left[:sample]}
    if strategy is Strategy.phases:  # both studies of a patient are the same question
        studies = {patient: found[:1] for patient, found in studies.items()}
    scores = {
        patient: max(_score(predictor, strategy, study, oracle, pairs).value for study in found)
        for patient, found in tqdm(studies.items(), desc=strategy.value, unit="patient", leave=False)
    }
    return sorted(scores, key=lambda patient: (-scores[patient], patient))[:A_ROUND]


def _facility_location(predictor: Predictor, left: list[str], labelled: list[str], oracle: Oracle) -> list[str]:
    """Whose labels are worth most, one after the other: the second one's, once the first one's is there."""
    patients = [*labelled, *left]
    studies = [oracle.studies(patient)[0] for patient in patients]  # that of one phase stands for the patient
    summaries = [summarise(predictor, oracle.stack(study)) for study in tqdm(studies, desc="coverage", unit="study", leave=False)]
    new: list[str] = []
    for _ in range(min(A_ROUND, len(left))):
        worth = facility_location(summaries, np.isin(patients, [*labelled, *new]))
        new.append(patients[int(worth.argmax())])
    return new


def _score(predictor: Predictor, strategy: Strategy, study: str, oracle: Oracle, pairs: dict[str, Pair]) -> Score:
    if strategy is Strategy.phases:
        pair = pairs[study]
        return phases_score(predictor, oracle.stack(pair.ed), oracle.stack(pair.es), pair.known)
    judge = jitter_score if strategy is Strategy.jitter else entropy_score
    return judge(predictor, oracle.stack(study))
