"""Which patients are labelled next."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from hashlib import sha256

from tqdm import tqdm

from prato.pipeline import Pipeline
from prato.usefulness.judging import Opinion, by_entropy, by_jitter, by_phases
from prato.usefulness.phases import Pair
from simulation.oracle import Oracle

#: Patients labelled before the first round and in each.
A_ROUND = 2


class Strategy(str, Enum):
    """How the next patients are chosen."""

    random = "random"
    jitter = "jitter"
    entropy = "entropy"
    phases = "phases"


def shuffled(patients: Iterable[str], seed: int, number: int) -> list[str]:
    """``patients`` in an order that follows from ``seed`` and ``number``."""
    return sorted(patients, key=lambda patient: sha256(f"{seed}:{number}:{patient}".encode()).hexdigest())


def chosen(pipeline: Pipeline, strategy: Strategy, sample: list[str], oracle: Oracle, pairs: dict[str, Pair]) -> list[str]:
    """Of ``sample``, the patients with the most useful study, as ``strategy`` judges it; the first ones for "random"."""
    if strategy is Strategy.random:
        return sample[:A_ROUND]
    studies = {patient: [file.study for file in oracle.files.values() if file.patient == patient] for patient in sample}
    if strategy is Strategy.phases:  # both studies of a patient are the same question
        studies = {patient: found[:1] for patient, found in studies.items()}
    scores = {
        patient: max(_opinion(pipeline, strategy, study, oracle, pairs).score for study in studies[patient])
        for patient in tqdm(sample, desc=strategy.value, unit="patient", leave=False)
    }
    return sorted(scores, key=lambda patient: (-scores[patient], patient))[:A_ROUND]


def _opinion(pipeline: Pipeline, strategy: Strategy, study: str, oracle: Oracle, pairs: dict[str, Pair]) -> Opinion:
    if strategy is Strategy.phases:
        pair = pairs[study]
        return by_phases(pipeline.predict, oracle.stack(pair.ed), oracle.stack(pair.es), pair.known)
    judge = by_jitter if strategy is Strategy.jitter else by_entropy
    return judge(pipeline.predict, oracle.stack(study))
