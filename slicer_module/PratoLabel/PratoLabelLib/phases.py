"""The volumes of the studies that were seen or have labels: two phases of a patient make one cardiac table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from PratoLabelLib.answers import Study
from PratoLabelLib.cardiac import Volumes
from PratoLabelLib.open_study import OpenStudy
from PratoLabelLib.report import CardiacReport, patient_of, report, stored_volumes


class Phases:
    """Volumes by study; those of a study that was left are those of its segments when it was last reported."""

    def __init__(self) -> None:
        self.volumes: dict[str, Volumes] = {}

    def report(self, opened: OpenStudy) -> CardiacReport:
        """The table for the segments of ``opened`` as they are."""
        found = report(opened.mask(), opened.volume_node, opened.labels, opened.study, self.volumes)
        self.volumes[opened.study] = found.volumes
        return found

    def missing(self, study: str, studies: Iterable[Study]) -> list[str]:
        """Of ``studies``, the other phases of the patient of ``study`` that have a label and no volumes here yet."""
        others = [s.id for s in studies if s.labelled and s.id not in self.volumes and s.id != study]
        return [other for other in others if patient_of(other) == patient_of(study)]

    def add(self, paths: Mapping[str, Path], labels: Mapping[str, int]) -> None:
        """Measure the label files ``paths``, by study.

        Raises:
            ValueError: one cannot be read.
        """
        self.volumes.update({study: stored_volumes(path, labels) for study, path in paths.items()})
