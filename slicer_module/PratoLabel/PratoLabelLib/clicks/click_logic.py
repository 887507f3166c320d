"""What a labeller does with clicks and scribbles: click, undo and redo, move, delete. No Qt in here."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from PratoLabelLib.clicks.click_queue import ClickQueue
from PratoLabelLib.errors import UserError
from PratoLabelLib.measures.click_history import Stroke
from PratoLabelLib.measures.click_request import BACKGROUND, MAX_VOXELS, describe_steps
from PratoLabelLib.scene.slice_views import slice_axis
from PratoLabelLib.scene.volumes import has_reversed_slices
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.translation import translator

_ = translator(__file__)


class ClickLogic(ClickQueue):
    """Makes clicks of what was pointed at, on top of the queue that sends them."""

    @property
    def can_undo_click(self) -> bool:
        """Whether there is a click to take back."""
        clicks = self._shown
        if clicks is None:
            return False
        return bool(clicks.waiting) or clicks.remake is not None or (clicks.history is not None and clicks.history.can_undo)

    @property
    def can_redo_click(self) -> bool:
        """Whether a click was taken back that can be done again."""
        clicks = self._shown
        if clicks is None or clicks.waiting or clicks.remake is not None:
            return False
        return clicks.history is not None and bool(clicks.history.undone)

    def click(self, structure: str, path: np.ndarray) -> Stroke | None:
        """Correct the open study: what lies under ``path`` is ``structure``. Returns what is sent, in its turn.

        Args:
            structure: a name of the study's labels, or "background".
            path: float (N, 3), continuous voxel indices: of one point, or of a line that was drawn on one slice.

        Returns:
            None, and ``failed`` says why, where it cannot be sent.
        """
        self._follow_segments()
        stroke = self._make_stroke(structure, path)
        found = self._find_writable() if stroke is not None else None
        if stroke is None or found is None:
            return None
        found[1].waiting.append(stroke)
        self._send_next()
        self.clicks_changed.emit()
        return stroke

    def undo_click(self) -> None:
        """Take the last click back: one that waits is not sent, and one that is on its way changes nothing."""
        self._follow_segments()
        found = self._find_writable()
        if found is not None:
            study, clicks = found
            if clicks.waiting:
                clicks.waiting.pop()
            elif clicks.remake is not None:
                clicks.remake = None
            elif clicks.history is not None and clicks.history.can_undo:
                was = study.mask()
                self._write(study, study.shown_phase, clicks.history.undo(was), was)
        self._go_on()

    def redo_click(self) -> None:
        """Do the last click again that was taken back."""
        self._follow_segments()
        found = self._find_writable()
        if self.can_redo_click and found is not None and found[1].history is not None:
            study, was = found[0], found[0].mask()
            self._write(study, study.shown_phase, found[1].history.redo(was), was)
        self.clicks_changed.emit()

    def move_click(self, stroke: Stroke, path: np.ndarray) -> Stroke:
        """Let a click lie elsewhere: it and all later ones are made anew, from the mask before it. Returns what it is now."""
        moved = self._make_stroke(stroke.structure, path)
        if moved is None:
            return stroke
        if not np.array_equal(moved.voxels, stroke.voxels):
            self._replace(stroke, [moved])
        return moved if moved in self.strokes else stroke

    def delete_click(self, stroke: Stroke) -> None:
        """Take a click back for good; the later ones are made anew, from the mask before it."""
        self._replace(stroke, [])

    def delete_clicks(self) -> None:
        """Take all clicks back for good that can be taken back."""
        self._follow_segments()
        found = self._find_writable()
        if found is not None:
            (study, clicks), was = found, found[0].mask()
            self._write(study, study.shown_phase, clicks.clear(was), was)
        self._go_on()

    def clicks_sent(self) -> list[dict[str, Any]]:
        """What was clicked, and what each click did, as it is stored with the label; of a cine, with the phase."""
        study = self.current_study
        if study is None:
            return []
        reverse = study.volume_node.GetImageData().GetDimensions()[2] if has_reversed_slices(study.volume_node) else None
        is_cine = isinstance(study, CineStudy)
        return [
            {**click, **({"phase": phase} if is_cine else {})}
            for phase, clicks in sorted(self._clicks.items())
            for click in describe_steps(clicks.history.done if clicks.history is not None else [], reverse)
        ]

    # One stroke

    def _make_stroke(self, structure: str, path: np.ndarray) -> Stroke | None:
        study = self.current_study
        try:
            if study is None:
                raise UserError(_("No study is open: there is nothing to click on."))
            study.require_server(self.address)
            if structure in self.locked_structures:
                raise UserError(_("The {structure} is kept as it is: untick it under Keep to click in it.").format(structure=structure))
            if isinstance(study, CineStudy) and study.cine.is_playing:
                raise UserError(_("The cine plays: stop it to click."))
            inside = _voxels_inside(path, study.volume_node)
        except UserError as error:
            self.failed.emit(str(error))
            return None
        return Stroke(structure, 0 if structure == BACKGROUND else study.labels[structure], inside, np.asarray(path, float))

    def _replace(self, stroke: Stroke, by: list[Stroke]) -> None:
        """Put ``by`` in the place of a click. What was clicked later is made anew; the segments are as before until all of it is there."""
        self._follow_segments()
        found = self._find_writable()
        if found is None:
            return
        study, clicks = found
        was, waits = study.mask(), stroke in clicks.waiting
        try:
            mask = clicks.change(stroke, by, was)
        except UserError as error:
            self.failed.emit(str(error))
            return
        if not waits and self._asked is not None and self._asked[0] is clicks:
            self._stop_asking()  # it knows the click as it was
        self._write(study, study.shown_phase, mask, was)
        self._go_on()

    def _go_on(self) -> None:
        """Other clicks are to be sent than before."""
        if self._asked is not None and self._asked[1] is not self._asked[0].next:
            self._stop_asking()
        self._send_next()
        self.clicks_changed.emit()


def _voxels_inside(path: np.ndarray, volume_node: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """The voxels of the image, int64 (N, 3), that a stroke along ``path`` lies in.

    Raises:
        UserError: there are none, too many, or of several slices.
    """
    voxels, shape = voxels_under(path), np.array(volume_node.GetImageData().GetDimensions())
    inside = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
    if not len(inside):
        raise UserError(_("The click lies outside the image: click on the heart."))
    if len(inside) > MAX_VOXELS:
        raise UserError(
            _("A scribble has at most {most} voxels, and this one {count}: paint larger parts.").format(most=MAX_VOXELS, count=len(inside))
        )
    if len(set(inside[:, slice_axis(volume_node)].tolist())) > 1:
        raise UserError(_("A scribble lies on one slice: draw it in the view that shows the slices as they were acquired."))
    return inside


def voxels_under(path: np.ndarray) -> np.ndarray:
    """The voxels, int64 (N, 3), that a line through ``path``, float (M, 3) in continuous voxel indices, lies in; each once, in order."""
    path = np.asarray(path, float).reshape(-1, 3)
    pieces = [path[:1]]
    for start, step in zip(path, np.diff(path, axis=0)):
        count = int(np.ceil(2 * np.abs(step).max())) or 1
        pieces.append(start + step * np.linspace(0, 1, count + 1)[1:, None])
    voxels = np.floor(np.concatenate(pieces) + 0.5).astype(np.int64)
    return np.array(list(dict.fromkeys(map(tuple, voxels.tolist()))))
