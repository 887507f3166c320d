"""A model's proposals, as they are stored beside labels, and what they say against a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prato.data.labels.check import check_label, read_label_volume
from prato.data.labels.turned import find_turn
from prato.data.nifti import Volume
from prato.data.stack import slice_axis
from prato.data.studies.folder import find_files
from prato.data.studies.label_records import is_of_another_image, recorded_label_info
from prato.labelling.phases import phase_of, trusted_phases
from prato.labelling.records import Phases


def proposal_file(studies: Path, study: str) -> Path | None:
    """Where the proposal for ``study`` lies; None where there is none."""
    return find_files(studies / "labels" / "original").files.get(study)


def read_proposal(grid: Volume, path: Path) -> np.ndarray | None:
    """The proposal in the file ``path``, with our values; None where it does not fit the image, or cannot be read."""
    try:
        return check_label(grid, read_label_volume(path, "It"), "It", recorded_label_info(path))
    except (ValueError, OSError):
        return None


def turn_warnings(studies: Path, study: str, label: Volume, phases: Phases) -> tuple[str, ...]:
    """A sentence against ``label``, uint8 (X, Y, Z) or (X, Y, Z, T), whose drawn ``phases`` are like the stored proposal for the study only
    once they are mirrored or turned; else nothing, as where there is no proposal."""
    path = proposal_file(studies, study)
    proposal = None if path is None or is_of_another_image(path) else read_proposal(label, path)
    numbers = trusted_phases(phases)
    if proposal is None or not numbers:
        return ()
    drawn, proposed = (np.stack([phase_of(mask, number) for number in numbers], 3) for mask in (label.array, proposal))
    turn = find_turn(drawn, proposed, slice_axis(label.array.shape[:3], label.spacing))
    if turn is None:
        return ()
    how = f"It agrees with the model's proposal if it is {turn.words} (DSC {turn.after:.2f}), and far less as it is ({turn.before:.2f})"
    return (f"{how}: look at it on its image, and submit it the right way round if it lies wrong.",)
