"""How versions differ and annotators agree, on cubes whose overlap can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prato.data.nifti import Volume, write_volume
from prato.data.structures import STRUCTURES
from prato.evaluation import agreement
from prato.evaluation.agreement import folder_agreement, label_diff, study_agreement
from prato.labelling.records import LabelVersionError
from prato.labelling.restoring import restore
from prato.labelling.versions import LabelVersions

AFFINE = np.diag([2.0, 2.0, 10.0, 1.0])
SHAPE = (20, 12, 4)


def heart(shift: int, lv: int = 4) -> np.ndarray:
    """LV of ``lv`` voxels a side on one slice, moved by ``shift`` along the first axis, and an RV that never changes."""
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2 + shift : 2 + shift + lv, 2 : 2 + lv, 1] = STRUCTURES["LV cavity"]
    drawn[14:18, 2:6, 1] = STRUCTURES["RV cavity"]
    return drawn


@pytest.fixture
def label(tmp_path: Path) -> LabelVersions:
    write_volume(tmp_path / "a.nii.gz", np.ones(SHAPE, np.int16), AFFINE)
    return LabelVersions(tmp_path, "a")


def test_the_difference_between_two_versions(label: LabelVersions) -> None:
    label.save(Volume(heart(0), AFFINE), {})
    label.save(Volume(heart(1, lv=5), AFFINE), {})
    found = label_diff(label, 1, 2)
    lv = found["structures"]["LV cavity"]
    assert found["changed_voxels"] == lv["changed_voxels"] == 4 + 13  # a column left, and 25 - 12 gained
    assert lv["dice"] == pytest.approx(2 * 12 / (16 + 25), abs=1e-4)
    assert lv["volume_ml"] == [0.64, 1.0]
    assert lv["volume_change_ml"] == 0.36
    assert lv["hd95"] == pytest.approx(4.0, abs=1e-6)
    assert found["structures"]["RV cavity"] == {"changed_voxels": 0, "dice": 1, "hd95": 0, "volume_ml": [0.64, 0.64], "volume_change_ml": 0}
    assert label_diff(label, 2, 1)["structures"]["LV cavity"]["volume_change_ml"] == -0.36


def test_versions_on_different_grids_are_not_compared(label: LabelVersions) -> None:
    label.save(Volume(heart(0), AFFINE), {"annotator": "Ada"})
    label.save(Volume(heart(0)[:, :, :3], AFFINE), {"annotator": "Bob"})
    with pytest.raises(LabelVersionError, match="Versions 1 and 2 of the label of a lie on different grids"):
        label_diff(label, 1, 2)


def test_the_latest_of_each_annotator_counts(label: LabelVersions, tmp_path: Path) -> None:
    for who, shift in (("Ada", 3), ("Bob", 2), ("Ada", 0)):
        label.save(Volume(heart(shift), AFFINE), {"annotator": who})
    restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Bob"})  # he has not drawn it: his stays version 2
    found = study_agreement(label)
    assert found["annotators"] == {"Ada": 3, "Bob": 2}
    assert [pair["annotators"] for pair in found["pairs"]] == [["Ada", "Bob"]]
    assert found["pairs"][0]["structures"]["LV cavity"] == {"dice": 0.5, "hd95": pytest.approx(4.0)}
    restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Ada"})  # her own: she came back to it
    assert study_agreement(label)["annotators"] == {"Ada": 5, "Bob": 2}


def test_a_name_that_is_typed_otherwise_is_no_other_annotators(label: LabelVersions, tmp_path: Path) -> None:
    for who, shift in (("Zoë Ny", 3), ("Bob", 2), ("zoe\u0308  ny", 0)):
        label.save(Volume(heart(shift), AFFINE), {"annotator": who})
    assert study_agreement(label)["annotators"] == {"Bob": 2, "zoe\u0308  ny": 3}
    restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "ZOË NY"})
    found = study_agreement(label)
    assert found["annotators"] == {"Bob": 2, "Zoë Ny": 4} and [pair["annotators"] for pair in found["pairs"]] == [["Bob", "Zoë Ny"]]


def test_the_whole_folder(tmp_path: Path) -> None:
    for study, shifts in (("a", (0, 2)), ("b", (0, 0)), ("c", (0,))):
        for who, shift in zip(("Ada", "Bob"), shifts):
            LabelVersions(tmp_path, study).save(Volume(heart(shift), AFFINE), {"annotator": who})
    LabelVersions(tmp_path, "d").save(Volume(heart(0), AFFINE), {"annotator": "Ada"})
    LabelVersions(tmp_path, "d").save(Volume(heart(0)[:9], AFFINE), {"annotator": "Bob"})
    found = folder_agreement(tmp_path)
    assert [image["image"] for image in found["images"]] == ["a", "b"]
    assert found["pairs"] == 2
    assert found["structures"]["LV cavity"] == {"dice": 0.75, "hd95": pytest.approx(2.0)}
    assert list(found["left_out"]) == ["d"]
    assert folder_agreement(tmp_path, "second")["structures"] == {}


def _all_alike(hd95: float) -> dict[str, dict[str, float]]:
    return {name: {"dice": 0.5, "hd95": hd95} for name in STRUCTURES}


def test_means_over_pairs_are_rounded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([1.0049, 1.0049, 1.0058])
    monkeypatch.setattr(agreement, "case_metrics", lambda *masks: _all_alike(next(told)))
    for study in "abc":
        for who in ("Ada", "Bob"):
            LabelVersions(tmp_path, study).save(Volume(heart(0), AFFINE), {"annotator": who})
    found = folder_agreement(tmp_path)
    assert found["structures"]["LV cavity"]["hd95"] == 1.01
    assert [image["pairs"][0]["structures"]["LV cavity"]["hd95"] for image in found["images"]] == [1.0, 1.0, 1.01]
