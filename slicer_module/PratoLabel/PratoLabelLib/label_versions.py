"""The versions of a study's label that the server keeps: listed, shown in the segments, restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PratoLabelLib.client import Client
from PratoLabelLib.nifti_frames import Frames, split_frames
from PratoLabelLib.open_study import OpenStudy
from PratoLabelLib.responses import LabelVersion
from PratoLabelLib.worker import RequestDispatcher


class VersionList:
    """The versions of one study's label at a time.

    Args:
        folder: where a version's file may be written for a moment.
        on_change: called when other versions are known.

    Attributes:
        versions: newest first; empty before they are known.
    """

    LANE = "versions"

    def __init__(self, dispatcher: RequestDispatcher, folder: Path, on_change: Callable[[], None]) -> None:
        self.versions: list[LabelVersion] = []
        self._dispatcher, self._folder, self._on_change = dispatcher, folder, on_change

    def clear(self) -> None:
        """No study is open."""
        self.versions = []
        self._on_change()

    def drawn_phases(self) -> set[int]:
        """The phases that somebody has drawn, or approved, in the current label."""
        current = next((version for version in self.versions if version.is_current), None)
        return {phase for phase, state in (current.states if current is not None else ()) if state in ("corrected", "final")}

    def load(self, study: str) -> None:
        """Request the versions of the study's label."""

        def on_versions(versions: list[LabelVersion]) -> None:
            self.versions = versions
            self._on_change()

        self._dispatcher.dispatch(lambda client: client.versions(study), on_versions, self.LANE, quiet=True)

    def show(self, study: OpenStudy, version: int) -> None:
        """Show a version in place of the segments; nothing is sent, and the Segment Editor's undo brings the segments back."""
        folder = self._folder

        def download(client: Client) -> tuple[Path, Frames | None]:
            path = client.download_version(study.study, version, folder)
            return path, split_frames(path)

        def on_file(label: tuple[Path, Frames | None]) -> None:
            path, frames = label
            try:
                study.show_label(path, frames)
            finally:
                for written in (path, *([frames.first] if frames is not None else [])):
                    written.unlink(missing_ok=True)

        self._dispatcher.dispatch(download, on_file, "study")

    def restore(self, study: OpenStudy, version: int, annotator: str, on_restored: Callable[[dict[str, Any]], None]) -> None:
        """Make a copy of a version the study's label on the server, and show it."""

        def on_reply(reply: dict[str, Any]) -> None:
            if study.base is not None:
                study.base = (study.base[0], reply["version"])
                study.store_base()
            on_restored(reply)
            self.load(study.study)
            self.show(study, reply["version"])

        self._dispatcher.dispatch(lambda client: client.restore_version(study.study, version, annotator), on_reply, "")
