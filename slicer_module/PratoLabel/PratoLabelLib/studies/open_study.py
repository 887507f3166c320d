"""The study that is open: its files from and to the server, its nodes in the scene, its latest prediction, and what was edited in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from PratoLabelLib.measures.nifti_frames import Frames
from PratoLabelLib.scene.drawing import Drawing, Part, has_same_parts, read_parts, write_parts
from PratoLabelLib.scene.geometry import Box
from PratoLabelLib.scene.segmentation import MaskError, create_segmentation, export_mask, import_mask, merge_masks, read_mask, write_mask
from PratoLabelLib.scene.segments import add_segments, find_problems
from PratoLabelLib.scene.slice_views import show_planes
from PratoLabelLib.scene.study_nodes import EDITED_ATTRIBUTE, find_node, mark_node, remove_study
from PratoLabelLib.scene.study_record import StudyRecord
from PratoLabelLib.scene.volumes import hide_token_map, show_token_map, to_file_order, unpack_token_map
from PratoLabelLib.scene.watched_segments import WatchedSegments
from PratoLabelLib.server.responses import Prediction
from PratoLabelLib.studies.study_files import Submission
from PratoLabelLib.translation import translator

_ = translator(__file__)


class OpenStudy(WatchedSegments, StudyRecord):
    """Shows a study in the slice views, with the segmentation that the scene holds for it, or else a new one.

    Args:
        study: the server's name for it.
        server: the server's address.
        volume_node: its image.
        labels: structure name -> value in masks.
        mask: (K, J, I), the contents of a new segmentation; None for nothing.
        base: the server's address, and the number of the version that ``mask`` is (0 for none); None where that is unknown.
        on_change: called whenever a segment changes, by whomever.
        before_write: called before phases are written, with these and whether it is a labeller's work: the Segment Editor's undo can bring
            the one back that is shown.
        on_kept: called when the image was moved otherwise than by a transform, and was put back.

    Attributes:
        base: the same for the contents of the segmentation, also where it is not new.
    """

    def __init__(
        self,
        study: str,
        server: str,
        volume_node: slicer.vtkMRMLScalarVolumeNode,
        labels: Mapping[str, int],
        mask: np.ndarray | None,
        base: tuple[str, int] | None,
        on_change: Callable[[], None],
        before_write: Callable[[Collection[int], bool], None] = lambda phases, is_edit: None,
        on_kept: Callable[[], None] = lambda: None,
    ) -> None:
        self.study, self.server, self.volume_node, self.labels = study, server, volume_node, dict(labels)
        self._token_node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._on_change, self._before_write, self._on_kept = on_change, before_write, on_kept
        self._is_writing = self._is_touched = self._is_in_doubt = False
        mark_node(volume_node, study, server)
        node = self._find_segmentation()
        self.segmentation_node: slicer.vtkMRMLSegmentationNode = node or create_segmentation(volume_node, labels, f"{study} heart")
        mark_node(self.segmentation_node, study, server)
        if node is None:
            if mask is not None:
                import_mask(self.segmentation_node, volume_node, labels, mask)
            self.base = base
            self.store_base()
        self.read_base()
        add_segments(self.segmentation_node, labels)  # segments of an earlier version of this module get their tags
        # what the server has, or made; None where the segments were edited before
        is_edited = self._record.GetAttribute(EDITED_ATTRIBUTE) is not None
        self._sent = None if is_edited else self.mask()
        self._known_parts = () if self._sent is None else self._read_parts(self._sent)  # beside it; the rest nobody was told of
        self._is_mask_edited = is_edited
        self._watch()
        self.segmentation_node.CreateDefaultDisplayNodes()  # what came with another scene may have lost them
        self.segmentation_node.GetDisplayNode().SetVisibility(True)
        show_planes(volume_node)
        slicer.util.setSliceViewerLayers(background=volume_node, fit=True)

    def _find_segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The one that the scene holds for the study."""
        return find_node("vtkMRMLSegmentationNode", self.study, self.server)

    @property
    def is_in_scene(self) -> bool:
        """Whether its nodes are still there: the user may delete them at any time."""
        return self.volume_node.GetScene() is not None and self.segmentation_node.GetScene() is not None

    def nodes(self) -> list[slicer.vtkMRMLNode]:
        """The nodes without which it is not open."""
        return [self.volume_node, self.segmentation_node]

    def mask(self) -> np.ndarray:
        """The segments as they are: uint8 (K, J, I), values of ``labels``."""
        return export_mask(self.segmentation_node, self.volume_node, self.labels)

    def mask_of(self, phase: int) -> np.ndarray:
        """As :meth:`mask`, of any phase; there is phase 0 alone."""
        return self.mask()

    def _read_parts(self, mask: np.ndarray) -> tuple[Part, ...]:
        return read_parts(self.segmentation_node, self.volume_node, self.labels, mask)

    @property
    def has_unsent_edits(self) -> bool:
        """Whether the labeller has changed segments since they came from the server, or were sent to it; also those that cannot be sent."""
        node = self.segmentation_node
        if self._is_touched:
            self._is_touched, mask = False, self.mask()
            self._is_mask_edited = self._sent is None or not np.array_equal(mask, self._sent)
            if self._is_mask_edited or not has_same_parts(self._read_parts(mask), self._known_parts):
                node.SetAttribute(EDITED_ATTRIBUTE, "1")
            else:  # all of them were undone
                node.RemoveAttribute(EDITED_ATTRIBUTE)
        return node.GetAttribute(EDITED_ATTRIBUTE) is not None

    @property
    def has_unsent_work(self) -> bool:
        """Whether there is anything in the segments, edit or result, that the server has not got as a label."""
        return bool(self._results) or self.has_unsent_edits

    @property
    def is_on_server(self) -> bool:
        """Whether all of it can be had from the server again."""
        return not self.has_unsent_work and not self._read_parts(self.mask())

    def unsent_phases(self) -> set[int]:
        """The phases that are not as ``base`` has them, for edits or results; a study of one has phase 0."""
        return {0} if self._results or (self.has_unsent_edits and self._is_mask_edited) else set()

    def prepare_submission(self, path: Path) -> Submission:
        """Write the segments to the file ``path``, as they are.

        Raises:
            MaskError: there is nothing in them, or the file cannot be written.
        """
        mask = self.mask()
        if not mask.any():
            raise MaskError(_("The segments are empty: draw at least one structure before you submit."))
        write_mask(path, mask, self.volume_node)
        return Submission({0: Drawing(mask, self._read_parts(mask))}, {}, lambda: None)

    def mark_sent(self, submission: Submission, reply: Mapping[str, Any], base: tuple[str, int] | None) -> None:
        """The server has it, as it says in ``reply``: what differs from it is an edit. ``base``: what it was made from."""
        (self._sent, self._known_parts), self._is_touched, self._results = submission.drawings[0], True, set()
        self._record_edits()

    def _record_edits(self) -> None:
        """Let the scene know of the edits, as whoever opens the study next learns of them from there."""
        if self.segmentation_node.GetScene() is not None:  # though the image may be gone
            _ = self.has_unsent_edits

    def find_problems(self) -> list[str]:
        """See :func:`PratoLabelLib.scene.segments.find_problems`."""
        return find_problems(self.segmentation_node, self.volume_node, self.labels)

    def apply(self, prediction: Prediction, file: Path, boxes: Sequence[Box], model: str, locked: Collection[str]) -> None:
        """Put a prediction into the segments, inside ``boxes`` (none: inside the box that the server used).

        Args:
            file: where the mask may be written for a moment.
            model: the name of the model that made it.
            locked: structures that stay as they are.

        Raises:
            UserError, KeyError: the prediction does not fit; nothing has changed then.
        """
        reply = prediction.reply
        labels = dict(reply["label_names"])
        file.write_bytes(prediction.mask)
        try:
            predicted = read_mask(file, self.volume_node, labels)
        finally:
            file.unlink(missing_ok=True)
        token_map = unpack_token_map(reply["tokens"]) if "tokens" in reply else None
        current = export_mask(self.segmentation_node, self.volume_node, labels)
        inside: Sequence[Sequence[int]] = boxes or [to_file_order(reply["box"], self.volume_node)]
        merged = merge_masks(current, predicted, inside, [labels[name] for name in labels if name in locked])
        self.labels = labels
        self.show_mask(merged)
        self._take_reply({**reply, "model": model})
        self._show_token_map(token_map)

    def show_mask(self, mask: np.ndarray, is_edit: bool = False) -> None:
        """Put ``mask`` into the segments; the Segment Editor's undo brings them back. ``is_edit``: it is a labeller's work."""
        self.check_writable(0)
        was_edited = self.has_unsent_edits
        self._before_write([0], is_edit)
        with self._writing():
            import_mask(self.segmentation_node, self.volume_node, self.labels, mask)
        if is_edit:
            self.segmentation_node.SetAttribute(EDITED_ATTRIBUTE, "1")
            self._is_mask_edited = True
        elif not was_edited:
            self._sent = mask
        self._results |= {0}
        self._outdate_reply([0])
        self._on_change()

    def show_label(self, label: Path, frames: Frames | None, is_base: bool) -> None:
        """Show a label of the server's in place of the segments; ``is_base``: they are ``base`` then.

        Raises:
            MaskError: it does not fit.
        """
        mask = read_mask(label, self.volume_node, self.labels)
        self.show_mask(mask)
        self._sent, self._is_touched = mask, True
        self._results = set() if is_base else {0}
        self._record_edits()

    def unsent(self) -> dict[int, Drawing]:
        """What is edited and not sent, by phase."""
        mask = self.mask()
        return {0: Drawing(mask, self._read_parts(mask))}

    def fits(self, drawings: Mapping[int, Drawing]) -> bool:
        """Whether such edits could be of this study."""
        return list(drawings) == [0] and drawings[0].mask.shape == self.mask().shape

    def holds(self, drawings: Mapping[int, Drawing]) -> bool:
        """Whether the segments are such edits already."""
        return self.fits(drawings) and self.unsent()[0].is_like(drawings[0])

    def recover(self, drawings: Mapping[int, Drawing]) -> None:
        """Show such edits in place of the segments."""
        self.show_mask(drawings[0].mask, is_edit=True)
        with self._writing():
            write_parts(self.segmentation_node, self.volume_node, self.labels, drawings[0].parts)

    def _on_segments_changed(self, is_certain: bool = True) -> None:
        if not self._is_writing:
            self._note_touched(is_certain)
            self._is_in_doubt |= not is_certain
            if is_certain:
                self._outdate_reply([self.shown_phase])
            self._on_change()

    def _note_touched(self, is_certain: bool) -> None:
        self._is_touched = True
        if is_certain:
            self.segmentation_node.SetAttribute(EDITED_ATTRIBUTE, "1")  # until it is looked at: the scene may be saved before that

    def settle(self) -> None:
        """Let the scene know whether segments that may have changed have; called soon afterwards, when they can be looked at."""
        super().settle()
        if self._is_in_doubt:
            self._is_in_doubt = False
            self._record_edits()

    def close(self) -> None:
        """Stop observing, and hide the segments and the token map; the nodes stay in the scene with all edits."""
        self._record_edits()
        self._unwatch()
        self._show_token_map(None)
        display = self.segmentation_node.GetDisplayNode()
        if display is not None:
            display.SetVisibility(False)

    def remove_nodes(self) -> None:
        """Take the study out of the scene, where all of it can be had from the server again."""
        remove_study(self.study, self.server, self.segmentation_node)

    def _show_token_map(self, token_map: np.ndarray | None) -> None:
        if token_map is None:
            hide_token_map(self._token_node)
            self._token_node = None
        else:
            self._token_node = show_token_map(token_map, self.volume_node, self._token_node)
