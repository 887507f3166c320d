"""Volumes, function and flags of ACDC's expert labels: those of hearts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest

from PratoLabelLib.measures.cardiac import CardiacVolumes, compute_function, compute_volumes, find_ed_es
from tests.real_data import require_real_data
from tests.slicer_module.cardiac_masks import LABELS, flag_sentences


@dataclass(frozen=True)
class Expert:
    group: str
    ed: str
    es: str
    masks: dict[str, tuple[np.ndarray, tuple[float, ...]]]  # frame -> mask (i, j, k), spacing in mm


@pytest.fixture(scope="module")
def experts() -> list[Expert]:
    acdc = require_real_data("acdc")
    found = []
    for folder in sorted(acdc.glob("patient*")):
        info = dict(re.findall(r"^(\w+): *(\S+)", (folder / "Info.cfg").read_text(), re.MULTILINE))
        masks = {}
        for frame in (info["ED"], info["ES"]):
            image = nib.Nifti1Image.from_filename(folder / f"{folder.name}_frame{int(frame):02d}_gt.nii.gz")
            # the affine says 1 mm in every file: the voxel size stands in pixdim alone
            masks[frame] = (np.asarray(image.dataobj), image.header.get_zooms())
        found.append(Expert(info["Group"], info["ED"], info["ES"], masks))
    assert len(found) == 100
    return found


def measured(expert: Expert) -> dict[str, CardiacVolumes]:
    return {frame: compute_volumes(mask, LABELS, spacing) for frame, (mask, spacing) in expert.masks.items()}


def test_ejection_fractions_of_the_disease_groups(experts: list[Expert]) -> None:
    lv, rv = defaultdict(list), defaultdict(list)
    for expert in experts:
        of = measured(expert)
        assert find_ed_es(of) == (expert.ed, expert.es)
        ed, es = of[expert.ed], of[expert.es]
        lv[expert.group].append(compute_function(ed.lv_ml, es.lv_ml).ejection_fraction)
        rv[expert.group].append(compute_function(ed.rv_ml, es.rv_ml).ejection_fraction)
    assert {group: len(values) for group, values in lv.items()} == dict.fromkeys(("NOR", "MINF", "DCM", "HCM", "RV"), 20)
    mean = {group: float(np.mean(values)) for group, values in lv.items()}
    assert 55 <= mean["NOR"] <= 70 and 62 <= mean["HCM"] <= 75
    assert 25 <= mean["MINF"] <= 40 and 10 <= mean["DCM"] <= 25
    assert mean["DCM"] < mean["MINF"] < mean["RV"] < mean["NOR"] < mean["HCM"]
    assert 25 <= np.mean(rv["RV"]) <= 40 and 50 <= np.mean(rv["NOR"]) <= 65
    # what the groups are defined by, give or take a reader: below 40 % with an infarct or a dilated LV, above 50 % without
    assert max(lv["DCM"]) < 40 and max(lv["MINF"]) < 45 and min(lv["NOR"]) > 50 and min(lv["HCM"]) >= 50


def test_volumes_and_masses_are_those_of_hearts(experts: list[Expert]) -> None:
    ed = defaultdict(list)
    for expert in experts:
        of = measured(expert)
        ed[expert.group].append(of[expert.ed])
        # muscle keeps its volume from diastole to systole, as far as a reader can outline it
        assert 0.8 < of[expert.es].myocardium_ml / of[expert.ed].myocardium_ml < 1.5
    lv, rv, mass = (
        {group: np.mean([getattr(v, field) for v in of]) for group, of in ed.items()} for field in ("lv_ml", "rv_ml", "myocardial_mass_g")
    )
    assert 100 < lv["NOR"] < 160 and 120 < rv["NOR"] < 180 and 80 < mass["NOR"] < 130
    assert max(lv, key=lv.__getitem__) == "DCM" and max(rv, key=rv.__getitem__) == "RV" and max(mass, key=mass.__getitem__) == "HCM"


@pytest.mark.slow
def test_expert_labels_are_rarely_flagged(experts: list[Expert]) -> None:
    counts = Counter()
    flagged = 0
    for expert in experts:
        for mask, _ in expert.masks.values():
            sentences = flag_sentences(mask, LABELS, 2)
            flagged += bool(sentences)
            counts.update(re.sub(r" in \d.*| in slice.*", "", sentence) for sentence in sentences)
    assert counts["LV cavity is not enclosed by myocardium"] <= 2
    assert counts["RV cavity is"] <= 15 and counts["LV cavity is"] <= 2 and counts["Myocardium is"] == 0
    assert set(counts) <= {"LV cavity is not enclosed by myocardium", "RV cavity is", "LV cavity is"}, "none is missing, none has a gap"
    assert flagged <= 16


@pytest.mark.slow
def test_a_wall_that_is_cut_is_always_seen(experts: list[Expert]) -> None:
    for expert in experts:
        mask = expert.masks[expert.ed][0].copy()
        k = int(np.argmax(np.count_nonzero(mask == 3, axis=(0, 1))))
        row = int(np.median(np.nonzero(mask[:, :, k] == 3)[1]))
        mask[:, row:, k][mask[:, row:, k] == 2] = 0  # half of the ring, where the LV is widest
        assert [s for s in flag_sentences(mask, LABELS, 2) if "not enclosed" in s and re.search(rf"slices?\b.* {k + 1}\b", s)]
