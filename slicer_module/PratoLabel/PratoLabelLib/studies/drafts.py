"""Edits that were not sent yet, kept in files of Slicer's own data folder: a crash or a restart of Slicer does not lose them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from PratoLabelLib.scene.drawing import Drawing, Part

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """Edits of one study that were never sent.

    Attributes:
        server, study: whose they are.
        saved: when, in seconds since 1970.
        drawings: by phase; the masks have the values of ``labels``.
        base_version: the version of the label that they were made from, 0 for none, None where it is not known.
        provenance: what is sent with the label.
        continued: the drafts that were recovered on the way to this one.
    """

    path: Path
    server: str
    study: str
    saved: float
    drawings: dict[int, Drawing]
    labels: dict[str, int]
    base_version: int | None
    provenance: dict[str, Any]
    continued: frozenset[Path] = frozenset()


class DraftFolder:
    """The files of edits that were not sent, by server and study. Whoever opens a study writes a file of his own: no Slicer replaces what
    another one has saved, nor what it has saved itself before it crashed.

    Args:
        folder: is made when the first draft is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[tuple[Path, int], str] = {}  # the study of each file that was looked into, by its time

    def save(
        self,
        path: Path,
        server: str,
        study: str,
        drawings: Mapping[int, Drawing],
        labels: Mapping[str, int],
        base_version: int | None,
        provenance: Mapping[str, Any],
        continued: Collection[Path] = (),
    ) -> None:
        """Save the edits as the draft ``path`` of the study, see :meth:`new_path`; it is replaced once the new one is complete.

        Raises:
            OSError: the folder cannot be written to.
        """
        facts = {"server": server, "study": study, "saved": time.time(), "labels": dict(labels), "base_version": base_version}
        facts["phases"] = list(drawings)
        facts["parts"] = [[phase, *part[:2]] for phase, drawing in drawings.items() for part in drawing.parts]
        facts["continued"] = sorted(other.name for other in continued)
        arrays = {f"part{n}": part.voxels for n, part in enumerate(part for drawing in drawings.values() for part in drawing.parts)}
        arrays["mask"] = np.stack([drawing.mask for drawing in drawings.values()])
        text = json.dumps({**facts, "provenance": dict(provenance)}).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with open(handle, "wb") as file:
                np.savez_compressed(file, **arrays, facts=np.frombuffer(text, np.uint8))
            os.replace(partial, path)
        except OSError:
            Path(partial).unlink(missing_ok=True)
            raise

    def new_path(self, server: str, study: str) -> Path:
        """Where a draft can be saved that is newer than all drafts of the study, and that no other Slicer saves."""
        number = max(map(_number, self._drafts_of(server, study)), default=0) + 1
        return self._server_folder(server) / f"{_digest(study)}.{number}.{secrets.token_hex(8)}.npz"

    def find(self, server: str, study: str, passed: Collection[Path] = ()) -> Draft | None:
        """The newest draft of the study that can be read, and is none of ``passed``; None where there is none."""
        paths = sorted(self._drafts_of(server, study) - set(passed), key=lambda path: (_number(path), path.name), reverse=True)
        return next((draft for draft in map(_read_draft, paths) if draft is not None and draft.study == study), None)

    def discard_sent(self, server: str, study: str, sent: Mapping[int, Drawing], continued: Collection[Path]) -> None:
        """Delete the drafts of which the server has just the drawing.

        Args:
            sent: by phase; of parts beside a mask, the labeller was told that they are not sent.
            continued: drafts of other drawings, which ``sent`` was made from.
        """
        for path in self._drafts_of(server, study):
            draft = _read_draft(path)
            if draft is None or not draft.drawings.keys() <= sent.keys():
                continue
            if path in continued or all(drawing.is_like(sent[phase]) for phase, drawing in draft.drawings.items()):
                path.unlink(missing_ok=True)

    def studies(self, server: str) -> set[str]:
        """The studies of the server that have a draft."""
        files = []
        for path in self._server_folder(server).glob("*.npz"):
            with suppress(FileNotFoundError):  # another Slicer was quicker
                files.append((path, path.stat().st_mtime_ns))
        self._names = {file: self._names.get(file) or str(_read_facts(file[0]).get("study", "")) for file in files}
        return {name for name in self._names.values() if name}

    def _drafts_of(self, server: str, study: str) -> set[Path]:
        return {path for path in self._server_folder(server).glob(f"{_digest(study)}.*.npz") if path.name.split(".")[1].isdigit()}

    def _server_folder(self, server: str) -> Path:
        return self._folder / _digest(server)


def _digest(text: str) -> str:
    # addresses and names of studies need not be names of files
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _number(path: Path) -> int:
    return int(path.name.split(".")[1])


def _read_facts(path: Path) -> dict[str, Any]:
    """What the file says beside the mask; empty where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            facts = json.loads(arrays["facts"].tobytes())
        return facts if isinstance(facts, dict) else {}
    except Exception:  # whatever a damaged file brings about, the others count
        _logger.warning("The draft %s cannot be read.", path.name)
        return {}


def _read_draft(path: Path) -> Draft | None:
    facts = _read_facts(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            masks, phases = arrays["mask"], facts.get("phases")
            named = enumerate(facts.get("parts", ()))
            found = [(phase, Part(structure, name, arrays[f"part{n}"])) for n, (phase, structure, name) in named]
        if phases is None:  # as an earlier version of this module has saved a study of one phase
            masks, phases = masks[None], [0]
        drawings = {n: Drawing(mask, tuple(part for phase, part in found if phase == n)) for n, mask in zip(phases, masks)}
        fields = {key: facts[key] for key in ("server", "study", "saved", "labels", "base_version", "provenance")}
        continued = frozenset(path.with_name(name) for name in facts.get("continued", ()))
        return Draft(path=path, drawings=drawings, continued=continued, **fields)
    except Exception:
        return None
