"""Saves the open study's edits a moment after they were made, and offers them again when the study is opened."""

from __future__ import annotations

import time
from collections.abc import Callable

from PratoLabelLib.studies.drafts import Draft, DraftFolder
from PratoLabelLib.studies.open_study import OpenStudy

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
        offer: edits of an earlier time that were never sent, and are not in the segments; None where there are none.
    """

    def __init__(self, drafts: DraftFolder, server: str, study: OpenStudy, on_failure: Callable[[str], None]) -> None:
        self._drafts, self.server, self._study, self._on_failure = drafts, server, study, on_failure
        self._changed_at: float | None = None
        self._unsaved_since = 0.0
        self._has_failed = False
        self._number = drafts.new_number(server, study.study)  # an offer is kept beside what is saved from now on
        found = drafts.find(server, study.study)
        self.offer: Draft | None = None if found is None or study.holds(found.mask, found.phases) else found

    def note_change(self) -> None:
        """The segments have changed."""
        now = time.monotonic()
        if self._changed_at is None:
            self._unsaved_since = now
        self._changed_at = now

    def tick(self) -> None:
        """Save the edits, if they rest."""
        now = time.monotonic()
        if self._changed_at is not None and (now - self._changed_at > REST_S or now - self._unsaved_since > LONGEST_S):
            self.save()

    def save(self) -> None:
        """Save what was edited and not sent, if anything was since it was last saved."""
        if self._changed_at is None:
            return
        self._changed_at = None
        study = self._study
        if not study.is_in_scene:
            return
        if not study.has_unsent_edits:  # any more
            self._drafts.discard(self.server, study.study, self._number)
            return
        base_version = study.base[1] if study.base else None
        mask, phases = study.unsent()
        try:
            self._drafts.save(self.server, study.study, mask, study.labels, base_version, study.provenance, self._number, phases)
        except OSError as error:
            if not self._has_failed:
                self._on_failure(f"Your edits cannot be saved on this computer ({error.strerror}): free some disk space, and submit soon.")
            self._has_failed = True

    def recover(self) -> None:
        """Show the edits that are offered. Undo in the Segment Editor brings the segments back."""
        offer, self.offer = self.offer, None
        if offer is None:
            return
        study = self._study
        if not study.fits(offer.mask, offer.phases):
            self._on_failure(f"The edits of {study.study} do not fit its image any more: it was replaced on the server.")
            return
        if offer.base_version is not None:
            study.base = (self.server, offer.base_version)
            study.store_base()
        study.recover(offer.mask, offer.phases)
        self.note_change()
        self.save()

    def discard(self) -> None:
        """Delete every draft of the study: its edits were sent, or are not wanted."""
        self.offer = None
        self._drafts.discard(self.server, self._study.study)
