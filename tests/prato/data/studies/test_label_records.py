"""What is recorded of a label beside it, and of which file it is."""

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from prato.data.nifti import gzip_bytes, nifti_bytes
from prato.data.studies.label_records import recorded_label_info, recorded_proposal_model


def write(label: Path, value: int) -> str:
    """A label of one value, compressed where its name says so; returns the digest of the compressed file."""
    raw = nifti_bytes(np.full((4, 5, 2), value, np.uint8), np.eye(4))
    label.write_bytes(gzip_bytes(raw) if label.name.endswith(".gz") else raw)
    return hashlib.sha256(gzip_bytes(raw)).hexdigest()


def listed(studies: Path, name: str) -> Path:
    """A proposal, listed as a server's batch lists it."""
    label = studies / "labels" / "original" / name
    label.parent.mkdir(parents=True)
    info = {"model": "prato_auto", "model_version": "0123", "label_info": [], "sha256": write(label, 1)}
    entry = {"labels": {"original": {"ext": name.removeprefix("heart"), "info": info}}}
    (studies / "datastore_v2.json").write_text(json.dumps({"objects": {"heart": entry}}))
    return label


@pytest.mark.parametrize("name", ["heart.nii.gz", "heart.nii"])
def test_a_record_is_of_the_file_compressed_or_not(tmp_path: Path, name: str) -> None:
    label = listed(tmp_path, name)

    assert recorded_proposal_model(label) == ("prato_auto", "0123")
    assert recorded_label_info(label) == []


@pytest.mark.parametrize("name", ["heart.nii.gz", "heart.nii"])
def test_a_record_is_of_no_file_that_was_changed_since(tmp_path: Path, name: str) -> None:
    label = listed(tmp_path, name)
    write(label, 0)

    assert recorded_proposal_model(label) is None
    assert recorded_label_info(label) is None


def test_nothing_is_recorded_of_a_label_that_was_removed_a_moment_ago(tmp_path: Path) -> None:
    label = listed(tmp_path, "heart.nii.gz")
    label.unlink()

    assert recorded_proposal_model(label) is None
    assert recorded_label_info(label) is None


def test_a_list_that_the_system_kept_from_being_read_once_is_read_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label, read = listed(tmp_path, "heart.nii.gz"), Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "datastore_v2.json":
            raise OSError(errno.EMFILE, "Too many open files")
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        assert recorded_proposal_model(label) is None
    assert recorded_proposal_model(label) == ("prato_auto", "0123")
