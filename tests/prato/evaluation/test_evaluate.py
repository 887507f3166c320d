"""Summaries and quick validation against figures worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from prato.data.cases import TrainingCase, load_training_case, read_label
from prato.data.nifti import Volume, VolumeError, write_volume
from prato.data.studies.folder import StudyFile
from prato.evaluation.box_conditions import BoxCondition
from prato.evaluation.evaluate import evaluate_volume, summary
from prato.evaluation.validation import slice_dice
from prato.inference.predictor import Predictor
from prato.phantom.frames import make_phantom
from prato.pruning.record import PrunedOutput

MODEL = Path(__file__).parents[3] / "apps" / "prato_label" / "model" / "prato_overview_unet_small.safetensors"
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def row(patient, dice, kept, latency):
    scores = {name: {"dice": dice, "iou": dice / 2, "hd95": 3.0} for name in ("RV cavity", "myocardium", "LV cavity")}
    means = {"mean_dice": dice, "mean_iou": dice / 2, "mean_hd95": 3.0}
    return {
        "patient": patient,
        "scores": scores,
        **means,
        "kept_fraction": kept,
        "gflops": 1.0,
        "gflops_dense": 2.0,
        "latency_ms": {"network": latency},
    }


def test_a_summary_is_means_and_a_median():
    rows = [row("a", 0.5, {"block 4": 0.5}, 10.0), row("a", 0.7, {}, 30.0), row("b", 0.9, {"block 4": 0.75}, 11.0)]
    found = summary(rows)
    assert (found["cases"], found["patients"]) == (3, 2)
    assert found["mean_dice"] == pytest.approx(0.7) and found["structures"]["LV cavity"]["iou"] == pytest.approx(0.35)
    # a case without stages kept all its tokens
    assert found["kept_fraction"] == {"block 4": 0.75}
    assert found["latency_ms"] == {"network": 11.0}


def test_a_mean_that_is_shown_is_rounded_once():
    found = summary([row("a", 0.91154, {}, 1.0), row("b", 0.91155, {}, 1.0)])
    assert f"{found['mean_dice']:.3f}" == "0.912"  # 0.9115 would be 0.911
    assert f"{found['structures']['RV cavity']['dice']:.3f}" == "0.912"


def test_a_structure_is_scored_where_it_was_drawn():
    rows = [row("a", 0.5, {}, 1.0), row("b", 0.9, {}, 1.0)]
    del rows[0]["scores"]["RV cavity"]
    found = summary(rows)["structures"]
    assert (found["RV cavity"]["cases"], found["RV cavity"]["dice"]) == (1, 0.9)
    assert (found["LV cavity"]["cases"], found["LV cavity"]["dice"]) == (2, pytest.approx(0.7))
    del rows[1]["scores"]["RV cavity"]
    assert "RV cavity" not in summary(rows)["structures"]


def test_what_the_expert_did_not_draw_is_no_mistake():
    made = make_phantom(0, 1)
    image, label = Volume(made.images["ED"], made.affine), made.labels["ED"]
    lv_alone = np.where(label == 3, label, 0)
    predictor, study = Predictor.from_files(MODEL), StudyFile("a", "a", Path("a.nii.gz"), Path("a.nii.gz"))
    full = evaluate_volume(predictor, image, label, study, BoxCondition.tight, None, 0)
    part = evaluate_volume(predictor, image, lv_alone, study, BoxCondition.none, None, 0)
    few = np.where(np.arange(lv_alone.shape[2]) < np.flatnonzero(lv_alone.any((0, 1)))[0] + 2, lv_alone, 0)
    tip = evaluate_volume(predictor, image, few, study, BoxCondition.none, None, 0)
    assert list(full["scores"]) == list(tip["scores"]) == ["RV cavity", "myocardium", "LV cavity"]
    assert list(part["scores"]) == ["LV cavity"] and part["mean_dice"] == part["scores"]["LV cavity"]["dice"] > 0.5


def test_a_study_is_scored_alike_whichever_way_it_is_stored():
    made = make_phantom(0, 1)
    predictor, study = Predictor.from_files(MODEL), StudyFile("a", "a", Path("a.nii.gz"), Path("a.nii.gz"))
    image, label = made.images["ED"], made.labels["ED"]
    rows = []
    for axes in ((0, 1, 2), (2, 0, 1)):
        stored = Volume(image.transpose(axes), made.affine[:, [*axes, 3]])
        rows.append(evaluate_volume(predictor, stored, label.transpose(axes), study, BoxCondition.oversized, None, 0))
    usual, other = rows
    assert other["scores"] == usual["scores"] and other["volumes_ml"] == usual["volumes_ml"]
    assert other["box"] == [*usual["box"][4:], *usual["box"][:4]]


class Oracle(torch.nn.Module):
    """A stand-in network that calls every pixel above zero myocardium."""

    def segment(self, image, prompts, plan):
        logits = torch.zeros(len(image), 4, *image.shape[2:])
        logits[:, 0] = 0.5
        logits[:, 2] = (image[:, 1] > 0).float()
        return PrunedOutput(logits)


def test_slice_dice_counts_voxels():
    image = torch.full((3, 100, 100), -1.0)
    label = torch.zeros(3, 100, 100, dtype=torch.uint8)
    image[1, 40:60, 40:60] = 1.0
    label[1, 40:60, 40:50] = 2
    case = TrainingCase("p", image, label, (label > 0).any(0).nonzero(), (1, 2), (1.5, 1.5))
    dice = slice_dice(Oracle(), None, [case], 64, torch.device("cpu"))
    # 200 right of 400 found and 200 wanted; the other two structures are rightly absent
    assert dice == {
        "RV cavity": 1.0,
        "myocardium": pytest.approx(2 / 3, abs=1e-4),
        "LV cavity": 1.0,
        "mean": pytest.approx(0.8889, abs=1e-4),
    }


def test_a_label_must_lie_where_its_image_does(tmp_path):
    image = Volume(np.zeros((8, 9, 4), np.int16), AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] = 20.0
    label = np.ones((8, 9, 4), np.uint8)
    for name, array, affine, word in [
        ("shape", label[:, :, :3], AFFINE, "has 8x9x3 voxels and its image 8x9x4"),
        ("place", label, moved, r"lies 20\.0 mm off its image"),
        ("value", label * 7, AFFINE, "holds the value 7, which names no structure"),
    ]:
        write_volume(tmp_path / f"{name}.nii.gz", array, affine)
        with pytest.raises(VolumeError, match=word):
            read_label(tmp_path / f"{name}.nii.gz", image)
    write_volume(tmp_path / "good.nii.gz", label, AFFINE)
    assert read_label(tmp_path / "good.nii.gz", image).sum() == label.sum()


def test_a_training_case_is_a_stack_whatever_its_storage(tmp_path):
    rng = np.random.default_rng(0)
    array, label = rng.integers(0, 500, (40, 36, 5)).astype(np.int16), np.zeros((40, 36, 5), np.uint8)
    label[10:20, 5:25, 1:4] = 3
    cases = []
    for name, axes, affine in [("usual", (0, 1, 2), AFFINE), ("other", (2, 0, 1), np.diag([8.0, 1.5, 1.5, 1.0]))]:
        write_volume(tmp_path / f"{name}.nii.gz", array.transpose(axes), affine)
        write_volume(tmp_path / f"{name}_label.nii.gz", label.transpose(axes), affine)
        cases.append(load_training_case(StudyFile(name, name, tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"), 1.5))
    usual, other = cases
    assert usual.slices == other.slices == (1, 4)
    assert torch.equal(usual.image, other.image) and torch.equal(usual.label, other.label)
    assert usual.footprint.amin(0).tolist() == [10, 5] and usual.footprint.amax(0).tolist() == [19, 24]
