"""Saves the open study's edits a moment after they were made, and offers them again when the study is opened."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from PratoLabelLib.scene.drawing import Drawing
from PratoLabelLib.scene.segmentation import MaskError
from PratoLabelLib.studies.drafts import Draft, DraftFolder
from PratoLabelLib.studies.open_study import OpenStudy
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: How long the segments must rest before they are saved, and how long they may go unsaved while they never rest (s).
REST_S = 1.5
LONGEST_S = 10.0


class Autosave:
    """One for each study that is opened.

    Args:
        drafts: where they are kept.
        server: the address of the server that the study belongs to.
        on_failure: gets a sentence, once, where they cannot be saved.

    Attributes:
        offer: edits of an earlier time that were never sent, and are not in the segments, the newest; None where there are none.
        continued: drafts that were recovered: what is in the segments was made from them.
    """

    def __init__(self, drafts: DraftFolder, server: str, study: OpenStudy, on_failure: Callable[[str], None]) -> None:
        self._drafts, self.server, self._study, self._on_failure = drafts, server, study, on_failure
        self._changed_at: float | None = None
        self._unsaved_since = self._not_before = 0.0
        self._has_failed = False
        self._path = drafts.new_path(server, study.study)  # an offer is kept beside what is saved from now on
        self._outdated: dict[Path, tuple[int, Collection[int]]] = {}  # drafts that are in the segments: when they were saved, their phases
        self._unfit: set[Path] = set()
        self.continued: set[Path] = set()
        self._replaced: tuple[Draft, dict[int, np.ndarray], set[Path]] | None = None  # by a recovery: by what, the masks, their drafts
        self.offer = self._find_offer()

    def note_change(self) -> None:
        """The segments have changed."""
        now = time.monotonic()
        if self._changed_at is None:
            self._unsaved_since = now
        self._changed_at = now

    def tick(self) -> None:
        """Save the edits, if they rest."""
        now = time.monotonic()
        if self._changed_at is None or now < self._not_before:
            return
        if now - self._changed_at > REST_S or now - self._unsaved_since > LONGEST_S:
            self.save()

    def save(self) -> None:
        """Save what was edited and not sent, if anything was since it was last saved."""
        if self._changed_at is None:
            return
        changed_at, self._changed_at = self._changed_at, None
        study = self._study
        if not study.is_in_scene:
            return
        if not study.has_unsent_edits:  # any more
            self._path.unlink(missing_ok=True)
            if self.continued:  # undo has taken what was recovered out of the segments
                self.continued = set()
                self.offer = self._find_offer()
            return
        if self.offer is not None and study.holds(self.offer.drawings):  # undo has brought it back, in place of what was continued
            self.continued = {self.offer.path, *self.offer.continued}
            self.offer = self._find_offer()
        elif self._replaced is not None and self._replaced[0].path in self.continued and self._is_undone(*self._replaced[:2]):
            self.continued = {*self._replaced[2]}
            self.offer = self._find_offer()
        base_version = study.base[1] if study.base else None
        drawings = study.unsent()
        about = self.server, study.study, drawings, study.labels, base_version, study.provenance
        try:
            self._drafts.save(self._path, *about, self.continued)
        except OSError as error:
            if not self._has_failed:
                self._on_failure(
                    _("Your edits cannot be saved on this computer ({reason}): free some disk space, and submit soon.").format(
                        reason=error.strerror
                    )
                )
            self._has_failed, self._changed_at, self._not_before = True, changed_at, time.monotonic() + LONGEST_S
            return
        self._has_failed = False
        for path, (saved, phases) in self._outdated.items():
            if drawings.keys() >= set(phases) and _time_of(path) == saved:  # else another Slicer has gone on from there
                path.unlink(missing_ok=True)

    def recover(self) -> None:
        """Show the edits that are offered; see :meth:`replace`. Undo in the Segment Editor brings the segments back."""
        offer, study = self.offer, self._study
        if offer is None:
            return
        try:
            if not study.fits(offer.drawings):
                self._unfit.add(offer.path)
                raise MaskError(
                    _("The edits of {study} do not fit its image any more: it was replaced on the server.").format(study=study.study)
                )
            replaced = offer, {phase: study.mask_of(phase) for phase in offer.drawings}, {self._path, *self.continued}
            self.replace(lambda: study.recover(offer.drawings))
        except MaskError as error:
            self.offer = self._find_offer()
            self._on_failure(str(error))
            return
        study.provenance = offer.provenance
        if offer.base_version is not None:
            study.base = (self.server, offer.base_version)
            study.store_base()
        self._outdated.pop(offer.path, None)  # it stays until it is sent: recovering it can be undone
        self.continued |= {offer.path, *offer.continued}
        self._replaced = replaced
        self.note_change()
        self.save()
        self.offer = self._find_offer()

    def replace(self, show: Callable[[], None]) -> None:
        """Let ``show`` put something else in place of the segments: what was edited in them stays in its draft, and is offered again.

        Raises:
            MaskError: the edits cannot be saved, or what ``show`` raises; nothing has changed then.
        """
        self.note_change()  # edits that came with a scene may be in no draft yet
        self.save()
        if self._changed_at is not None:
            raise MaskError(_("The edits of {study} cannot be saved on this computer: submit them first.").format(study=self._study.study))
        self._path = self._drafts.new_path(self.server, self._study.study)
        self._outdated, self.continued, self._replaced = {}, set(), None
        try:
            show()
        finally:
            self.offer = self._find_offer()

    def discard(self) -> None:
        """Delete the draft that is offered, as its edits are not wanted; the next one is offered, if there is one."""
        if self.offer is not None:
            self.offer.path.unlink(missing_ok=True)
        self.offer = self._find_offer()

    def note_sent(self, sent: Mapping[int, Drawing], continued: Collection[Path]) -> None:
        """The server has ``sent``, by phase, which was made from the drafts ``continued``: what was edited since is saved again."""
        self._drafts.discard_sent(self.server, self._study.study, sent, continued)
        self.continued.difference_update(continued)
        if self.offer is not None and not self.offer.path.exists():
            self.offer = self._find_offer() if self._study.is_in_scene else None
        self.note_change()

    def _is_undone(self, draft: Draft, replaced: Mapping[int, np.ndarray]) -> bool:
        """Whether undo has taken the draft out of a phase, even if the labeller has gone on from there: no voxel is as it was recovered."""
        changed = {phase: drawing.mask != replaced[phase] for phase, drawing in draft.drawings.items()}
        kept = [self._study.mask_of(n)[where] == draft.drawings[n].mask[where] for n, where in changed.items() if where.any()]
        return not all(same.any() for same in kept)

    def _find_offer(self) -> Draft | None:
        study = self._study
        while True:
            passed = {self._path, *self._outdated, *self._unfit, *self.continued}
            found = self._drafts.find(self.server, study.study, passed)
            if found is None or not study.holds(found.drawings):
                return found
            edited = study.unsent().keys() if study.has_unsent_edits else set()
            if found.drawings.keys() & (study.unsent_phases() | edited):
                self._outdated[found.path] = _time_of(found.path), found.drawings.keys()
                self.continued |= found.continued
            else:  # the server has it, though nobody heard of that
                found.path.unlink(missing_ok=True)


def _time_of(path: Path) -> int:
    """When the file was written, in ns; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
