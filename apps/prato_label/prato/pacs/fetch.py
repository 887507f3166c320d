"""Fetches a cine from a PACS into the studies folder; images that were fetched before an interruption are not fetched again."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from prato.data.atomic import make_folder
from prato.data.studies.folder import find_files
from prato.data.wording import counted
from prato.dicom.cines.find import FoundCine, find_cines
from prato.dicom.cines.series import by_series
from prato.dicom.importer import write_cine
from prato.dicom.labels.exporter import dicom_bytes
from prato.dicom.origin.patient import Examination, examination_from
from prato.dicom.origin.references import CineReference, uid_from_content
from prato.dicom.reading.files import DicomError, open_source
from prato.dicom.reading.headers import Frame, read_frames
from prato.labelling.files import SUFFIX, list_labelled_studies
from prato.pacs.catalog import RemoteCine, images_of
from prato.pacs.web import Pacs, PacsError

logger = logging.getLogger(__name__)
#: Requests at once: enough to hide the way to the PACS, few enough not to be in its way.
_AT_ONCE = 4
_ABANDONED_S = 24 * 3600.0


def fetch_cine(pacs: Pacs, cine: RemoteCine, folder: Path, scratch: Path) -> Path:
    """Fetch ``cine`` and write it to ``folder`` as the importer does, whole or not at all; returns its image's path.

    It takes the place of what was fetched before all its images were in the PACS, unless somebody has labelled that.

    Args:
        scratch: where images wait until all are there; those of this cine are removed then.

    Raises:
        PacsError: the PACS broke off (the next call goes on from there), or holds other images than it said.
        OSError: no space, no permission.
    """
    waiting = scratch / cine.study
    make_folder(waiting)

    def fetch(image: tuple[str, str]) -> None:
        path = waiting / f"{uid_from_content(*image)}.dcm"
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(dicom_bytes(pacs.image(cine.study_instance_uid, *image)))
            os.replace(part, path)  # not forced onto the disk, which takes longer than to fetch it: what a power cut tears is noticed below

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
        tasks = [pool.submit(fetch, image) for image in cine.images]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    try:
        with open_source(waiting) as files:
            found = _find_cine(cine, [frame for file in files for frame in read_frames(file)])
            if has_other_images(folder, cine) and cine.study not in find_labelled(folder):
                for ending in (SUFFIX, ".json"):
                    (folder / f"{cine.study}{ending}").unlink(missing_ok=True)
            write_cine(found, folder)
    except DicomError as error:
        shutil.rmtree(waiting, ignore_errors=True)  # they may be damaged: the next call fetches them anew
        raise PacsError(f"What the PACS sent is not the cine that it listed ({error}): try again.") from error
    shutil.rmtree(waiting, ignore_errors=True)
    return folder / f"{cine.study}{SUFFIX}"


def _find_cine(cine: RemoteCine, frames: list[Frame]) -> FoundCine:
    """The one of ``frames`` that ``cine`` is: an object of several frames may hold other stacks too.

    Raises:
        DicomError: there is none.
    """
    name = cine.study.removesuffix("_4d")
    found = find_cines(list(by_series(frames).values()))
    same = [one for one in found.cines if set(images_of(one)) == set(cine.images)]
    named = [one for one in same if one.study == name] or same
    if len(named) != 1:
        for sentence in found.refused:
            logger.warning("%s cannot be opened: %s", cine.study, sentence)
        raise DicomError(f"its images now form {counted(len(named), 'cine') if named else 'no cine'}")
    notes = tuple(dict.fromkeys((*cine.notes, *named[0].cine.notes)))
    return replace(named[0], cine=replace(named[0].cine, notes=notes), patient=cine.patient, study=name)


def has_other_images(folder: Path, cine: RemoteCine) -> bool:
    """Whether ``folder`` holds ``cine`` as it was when the PACS had other images of it, such as while they arrived there."""
    try:
        return CineReference.load(folder / f"{cine.study}.json").instance_uids() != {instance for _, instance in cine.images}
    except DicomError:  # it is not there, or whoever exports is told
        return False


def find_labelled(folder: Path) -> set[str]:
    """The studies of ``folder`` with labels or proposals, whose images stay as they are."""
    return {*list_labelled_studies(folder), *find_files(folder / "labels" / "original").files}


def read_examination(pacs: Pacs, cine: CineReference) -> Examination:
    """Who was examined, as the header of an image of ``cine`` in the PACS says.

    Raises:
        PacsError: the PACS broke off, or does not hold that image.
    """
    series, instance, _ = cine.images_of_phase(0)[0]
    return examination_from(pacs.header(cine.dicom.study_instance_uid, series, instance))


def drop_abandoned(scratch: Path) -> None:
    """Remove images that have waited in ``scratch`` for the rest of their cine for more than a day."""
    for waiting in scratch.iterdir() if scratch.is_dir() else ():
        if abs(time.time() - waiting.stat().st_mtime) > _ABANDONED_S:  # later than now is of a clock that has been set back since
            shutil.rmtree(waiting, ignore_errors=True)


def make_room(folder: Path, studies: Collection[str], keep: Collection[str], max_bytes: int) -> list[str]:
    """Remove the images of ``studies`` that were opened longest ago until they hold ``max_bytes`` at most; returns the removed ones.

    Args:
        keep: studies whose images stay, whatever they hold: those with labels, and the one that is being opened.
    """
    found = []
    for study in studies:
        try:
            stat = (folder / f"{study}{SUFFIX}").stat()
            found.append((stat.st_atime_ns, stat.st_size, study))
        except FileNotFoundError:
            continue
    total, removed = sum(size for _, size, _ in found), []
    for _, size, study in sorted(found):
        if total <= max_bytes:
            break
        if study not in keep:
            (folder / f"{study}{SUFFIX}").unlink(missing_ok=True)
            total -= size
            removed.append(study)
            logger.info("%s was opened longest ago and leaves the cache.", study)
    return removed


def note_opened(path: Path) -> None:
    """So that ``make_room`` knows, also where the file system notes no accesses."""
    stat = path.stat()
    os.utime(path, ns=(max(stat.st_atime_ns + 1, time.time_ns()), stat.st_mtime_ns))
