"""Which study is open: the next one, one of the list, or a volume of the scene; with its unsent edits and its label's versions. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import slicer
import slicer.util
import vtk

from PratoLabelLib.measures.nifti_frames import Frames
from PratoLabelLib.scene.cine_nodes import OTHER_PHASES, CineNodes, find_cine, load_cine
from PratoLabelLib.scene.segmentation import MaskError, read_mask
from PratoLabelLib.scene.study_nodes import EDITED_ATTRIBUTE, find_node, is_of_study
from PratoLabelLib.scene.volumes import can_be_study, check_image, load_volume, mark_as_stored, write_volume
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.server_logic import ServerLogic
from PratoLabelLib.server.worker import Signal
from PratoLabelLib.studies.autosave import Autosave
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.studies.drafts import DraftFolder
from PratoLabelLib.studies.label_versions import VersionList
from PratoLabelLib.studies.open_study import OpenStudy
from PratoLabelLib.studies.study_files import StudyFiles, TemporaryFolder, download_next_study, download_study
from PratoLabelLib.translation import translator

_ = translator(__file__)


class StudyLogic(ServerLogic):
    """Opens studies in the scene, one at a time, on top of what is done with the server.

    A request that cannot be sent, or that fails, leaves the scene as it was and ``failed`` says why.

    Attributes:
        study_opened, study_lost, ...: signals; the comment tells what their listeners get.
        versions: of the open study's label, on the server.
        autosave: keeps the open study's unsent edits, and offers earlier ones; None while no study is open.
    """

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        ServerLogic.__init__(self, make_client)
        self.study_opened = Signal()  # vtkMRMLScalarVolumeNode
        self.study_lost = Signal()  # somebody has deleted a node of it, or closed the scene
        self.segmentation_changed = Signal()
        self.phase_shown = Signal()  # another one of a cine
        self.segments_about_to_change = Signal()  # phases, and whether it is a labeller's work: the moment to save the state for undo
        self.versions_changed = Signal()
        self.versions_changed.connect(self._note_drawn)
        self._temporary = TemporaryFolder(Path(slicer.app.temporaryPath))
        self._open_study: OpenStudy | None = None
        self._was_open = False
        self.versions = VersionList(self._dispatcher, self._temporary.new, self.versions_changed.emit, self._replace_segments)
        # beside Slicer's own settings, which outlive a crash, a restart and an update
        self._drafts = DraftFolder(Path(slicer.app.slicerUserSettingsFilePath).parent / "PratoLabel" / "unsent")
        self.autosave: Autosave | None = None
        self._scene = slicer.mrmlScene
        self._scene_observer = self._scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._on_node_leaves)

    @property
    def current_study(self) -> OpenStudy | None:
        """The study that is open and whose nodes are still in the scene."""
        return self._open_study if self._open_study is not None and self._open_study.is_in_scene else None

    @property
    def current_cine(self) -> CineStudy | None:
        """The same where it is a cine, else None."""
        study = self.current_study
        return study if isinstance(study, CineStudy) else None

    def is_open(self, study_id: str) -> bool:
        """Whether this study of the server is the one that is open."""
        current = self.current_study
        return current is not None and (current.study, current.server) == (study_id, self.address)

    def forget_scene(self) -> None:
        """Let go of all nodes, for example because the scene closes; unsent edits are saved, a pending prediction is cancelled."""
        if self.autosave is not None:
            self.autosave.save()  # first: whatever fails below, nothing is lost
        self.cancel()
        left = self._open_study
        if left is not None:
            self._open_study = self.autosave = None
            left.close()
            self.versions.clear()

    def tick(self, share: float = 0.0) -> None:
        """As for the server's part, save edits that rest, and notice that nodes were deleted: before answers arrive that are for them."""
        was_open, self._was_open = self._was_open, self.current_study is not None
        if was_open and not self._was_open:
            self.study_lost.emit()
        if self._was_open and self._open_study is not None:
            self._open_study.settle()
        ServerLogic.tick(self, share)
        if self.autosave is not None:
            self.autosave.tick()

    # Study

    def open_next(self, strategy: str, model: str) -> None:
        """Open the study that ``strategy`` picks to be labelled next, scored by ``model``; a pending prediction is cancelled."""
        self.cancel()
        folder = self._temporary.new()
        self._dispatcher.dispatch(lambda client: download_next_study(client, strategy, model, folder.path), self._on_downloaded, "study")

    def open_study(self, study_id: str) -> None:
        """Open a study, with its final label if it has one. One that is in the scene already is shown as it was left.

        A pending prediction is cancelled. Of the study that is open already nothing changes.
        """
        if self.is_open(study_id):
            return
        self.cancel()
        node, cine = find_node("vtkMRMLScalarVolumeNode", study_id, self.address), find_cine(study_id, self.address)
        if cine is not None and self.info is not None:
            self._show_found_cine(study_id, cine)
            return
        listed = self.find_study(study_id)
        if node is not None and self.info is not None and not (listed and listed.phases > 1):
            self._show_study(study_id, node, None, None)
            return
        is_labelled, folder = listed is not None and listed.labelled, self._temporary.new()
        self._dispatcher.dispatch(lambda client: download_study(client, study_id, is_labelled, folder.path), self._on_downloaded, "study")

    def send_volume(self, volume_node: slicer.vtkMRMLScalarVolumeNode, study_id: str) -> None:
        """Add the volume of the scene to the server's studies as ``study_id``, and open it there, or else a copy of what is sent.

        Raises:
            UserError: it has no image that can be sent as it is.
        """
        check_image(volume_node)
        folder = self._temporary.new()
        if not write_volume(volume_node, folder.path / "sent.nii.gz"):
            said = _("{name} cannot be written to {path}: free some disk space.")
            self.failed.emit(said.format(name=volume_node.GetName(), path=folder.path))
            return

        def on_uploaded(study: str) -> None:
            stays = can_be_study(volume_node)
            shown = volume_node if stays else load_volume(folder.path / "sent.nii.gz", study)
            if stays:
                mark_as_stored(volume_node)
            if shown is not None:
                self._show_study(study, shown, None, 0)
            self.refresh_studies()

        self._dispatcher.dispatch(lambda client: client.upload_image(study_id, folder.path / "sent.nii.gz"), on_uploaded, "study")

    def _on_downloaded(self, files: StudyFiles) -> None:
        if files.frames is not None:
            self._on_downloaded_cine(files, files.frames)
            return
        node = find_node("vtkMRMLScalarVolumeNode", files.study, self.address) or load_volume(files.image, files.study)
        if node is None:
            self.failed.emit(_("The image of {study} cannot be read: ask whoever runs the server to look at it.").format(study=files.study))
            return
        self._show_study(files.study, node, files.label, files.version).note_image(files.checksum)

    def _on_downloaded_cine(self, files: StudyFiles, frames: Frames) -> None:
        listed = self.find_study(files.study)
        times_ms = listed.times_ms if listed is not None else None
        cine = find_cine(files.study, self.address)
        is_new = cine is None
        if cine is None:
            cine = load_cine(frames, files.study, self.address, times_ms, self.labels, files.label_frames)
        if cine is None:
            self.failed.emit(_("The image of {study} cannot be read: ask whoever runs the server to look at it.").format(study=files.study))
            return
        if is_new and listed is not None and listed.marked is not None:
            cine.show(listed.marked[0])
        if is_new:
            is_kept = cine.segmentations.GetAttribute(EDITED_ATTRIBUTE) is not None  # they know what they were made from
            self._show_cine(files.study, cine, None if is_kept else files.version).note_image(files.checksum)
            if listed is not None and listed.phases != cine.count:  # its image was replaced since
                self.refresh_studies()
        else:
            self._show_found_cine(files.study, cine)
        if files.phase is not None and files.phase < cine.count:
            cine.show(files.phase)

    def _show_study(self, study: str, volume_node: slicer.vtkMRMLScalarVolumeNode, label: Path | None, version: int | None) -> OpenStudy:
        mask = read_mask(label, volume_node, self.labels) if label else None
        base, notify = self._base(version), self._listeners(study)
        return self._show(lambda: OpenStudy(study, self.address, volume_node, self.labels, mask, base, *notify))

    def _show_found_cine(self, study: str, cine: CineNodes) -> None:
        listed = self.find_study(study)
        count = listed.phases if listed is not None and listed.phases > 1 else cine.count
        if cine.has_phases(count):
            self._show_cine(study, cine, None)
        else:
            self.failed.emit(OTHER_PHASES.format(study=study, count=count))

    def _show_cine(self, study: str, cine: CineNodes, version: int | None) -> OpenStudy:
        listed = self.find_study(study)
        marked = listed.marked if listed is not None else None
        base, notify = self._base(version), self._listeners(study)
        return self._show(lambda: CineStudy(study, self.address, cine, self.labels, base, marked, self._on_phase_shown, *notify))

    def _listeners(self, study: str) -> tuple[Callable[..., None], ...]:
        stays = _(
            "The image of {study} stays on the server's grid: to move it, put it under a transform, and do not harden the transform."
        ).format(study=study)
        return self._on_segments_changed, self.segments_about_to_change.emit, lambda: self.failed.emit(stays)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_leaves(self, caller: object, event: str, node: slicer.vtkMRMLNode) -> None:
        """A node is about to be removed: edits that do not rest yet are saved, while they can be read."""
        if self.autosave is not None and self._open_study is not None and node in self._open_study.nodes():
            self.autosave.save()

    def _base(self, version: int | None) -> tuple[str, int] | None:
        client = self._dispatcher.client
        return None if version is None or client is None else (client.address, version)

    def _show(self, make_study: Callable[[], OpenStudy]) -> OpenStudy:
        client, left = self._dispatcher.client, self._open_study
        self.forget_scene()
        opened = self._open_study = make_study()
        self._was_open = True
        if client is not None:
            self.autosave = Autosave(self._drafts, client.address, opened, self.failed.emit)
            self.versions.follow(opened)
        self.study_opened.emit(opened.volume_node)
        self.segmentation_changed.emit()
        # the same study again, whose nodes the user had deleted, would lose the new ones
        is_another = left is not None and (left.study, left.server) != (opened.study, opened.server)
        if left is not None and is_another and left.volume_node is not opened.volume_node and left.is_on_server:
            left.remove_nodes()
        return opened

    def _find_shown(self, study: OpenStudy, autosave: Autosave | None) -> tuple[OpenStudy, Autosave | None]:
        """What has the nodes of ``study`` now, and what keeps its drafts now: it may have been left and opened again."""
        current = self.current_study
        if current is None or (current.study, current.server) != (study.study, study.server):
            return study, autosave
        return (current if current.segmentation_node is study.segmentation_node else study), self.autosave

    def _replace_segments(self, show: Callable[[], None]) -> None:
        if self.current_study is None:
            raise MaskError(_("The study is not in the scene any more: open it again."))
        if self.autosave is not None:
            self.autosave.replace(show)

    def _note_drawn(self) -> None:
        study = self.current_study
        if isinstance(study, CineStudy) and study.base is not None:
            study.drawn = self.versions.drawn_phases(study.base[1])

    def _on_phase_shown(self) -> None:
        self.phase_shown.emit()
        self.segmentation_changed.emit()

    def _on_segments_changed(self) -> None:
        if self.autosave is not None:
            self.autosave.note_change()
        self.segmentation_changed.emit()

    def edited_studies(self) -> set[str]:
        """The studies of this server with edits that were not sent, in the scene or in a draft."""
        if self.current_study is not None:
            _ = self.current_study.has_unsent_edits  # the node knows from here on
        kinds = ("vtkMRMLSegmentationNode", "vtkMRMLSequenceNode")
        nodes = [n for kind in kinds for n in slicer.util.getNodesByClass(kind) if n.GetAttribute(EDITED_ATTRIBUTE) is not None]
        in_scene = {study.id for study in self.studies for node in nodes if is_of_study(node, study.id, self.address)}
        return in_scene | self._drafts.studies(self.address)

    def cancel(self) -> None:
        """Drop the pending prediction and the pending opening of a study."""
        self._worker.cancel("predict")
        self._worker.cancel("study")

    def close(self) -> None:
        """As for the server's part, and let go of the scene."""
        self.forget_scene()
        self._scene.RemoveObserver(self._scene_observer)
        ServerLogic.close(self)
        self._temporary.cleanup()
