"""Write the labels of a studies folder as DICOM SEG, with their volumes and a structured report (docs/dicom_export.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from prato.data.studies.folder import ManifestError
from prato.dicom.labels.exporter import ExportReport, export_labels
from prato.dicom.labels.labelled_cines import Ready, find_references
from prato.dicom.origin.patient import Examination, find_examinations
from prato.dicom.origin.references import CineReference
from prato.dicom.reading.files import DicomError, open_source
from prato.pacs.fetch import read_examination
from prato.pacs.web import GoneError, Pacs, PacsError
from prato_server.settings import SettingsError, load_settings
from scripts.common.refusals import refuse_target


def main(
    studies: Annotated[
        Path, typer.Argument(metavar="STUDIES", help="The studies folder with the labels; its images were imported from DICOM.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The folder to make or to add to.")],
    source: Annotated[str, typer.Option("--source", help="What was imported: folder, zip archive, DICOMDIR, or a PACS's address.")],
    corrected: Annotated[bool, typer.Option("--corrected", help="Export phases that nobody has approved yet, too.")] = False,
) -> None:
    """Export final labels. Exit code: 0, all; 1, some were left out; 2, none was exported."""
    ready: Ready = "corrected" if corrected else "final"
    try:
        if not studies.is_dir():
            raise DicomError(f"{studies} is not a folder: give a studies folder.")
        report = export_labels(studies, target, _read_examinations(source, find_references(studies)), ready)
    except (DicomError, ManifestError, PacsError, SettingsError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        raise refuse_target(target, error) from None
    _show(report, target)
    if report.left_out or not report.written:
        raise typer.Exit(1 if report.written else 2)


def _read_examinations(source: str, cines: list[CineReference]) -> Mapping[str, Examination]:
    if source.startswith(("http://", "https://")):
        settings = load_settings()
        secrets = [secret.get_secret_value() if secret else None for secret in (settings.pacs_password, settings.pacs_token)]
        pacs = Pacs(source, settings.pacs_user, *secrets)
        found = {}
        for cine in cines:
            with suppress(GoneError):  # it is left out, and the others are exported
                found[cine.study] = read_examination(pacs, cine)
        if cines and not found:
            pacs.search_series({"StudyInstanceUID": cines[0].dicom.study_instance_uid})  # which says so where the address is wrong
        return found
    with open_source(source) as files:
        return find_examinations(files, cines)


def _show(report: ExportReport, target: Path) -> None:
    for name, files in report.written.items():
        there = f", {report.unchanged[name]} there already" if report.unchanged[name] else ""
        typer.echo(f"{name}: {len(files)} new DICOM files in {target}{there}")
    for line in report.left_out:
        typer.echo(line, err=True)
    for line in report.warnings:
        typer.echo(f"Warning: {line}", err=True)
    if not report.written and not report.left_out:
        typer.echo("There are no final labels: nothing was written.", err=True)


if __name__ == "__main__":
    typer.run(main)
