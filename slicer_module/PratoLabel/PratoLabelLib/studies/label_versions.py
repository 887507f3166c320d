"""The versions of a study's label that the server keeps: listed, shown in the segments, restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PratoLabelLib.measures.nifti_frames import Frames, split_frames
from PratoLabelLib.scene.phase_edits import name_phases
from PratoLabelLib.scene.segmentation import MaskError
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.label_responses import LabelVersion, PhaseState
from PratoLabelLib.server.worker import RequestDispatcher
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.studies.open_study import OpenStudy
from PratoLabelLib.studies.study_files import RequestFolder
from PratoLabelLib.translation import translator

_ = translator(__file__)


class VersionList:
    """The versions of the open study's label; a reply about another study changes nothing here.

    Args:
        new_folder: returns a folder for the files of one request.
        on_change: called when other versions are known.
        replace: is given what puts a version in place of the segments, and calls it.

    Attributes:
        versions: newest first; empty before they are known.
    """

    LANE = "versions"

    def __init__(
        self,
        dispatcher: RequestDispatcher,
        new_folder: Callable[[], RequestFolder],
        on_change: Callable[[], None],
        replace: Callable[[Callable[[], None]], None],
    ) -> None:
        self.versions: list[LabelVersion] = []
        self._study: OpenStudy | None = None
        self._replace = replace
        self._dispatcher, self._new_folder, self._on_change = dispatcher, new_folder, on_change

    def clear(self) -> None:
        """No study is open."""
        self._study, self.versions = None, []
        self._on_change()

    def follow(self, study: OpenStudy) -> None:
        """The study is open."""
        self._study = study
        self.load(study)

    @property
    def states(self) -> Mapping[int, PhaseState]:
        """The states of the current label's phases; none where there is no label."""
        return next((version.states for version in self.versions if version.is_current), {})

    def drawn_phases(self, number: int | None = None) -> set[int]:
        """The phases that somebody has drawn, sent back or not, in version ``number`` of the label; None for the current one."""
        states = self.states if number is None else next((v.states for v in self.versions if v.version == number), {})
        return {phase for phase, known in states.items() if known.is_drawn}

    def load(self, study: OpenStudy) -> None:
        """Request the versions of the study's label, if it is the open one."""

        def on_versions(versions: list[LabelVersion]) -> None:
            if self._find_open(study) is not None:
                self.versions = versions
                self._on_change()

        if self._find_open(study) is not None and self._dispatcher.address == study.server:
            self._dispatcher.dispatch(lambda client: client.versions(study.study), on_versions, self.LANE, quiet=True)

    def _find_open(self, study: OpenStudy) -> OpenStudy | None:
        """The study, which may have been opened again since; None where another one is open."""
        now = self._study
        return now if now is not None and (now.study, now.server) == (study.study, study.server) else None

    def show(self, study: OpenStudy, version: int) -> None:
        """Show a version in place of the segments, and send nothing. Edits stay in a draft, and the editor's undo brings them back.

        Raises:
            UserError: the study is another server's.
        """
        study.require_server(self._dispatcher.address)
        folder = self._new_folder()

        def download(client: Client) -> tuple[Path, Frames | None]:
            path = client.download_version(study.study, version, folder.path)
            return path, split_frames(path)

        def on_file(label: tuple[Path, Frames | None]) -> None:
            path, frames = label
            is_seen = study.base is not None and study.base[0] == study.server and version >= study.base[1]
            self._replace(lambda: study.show_label(path, frames, is_seen))
            if is_seen and study.base != (study.server, version):  # a newer one, which somebody else has submitted
                study.base = study.server, version
                study.store_base()
                self._on_change()

        self._dispatcher.dispatch(download, on_file, "study")

    def restore(self, study: OpenStudy, version: int, annotator: str, on_restored: Callable[[dict[str, Any]], None]) -> None:
        """Make a copy of a version the study's label on the server, and show it.

        Raises:
            UserError: the study is another server's.
        """
        study.require_server(self._dispatcher.address)

        def on_reply(reply: dict[str, Any]) -> None:
            on_restored(reply)
            opened = self._find_open(study)
            if opened is None:
                return
            if opened.base is not None:
                opened.base = (opened.base[0], reply["version"])
                opened.store_base()
            self.load(opened)
            self.show(opened, reply["version"])

        what = f"restore {study.study} {version}"
        self._dispatcher.dispatch(lambda client: client.restore_version(study.study, version, annotator), on_reply, "", once=what)

    def decide(
        self, study: OpenStudy, phases: Sequence[int], reason: str | None, annotator: str, on_decided: Callable[[list[str]], None]
    ) -> None:
        """Approve phases of the study's label, or send them back for a ``reason``, as they are in the version that is shown.

        Raises:
            UserError: the study is another server's, or they are shown otherwise, with edits or results that the server has not got.
        """
        study.require_server(self._dispatcher.address)
        otherwise = sorted(study.unsent_phases().intersection(phases))
        if study.base is None or otherwise:
            which = name_phases(otherwise) if isinstance(study, CineStudy) and otherwise else study.study
            raise MaskError(
                _("{which} cannot be decided about, because the view differs from the label: show its current version first.").format(
                    which=which
                )
            )
        version = study.base[1]

        def send(client: Client) -> list[str]:
            if reason is None:
                return client.approve(study.study, phases, annotator, version)
            return client.send_back(study.study, phases, reason, annotator, version)

        def on_reply(warnings: list[str]) -> None:
            if self._find_open(study) is not None:
                self.load(study)
                on_decided(warnings)

        self._dispatcher.dispatch(send, on_reply, "", once=f"decide {study.study} {phases} {reason}")
