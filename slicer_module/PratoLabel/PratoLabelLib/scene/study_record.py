"""What the scene keeps about the segments of a study, beside them: it is saved with them, and known when the study is opened again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import slicer

from PratoLabelLib.errors import UserError
from PratoLabelLib.scene.segmentation import REOPEN_STUDY, MaskError
from PratoLabelLib.scene.study_nodes import read_phases, write_phases
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: Node attribute: the version of the study's label that the segments of a segmentation node were made from, and its server's address.
BASE_ATTRIBUTE = "PratoLabel.base"
#: Node attribute: the phases of which the segments are a result or another version; 0 of a study of one.
RESULTS_ATTRIBUTE = "PratoLabel.results"
#: Node attribute: the phases of the label that are another person's, and not what the segments show.
STALE_ATTRIBUTE = "PratoLabel.stale"
#: Node attribute: SHA-256 of the server's file of the image that the segments were drawn on.
IMAGE_ATTRIBUTE = "PratoLabel.image"
#: Node attribute: what of a prediction is stored with a label that was made from it.
PROVENANCE_ATTRIBUTE = "PratoLabel.provenance"
#: The contract's warnings of a mask by itself.
_MASK_WARNINGS = ("mask_is_empty", "structure_is_missing", "lv_cavity_is_open")
_PROVENANCE = ("model", "model_version", "box", "box_source")


class StudyRecord:
    """A study whose segments lie in ``segmentation_node``.

    Attributes:
        base: the server's address, and the number of the version that the segments were made from (0 for none); None where it is unknown.
            A worker may change it; what the scene has of it, the main thread alone.
        reply: the latest prediction's reply, with its ``model``; None before. Of phases that were changed since, it says nothing any more.
    """

    study: str
    server: str
    segmentation_node: slicer.vtkMRMLSegmentationNode
    base: tuple[str, int] | None
    reply: dict[str, Any] | None = None

    @property
    def _record(self) -> slicer.vtkMRMLNode:
        """The node that keeps it."""
        return self.segmentation_node

    def read_base(self) -> None:
        """Let ``base`` be what the scene has."""
        number, _, server = (self._record.GetAttribute(BASE_ATTRIBUTE) or "").partition(" ")
        self.base = (server, int(number)) if number.isdigit() else None

    def store_base(self) -> None:
        """Write ``base`` into the scene, where it stays with the segments."""
        self._record.SetAttribute(BASE_ATTRIBUTE, f"{self.base[1]} {self.base[0]}" if self.base else None)

    @property
    def image_checksum(self) -> str | None:
        """SHA-256 of the server's file of the image that the segments were drawn on; None where it is unknown."""
        return self._record.GetAttribute(IMAGE_ATTRIBUTE)  # type: ignore[no-any-return]

    def note_image(self, checksum: str) -> None:
        """The image that is shown is that of the server's file with this SHA-256; segments that were there before stay what they are of."""
        if self.image_checksum is None:
            self._record.SetAttribute(IMAGE_ATTRIBUTE, checksum)

    def require_server(self, address: str) -> None:
        """Do nothing where the study is one of the server at ``address``, or where that is "": none is connected, which is said elsewhere.

        Raises:
            UserError: it is another server's; what is called the same on this one is another patient.
        """
        if address not in ("", self.server):
            raise UserError(
                _("{study} is a study of {server}: connect to that server, or open one of this server's.").format(
                    study=self.study, server=self.server
                )
            )

    def require_same_image(self, reply: Mapping[str, Any]) -> None:
        """Do nothing where ``reply`` is of the image that the segments were drawn on, or where either does not say which that is.

        Raises:
            MaskError: by now the server has another one of that name, perhaps on the same grid.
        """
        theirs = reply.get("image_sha256")
        if theirs is not None and self.image_checksum not in (None, theirs):
            way = REOPEN_STUDY.format(study=self.study)
            raise MaskError(
                _("The server has another image of {study} by now, so its mask does not belong to this one: {way}").format(
                    study=self.study, way=way
                )
            )

    @property
    def provenance(self) -> dict[str, Any]:
        """What of the latest prediction is stored with a label that was made from it."""
        facts: dict[str, Any] = json.loads(self._record.GetAttribute(PROVENANCE_ATTRIBUTE) or "{}")
        return facts

    @provenance.setter
    def provenance(self, facts: Mapping[str, Any]) -> None:
        known = {name: facts[name] for name in _PROVENANCE if name in facts}
        self._record.SetAttribute(PROVENANCE_ATTRIBUTE, json.dumps(known) if known else None)

    def _take_reply(self, reply: dict[str, Any]) -> None:
        self.reply = self.provenance = reply

    def _outdate_reply(self, phases: Collection[int]) -> None:
        """The masks of these phases are no longer those that the reply's warnings are about; box and image are the same."""
        if self.reply is not None:
            self.reply = without_mask_warnings(self.reply, phases)

    @property
    def _results(self) -> set[int]:
        """The phases that are shown as a result or another version, not as ``base``: the scene knows, as it has their segments."""
        return read_phases(self._record, RESULTS_ATTRIBUTE)

    @_results.setter
    def _results(self, phases: set[int]) -> None:
        write_phases(self._record, RESULTS_ATTRIBUTE, phases)

    @property
    def _stale(self) -> set[int]:
        """The phases that somebody else submitted while others of this study were sent."""
        return read_phases(self._record, STALE_ATTRIBUTE)

    @_stale.setter
    def _stale(self, phases: set[int]) -> None:
        write_phases(self._record, STALE_ATTRIBUTE, phases)


def without_mask_warnings(reply: Mapping[str, Any], phases: Collection[int]) -> dict[str, Any]:
    """``reply`` without what it says of the masks of these phases; a study of one phase has phase 0."""
    about = {name: [*known] for name, known in (reply.get("warned_phases") or {}).items()}
    warnings = []
    for name in reply["warnings"]:
        if name in _MASK_WARNINGS or (name in about and name.endswith(".")):  # such sentences are about a corrected phase
            about[name] = [phase for phase in about.get(name, reply.get("phases") or [0]) if phase not in phases]
            if not about[name]:
                continue
        warnings.append(name)
    return {**reply, "warnings": warnings, "warned_phases": about}
