"""What the cardiac table shows: this study's volumes and flags and, with its patient's other phases, the function of the heart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import slicer
import slicer.util

from PratoLabelLib.errors import UserError
from PratoLabelLib.measures.cardiac import (
    CardiacVolumes,
    Flag,
    VentricularFunction,
    compute_function,
    compute_volumes,
    find_ed_es,
    find_flags,
    flag_function,
)
from PratoLabelLib.scene.slice_views import slice_axis
from PratoLabelLib.scene.volumes import read_volume
from PratoLabelLib.server.responses import Study
from PratoLabelLib.studies.open_study import OpenStudy
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: How study names end in a frame of a patient's cine: patient001_frame12, heart7_ED.
_FRAME = re.compile(r"[_-](frame[_-]?\d+|ED|ES|t\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class CardiacReport:
    """Volumes and flags of the open study, and the function of its patient's heart.

    Attributes:
        ed, es: the patient's studies with most and least blood in both cavities, or those that were chosen; "" while they are not known.
        phases: the studies of the patient whose volumes are known.
        lv, rv: the ventricles' function; None while it is not known.
    """

    volumes: CardiacVolumes
    flags: list[Flag]
    patient: str
    ed: str
    es: str
    phases: list[str]
    lv: VentricularFunction | None
    rv: VentricularFunction | None


class PhaseVolumes:
    """The volumes of the studies that were opened or have labels; two phases of one patient make up the function of its heart.

    Those of a study that was left are those of its segments when it was last reported.

    Attributes:
        by_study: study -> volumes.
        chosen: patient -> the studies that the labeller chose as ED and ES; "" where the volumes are to tell.
    """

    def __init__(self) -> None:
        self.by_study: dict[str, CardiacVolumes] = {}
        self.chosen: dict[str, tuple[str, str]] = {}

    def report(self, study: OpenStudy) -> CardiacReport:
        """The table for the segments of ``study`` as they are."""
        mask, spacing = study.mask(), study.volume_node.GetSpacing()[::-1]
        own = self.by_study[study.study] = compute_volumes(mask, study.labels, spacing)
        patient = patient_of(study.study)
        of_patient = {name: volumes for name, volumes in self.by_study.items() if patient_of(name) == patient}
        chosen = [name if name in of_patient else "" for name in self.chosen.get(patient, ("", ""))]
        phases = find_ed_es({name: volumes for name, volumes in of_patient.items() if volumes.blood_ml > 0 or name in chosen}, *chosen)
        ed, es = phases or ("", "")
        across = 2 - slice_axis(study.volume_node)
        lv = compute_function(of_patient[ed].lv_ml, of_patient[es].lv_ml) if phases else None
        rv = compute_function(of_patient[ed].rv_ml, of_patient[es].rv_ml) if phases else None
        return CardiacReport(
            volumes=own,
            flags=[*(find_flags(mask, study.labels, across) if mask.any() else []), *flag_function(lv, rv)],
            patient=patient,
            ed=ed,
            es=es,
            phases=sorted(of_patient),
            lv=lv,
            rv=rv,
        )

    def missing(self, study: str, studies: Iterable[Study]) -> list[str]:
        """Of ``studies``, the other phases of the patient of ``study`` that have a label and no volumes here yet."""
        others = [s.id for s in studies if s.labelled and s.id not in self.by_study and s.id != study]
        return [other for other in others if patient_of(other) == patient_of(study)]

    def add_labels(self, paths: Mapping[str, Path], labels: Mapping[str, int]) -> None:
        """Measure the label files ``paths``, by study.

        Raises:
            UserError: one cannot be read.
        """
        self.by_study.update({study: _measure_label(path, labels) for study, path in paths.items()})


def patient_of(study: str) -> str:
    """The patient that ``study`` is a frame of, by its name; a name without a frame is a patient of its own."""
    return _FRAME.sub("", study)


def _measure_label(path: Path, labels: Mapping[str, int]) -> CardiacVolumes:
    node = slicer.vtkMRMLLabelMapVolumeNode()
    if not read_volume(node, path):
        raise UserError(_("The label {name} cannot be read: submit it again.").format(name=path.name))
    return compute_volumes(slicer.util.arrayFromVolume(node), labels, node.GetSpacing()[::-1])
