"""The study that is open: its files from and to the server, its nodes in the scene, its latest prediction, and what was edited in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import slicer
import slicer.util

from PratoLabelLib.client import Client
from PratoLabelLib.connection import ServerError
from PratoLabelLib.geometry import Box
from PratoLabelLib.responses import Prediction
from PratoLabelLib.segmentation import create_segmentation, export_mask, import_mask, merge_masks, read_mask
from PratoLabelLib.segments import add_segments, find_problems
from PratoLabelLib.slice_views import show_planes
from PratoLabelLib.volumes import hide_token_map, is_loaded_here, remove_node, show_token_map, to_file_order, unpack_token_map

#: Node attribute: which study of the server a volume or segmentation node shows.
STUDY_ATTRIBUTE = "PratoLabel.study"
#: Node attribute: the address of the server whose study that is; the same name is another study elsewhere.
SERVER_ATTRIBUTE = "PratoLabel.server"
#: Node attribute: the version of the study's label that the segments of a segmentation node were made from, and its server's address.
BASE_ATTRIBUTE = "PratoLabel.base"
#: Node attribute: set while a segmentation node holds edits that were not sent.
EDITED_ATTRIBUTE = "PratoLabel.edited"


class StudyFiles(NamedTuple):
    """A downloaded study: its image and, where there is one, its label with the label's version."""

    study: str
    image: Path
    label: Path | None
    version: int | None


def download_study(client: Client, study: str, is_labelled: bool, folder: Path) -> StudyFiles:
    """Download a study into ``folder``, in the worker; ``is_labelled`` matters where the server keeps no versions of labels."""
    image = client.download_image(study, folder)
    version = client.current_version(study)  # its number first: the label may be replaced at any moment
    if version is None:
        return StudyFiles(study, image, client.download_label(study, folder) if is_labelled else None, None)
    return StudyFiles(study, image, client.download_version(study, version, folder) if version else None, version)


class OpenStudy:
    """Shows a study in the slice views, with the segmentation that the scene holds for it, or else a new one.

    Args:
        study: the server's name for it.
        server: the server's address.
        volume_node: its image.
        labels: structure name -> value in masks.
        mask: (K, J, I), the contents of a new segmentation; None for nothing.
        base: the server's address, and the number of the version that ``mask`` is (0 for none); None where that is unknown.
        on_change: called whenever a segment changes, by whomever.
        before_write: called before a result is written into the segments, so that the Segment Editor's undo can bring them back.

    Attributes:
        base: the same for the contents of the segmentation, also where it is not new.
        reply: the latest prediction's reply, with its ``model``; None before.
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
        before_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.study, self.server, self.volume_node, self.labels = study, server, volume_node, dict(labels)
        self.reply: dict[str, Any] | None = None
        self._token_node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._on_change, self._before_write = on_change, before_write
        self._is_writing = self._is_touched = self._has_unsent_result = False
        mark_node(volume_node, study, server)
        node = find_node("vtkMRMLSegmentationNode", study, server)
        self.segmentation_node: slicer.vtkMRMLSegmentationNode = node or create_segmentation(volume_node, labels, f"{study} heart")
        mark_node(self.segmentation_node, study, server)
        if node is None:
            if mask is not None:
                import_mask(self.segmentation_node, volume_node, labels, mask)
            self.base = base
            self.store_base()
        number, _, server = (self.segmentation_node.GetAttribute(BASE_ATTRIBUTE) or "").partition(" ")
        self.base = (server, int(number)) if number.isdigit() else None
        self._segmentation = self.segmentation_node.GetSegmentation()
        add_segments(self.segmentation_node, labels)  # segments of an earlier version of this module get their tags
        # what the server has, or made; None where the segments were edited before
        is_edited = self.segmentation_node.GetAttribute(EDITED_ATTRIBUTE) is not None
        self._sent: np.ndarray | None = None if is_edited else self.mask()
        names = ("SourceRepresentationModified", "SegmentModified", "SegmentAdded", "SegmentRemoved")  # an undo may fire the second alone
        events = [getattr(self._segmentation, name) for name in names]
        self._observers = [self._segmentation.AddObserver(event, lambda *_: self._on_segments_changed()) for event in events]
        self.segmentation_node.GetDisplayNode().SetVisibility(True)
        show_planes(volume_node)
        slicer.util.setSliceViewerLayers(background=volume_node, fit=True)

    @property
    def is_in_scene(self) -> bool:
        """Whether its nodes are still there: the user may delete them at any time."""
        return self.volume_node.GetScene() is not None and self.segmentation_node.GetScene() is not None

    def store_base(self) -> None:
        """Write ``base`` into the scene, where it stays with the segments."""
        self.segmentation_node.SetAttribute(BASE_ATTRIBUTE, f"{self.base[1]} {self.base[0]}" if self.base else None)

    def mask(self) -> np.ndarray:
        """The segments as they are: uint8 (K, J, I), values of ``labels``."""
        return export_mask(self.segmentation_node, self.volume_node, self.labels)

    @property
    def has_unsent_edits(self) -> bool:
        """Whether the labeller has changed segments since they came from the server, or were sent to it."""
        node = self.segmentation_node
        if self._is_touched:
            self._is_touched = False
            if self._sent is None or not np.array_equal(self.mask(), self._sent):
                node.SetAttribute(EDITED_ATTRIBUTE, "1")
            else:  # all of them were undone
                node.RemoveAttribute(EDITED_ATTRIBUTE)
        return node.GetAttribute(EDITED_ATTRIBUTE) is not None

    @property
    def has_unsent_work(self) -> bool:
        """Whether there is anything in the segments, edit or result, that the server has not got as a label."""
        return self._has_unsent_result or self.has_unsent_edits

    def mark_sent(self, mask: np.ndarray) -> None:
        """The server has ``mask``: what differs from it is an edit."""
        self._sent, self._is_touched, self._has_unsent_result = mask, True, False
        self.segmentation_node.RemoveAttribute(EDITED_ATTRIBUTE)

    @property
    def provenance(self) -> dict[str, Any]:
        """What of the latest prediction is stored with a label that was made from it."""
        return {name: self.reply[name] for name in ("model", "model_version", "box", "box_source")} if self.reply else {}

    def find_problems(self) -> list[str]:
        """See :func:`PratoLabelLib.segments.find_problems`."""
        return find_problems(self.segmentation_node, self.volume_node, self.labels)

    def apply(self, prediction: Prediction, file: Path, boxes: Sequence[Box], model: str, locked: Collection[str]) -> None:
        """Put a prediction into the segments, inside ``boxes`` (none: inside the box that the server used).

        Args:
            file: where the mask may be written for a moment.
            model: the name of the model that made it.
            locked: structures that stay as they are.

        Raises:
            MaskError, ValueError, KeyError: the prediction does not fit; nothing has changed then.
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
        self.labels, self.reply = labels, {**reply, "model": model}
        self.show_mask(merged)
        self._show_token_map(token_map)

    def show_mask(self, mask: np.ndarray, is_edit: bool = False) -> None:
        """Put ``mask`` into the segments; the Segment Editor's undo brings them back.

        Args:
            is_edit: whether it is a labeller's work that was not sent. A result of the server's can be had again.
        """
        was_edited = self.has_unsent_edits
        self._before_write()
        with self._writing():
            import_mask(self.segmentation_node, self.volume_node, self.labels, mask)
        if is_edit:
            self.segmentation_node.SetAttribute(EDITED_ATTRIBUTE, "1")
        elif not was_edited:
            self._sent = mask
        self._has_unsent_result = True
        self._on_change()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False

    def _on_segments_changed(self) -> None:
        if not self._is_writing:
            self._is_touched = True
            self._on_change()

    def submit_label(self, client: Client, path: Path, info: Mapping[str, Any]) -> dict[str, Any]:
        """Send the label in the file ``path``, which becomes the new ``base``; returns the server's reply.

        Runs in the worker: it touches no node.
        """
        server, version = self.base or ("", 0)
        base_version = {"base_version": version} if server == client.address else {}
        try:
            reply = client.submit(self.study, path, {**info, **base_version})
        except ServerError as error:
            if error.status != 400 or not base_version:
                raise
            # a server that lost its history rejects the version, but must get the label
            reply = client.submit(self.study, path, dict(info))
        self.base = (client.address, reply["version"]) if isinstance(reply.get("version"), int) else None
        return reply

    def close(self) -> None:
        """Stop observing, and hide the segments and the token map; the nodes stay in the scene with all edits."""
        for observer in self._observers:
            self._segmentation.RemoveObserver(observer)
        self._show_token_map(None)
        if self.is_in_scene:
            self.segmentation_node.GetDisplayNode().SetVisibility(False)

    def remove_nodes(self) -> None:
        """Take the study out of the scene, where all of it can be had from the server again; a volume of the labeller's own stays."""
        nodes = [node for node in slicer.util.getNodesByClass("vtkMRMLNode") if is_of_study(node, self.study, self.server)]
        for node in nodes:
            if node is not self.volume_node or is_loaded_here(node):
                remove_node(node)

    def _show_token_map(self, token_map: np.ndarray | None) -> None:
        if token_map is None:
            hide_token_map(self._token_node)
            self._token_node = None
        else:
            self._token_node = show_token_map(token_map, self.volume_node, self._token_node)


def find_node(class_name: str, study: str, server: str) -> slicer.vtkMRMLNode | None:
    """The node of the class in the scene that shows ``study`` of ``server``; None if there is none."""
    return next((node for node in slicer.util.getNodesByClass(class_name) if is_of_study(node, study, server)), None)


def is_of_study(node: slicer.vtkMRMLNode, study: str, server: str) -> bool:
    """Whether the node belongs to ``study`` of ``server``."""
    # scenes of an earlier version of this module do not say whose
    return node.GetAttribute(STUDY_ATTRIBUTE) == study and node.GetAttribute(SERVER_ATTRIBUTE) in (None, server)


def mark_node(node: slicer.vtkMRMLNode, study: str, server: str) -> None:
    """Let the node belong to ``study`` of ``server``."""
    node.SetAttribute(STUDY_ATTRIBUTE, study)
    node.SetAttribute(SERVER_ATTRIBUTE, server)
