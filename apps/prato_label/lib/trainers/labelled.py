"""The labelled studies of a datastore."""

from __future__ import annotations

from pathlib import Path

from monailabel.interfaces.datastore import Datastore

from prato.data.cases import StudyFile
from prato.data.manifest import load_manifest, patient_of


def labelled_files(datastore: Datastore) -> list[StudyFile]:
    """The studies with a final label, sorted by name.

    Raises:
        ManifestError: the folder's manifest cannot be used.
    """
    pairs = [(Path(entry["image"]), Path(entry["label"])) for entry in datastore.datalist()]
    manifests = {folder: load_manifest(folder) for folder in {image.parent for image, _ in pairs}}
    found = []
    for image, label in pairs:
        study = image.name.removesuffix(".gz").removesuffix(".nii")
        found.append(StudyFile(study, patient_of(study, manifests[image.parent]), image, label))
    return sorted(found, key=lambda file: file.study)
