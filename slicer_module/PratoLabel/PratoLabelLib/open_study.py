"""The study that is open: its files from and to the server, its nodes in the scene, its latest prediction, undo and redo."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import slicer
import slicer.util

from PratoLabelLib.client import Client
from PratoLabelLib.connection import ServerError
from PratoLabelLib.geometry import Box
from PratoLabelLib.responses import Prediction
from PratoLabelLib.segmentation import MaskHistory, create_segmentation, export_mask, import_mask, merge_masks, read_mask
from PratoLabelLib.slice_views import show_planes
from PratoLabelLib.volumes import hide_token_map, restore_index_order, show_token_map, unpack_token_map

#: Node attribute: which study of the server a volume or segmentation node shows.
STUDY_ATTRIBUTE = "PratoLabel.study"
#: Node attribute: the version of the study's label that the segments of a segmentation node were made from, and its server's address.
BASE_ATTRIBUTE = "PratoLabel.base"


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
        volume_node: its image.
        labels: structure name -> value in masks.
        mask: (K, J, I), the contents of a new segmentation; None for nothing.
        base: the server's address, and the number of the version that ``mask`` is (0 for none); None where that is unknown.
        on_change: called whenever a segment changes, by whomever.

    Attributes:
        base: the same for the contents of the segmentation, also where it is not new.
        reply: the latest prediction's reply, with its ``model``; None before.
    """

    def __init__(
        self,
        study: str,
        volume_node: slicer.vtkMRMLScalarVolumeNode,
        labels: Mapping[str, int],
        mask: np.ndarray | None,
        base: tuple[str, int] | None,
        on_change: Callable[[], None],
    ) -> None:
        self.study, self.volume_node, self.labels = study, volume_node, dict(labels)
        self.reply: dict[str, Any] | None = None
        self.history = MaskHistory()
        self._token_node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._on_change = on_change
        volume_node.SetAttribute(STUDY_ATTRIBUTE, study)
        restore_index_order(volume_node)
        node = find_node("vtkMRMLSegmentationNode", study)
        self.segmentation_node: slicer.vtkMRMLSegmentationNode = node or create_segmentation(volume_node, labels, f"{study} heart")
        if node is None:
            self.segmentation_node.SetAttribute(STUDY_ATTRIBUTE, study)
            if mask is not None:
                import_mask(self.segmentation_node, volume_node, labels, mask)
            self.base = base
            self.store_base()
        number, _, server = (self.segmentation_node.GetAttribute(BASE_ATTRIBUTE) or "").partition(" ")
        self.base = (server, int(number)) if number.isdigit() else None
        self._segmentation = self.segmentation_node.GetSegmentation()
        event = slicer.vtkSegmentation.SourceRepresentationModified
        self._observer = self._segmentation.AddObserver(event, lambda *_: on_change())
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
        file.write_bytes(prediction.mask)
        labels = dict(reply["label_names"])
        predicted = read_mask(file, self.volume_node, labels)
        token_map = unpack_token_map(reply["tokens"]) if "tokens" in reply else None
        current = export_mask(self.segmentation_node, self.volume_node, labels)
        merged = merge_masks(current, predicted, boxes or [reply["box"]], [labels[name] for name in labels if name in locked])
        self.labels, self.reply = labels, {**reply, "model": model}
        self.history.add(current)
        self._show_mask(merged)
        self._show_token_map(token_map)

    def undo(self) -> None:
        """Back to before the latest prediction, if there is one."""
        if self.history.can_undo:
            self._show_mask(self.history.undo(self.mask()))

    def redo(self) -> None:
        """Bring back what :meth:`undo` took back, if there is anything."""
        if self.history.can_redo:
            self._show_mask(self.history.redo(self.mask()))

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
        self._segmentation.RemoveObserver(self._observer)
        self._show_token_map(None)
        if self.is_in_scene:
            self.segmentation_node.GetDisplayNode().SetVisibility(False)

    def _show_mask(self, mask: np.ndarray) -> None:
        import_mask(self.segmentation_node, self.volume_node, self.labels, mask)
        self._on_change()

    def _show_token_map(self, token_map: np.ndarray | None) -> None:
        if token_map is None:
            hide_token_map(self._token_node)
            self._token_node = None
        else:
            self._token_node = show_token_map(token_map, self.volume_node, self._token_node)


def find_node(class_name: str, study: str) -> slicer.vtkMRMLNode | None:
    """The node of the class in the scene that shows ``study``; None if there is none."""
    return next((node for node in slicer.util.getNodesByClass(class_name) if node.GetAttribute(STUDY_ATTRIBUTE) == study), None)
