"""Which files of a folder are studies, and that a study's identity is its name there, whatever the folder holds beside it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.archive.studies import read_jobs
from prato.data.nifti import write_volume
from prato.data.studies.folder import ENDINGS, find_files, find_labelled_studies, is_study_id, split_name
from prato.labelling.files import LabelFiles, list_labelled_studies
from prato.labelling.records import LabelVersionError, UnknownVersionError

STUDY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
#: What may lie in a folder under any name: how it is made, and whether it is a file in the end.
KINDS = {
    "file": (lambda path, archive: path.write_bytes(b"voxels"), True),
    "link": (lambda path, archive: path.symlink_to(archive / "MD5E-s12--0ff"), True),
    "link to a link": (lambda path, archive: path.symlink_to(archive / "link"), True),
    "dangling link": (lambda path, archive: path.symlink_to(archive / "fetched-by-nobody"), False),
    "link to itself": (lambda path, archive: path.symlink_to(path), False),
    "folder": (lambda path, archive: path.mkdir(), False),
    "link to a folder": (lambda path, archive: path.symlink_to(archive), False),
    "pipe": (lambda path, archive: os.mkfifo(path), False),
}
_STEM = st.text(st.sampled_from("aB7 _.-+()#$%'ü漢\u00ad\n\t\\\u202e"), min_size=0, max_size=12)
_STEMS = st.one_of(_STEM, st.sampled_from([".x", "._x", "x.nii", "x.nii.gz", "x" * 231, "é" * 116, os.fsdecode(b"caf\xe9")]))
#: Endings of images that are not read, which are named as well.
_OTHERS = (".nrrd", ".seg.nrrd", ".MHA", ".hdr", ".img", ".dcm", ".mgz", ".nii.bz2")
_ENDING = st.sampled_from([*ENDINGS, *_OTHERS, ".NII.GZ", ".Nii", ".nii.gz.swp", ".nii.gz.part", ".json", ""])
names = st.tuples(_STEMS, _ENDING).map("".join).filter(lambda n: n not in ("", ".", "..") and len(os.fsencode(n)) < 256)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(names, st.sampled_from(list(KINDS)), max_size=6))
def test_each_file_is_a_study_by_its_own_name_or_left_out_in_one_sentence(found: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        archive, folder = Path(scratch, "archive"), Path(scratch, "studies")
        archive.mkdir()
        folder.mkdir()
        (archive / "MD5E-s12--0ff").write_bytes(b"voxels")
        (archive / "link").symlink_to(archive / "MD5E-s12--0ff")
        for name, kind in found.items():
            KINDS[kind][0](folder / name, archive)
        listed = find_files(folder)
        assert list(listed.files) == sorted(listed.files)
        for study, path in listed.files.items():
            ending = path.name.removeprefix(study)
            assert path.parent == folder and ending in ENDINGS and KINDS[found[path.name]][1]
            assert is_study_id(study) and not study.startswith(".") and split_name(study) is None
            LabelFiles(folder, study, "final")  # every study can be labelled
        others = {name for name in found if name.lower().endswith(tuple(map(str.lower, _OTHERS))) and not name.startswith(".")}
        assert all("convert it to .nii.gz" in listed.left_out[name] for name in others)
        like = {name for name in found if split_name(name.lower())} | others
        named = {path.name for path in listed.files.values()} | set(listed.left_out)
        assert named == like and not {path.name for path in listed.files.values()} & set(listed.left_out)
        for sentence in listed.left_out.values():
            assert "\n" not in sentence and sentence.isprintable() and sentence.encode()
        for name, kind in found.items():  # a sound file of a plain name is never left out
            stem = split_name(name)
            if stem and KINDS[kind][1] and stem[0].isalnum() and stem[0].isascii() and len(stem[0]) < 200:
                assert stem[0] in listed.files
        # one odd file costs itself alone, in batch as here
        if listed.files:
            assert [job.study for job in read_jobs(folder, None)] == list(listed.files)


def test_of_two_files_of_one_name_the_gzipped_one_is_the_study(tmp_path: Path) -> None:
    for ending in ENDINGS:
        (tmp_path / f"a{ending}").write_bytes(b"")
    listed = find_files(tmp_path)
    assert listed.files == {"a": tmp_path / "a.nii.gz"} and listed.left_out == {"a.nii": "a.nii is left out: there is a.nii.gz beside it."}
    assert find_files(tmp_path / "nowhere").files == {}


@pytest.mark.parametrize("image", ENDINGS)
@pytest.mark.parametrize("label", ENDINGS)
def test_labelled_studies_are_found_by_their_names_here_however_they_are_packed(
    tmp_path: Path, image: str, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    archive, final = tmp_path / "archive", tmp_path / "studies" / "labels" / "final"
    archive.mkdir()
    final.mkdir(parents=True)
    for phase in ("ED", "ES"):  # of one heart, in files that do not say so
        (archive / phase).write_bytes(b"image")
        (archive / f"{phase}-label").write_bytes(b"label")
        (tmp_path / "studies" / f"p1_{phase}{image}").symlink_to(archive / phase)
        (final / f"p1_{phase}{label}").symlink_to(archive / f"{phase}-label")
    (final / f"p2_ED{label}").symlink_to(archive / "gone")
    (final / f"u\u0308{label}").touch()  # of \u00fc, in the letters of another program
    (tmp_path / "studies" / f"\u00fc{image}").touch()
    found = find_labelled_studies(tmp_path / "studies")
    assert [(file.study, file.patient) for file in found] == [("p1_ED", "p1"), ("p1_ES", "p1")]
    assert all(file.image.parent == tmp_path / "studies" and file.label.parent == final for file in found)
    assert [record.getMessage() for record in caplog.records if "p2_ED" in record.getMessage()] == [
        f"p2_ED{label} is left out: it is a link to nothing (No such file or directory)."
    ]
    (final / f"nobody{label}").touch()
    find_labelled_studies(tmp_path / "studies")
    assert f"The label nobody{label} is left out: no image has its name." in caplog.messages
    assert f"The label u\u0308{label} is left out: an image looks as if it had its name, but stores an accent" in "\n".join(caplog.messages)
    assert list_labelled_studies(tmp_path / "studies") == ["nobody", "p1_ED", "p1_ES", "u\u0308"]


@pytest.mark.parametrize("place", ["labels", "labels/final", "label_history"])
def test_nothing_is_written_where_a_link_leads_out_of_the_folder(tmp_path: Path, place: str) -> None:
    archive, studies = tmp_path / "archive", tmp_path / "studies"
    archive.mkdir()
    (studies / place).parent.mkdir(parents=True)
    (studies / place).symlink_to(archive)
    with pytest.raises(LabelVersionError, match="leads out of the studies folder"), LabelFiles(studies, "a", "final").lock():
        pass
    assert list(archive.iterdir()) == []


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "studies").symlink_to(tmp_path / "real")
    with LabelFiles(tmp_path / "studies", "a", "final").lock():
        assert any((tmp_path / "real").rglob(".lock"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "a" * 231, os.fsdecode(b"caf\xe9")])
def test_what_cannot_be_an_id(tmp_path: Path, name: str) -> None:
    assert not is_study_id(name)
    with pytest.raises(UnknownVersionError):
        LabelFiles(tmp_path, name, "final")


def test_a_file_that_may_not_be_read_is_a_study_whose_reader_is_told(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", STUDY, np.eye(4))
    (tmp_path / "a.nii.gz").chmod(0)
    assert list(find_files(tmp_path).files) == ["a"]
