"""manifest.json: what goes in comes out, bad files are refused in one sentence, patients are told from file names without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.data.studies.folder import (
    MANIFEST_NAME,
    Manifest,
    ManifestError,
    Study,
    examination_of,
    load_manifest,
    patient_of,
    save_manifest,
)

STUDY = Study(patient="patient001", frame=1, phase="ED", group="DCM", height_cm=184.0, weight_kg=95.0)


def test_round_trip_is_exact_and_its_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    other = STUDY.model_copy(update={"frame": 12, "phase": "ES"})
    save_manifest(tmp_path, Manifest(source="ACDC", studies={"b": other, "a": STUDY}))
    first = (tmp_path / MANIFEST_NAME).read_bytes()
    save_manifest(tmp_path, Manifest(source="ACDC", studies={"a": STUDY, "b": other}))
    assert (tmp_path / MANIFEST_NAME).read_bytes() == first
    assert load_manifest(tmp_path) == Manifest(source="ACDC", studies={"a": STUDY, "b": other})
    assert [p.name for p in tmp_path.iterdir()] == [MANIFEST_NAME], "a temporary file was left behind"


def test_the_written_form_is_the_documented_one(tmp_path: Path) -> None:
    save_manifest(tmp_path, Manifest(source="ACDC", studies={"patient001_frame01": STUDY}))
    assert json.loads((tmp_path / MANIFEST_NAME).read_text()) == {
        "version": 1,
        "source": "ACDC",
        "studies": {
            "patient001_frame01": {
                "patient": "patient001",
                "frame": 1,
                "phase": "ED",
                "group": "DCM",
                "height_cm": 184.0,
                "weight_kg": 95.0,
            }
        },
    }


STUDIES = st.builds(
    Study,
    patient=st.sampled_from(["a", "b"]),
    phase=st.sampled_from([None, "ED", "ES"]),
    ed=st.none() | st.integers(0, 9),
    es=st.none() | st.integers(0, 9),
    group=st.none() | st.just("DCM"),
    height_cm=st.none() | st.floats(100, 220),
    weight_kg=st.none() | st.floats(20, 220),
)


@given(known=st.dictionaries(st.sampled_from("xyz"), STUDIES), entries=st.dictionaries(st.sampled_from("xyz"), STUDIES))
def test_an_import_adds_what_is_not_known_and_takes_nothing_away(known: dict[str, Study], entries: dict[str, Study]) -> None:
    manifest = Manifest(source="DICOM", studies=known)
    before = manifest.model_copy(deep=True)
    changed = manifest.add(entries)
    assert changed == (manifest != before)
    assert manifest.studies.keys() == known.keys() | entries.keys()
    for name, study in manifest.studies.items():
        told = {**(entries[name].model_dump(exclude_none=True) if name in entries else {})}
        told |= known[name].model_dump(exclude_none=True) if name in known else {}
        assert study.model_dump(exclude_none=True) == told
    assert not manifest.add(entries)


def test_a_phase_that_somebody_entered_is_no_guess_of_an_import_that_is_run_again() -> None:
    manifest = Manifest(source="DICOM", studies={"a": Study(patient="p", phase="ED")})
    manifest.add({name: Study(patient="p", phase="ES", guessed=True) for name in "ab"})
    assert [(entry.phase, entry.guessed) for entry in manifest.studies.values()] == [("ED", None), ("ES", True)]


def test_no_manifest_is_none(tmp_path: Path) -> None:
    assert load_manifest(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "source": "ACDC", "studies": {}}',
        '{"version": 1, "studies": {}}',
        '{"version": 1, "source": "ACDC", "studies": {"a": {"patient": ""}}}',
        '{"version": 1, "source": "ACDC", "studies": {"a": {"patient": "p", "frame": 0}}}',
        '{"version": 1, "source": "ACDC", "studies": {}, "study": {"a": {"patient": "p"}}}',
        '{"version": 1, "source": "ACDC", "studies": {"a": {"patient": "p", "phase": "mid"}}}',
        '{"version": 1, "source": "ACDC", "studies": {"a": {"patient": "p", "weight_kg": NaN}}}',
    ],
)
def test_bad_manifests_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(ManifestError) as refused:
        load_manifest(tmp_path)
    assert "\n" not in str(refused.value) and str(tmp_path / MANIFEST_NAME) in str(refused.value)


@pytest.mark.parametrize(
    ("study", "patient"),
    [
        ("patient001_frame01", "patient001"),
        ("patient001_frame112", "patient001"),
        ("phantom003_ED", "phantom003"),
        ("phantom003_ES", "phantom003"),
        ("patient090_4d", "patient090"),
        ("case_7", "case_7"),
        ("FRED", "FRED"),
        ("_ED", "_ED"),
        ("a_frame", "a_frame"),
    ],
)
def test_patient_by_name(study: str, patient: str) -> None:
    assert patient_of(study, None) == patient
    assert patient_of(study, Manifest(source="x")) == patient


def test_the_manifest_knows_better_than_the_name() -> None:
    assert patient_of("b_ED", Manifest(source="x", studies={"b_ED": STUDY})) == "patient001"


def test_examinations_of_a_patient_are_told_apart_by_the_names_of_their_frames() -> None:
    assert examination_of("p1_a_frame12", "p1") == examination_of("p1_a_4d", "p1") == "p1_a"
    assert examination_of("p1_b_ED", "p1") == "p1_b"
    assert examination_of("case7", "p1") == "p1"
