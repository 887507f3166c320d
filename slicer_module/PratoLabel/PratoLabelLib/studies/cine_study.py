"""What comes into the phases of an open cine, and what goes out: predictions, labels, edits of an earlier time, submissions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from PratoLabelLib.measures.nifti_frames import Frames
from PratoLabelLib.scene.cine_files import read_masks, write_masks
from PratoLabelLib.scene.drawing import Drawing, write_parts
from PratoLabelLib.scene.geometry import Box
from PratoLabelLib.scene.phase_edits import name_phases
from PratoLabelLib.scene.segmentation import REOPEN, MaskError, merge_masks, read_mask
from PratoLabelLib.scene.segments import find_problems
from PratoLabelLib.scene.volumes import to_file_order
from PratoLabelLib.server.responses import Prediction
from PratoLabelLib.studies.open_cine import OpenCine
from PratoLabelLib.studies.study_files import Submission
from PratoLabelLib.translation import translator

_ = translator(__file__)


class CineStudy(OpenCine):
    """What the server, the labeller and earlier times put into an :class:`OpenCine`, and what is sent of it."""

    def apply(self, prediction: Prediction, file: Path, boxes: Sequence[Box], model: str, locked: Collection[str]) -> None:
        """As for a study of one phase, into the phase that was asked for, whichever is shown by now.

        Raises:
            MaskError: it does not fit, or would replace edits in a phase that is not shown, where undo does not bring them back.
        """
        reply, phase = prediction.reply, prediction.reply.get("mask_phase")
        file.write_bytes(prediction.mask)
        try:
            predicted = read_mask(file, self.volume_node, reply["label_names"])
        finally:
            file.unlink(missing_ok=True)
        phase = self.phase if phase is None else phase
        if phase in self.edited and phase != self.phase:  # no undo would bring the edits back, and what is done elsewhere by now goes on
            raise MaskError(
                _("Phase {phase} was edited and is not shown any more, so it stays as it is: show it, and segment it again.").format(
                    phase=phase
                )
            )
        labels = dict(reply["label_names"])
        inside: Sequence[Sequence[int]] = boxes or [to_file_order(reply["box"], self.volume_node)]
        merged = merge_masks(self.cine.mask(phase, labels), predicted, inside, [labels[name] for name in labels if name in locked])
        self._write_merged({phase: merged}, reply, model)

    def apply_all(
        self,
        reply: Mapping[str, Any],
        frames: Frames,
        boxes: Mapping[int, Sequence[Box]],
        model: str,
        locked: Collection[str],
        kept: Collection[int],
    ) -> Generator[int, None, list[int]]:
        """Put a prediction of all phases into the segments; returns the phases that stay as they are.

        It is done in steps, after each of which somebody else may go on: each yields how many phases are ready. They are written all at
        once, by the last step, which no other follows.

        Args:
            boxes: by phase; none: inside the box that the server used.
            kept: phases that somebody has corrected; those with edits that were not sent stay as well.

        Raises:
            UserError, KeyError: the prediction does not fit; nothing has changed then.
        """
        masks = self._read(reply, frames)
        wanted = {phase: masks[phase] for phase in reply["phases"] if phase not in kept}
        merged = yield from self._merge(wanted, reply, boxes, locked)
        asked = sorted(merged)
        about = {name: [phase for phase in phases if phase in asked] for name, phases in reply.get("warned_phases", {}).items()}
        warnings = [name for name in reply["warnings"] if about.get(name) != []]  # of masks that are not taken, nothing is to be said
        told = {**reply, "phases": asked, "warned_phases": about, "warnings": warnings}
        self.found = reply.get("ed"), reply.get("es")
        self._write_merged(merged, told, model)
        return sorted(set(reply["phases"]) - merged.keys())

    def apply_propagated(
        self, reply: Mapping[str, Any], frames: Frames, keys: Collection[int], model: str, locked: Collection[str], kept: Collection[int]
    ) -> Generator[int, None, list[int]]:
        """Put the masks of the phases that follow others into the segments, in steps as :meth:`apply_all`; returns these phases.

        Args:
            keys: those that were sent, which stay as they are.
            kept: phases that somebody has corrected; those with edits that were not sent stay as well.

        Raises:
            UserError, KeyError: the masks do not fit; nothing has changed then.
        """
        masks = self._read(reply, frames)
        wanted = {phase: masks[phase] for phase in sorted(set(reply["filled"]) - set(keys) - set(kept))}
        whole = [bound for count in self.volume_node.GetImageData().GetDimensions() for bound in (0, count)]
        merged = yield from self._merge(wanted, reply, {phase: [whole] for phase in wanted}, locked)
        self.found = reply.get("ed"), reply.get("es")
        self._write_merged(merged, reply, model)
        return sorted(merged)

    def _read(self, reply: Mapping[str, Any], frames: Frames) -> np.ndarray:
        """The masks of all phases."""
        masks = read_masks(frames, self.volume_node, reply["label_names"])
        if len(masks) != self.cine.count:
            raise MaskError(
                _("The mask has {masks} phases and {study} has {phases}: {way}.").format(
                    masks=len(masks), study=self.study, phases=self.cine.count, way=REOPEN
                )
            )
        return masks

    def _merge(
        self,
        predicted: Mapping[int, np.ndarray],
        reply: Mapping[str, Any],
        boxes: Mapping[int, Sequence[Sequence[int]]],
        locked: Collection[str],
    ) -> Generator[int, None, dict[int, np.ndarray]]:
        """What the segments are to be, by phase, in steps; phases that are edited by the last of them are left out."""
        labels = dict(reply["label_names"])
        proposed, keep = [to_file_order(reply["box"], self.volume_node)], [labels[name] for name in labels if name in locked]
        merged: dict[int, np.ndarray] = {}
        seen: dict[int, int] = {}
        waiting = sorted(predicted)
        while waiting:
            for phase in waiting:
                yield len(seen)
                merged.pop(phase, None)
                if phase not in self.edited:
                    merged[phase] = merge_masks(self.cine.mask(phase, labels), predicted[phase], boxes.get(phase) or proposed, keep)
                seen[phase] = self.changes[phase]
            waiting = [phase for phase in sorted(seen) if seen[phase] != self.changes[phase]]  # by somebody else, between two steps
        return merged

    def _write_merged(self, merged: Mapping[int, np.ndarray], reply: Mapping[str, Any], model: str) -> None:
        self.labels = dict(reply["label_names"])
        self.write(merged)
        self._take_reply({**reply, "model": model})

    def show_label(self, label: Path, frames: Frames | None, is_base: bool) -> None:
        """As for a study of one phase, in all phases; undo brings those of the phase that is shown back, and the draft those of all.

        Raises:
            MaskError: it does not fit.
        """
        if frames is None:
            raise MaskError(_("The label of {study} has one phase: {way}.").format(study=self.study, way=REOPEN))
        masks = read_masks(frames, self.volume_node, self.labels)
        self.write(dict(enumerate(masks)))
        for phase, mask in enumerate(masks):
            self._edits.note_sent(phase, mask)
        if is_base:
            self._results, self._stale = set(), set()
        self._record_edits()

    def unsent(self) -> dict[int, Drawing]:
        """What is in the edited phases."""
        return {phase: self.drawing(phase) for phase in sorted(self._edits.all_phases())}

    def fits(self, drawings: Mapping[int, Drawing]) -> bool:
        """Whether such edits could be of this study."""
        shape = self.volume_node.GetImageData().GetDimensions()[::-1]
        return max(drawings) < self.cine.count and all(drawing.mask.shape == shape for drawing in drawings.values())

    def holds(self, drawings: Mapping[int, Drawing]) -> bool:
        """Whether the segments are such edits already."""
        return self.fits(drawings) and all(self.drawing(phase).is_like(drawing) for phase, drawing in drawings.items())

    def recover(self, drawings: Mapping[int, Drawing]) -> None:
        """Show such edits in place of the segments, and the first phase of them.

        Raises:
            MaskError: they would replace edits that were not sent, which undo brings back in the phase that is shown alone.
        """
        replaced = {phase for phase in self._edits.all_phases() & drawings.keys() if not self.drawing(phase).is_like(drawings[phase])}
        others = sorted(replaced - {self.phase})
        if others:
            one, more = (
                _("{phases} has edits that were not sent: submit them first."),
                _("{phases} have edits that were not sent: submit them first."),
            )
            raise MaskError((more if len(others) > 1 else one).format(phases=name_phases(others)))
        first = self.phase if replaced else min(drawings)  # undo brings what is replaced back in the phase that is shown
        self.write({phase: drawing.mask for phase, drawing in drawings.items()}, is_edit=True)
        with self._writing():
            for phase, drawing in drawings.items():
                write_parts(self.cine.segmentation(phase), self.cine.image(phase), self.labels, drawing.parts)
        self.cine.show(first)

    def phases_to_submit(self) -> list[int]:
        """Those that a labeller vouches for: the edited ones, and end-diastole and end-systole, once they were looked at.

        What a labeller drew, and nobody changed since, stays that labeller's.
        """
        looked_at = self._seen.intersection(phase for phase in self.ed_es() if phase is not None)
        return sorted(self.edited | (looked_at & set(self.volumes())) - self.unchanged_phases())

    def unchanged_phases(self) -> set[int]:
        """The phases that are as a labeller drew them."""
        return self.drawn - self._results - self.edited

    def write_phases(self, phases: Collection[int], path: Path) -> Callable[[], None]:
        """Write the segments of these phases to the file ``path`` of all of them; returns what is left to do in the worker.

        Raises:
            MaskError: the file cannot be written.
        """
        return write_masks(path, {phase: self.cine.mask(phase, self.labels) for phase in phases}, self.cine.count, self.volume_node)

    def prepare_submission(self, path: Path) -> Submission:
        """Write the segments that are not on the server already; the phases that nobody vouches for are sent as proposals.

        Raises:
            MaskError: there is nothing to submit, or the file cannot be written.
        """
        corrected, unchanged = self.phases_to_submit(), self.unchanged_phases()
        if not corrected and unchanged.issuperset(phase for phase in self.ed_es() if phase is not None) and self.drawn:
            raise MaskError(
                _("The label of {study} on the server is the one shown: correct a phase, or approve it.").format(study=self.study)
            )
        if not corrected:
            raise MaskError(_("There is nothing to submit yet: view end-diastole and end-systole, or correct a phase."))
        wanted = sorted({*self.volumes(), *corrected} - unchanged)
        states = {phase: "corrected" if phase in corrected else "proposed" for phase in wanted}
        drawings = {phase: self.drawing(phase) for phase in states}
        masks = {phase: drawing.mask for phase, drawing in drawings.items()}
        finish_file = write_masks(path, masks, self.cine.count, self.volume_node)
        return Submission(drawings, {"phases": {str(phase): state for phase, state in states.items()}}, finish_file)

    def mark_sent(self, submission: Submission, reply: Mapping[str, Any], base: tuple[str, int] | None) -> None:
        """As for a study of one phase. What a labeller drew was kept, where this was a proposal: there a result is shown still."""
        for phase, drawing in submission.drawings.items():
            self._edits.note_sent(phase, *drawing)
        self._results = self._results.intersection(reply.get("kept") or ())
        newer = {int(phase) for phase, known in (reply.get("phases") or {}).items() if base is None or known["version"] > base[1]}
        self._stale = (self._stale | newer) - set(reply.get("replaced") or submission.drawings)
        _ = self.edited

    @property
    def stale(self) -> list[int]:
        """The phases of the label that are another person's by now, and are not shown."""
        return sorted(self._stale)

    def find_problems(self) -> list[str]:
        """As for a study of one phase, of the phases that are submitted as corrected."""
        cine = self.cine
        found = {phase: find_problems(cine.segmentation(phase), cine.image(phase), self.labels) for phase in self.phases_to_submit()}
        return [
            _("Phase {phase}: {problem}").format(phase=phase, problem=problem) for phase, problems in found.items() for problem in problems
        ]
