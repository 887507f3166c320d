"""Splits by patient."""

import json

import pytest

from prato.data.studies.folder import Study, patient_of
from prato.data.studies.splits import Split, SplitError, load_split, save_split, shuffle_key, split_folds, split_patients

NAMES = [f"patient{n:03d}" for n in range(1, 101)]
GROUPS = {name: ["NOR", "DCM", "HCM", "MINF", "RV"][n // 20] for n, name in enumerate(NAMES)}


def test_everyone_is_on_one_side_and_groups_are_even():
    split = split_patients(NAMES, 0.2, 0, GROUPS)
    assert sorted(split.train + split.validation) == NAMES
    assert len(split.validation) == 20
    for group in set(GROUPS.values()):
        assert sum(GROUPS[p] == group for p in split.validation) == 4
    assert split == split_patients(reversed(NAMES), 0.2, 0, GROUPS)
    assert split != split_patients(NAMES, 0.2, 1, GROUPS)


@pytest.mark.parametrize("count", [2, 3])
def test_a_few_patients_still_fill_both_sides(count):
    split = split_patients(NAMES[:count], 0.2, 0)
    assert len(split.validation) == 1 and len(split.train) == count - 1


def test_one_patient_cannot_be_split():
    with pytest.raises(ValueError, match="at least two patients, not 1"):
        split_patients(["a", "a"], 0.2, 0)


def test_a_split_survives_its_file(tmp_path):
    split = split_patients(NAMES, 0.2, 5)
    save_split(tmp_path / "split.json", split)
    assert load_split(tmp_path / "split.json") == split


@pytest.mark.parametrize("text", ["", "{}", '{"seed": 0, "train": ["a"]}'])
def test_no_split_file_is_refused(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(SplitError, match="not a split file"):
        load_split(tmp_path / "split.json")


def test_a_patient_on_both_sides_is_refused(tmp_path):
    save_split(tmp_path / "split.json", Split(seed=0, train=["a", "b"], validation=["b"]))
    with pytest.raises(SplitError, match="b on both sides"):
        load_split(tmp_path / "split.json")


def test_an_order_that_was_shuffled_once_stays():
    assert sorted("abcd", key=lambda name: shuffle_key(0, name)) == ["d", "a", "c", "b"]
    assert [fold.validation for fold in split_folds("abcd", 2, 0)] == [["c", "d"], ["a", "b"]]


def test_a_patient_is_one_however_accents_are_stored(tmp_path):
    one, other = "M\u00fcller", "Mu\u0308ller"
    assert patient_of(f"{one}_frame01", None) == patient_of(f"{other}_frame12", None) == Study(patient=other).patient
    (tmp_path / "split.json").write_text(json.dumps({"seed": 0, "train": [one], "validation": [other]}))
    with pytest.raises(SplitError, match="both sides"):
        load_split(tmp_path / "split.json")
