"""A study's files on their way from the server into the scene and back."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PratoLabelLib.measures.nifti_frames import Frames, split_frames
from PratoLabelLib.scene.drawing import Drawing
from PratoLabelLib.scene.segmentation import REOPEN_STUDY
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.translation import translator

_ = translator(__file__)


#: What the server takes in a study's name, which becomes part of a file's name, and how many bytes of it.
_NOT_IN_NAMES = re.compile(r"^\W+|[^\w .+-]+\s*")
_LONGEST_NAME = 150


def study_name(name: str) -> str:
    """What the study of an image called ``name`` is called: as that, but for what no study's name may hold.

    3D Slicer calls what it has loaded from DICOM "5: cine SAX".
    """
    allowed = _NOT_IN_NAMES.sub(lambda found: "_" if found.start() else "", name)
    return allowed.encode()[:_LONGEST_NAME].decode(errors="ignore") or "image"


class TemporaryFolder:
    """A folder of this Slicer's own, in ``parent``, for files that are needed for a moment."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="prato_label_", dir=parent)

    @property
    def path(self) -> Path:
        """The folder; made anew where the system, which tidies what is temporary after some days, has removed it."""
        path = Path(self._folder.name)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def new(self) -> RequestFolder:
        """A folder in it, for one request."""
        return RequestFolder(self.path)

    def cleanup(self) -> None:
        """Remove it, with all that is in it."""
        self._folder.cleanup()


class RequestFolder:
    """A folder in ``parent`` for the files of one request.

    It goes with the last reference to it, which the request has: once the reply was used, and also where the request is dropped.
    """

    def __init__(self, parent: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=parent))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class StudyFiles(NamedTuple):
    """A downloaded study: its image and, where there is one, its label with the label's version; of a cine, their volumes, and the phase
    that is to be shown first, where the server has chosen one. ``checksum`` is the SHA-256 of the image's file."""

    study: str
    image: Path
    label: Path | None
    version: int | None
    checksum: str
    frames: Frames | None = None
    label_frames: Frames | None = None
    phase: int | None = None


def download_study(client: Client, study: str, is_labelled: bool, folder: Path) -> StudyFiles:
    """Download a study into ``folder``, in the worker; ``is_labelled`` matters where the server keeps no versions of labels."""
    image = client.download_image(study, folder)
    checksum = hashlib.sha256(image.read_bytes()).hexdigest()
    version = client.current_version(study)  # its number first: the label may be replaced at any moment
    if version is None:
        label = client.download_label(study, folder) if is_labelled else None
    else:
        label = client.download_version(study, version, folder) if version else None
    frames = split_frames(image)
    return StudyFiles(study, image, label, version, checksum, frames, split_frames(label) if frames and label else None)


def download_next_study(client: Client, strategy: str, model: str, folder: Path) -> StudyFiles:
    """As :func:`download_study`, the study that ``strategy`` picks to be labelled next, scored by ``model``."""
    chosen = client.next_study(strategy, model)
    return download_study(client, chosen.id, False, folder)._replace(phase=chosen.phase)


def send_label(
    client: Client, study: str, path: Path, info: Mapping[str, Any], base: tuple[str, int] | None, checksum: str | None
) -> tuple[dict[str, Any], tuple[str, int] | None]:
    """Send the label in the file ``path``, in the worker.

    Args:
        base: the server's address and the version that it was made from; None where that is unknown.
        checksum: SHA-256 of the file of the image that it was drawn on; None where that is unknown, or another server's.

    Returns:
        the server's reply, and the same for what was sent.

    Raises:
        ServerError: it is refused, or the image there is another one, of the same name and grid.
    """
    if checksum is not None and not client.is_same_image(study, checksum):
        way = REOPEN_STUDY.format(study=study)
        raise ServerError(
            _("The server's image of {study} is not the one that this label was drawn on, so nothing was sent: {way}").format(
                study=study, way=way
            ),
            409,
        )
    server, version = base or ("", 0)
    base_version = {"base_version": version} if server == client.address else {}
    try:
        reply = client.submit(study, path, {**info, **base_version})
    except ServerError as error:
        if error.status != 400 or not base_version:
            raise
        # a server that lost its history rejects the version, but must get the label
        reply = client.submit(study, path, dict(info))
    return reply, (client.address, reply["version"]) if isinstance(reply.get("version"), int) else None


class Submission(NamedTuple):
    """What is about to be sent.

    Attributes:
        drawings: what is in the segments, by phase; a study of one has phase 0.
        info: what is stored with the label because of them.
        finish_file: to be called in the worker before the file is sent.
    """

    drawings: Mapping[int, Drawing]
    info: dict[str, Any]
    finish_file: Callable[[], None]

    def is_like(self, other: Submission) -> bool:
        """Whether both would be the same label."""
        ours, theirs = self.drawings, other.drawings
        return self.info == other.info and ours.keys() == theirs.keys() and all(ours[phase].is_like(theirs[phase]) for phase in ours)
