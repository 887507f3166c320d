"""Labelled studies as training is given them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from prato.data.cases import load_training_case, read_training_cases
from prato.data.labels.anatomy import describe_lack
from prato.data.nifti import Volume, write_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.labelling.doubts import anatomy_warnings
from prato.phantom.frames import make_phantom


def test_a_network_is_trained_on_the_slices_that_it_is_shown_whatever_blank_ones_were_added(tmp_path: Path) -> None:
    phantom = make_phantom(3, 1)
    cases = []
    for name, added in (("plain", (0, 0)), ("longer", (4, 3))):
        files = StudyFile(name, "a", tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz")
        for path, array in ((files.image, phantom.images["ED"]), (files.label, phantom.labels["ED"])):
            write_volume(path, np.pad(array, [(0, 0), (0, 0), added]), phantom.affine)
        cases.append(load_training_case(files, 1.5))
    plain, longer = cases
    assert plain is not None and longer is not None
    assert torch.equal(longer.image[4:-3], plain.image) and longer.slices == tuple(k + 4 for k in plain.slices)


def test_a_label_of_one_ventricle_is_not_learned_from_and_its_labeller_is_told(tmp_path: Path) -> None:
    phantom = make_phantom(3, 1)
    whole = phantom.labels["ED"]
    files = []
    for name, label in (("whole", whole), ("left", np.where(whole == STRUCTURES["RV cavity"], 0, whole))):
        files.append(StudyFile(name, name, tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"))
        write_volume(files[-1].image, phantom.images["ED"], phantom.affine)
        write_volume(files[-1].label, label, phantom.affine)
    found = read_training_cases(files, 1.5)
    assert [file.study for file, _ in found.loaded] == ["whole"]
    assert found.left_out == {"left": "The label for left cannot be learned from: it lacks the RV cavity."}
    [told] = anatomy_warnings(Volume(label, phantom.affine))
    assert told == "It lacks the RV cavity; training leaves the label out until it is corrected."


def test_what_a_label_lacks_is_judged_on_its_own_pixels_whatever_a_network_looks_at(tmp_path: Path) -> None:
    """Else training takes what its comparison then leaves out, and says that the label was replaced meanwhile."""
    label = np.zeros((120, 120, 6), np.uint8)
    label[30:60, 30:60] = STRUCTURES["myocardium"]
    label[36:54, 36:54] = STRUCTURES["LV cavity"]
    label[30:60, 62:110:4] = STRUCTURES["myocardium"]  # lines of a pixel, which larger pixels lose
    label[90:93, 33:36] = label[96:99, 33:36, 0] = STRUCTURES["RV cavity"]
    file = StudyFile("a", "a", tmp_path / "a.nii.gz", tmp_path / "a_label.nii.gz")
    spacing = np.diag([1.0, 1.0, 8.0, 1.0])
    write_volume(file.image, np.arange(label.size, dtype=np.int32).reshape(label.shape), spacing)
    write_volume(file.label, label, spacing)
    case = load_training_case(file, 3.0)
    assert case is not None and anatomy_warnings(Volume(label, spacing)) and not describe_lack(case.label.numpy(), 0)
    assert read_training_cases([file], 3.0).left_out == {"a": "The label for a cannot be learned from: it lacks the RV cavity."}
