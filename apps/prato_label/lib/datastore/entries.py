"""Entries of MONAI Label's list of a studies folder: what it says of an image and of a label."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.datastore import DefaultLabelTag

from prato.data.atomic import is_disk_full
from prato.data.cine import CineHead
from prato.data.studies.ed_es import named_ed_es
from prato.data.studies.folder import ManifestError, load_manifest
from prato.labelling.doubts import LabelDoubts, doubt_label
from prato.labelling.files import SUFFIX, sha256
from prato.labelling.records import UnknownVersionError, Version
from prato.labelling.restoring import convert_found_label
from prato.labelling.versions import LabelVersions

logger = logging.getLogger(__name__)
#: The header of an image that lies in the folder; a sentence where it cannot be read; None of an image that is not here (yet).
Head = CineHead | str | None
#: What the list says of the check of a label, and of which header of an image; of a proposal's, of which file.
_CHECK = ("warnings", "fits", "checked")


def file_entry(study: str, ending: str, known: DataModel | None) -> DataModel:
    """What the list says of a file: what is known of it, unless it is new."""
    if known is not None and known.ext == ending:
        return known
    return DataModel(info={"ts": int(time.time()), "name": f"{study}{ending}"}, ext=ending)


def phases_info(phases: int, times_ms: np.ndarray | None) -> dict[str, Any]:
    """What the list says of an image with so many phases: nothing of a volume, as before there were cines."""
    if phases == 1:
        return {}
    return {"phases": phases, "times_ms": None if times_ms is None else [round(float(ms), 2) for ms in times_ms]}


def known_phases(info: Mapping[str, Any]) -> tuple[int, tuple[int, int] | None]:
    """How many phases an image has by what the list says of it, and end-diastole and end-systole where somebody marked two that it has."""
    phases = info.get("phases")
    count = phases if type(phases) is int and phases > 0 else 1
    named = named_ed_es(info, None, count)
    return count, named.pair if named else None


def image_entry(image: DataModel, phases: dict[str, Any] | None) -> DataModel:
    """``image`` with ``phases``, what its header says of them (None: nothing is known), and without what only the server writes there and
    cannot have written so: marks of phases that the image does not have, or not any more, and what is no object.
    """
    info = dict(image.info)
    if phases is not None:
        info = {**{name: value for name, value in info.items() if name not in ("phases", "times_ms")}, **phases}
    marked, review, handed_out = info.get("marked"), info.get("review"), info.get("strategy")
    is_unmarked = isinstance(marked, dict) and marked.get("ed") is None and marked.get("es") is None
    if not is_unmarked and known_phases(info)[1] is None:
        info.pop("marked", None)
    if not (isinstance(review, dict) and isinstance(review.get("reason", ""), str)):
        info.pop("review", None)
    if "strategy" in info:
        by_name = handed_out.items() if isinstance(handed_out, dict) else ()
        info["strategy"] = {name: last for name, last in by_name if isinstance(last, dict) and type(last.get("ts", 0)) is int}
    return DataModel(info=info, ext=image.ext)


def mark_known_phases(found: dict[str, ImageLabelModel], folder: str) -> dict[str, ImageLabelModel]:
    """``found`` with the phases of its cines marked that the manifest of ``folder`` says are ED and ES, where nobody has decided that."""
    cines = [study for study, entry in found.items() if "phases" in entry.image.info and _is_undecided(entry.image.info.get("marked"))]
    try:
        manifest = load_manifest(folder) if cines else None
    except ManifestError:  # whoever needs it is told
        manifest = None
    if manifest is None:
        return found
    marked = dict(found)
    for study in cines:
        listed, entry = manifest.studies.get(study), found[study]
        if not listed:
            continue
        mark, before = {"ed": listed.ed, "es": listed.es, "source": "manifest"}, entry.image.info.get("marked") or {}
        is_new = mark != {name: value for name, value in before.items() if name != "ts"}
        info = {**entry.image.info, "marked": {**mark, "ts": int(time.time())}}
        if is_new and known_phases(info)[1] is not None:
            marked[study] = ImageLabelModel(image=DataModel(info=info, ext=entry.image.ext), labels=entry.labels)
    return marked


def _is_undecided(marked: Any) -> bool:
    """Whether nobody has marked, or taken back, ED and ES: there is nothing, or what an earlier look took over from the manifest."""
    return marked is None or (isinstance(marked, dict) and marked.get("source") == "manifest")


def label_entry(folder: str, study: str, tag: str, label: DataModel, image: Callable[[], str], head: Callable[[], Head]) -> DataModel:
    """``label``, or what has to take its place where the file was put there, or changed, by other means, or its image was; a label that was
    found is stored as what it means. ``image`` says where the study's image lies, and fetches one that is not here; ``head`` does not.
    """
    if tag == DefaultLabelTag.ORIGINAL.value:
        info = label.info if head() is None else check_proposal(study, label.info, Path(image()))
        return label if info is label.info else DataModel(info=info, ext=label.ext)
    try:
        versions = LabelVersions(folder, study, tag)
    except UnknownVersionError:  # a file may have a name that a submission may not
        return label
    number, checksum = label.info.get("version"), label.info.get("sha256")
    is_known = _is_checked(label.info, head()) and isinstance(number, int) and isinstance(checksum, str)
    is_known &= bool(label.info.get("annotator"))  # an older list may lack it
    if is_known and versions.is_current(number, checksum):
        return label
    sent = {key: value for key, value in label.info.items() if key not in ("ts", "name", "voxels", "phases", *_CHECK)}
    if sent and not checksum:  # from before there were versions: the list alone knows where it comes from
        versions.adopt(sent)
    with tolerate_full_disk():
        convert_found_label(versions, image())
    return describe_label(versions, label.info, head()) or label


def describe_label(versions: LabelVersions, known: Mapping[str, Any], head: Head) -> DataModel | None:
    """The list's entry of the current label: all that its client sent, and what the server knows. None where there is no label.

    Args:
        known: what the list said of it before: what was found against a label with its image holds until one of them changes.
        head: of its image.
    """
    current = versions.current()
    if current is None:
        return None
    ending = SUFFIX if versions.current_path().name.endswith(SUFFIX) else ".nii"
    info = {"ts": int(current.created.timestamp()), "name": f"{versions.study}{ending}", "voxels": current.voxels}
    info |= {"version": current.version, "sha256": current.sha256, "phases": current.phases_to_json(), "annotator": current.annotator}
    if known.get("sha256") == current.sha256 and _is_checked(known, head):
        check = {key: known[key] for key in _CHECK if key in known}
    else:
        doubts = _doubt(versions, current, head)
        for warning in doubts.warnings:
            logger.warning("%s: %s", versions.study, warning)
        check = {"warnings": [*doubts.warnings], "fits": doubts.fits, "checked": head.digest if isinstance(head, CineHead) else None}
    return DataModel(info={**current.params, **info, **check}, ext=ending)


def check_proposal(study: str, info: dict[str, Any], image: Path) -> dict[str, Any]:
    """``info``, what the list says of a model's proposal, with whether it belongs to the file ``image``: to one that has taken the place of
    its own, it does not. A copy of its own is its own. What does not say which it was made of, as what was put there, is left as it is.
    """
    made_of = info.get("image_sha256")
    if made_of is None:
        return info
    stat = image.stat()
    checked = f"{stat.st_mtime_ns // 1000} {stat.st_size}"  # the same for all servers of a folder, over whatever network they see it
    if info.get("checked") == checked:
        return info
    fits = sha256(image.read_bytes()) == made_of
    replaced = f"The image of {study} was replaced after a model proposed this label: start a batch inference for a new one."
    return {**info, "warnings": [] if fits else [replaced], "fits": fits, "checked": checked}


def _doubt(versions: LabelVersions, current: Version, head: Head) -> LabelDoubts:
    if isinstance(head, CineHead):
        return doubt_label(versions, current, head)
    return LabelDoubts(current.warnings if head is None else (head,))


def _is_checked(info: Mapping[str, Any], head: Head) -> bool:
    """Whether the list's ``info`` of a label says what speaks against it with the image of this ``head``.

    One that cannot be read changes nothing: another server, which can, may have looked, and the two would write the list in turns.
    """
    return isinstance(info.get("warnings"), list) and (not isinstance(head, CineHead) or info.get("checked") == head.digest)


@contextmanager
def tolerate_full_disk() -> Iterator[None]:
    """Tolerate a full disk where only the list is written, which can be rebuilt: a stored label stays stored, and the watcher goes on."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        logger.warning("the list of studies cannot be written now (%s); it will be written at the next scan of the folder", error.strerror)
