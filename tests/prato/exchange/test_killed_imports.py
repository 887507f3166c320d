"""kill -9 at any step of an import: whoever finds a study knows whose it is, and the same import again brings all that was missing."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from prato.data.image_files import write_exact
from prato.data.studies.folder import find_files, find_labelled_studies, load_manifest
from prato.labelling.versions import LabelVersions
from tests.app.live import oblique
from tests.killed import KILLED, killable
from tests.prato.dicom.scans import Scan
from tests.prato.dicom.scans import save as save_dicom
from tests.prato.exchange.folders import heart, picture

pytestmark = pytest.mark.slow


def nnunet(folder: Path) -> Path:
    """A data set of two patients."""
    about = {"channel_names": {"0": "cine"}, "labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3}, "file_ending": ".nii.gz"}
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for n, case in enumerate(("a_ED", "b_ED")):
        write_exact(folder / "imagesTr" / f"{case}_0000.nii.gz", picture(n), oblique((1.5, 1.4, 8.0)))
        write_exact(folder / "labelsTr" / f"{case}.nii.gz", heart(), oblique((1.5, 1.4, 8.0)))
    (folder / "dataset.json").write_text(json.dumps(about | {"numTraining": 2}))
    return folder


@pytest.mark.parametrize("what", ["import nnU-Net", "import DICOM"])
def test_before_every_step_of_an_import(tmp_path: Path, what: str) -> None:
    source = nnunet(tmp_path / "in") if "nnU-Net" in what else save_dicom(tmp_path / "in", Scan(slices=3, phases=6).images())
    studies, event, code, found_some = tmp_path / "studies", 0, KILLED, 0
    with killable() as killer:
        order = partial(killer, studies)
        studies.mkdir()
        assert order(what, source=str(source)) == 0
        whole = told(studies)
        while code == KILLED:
            event += 1
            shutil.rmtree(studies)
            studies.mkdir()
            code = order(what, source=str(source), event=event)
            images, manifest = find_files(studies).files, load_manifest(studies)
            assert not images or (manifest is not None and images.keys() <= manifest.studies.keys()), event
            found_some += 0 < len(images) < len(whole[0])
            assert order(what, source=str(source)) == 0
            assert told(studies) == whole, event
            assert not list(studies.rglob("*.tmp"))
    assert code == 0 and event > 10 and found_some > 0


def told(studies: Path) -> tuple[list[str], list[str], list[str], object]:
    """The studies of a folder, those with a label, who stored each, and the manifest."""
    labelled = [file.study for file in find_labelled_studies(studies)]
    versions = [LabelVersions(studies, study).current() for study in labelled]
    origins = [f"{version.origin} {version.params['imported_from']}" for version in versions if version]
    return [*find_files(studies).files], labelled, origins, load_manifest(studies)
