"""Import of an uploaded archive of DICOM: its short-axis cines become studies. See docs/protocol/studies.md."""

from __future__ import annotations

import zipfile
from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, UploadFile
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance

from lib.datastore.studies import StudiesDatastore
from lib.server.checks import ANNOTATOR
from lib.server.uploads import stored_upload
from prato.dicom.importer import Phases, Report
from prato.dicom.reading.files import ArchiveLimits, DicomError
from prato.dicom.studies import import_into_studies

router = APIRouter(prefix="/prato", tags=["Datastore"])
#: What an upload may unpack to: an examination, and no more memory at once than a server has.
LIMITS = ArchiveLimits(total=4 * 2**30, file=2**29, files=50_000)
#: An import keeps a core busy for up to a minute.
_ONE_AT_A_TIME = Lock()


@router.post("/import")
def import_archive(file: Annotated[UploadFile, File()], phases: Phases = "none", user: User = ANNOTATOR) -> dict[str, Any]:
    """Add the short-axis cines of a zip archive of DICOM files as studies; with ``phases``, these as 3D studies, too."""
    store = app_instance().datastore()
    if not isinstance(store, StudiesDatastore):
        raise HTTPException(400, "This server's studies are on a DICOMweb server: send the DICOM files there.")
    store.require_folder()
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise HTTPException(429, "Another import is running: send this one again when it has finished.", {"Retry-After": "20"})
    try:
        file.filename = "upload.zip"  # its own may be anything
        with stored_upload(file) as archive:
            if not zipfile.is_zipfile(archive):
                raise HTTPException(400, "The upload is not a zip archive: zip the folder of DICOM files, and send the archive as file.")
            report, studies = import_into_studies(archive, store.folder, phases, LIMITS)
    except DicomError as error:
        sentence = str(error).replace(f"{archive}", "The upload").replace(archive.name, "The upload")
        raise HTTPException(409 if "already exists" in sentence else 400, sentence) from error
    finally:
        _ONE_AT_A_TIME.release()
    if not report.imported:
        raise HTTPException(400, f"Nothing was imported: {_why(report):.1500}")
    store.refresh()
    return {
        "imported": [
            {
                "studies": studies[cine.study],
                "series": cine.label,
                "slices": cine.slices,
                "phases": cine.phases,
                "step_ms": cine.step_ms,
                "notes": [*cine.notes],
                "is_new": cine.is_new,
            }
            for cine in report.imported
        ],
        "refused": report.refused,
        "left_out": report.left_out,
        "warnings": report.warnings,
    }


def _why(report: Report) -> str:
    """The reasons, in one sentence."""
    reasons = [reason.rstrip(".") for reason in report.refused] or report.left_out
    return f"{'; '.join(reasons)}." if report.refused else f"these files contain no short-axis cine ({'; '.join(reasons)})."
