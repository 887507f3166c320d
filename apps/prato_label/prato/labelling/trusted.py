"""Which labels, and which phases of them, may be trained and measured on: those that a labeller vouches for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from prato.data.cine import read_cine_head
from prato.data.nifti import VolumeError
from prato.data.studies.folder import StudyFile
from prato.data.studies.label_records import HISTORY
from prato.labelling.phases import trusted_phases
from prato.labelling.reader import VersionReader
from prato.labelling.records import LabelVersionError


def find_trusted_phases(files: Iterable[StudyFile]) -> tuple[list[StudyFile], dict[str, str]]:
    """Of ``files``, one entry for each volume and for each phase of a cine that is corrected or final; and, by study, why others have none.

    What cannot be read is taken as it is: whoever reads it says why it cannot be used.
    """
    found, left_out = [], {}
    for file in files:
        try:
            count = read_cine_head(file.image).phases
            phases = _find_phases(file, count)
        except (VolumeError, LabelVersionError, OSError):
            found.append(file)
            continue
        if phases is None:
            found.append(file)
        elif not phases:
            what = "The label" if count == 1 else "Every phase of the label"
            left_out[file.study] = f"{what} for {file.study} is a proposal or was sent back: it is used once somebody has corrected it."
        else:
            found += [file] if count == 1 else [replace(file, phase=number) for number in phases]
    return found, left_out


def _find_phases(file: StudyFile, count: int) -> list[int] | None:
    """The phases of the label of ``file`` that may be used; None where nothing says so of a volume's, or it holds nothing at all.

    Of a cine's that holds nothing, or cannot be read, the first is to be looked at: whoever reads it says what is wrong with it.
    """
    tag, folder = file.label.parent.name, file.label.parent.parent
    if folder.name != "labels" or (count == 1 and not (folder.parent / HISTORY / tag / file.study).is_dir()):
        return None  # a volume's label that was put there by other means: whoever did vouches for it
    current = VersionReader(folder.parent, file.study, tag).current()
    if current is not None and current.phases:
        return trusted_phases(current.phases)
    return None if count == 1 else [0]
