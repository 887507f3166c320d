"""Masks that were drawn elsewhere, brought into a studies folder as labels, each under the name of its study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from prato.data.cine import Cine, read_cine
from prato.data.image_files import read_mask
from prato.data.labels.anatomy import judge_anatomy
from prato.data.labels.check import check_label, read_label_volume
from prato.data.labels.names import LABEL_INFO, ContradictedLabelError, LabelError, UnknownNameError
from prato.data.nifti import Volume, VolumeError
from prato.data.stack import slice_axis
from prato.data.studies.folder import ENDINGS
from prato.data.studies.label_records import recorded_proposal_model
from prato.labelling.mask_files import MaskOwner
from prato.labelling.phases import phase_count, phase_of, trusted_phases
from prato.labelling.proposals import proposal_file, read_proposal
from prato.labelling.records import LabelVersionError, State
from prato.labelling.versions import LabelVersions


def import_mask(
    image: Path,
    owner: MaskOwner,
    mask: Path,
    names: Mapping[str, str] | None,
    params: dict[str, Any],
    accept_proposals: bool = False,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> dict[int, State]:
    """Store the file ``mask`` as the label of its ``owner``, as :func:`store_mask` does.

    Args:
        image: of the study, in the studies folder.
        names: value -> structure; None where nobody has said so: the file has to.
        renamed: names of structures by names in the file that are none.

    Raises:
        VolumeError: the image cannot be read.
        LabelError: the image has no such phase, or the mask is of one and its name does not say which; it does not fit its image or these
            names; or as :func:`store_mask`.
        OSError: no space, no permission.
    """
    cine = read_cine(image)
    if mask.name.endswith(ENDINGS):
        label, own_names = read_label_volume(mask, "It"), None
    else:
        label, own_names = read_mask(mask)
        own_names = own_names and [{**one, "name": renamed.get(one["name"], one["name"])} for one in own_names]
    if not (own_names or names):
        raise LabelError("Nothing says what its values mean: name their convention with --convention.")
    try:
        voxels = _place_mask(cine, owner, label, own_names or names)
    except UnknownNameError as error:
        raise ask_for_names(error) from error
    return store_mask(image, cine.grid(), owner.study, voxels, params, accept_proposals)


def ask_for_names(error: UnknownNameError) -> LabelError:
    """What whoever imports a file is told, in which a program has called a segment so."""
    return LabelError(f"{str(error).removesuffix('.')}; --names can say which of them it is.")


def store_mask(
    image: Path, grid: Volume, study: str, voxels: np.ndarray, params: dict[str, Any], accept_proposals: bool
) -> dict[int, State]:
    """Store ``voxels`` as the label of ``study``; returns the states of the phases that were stored, none where the label is the same
    already.

    Of a cine's mask, the phases that hold a structure and are not as the label has them already are stored; the label's other phases stay
    as they are. Phases that are still what a model proposed are stored as proposals: nobody has drawn them. What was imported before is
    not stored again over what somebody drew, or restored, since.

    Args:
        image: of the study, in the studies folder, on ``grid``.
        voxels: checked, of the shape of ``grid`` and with our values.
        params: stored with it.
        accept_proposals: somebody has found the proposals right as they are, so that they count as drawn, too.

    Raises:
        LabelError: it is empty, or holds nothing new but a model's proposal, or what was imported before and replaced since, or cannot be
            what it says, by where its structures lie.
        OSError: no space, no permission.
    """
    if not voxels.any():
        raise LabelError("It is empty: there is nothing to learn from it.")
    drawn = [number for number in range(phase_count(voxels)) if phase_of(voxels, number).any()]
    for number in drawn:
        anatomy = judge_anatomy(phase_of(voxels, number), slice_axis(grid.array.shape[:3], grid.spacing))
        if anatomy.verdict == "contradicted":
            where = f"in phase {number}, " if phase_count(voxels) > 1 else ""
            raise ContradictedLabelError(f"With these names, {where}{anatomy.sentence}")
    versions = LabelVersions(image.parent, study)
    current = versions.current()
    if current is not None and current.origin != "found":
        stored = versions.read_volume(current.version).array
        trusted = set(trusted_phases(current.phases)) if accept_proposals else set(drawn)
        drawn = [number for number in drawn if number not in trusted or not _is_same(voxels, stored, number)]
    before = {} if current is None else _imported_before(versions, voxels, drawn, accept_proposals)
    drawn = [number for number in drawn if number not in before]
    path = proposal_file(image.parent, study)
    proposal = None if path is None or accept_proposals else read_proposal(grid, path)
    states: dict[int, State] = {n: "proposed" if _is_same(voxels, proposal, n) else "corrected" for n in drawn}
    if "corrected" in states.values():
        model = recorded_proposal_model(path) if path is not None and "proposed" in states.values() else None
        by = {} if model is None else {"model": model[0], "model_version": model[1]}
        versions.save(grid.with_array(voxels), {**params, **by, "phases": {str(n): s for n, s in states.items()}, "label_info": LABEL_INFO})
        return states
    if states:
        raise LabelError(
            "All that is new in it equals the model's proposal: correct it, or import it with --accept-proposals if it is right."
        )
    if before:
        earlier = f"It was imported before, as version {max(before.values())}, and the label was replaced since"
        raise LabelError(f"{earlier}: restore that version if you want it back.")
    return {}


def _imported_before(versions: LabelVersions, voxels: np.ndarray, numbers: Iterable[int], accept_proposals: bool) -> dict[int, int]:
    """The phases, of ``numbers``, that an earlier import stored as they are in ``voxels``, and its version: as drawn ones, where proposals
    are accepted."""
    found: dict[int, int] = {}
    for version in versions.all():
        own = {n: phase for n, phase in version.phases.items() if phase.version == version.version and "imported_from" in version.params}
        if same := [n for n in numbers if n in own and (own[n].is_trusted or not accept_proposals)]:
            with suppress(VolumeError, LabelVersionError):  # a file that is damaged says nothing
                stored = versions.read_volume(version.version).array
                found |= {n: version.version for n in same if _is_same(voxels, stored, n)}
    return found


def _place_mask(cine: Cine, owner: MaskOwner, label: Volume, names: Any) -> np.ndarray:
    """``label``, checked, as a mask of all of ``cine``, with our values.

    Raises:
        LabelError: as :func:`import_mask`.
    """
    grid, count = cine.grid(), len(cine)
    if owner.phase is None:
        if count > 1 and label.array.ndim == 3:
            called = f"{owner.study.removesuffix('_4d')}_frame01"
            raise LabelError(f"It is of one phase, and its image has {count}: its name is to say which, as in {called} for the first.")
        return check_label(grid, label, "It", names)
    if count == 1:
        raise LabelError(f"It is called like a phase, and its image has only one: name it like its study, {owner.study}.")
    if owner.phase >= count:
        raise LabelError(f"Its image has {count} phases, of which the last is called frame{count:02d}.")
    voxels = np.zeros(grid.array.shape, np.uint8)
    phase_of(voxels, owner.phase)[...] = check_label(cine.phase(owner.phase), label, "It", names)
    return voxels


def _is_same(mask: np.ndarray, other: np.ndarray | None, number: int) -> bool:
    return other is not None and other.shape == mask.shape and np.array_equal(phase_of(mask, number), phase_of(other, number))
