"""The study that is open: its nodes in the scene, its latest prediction, and what can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from PratoLabelLib.answers import Answer
from PratoLabelLib.geometry import Box
from PratoLabelLib.history import MaskHistory
from PratoLabelLib.overlay import hide_tokens, show_tokens, token_map
from PratoLabelLib.segmentation import mask_of, merged, new_segmentation, read_mask, show_mask
from PratoLabelLib.volume_file import keep_order

#: Node attribute: which study of the server a volume or segmentation node shows.
STUDY = "PratoLabel.study"
#: Node attribute: the version of the study's label that the segments of a segmentation node were made from, and its server's address.
BASE = "PratoLabel.base"


class OpenStudy:
    """Shows a study in the slice views, with the segmentation that the scene holds for it, or else a new one.

    Args:
        study: the server's name for it.
        volume_node: its image.
        labels: structure name -> value in masks.
        mask: (K, J, I), what a new segmentation holds; None for nothing.
        base: the server's address, and the number of the version that ``mask`` is (0 for none); None where nobody knows it.
        changed: called whenever a segment changes, by whomever.

    Attributes:
        base: the same for what the segmentation holds, also where it is not new.
    """

    def __init__(
        self,
        study: str,
        volume_node: Any,
        labels: Mapping[str, int],
        mask: np.ndarray | None,
        base: tuple[str, int] | None,
        changed: Callable[[], None],
    ) -> None:
        self.study, self.volume_node, self.labels = study, volume_node, dict(labels)
        self.reply: dict[str, Any] | None = None
        self.history = MaskHistory()
        self._tokens_node: Any = None
        self._changed = changed
        volume_node.SetAttribute(STUDY, study)
        keep_order(volume_node)
        self.segmentation_node = node_of("vtkMRMLSegmentationNode", study)
        if self.segmentation_node is None:
            self.segmentation_node = new_segmentation(volume_node, labels, f"{study} heart")
            self.segmentation_node.SetAttribute(STUDY, study)
            if mask is not None:
                show_mask(self.segmentation_node, volume_node, labels, mask)
            self.base = base
            self.keep_base()
        number, _, server = (self.segmentation_node.GetAttribute(BASE) or "").partition(" ")
        self.base = (server, int(number)) if number.isdigit() else None
        self._segmentation = self.segmentation_node.GetSegmentation()
        event = slicer.vtkSegmentation.SourceRepresentationModified
        self._observer = self._segmentation.AddObserver(event, lambda *_: changed())
        self.segmentation_node.GetDisplayNode().SetVisibility(True)
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            view.RotateToVolumePlane(volume_node)  # an oblique stack is shown as it was taken
        slicer.util.setSliceViewerLayers(background=volume_node, fit=True)

    @property
    def in_scene(self) -> bool:
        """Whether its nodes are still there: the user may delete them at any time."""
        return self.volume_node.GetScene() is not None and self.segmentation_node.GetScene() is not None

    def keep_base(self) -> None:
        """Write ``base`` into the scene, where it stays with the segments."""
        self.segmentation_node.SetAttribute(BASE, f"{self.base[1]} {self.base[0]}" if self.base else None)

    def mask(self) -> np.ndarray:
        """The segments as they are: uint8 (K, J, I), values of ``labels``."""
        return mask_of(self.segmentation_node, self.volume_node, self.labels)

    def take(self, answer: Answer, file: Path, boxes: Sequence[Box], model: str, locked: Collection[str]) -> None:
        """Put a prediction into the segments, inside ``boxes`` (none: inside the box that the server used).

        Args:
            file: where the mask may be written for a moment.
            locked: structures that stay as they are.

        Raises:
            MaskError, ValueError, KeyError: the answer does not fit; nothing has changed then.
        """
        file.write_bytes(answer.mask)
        labels = dict(answer.reply["label_names"])
        predicted = read_mask(file, self.volume_node, labels)
        kept = token_map(answer.reply["tokens"]) if "tokens" in answer.reply else None
        current = mask_of(self.segmentation_node, self.volume_node, labels)
        fresh = merged(current, predicted, boxes or [answer.reply["box"]], [labels[name] for name in labels if name in locked])
        self.labels, self.reply = labels, {**answer.reply, "model": model}
        self.history.add(current)
        self._show(fresh)
        self._show_tokens(kept)

    def undo(self) -> None:
        """Back to before the latest prediction, if there is one."""
        if self.history.can_undo:
            self._show(self.history.undo(self.mask()))

    def redo(self) -> None:
        """Bring back what :meth:`undo` took, if it took something."""
        if self.history.can_redo:
            self._show(self.history.redo(self.mask()))

    def leave(self) -> None:
        """Stop watching, and hide the segments and the token map; the nodes stay in the scene with all edits."""
        self._segmentation.RemoveObserver(self._observer)
        self._show_tokens(None)
        if self.in_scene:
            self.segmentation_node.GetDisplayNode().SetVisibility(False)

    def _show(self, mask: np.ndarray) -> None:
        show_mask(self.segmentation_node, self.volume_node, self.labels, mask)
        self._changed()

    def _show_tokens(self, kept: np.ndarray | None) -> None:
        if kept is None:
            hide_tokens(self._tokens_node)
            self._tokens_node = None
        else:
            self._tokens_node = show_tokens(kept, self.volume_node, self._tokens_node)


def node_of(kind: str, study: str) -> Any:
    """The node of class ``kind`` in the scene that shows ``study``; None if there is none."""
    return next((node for node in slicer.util.getNodesByClass(kind) if node.GetAttribute(STUDY) == study), None)
