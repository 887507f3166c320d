"""Keeps every model that ever answered: its file, where it came from, and how to roll back to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from prato.data.atomic import remove_leftovers, stage_bytes, write_bytes
from prato.models.card import stated_version
from prato.models.checkpoint import is_cut_short, spec_of, version_of
from prato.retraining.model_records import History, Kind, ModelRecord, current_version, new_record
from prato.retraining.record_card import record_card

logger = logging.getLogger(__name__)
#: Files of replaced models that are kept, beside the first one's and the current one's.
_KEPT = 5


class StoreError(ValueError):
    """A history that cannot be used; the message is one sentence."""


class UnknownVersionError(LookupError):
    """A version that this store has no file of; the message is one sentence."""


class ReplacedError(RuntimeError):
    """The model is not, or is already, the one that was expected; the message is one sentence."""


class ModelStore:
    """The versions of the model file ``model``, in ``versions/<name>/`` beside it: ``<version>.safetensors``, each with its card, and
    ``history.json``. The card beside the model file, ``<name>.md``, is that of the version in use.

    All records are kept; files are kept of the first model, the current one and the last five others. What replaces the model is first
    written to disk as an intent, so that a process killed at any point leaves the old model or, at the next access, the new one with its
    record. Safe between threads and processes.
    """

    def __init__(self, model: Path) -> None:
        self.model = model
        self.folder = model.parent / "versions" / model.stem
        self._card = model.with_suffix(".md")
        self._history = self.folder / "history.json"
        self._intent = self.folder / "replacing.json"

    def file(self, version: str) -> Path:
        """Where the file of ``version`` lies, if it is kept."""
        return self.folder / f"{version}{self.model.suffix}"

    def history(self) -> list[ModelRecord]:
        """All records, oldest first, the current model's among them.

        Raises:
            StoreError: the history cannot be read.
        """
        with self._locked_records() as records:
            return list(records)

    def recover(self) -> None:
        """Finish what a killed process began, and record the model that is there; a store that cannot be read is logged, no error."""
        try:
            self.history()
        except (StoreError, OSError) as error:
            logger.error("%s", error)

    def upload(self, data: bytes) -> None:
        """Let the model file ``data``, which a client sent, answer from now on."""
        with self._locked_records() as records:
            self._replace(data, new_record(version_of(data), records, "uploaded", "sent by a client"), records)

    def publish(self, data: bytes, parent: str, reason: str, training: dict[str, Any]) -> ModelRecord:
        """Let the trained model ``data`` answer from now on, in place of ``parent``, which it was compared with.

        Raises:
            ReplacedError: another model answers by now; the store is as it was.
        """
        with self._locked_records() as records:
            if current_version(records) != parent:
                raise ReplacedError(f"the model was replaced by {current_version(records)} while this one was trained")
            record = new_record(version_of(data), records, "trained", reason, training=training)
            self._replace(data, record, records)
            return record

    def refuse(self, version: str, parent: str, reason: str, training: dict[str, Any]) -> ModelRecord:
        """Record that the trained model ``version`` was not published; its file is not kept."""
        with self._locked_records() as records:
            record = new_record(version, records, "trained", reason, training=training)
            record = record.model_copy(update={"published": False, "parent": parent})
            self._write([*records, record])
            return record

    def roll_back(self, version: str) -> ModelRecord:
        """Let ``version`` answer again; a request in progress finishes with the model that it began with.

        Raises:
            UnknownVersionError: no such version, or its file was removed. ReplacedError: it is the current one.
            StoreError: its file is damaged.
        """
        with self._locked_records() as records:
            current = current_version(records)
            if version == current == version_of(self.model.read_bytes() if self.model.is_file() else b""):
                raise ReplacedError(f"{version} is already the current model: choose another version to roll back to.")
            path = self.file(version) if any(r.version == version and r.published for r in records) else None
            if path is None or not path.is_file():
                kept = ", ".join(sorted(p.stem for p in self.folder.glob(f"*{self.model.suffix}") if p.stem != current))
                choice = f"choose {kept}" if kept else "none is kept"
                raise UnknownVersionError(f"There is no version {version[:40]!r} of {self.model.stem} to roll back to: {choice}.")
            record = new_record(version, records, "rolled_back", f"back from {current}")
            self._replace(self._read_kept(version), record, records)
            return record

    @contextmanager
    def _locked_records(self) -> Iterator[list[ModelRecord]]:
        """The records, under the lock, after an interrupted replacement was finished and a model file put there by hand recorded."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            for temporary in self.folder.glob(".*.tmp"):  # of a process that was killed; no other process writes here now
                temporary.unlink()
            remove_leftovers(self.model)
            records = self._read()
            if self._intent.exists():
                self._finish_replacement(records)
            if self.model.is_file():
                data = self.model.read_bytes()
                version = version_of(data)
                if version != (replaced := current_version(records)) and not is_cut_short(data):  # as while it is copied there by hand
                    kind: Kind = "found" if records else "shipped"
                    reason = "put there by hand, or with a new copy of the app" if records else "the first model here"
                    if any(r.version == replaced and r.kind in ("trained", "uploaded") for r in records):
                        again = f"roll back to {replaced} if you want that again"
                        logger.warning("%s: %s (%s) replaces %s, which is yours: %s", self.model.stem, version, reason, replaced, again)
                    write_bytes(self.file(version), data)
                    records.append(new_record(version, records, kind, reason))
                    self._write(records)
                if version == current_version(records):
                    self._keep_card(data, records)
            yield records

    def _keep_card(self, data: bytes, records: list[ModelRecord]) -> None:
        """Keep the card of the current model ``data`` with its version; where the card is another's, or there is none, write it.

        One that names no version is somebody's own, of the model that it lies beside.
        """
        version = version_of(data)
        text = _read_text(self._card)
        with suppress(OSError):  # no space: the next access tries again, and the model answers all the same
            if text and stated_version(text) in (version, None):
                if text != _read_text(self._kept_card(version)):
                    write_bytes(self._kept_card(version), text.encode())
            elif (written := self._card_of(data, records)) is not None:
                write_bytes(self._card, written.encode())

    def _card_of(self, data: bytes, records: list[ModelRecord]) -> str | None:
        """The card of the model ``data``, which ``records`` tell of: as it is kept, else written anew; None where it is no model."""
        version, spec = version_of(data), spec_of(data)
        if kept := _read_text(self._kept_card(version)):
            return kept
        made = next((record for record in records if record.version == version and record.published), None)
        if spec is None or made is None:
            return None
        parent = "" if made.parent is None else _read_text(self._kept_card(made.parent))
        return record_card(self.model.name, data, spec, records, made, parent)

    def _kept_card(self, version: str) -> Path:
        return self.folder / f"{version}{self._card.suffix}"

    def _finish_replacement(self, records: list[ModelRecord]) -> None:
        """Finish the interrupted replacement; where its intent or its file was damaged since, give it up as if it had not begun."""
        try:
            record = ModelRecord.model_validate_json(self._intent.read_bytes())
            data = self._read_kept(record.version)  # the first to be put in place
        except (ValueError, UnknownVersionError) as error:
            logger.error("a replacement of %s was interrupted and cannot be finished: %s", self.model.stem, error)
            self._intent.unlink()
        else:
            logger.warning("a replacement of %s by %s was interrupted: finishing it", self.model.stem, record.version)
            self._replace(data, record, records)

    def _read_kept(self, version: str) -> bytes:
        """The file of ``version``.

        Raises:
            UnknownVersionError: it is not kept. StoreError: it is damaged.
        """
        path = self.file(version)
        if not path.is_file():
            raise UnknownVersionError(f"The file of {version} of {self.model.stem} is not kept.")
        data = path.read_bytes()
        if version_of(data) != version:
            raise StoreError(f"The file of {version} of {self.model.stem} is damaged: restore it from a backup or choose another.")
        return data

    def _replace(self, data: bytes, record: ModelRecord, records: list[ModelRecord]) -> None:
        """Let ``data`` answer, with ``record``: both are on the disk before the intent, which finishes nothing that a full disk refused."""
        if records[-1:] != [record]:
            records.append(record)
        version, history = stage_bytes(self.file(record.version), data), stage_bytes(self._history, History(records=records).to_bytes())
        text = self._card_of(data, records)
        card = nullcontext() if text is None else stage_bytes(self._card, text.encode())
        with history, stage_bytes(self.model, data), card, version:  # put in place from the last on
            write_bytes(self._intent, record.model_dump_json().encode())
        self._intent.unlink()
        self._remove_old_files(records)

    def _remove_old_files(self, records: list[ModelRecord]) -> None:
        answered = [record.version for record in records if record.published]
        recent = list(dict.fromkeys(reversed(answered)))[: _KEPT + 1]
        for path in self.folder.glob(f"*{self.model.suffix}"):
            if path.stem not in (answered[0], *recent):
                path.unlink()
                self._kept_card(path.stem).unlink(missing_ok=True)

    def _read(self) -> list[ModelRecord]:
        if not self._history.exists():
            return []
        try:
            return History.model_validate_json(self._history.read_bytes()).records
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._history} cannot be read: restore it, or move it away to begin a new history.") from error

    def _write(self, records: list[ModelRecord]) -> None:
        write_bytes(self._history, History(records=records).to_bytes())


def _read_text(path: Path) -> str:
    """What the text file at ``path`` says, "" where there is none that can be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeError):
        return ""
