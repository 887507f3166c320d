"""What a study's page shows beside its pictures: which label, who drew it, its state, and what it says of the heart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import DefaultLabelTag

from lib.datastore.entries import check_proposal
from lib.datastore.label_check import http_errors
from lib.datastore.studies import StudiesDatastore
from lib.server import checks
from lib.server.page.view import StudyView, views
from lib.server.study_routes import known_of
from prato.data.cine import read_cine
from prato.data.file_identity import file_stamp
from prato.data.labels.check import check_label, read_label_volume
from prato.data.labels.names import LabelError
from prato.data.structures import STRUCTURES
from prato.data.studies.label_records import recorded_label_info
from prato.function.measured import Heart, NoFunctionError
from prato.labelling.phases import trusted_phases
from prato.labelling.records import LabelVersionError, Version

_FINAL, _ORIGINAL = DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value


@dataclass(frozen=True)
class ShownLabel:
    """The label that is shown.

    Attributes:
        tag: "final" where a labeller submitted one, else "original", a model's proposal.
        path: of its file. content: changes with it.
        version: what is recorded of it; None for a proposal.
        warnings: what speaks against it.
    """

    tag: str
    path: Path
    content: str
    version: Version | None
    warnings: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """``tag``, ``version`` (null for a proposal), the state of each of ``phases``, and ``warnings``."""
        version = self.version
        if version is None:
            return {"tag": self.tag, "version": None, "phases": {}, "warnings": []}
        return {"tag": self.tag, "version": version.version, "phases": version.phases_to_json(), "warnings": [*self.warnings]}


@dataclass(frozen=True)
class ShownStudy:
    """A study, the label that is shown with it, and its view, which changes with ``key``."""

    study: str
    store: StudiesDatastore
    label: ShownLabel | None
    view: StudyView
    key: str

    def state(self) -> dict[str, Any]:
        """See docs/protocol/pages.md."""
        versions = self.store.versions(self.study, _FINAL).all()
        info, view, label = self.store.get_image_info(self.study), self.view, self.label
        curve = view.curve()
        volumes = {} if curve is None else {"RV cavity": curve.rv, "myocardium": curve.myocardium, "LV cavity": curve.lv}
        return {
            **{"id": self.study, "view": self.key, "phases": len(view.frames), "slices": view.slices},
            "times_ms": None if view.times_ms is None else [round(float(ms), 1) for ms in view.times_ms],
            "review": info.get("review"),
            "label": label and label.state(),
            "fault": view.fault,
            "versions": [_version(version) for version in versions],
            "labelled": list(view.labelled),
            "volumes_ml": {name: [round(float(ml), 2) for ml in volumes[name]] for name in STRUCTURES if name in volumes},
            **self._beat(),
        }

    def _beat(self) -> dict[str, Any]:
        """``ed``, ``es``, who says so, and the function of the heart, or why it has none."""
        about, named = known_of(self.store, self.study)
        version = self.label and self.label.version
        heart = Heart(
            self.view.masks(),
            self.view.spacing,
            () if named is None else (named,),
            count=len(self.view.frames),
            height_cm=about.height_cm,
            weight_kg=about.weight_kg,
            image_warnings=self.view.warnings,
        )
        try:
            measured = heart.measure(trusted=trusted_phases(version.phases) if version else ())
        except NoFunctionError as error:
            ed, es, source = (named.ed, named.es, named.source) if named else (None, None, None)
            return {"ed": ed, "es": es, "ed_es_source": source, "function": None, "no_function": f"Function cannot be measured: {error}."}
        function = measured.function
        found = {"ed": function.ed, "es": function.es, "ed_es_source": measured.ed_es_source}
        return {**found, "function": function.to_dict(), "no_function": None}


def show_study(app: MONAILabelApp, study: str) -> ShownStudy:
    """The study with its current label.

    Raises:
        HTTPException: 404 for an unknown study, 400 for one that cannot be read or lies on a DICOMweb server.
    """
    checks.require_image(app, study)
    store = app.datastore()
    if not isinstance(store, StudiesDatastore):
        raise HTTPException(400, "Only studies in a folder have pages: open studies on a DICOMweb server in a viewer.")
    with http_errors():
        label, path = _find_label(store, study), Path(store.get_image_uri(study))
        key = (study, file_stamp(path), label and label.content)
        view = views.get(key, lambda: _compute(store, study, path, label))
    return ShownStudy(study, store, label, view, hashlib.sha256(repr(key).encode()).hexdigest()[:16])


def _compute(store: StudiesDatastore, study: str, path: Path, label: ShownLabel | None) -> StudyView:
    cine, name = read_cine(path), f"The label for {study}"
    if label is None:
        return StudyView.of(cine, None)
    if label.version is None and label.warnings:
        return StudyView.of(cine, None, label.warnings[0])
    try:
        if label.version is not None:
            return StudyView.of(cine, store.versions(study, label.tag).read_mask(label.version.version, cine.grid()).array)
        file = read_label_volume(label.path, name)
        return StudyView.of(cine, check_label(cine.grid(), file, name, recorded_label_info(label.path)))
    except (LabelError, LabelVersionError) as error:
        return StudyView.of(cine, None, str(error))


def _find_label(store: StudiesDatastore, study: str) -> ShownLabel | None:
    versions = store.versions(study, _FINAL)
    current = versions.current()
    if current is not None:
        described = store.describe_label(study, _FINAL)
        warnings = tuple(described.info["warnings"]) if described else ()
        return ShownLabel(_FINAL, versions.current_path(), current.sha256, current, warnings)
    if _ORIGINAL in store.get_labels_by_image_id(study):
        path = Path(store.get_label_uri(study, _ORIGINAL))
        info = check_proposal(study, store.get_label_info(study, _ORIGINAL), Path(store.get_image_uri(study)))
        return ShownLabel(_ORIGINAL, path, repr(file_stamp(path)), None, () if info.get("fits", True) else tuple(info["warnings"]))
    return None


def _version(version: Version) -> dict[str, Any]:
    fields = {"version", "origin", "annotator", "created", "base_version", "restored_from", "removals", "reviews"}
    return {**version.model_dump(mode="json", include=fields), "drawn": sorted(version.drawn_phases())}
