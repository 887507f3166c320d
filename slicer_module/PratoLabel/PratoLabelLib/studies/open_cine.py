"""A cine that is open: the phase that is shown is edited as a study of one phase is, and what was edited is known for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import vtk

from PratoLabelLib.measures.cardiac import CardiacVolumes, compute_volumes, find_ed_es
from PratoLabelLib.scene.cine_nodes import CineNodes
from PratoLabelLib.scene.drawing import Drawing, Part, read_parts
from PratoLabelLib.scene.phase_edits import PhaseEdits
from PratoLabelLib.scene.segmentation import check_writable, import_mask
from PratoLabelLib.scene.study_nodes import EDITED_ATTRIBUTE
from PratoLabelLib.studies.open_study import OpenStudy


class OpenCine(OpenStudy):
    """What :class:`OpenStudy` is for one phase, for the one that the browser shows.

    Args:
        cine: its nodes.
        base: where the cine was just loaded: the server's address, and the version of the label that it was loaded with.
        marked: the phases of end-diastole and end-systole, as somebody marked them on the server.
        on_phase: called when another phase is shown.
        study, server, labels, on_change, before_write, on_kept: as there.

    Attributes:
        chosen: ``marked``, or what the labeller chose here; None for what the server or the volumes say.
        found: what the server found.
        changes: how often the segments of each phase were changed, by whomever.
        drawn: the phases of the label in ``base`` that labellers drew, once they are known.
    """

    def __init__(
        self,
        study: str,
        server: str,
        cine: CineNodes,
        labels: Mapping[str, int],
        base: tuple[str, int] | None,
        marked: tuple[int, int] | None,
        on_phase: Callable[[], None],
        on_change: Callable[[], None],
        before_write: Callable[[Collection[int], bool], None] = lambda phases, is_edit: None,
        on_kept: Callable[[], None] = lambda: None,
    ) -> None:
        self.cine, self._count, self._on_phase = cine, cine.count, on_phase
        self.chosen: tuple[int | None, int | None] = marked or (None, None)
        self.found: tuple[int | None, int | None] = (None, None)
        self.drawn: set[int] = set()
        self.changes: Counter[int] = Counter()
        self._edits = PhaseEdits(cine.segmentations, self.drawing, self._read_parts_of)
        self._seen: set[int] = set()
        self._volumes: dict[int, CardiacVolumes] = {}
        if base is not None:
            self.base = base
            self.store_base()
        self._state = cine.phase, cine.is_playing
        super().__init__(study, server, cine.volume_node, labels, None, None, on_change, before_write, on_kept)
        self._tag = cine.browser.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._follow_browser())
        self._note_shown()

    @property
    def _record(self) -> Any:
        return self.cine.segmentations  # a proxy takes over the attributes of the phase that it shows

    @property
    def phase(self) -> int:
        """The phase that is shown, from 0."""
        return self.cine.phase

    @property
    def shown_phase(self) -> int:
        """As :attr:`phase`."""
        return self.phase

    def mask_of(self, phase: int) -> np.ndarray:
        """The segments of any phase as they are: uint8 (K, J, I), values of ``labels``."""
        return self.cine.mask(phase, self.labels)

    def _find_segmentation(self) -> Any:
        return self.cine.segmentation_node  # not that of another browser, which came with another scene

    @property
    def is_in_scene(self) -> bool:
        """Whether its nodes are still there: the user may delete them at any time. Slicer soon makes a new proxy, which is not ours."""
        nodes = self.cine.nodes()
        shown = self.volume_node in nodes and self.segmentation_node in nodes
        is_whole = len(nodes) == len({"browser", "volume", "segmentation", "images", "segmentations"})
        return is_whole and shown and self.cine.has_phases(self._count)

    def nodes(self) -> list[Any]:
        """As for a study of one phase."""
        return self.cine.nodes()

    def drawing(self, phase: int) -> Drawing:
        """What is in the segments of a phase."""
        mask = self.cine.mask(phase, self.labels)
        return Drawing(mask, self._read_parts_of(phase, mask))

    def _read_parts_of(self, phase: int, mask: np.ndarray) -> tuple[Part, ...]:
        return read_parts(self.cine.segmentation(phase), self.cine.image(phase), self.labels, mask)

    @property
    def edited(self) -> set[int]:
        """The phases with edits that can be sent, and were not."""
        return self._edits.phases() if self.is_in_scene else set()

    @property
    def has_unsent_edits(self) -> bool:
        """Whether any phase has some, also such as cannot be sent; where a node was deleted, as they were marked when they were made."""
        return bool(self._edits.all_phases()) if self.is_in_scene else self._record.GetAttribute(EDITED_ATTRIBUTE) is not None

    @property
    def is_on_server(self) -> bool:
        """As for a study of one phase, of all phases."""
        has_parts = self.is_in_scene and any(self.drawing(phase).parts for phase in range(self.cine.count))
        return not self.has_unsent_work and not has_parts

    def unsent_phases(self) -> set[int]:
        """As for a study of one phase."""
        return self._results | self._stale | self.edited

    def volumes(self) -> dict[int, CardiacVolumes]:
        """The volumes of the phases that have segments, by phase, as they are now."""
        spacing = self.volume_node.GetSpacing()[::-1]
        for phase in range(self.cine.count):
            if phase not in self._volumes:
                self._volumes[phase] = compute_volumes(self.cine.mask(phase, self.labels), self.labels, spacing)
        return {phase: v for phase, v in sorted(self._volumes.items()) if v.rv_ml + v.lv_ml + v.myocardium_ml > 0}

    def ed_es(self) -> tuple[int | None, int | None]:
        """End-diastole and end-systole: as they were chosen, else as the server found them, else by the volumes of both cavities."""
        ed, es = (found if chosen is None else chosen for chosen, found in zip(self.chosen, self.found))
        if ed == es:  # somebody knows better than what was found
            ed, es = self.chosen
        if ed is None or es is None:
            names = {str(phase): volumes for phase, volumes in self.volumes().items() if volumes.blood_ml > 0}
            told = find_ed_es(names, "" if ed is None else str(ed), "" if es is None else str(es))
            if told is not None:
                return int(told[0]), int(told[1])
        return ed, es

    def show_mask(self, mask: np.ndarray, is_edit: bool = False) -> None:
        """As for a study of one phase, in the phase that is shown."""
        self.write({self.phase: mask}, is_edit)

    def check_writable(self, phase: int) -> None:
        """As for a study of one phase, of any phase."""
        check_writable(self.cine.segmentation(phase))

    def edit_phase(self, phase: int, mask: np.ndarray, was: np.ndarray) -> None:
        """As for a study of one phase, also in a phase that is not shown, where the Segment Editor has no undo."""
        if phase == self.phase:
            super().edit_phase(phase, mask, was)
        elif not np.array_equal(mask, was):
            self.check_writable(phase)
            self.cine.write_mask(phase, self.labels, mask)
            self._edits.note_touched(phase)
            self.changes[phase] += 1
            self._volumes.pop(phase, None)
            self._outdate_reply([phase])
            self._on_change()

    def write(self, masks: Mapping[int, np.ndarray], is_edit: bool = False) -> None:
        """Put masks (K, J, I) into the segments, by phase; the Segment Editor's undo brings those of the phase that is shown back.

        Args:
            is_edit: whether they are a labeller's work that was not sent.

        Raises:
            MaskError: see :meth:`check_writable`; nothing has changed then.
        """
        for phase in masks:
            self.check_writable(phase)
        _, spacing = self.edited, self.volume_node.GetSpacing()[::-1]
        self._before_write(masks, is_edit)
        self.changes.update([*masks])
        for phase, mask in masks.items():
            if phase == self.phase:
                with self._writing():
                    import_mask(self.segmentation_node, self.volume_node, self.labels, mask)
            else:
                self.cine.write_mask(phase, self.labels, mask)
                self._seen.discard(phase)
            self._edits.note_written(phase, mask, is_edit)
            self._volumes[phase] = compute_volumes(mask, self.labels, spacing)
        self._results |= set(masks)
        self._outdate_reply(masks)
        _ = self.edited  # the node knows from here on
        self._on_change()

    def close(self) -> None:
        """As for a study of one phase; the cine stops playing."""
        self.cine.browser.RemoveObserver(self._tag)
        self.cine.play(False)
        super().close()

    def remove_nodes(self) -> None:
        """Take the study out of the scene."""
        self.cine.remove()
        super().remove_nodes()

    def _note_touched(self, is_certain: bool) -> None:
        self._edits.note_touched(self.phase, is_certain)
        self.changes[self.phase] += 1
        self._volumes.pop(self.phase, None)

    def _follow_segmentation(self) -> None:
        if self.cine.phase == self._state[0]:  # else another phase is about to be shown
            super()._follow_segmentation()

    def _follow_browser(self) -> None:
        if not self.is_in_scene:
            return
        self.cine.lead()
        state, segmentation = (self.cine.phase, self.cine.is_playing), self.segmentation_node.GetSegmentation()
        if segmentation is not self._segmentation:
            self._observe(segmentation)
        if state != self._state:
            self._state = state
            self._note_shown()
            self._on_phase()

    def _note_shown(self) -> None:
        phase, is_playing = self._state
        if not is_playing:
            self._seen.add(phase)
        self._edits.note_shown(phase)
