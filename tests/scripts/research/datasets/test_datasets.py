"""What networks are shown, and the way back to the grid that is scored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from prato.evaluation.metrics import case_metrics
from scripts.research.datasets.base import ExperimentError, SegmentationDataset, Sight, View, list_datasets, register_dataset
from scripts.research.datasets.isic import lesion_case, lesion_names, training_lesion
from scripts.research.datasets.splits import assign_split
from scripts.research.experiments.data import ExperimentData
from tests.scripts.research.small import tiny


@pytest.fixture
def prepared(data, tmp_path):
    return ExperimentData(data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("sees_box", ["not at all", "by cropping", "in a window"])
@pytest.mark.parametrize("name", ["acdc", "isic"])
def test_the_way_to_the_network_and_back_keeps_the_mask(prepared, name, sees_box):
    """A network that says what the expert says, at its own resolution, is nearly right on the scored grid."""
    experiment = tiny(data=name, sees_box=sees_box, image=128)
    for case in prepared.eval_cases(experiment):
        assert case.image.shape[1:] == (3, experiment.sight.edge, experiment.sight.edge) and case.image.abs().max() <= 1.001
        assert (case.box >= 0).all() and (case.box <= experiment.sight.edge).all()
        picture = case.picture(case.truth)
        assert picture.shape == case.grey.shape == (128, 128)
        assert set(np.unique(picture)) <= {0, *case.structures.values()}
        drawn = case.picture(np.ones_like(case.truth))  # all of the image, and nothing beside it
        rows, columns = drawn.any(1), drawn.any(0)
        assert np.array_equal(drawn > 0, np.outer(rows, columns)) and min(rows.sum(), columns.sum()) > 60
        maps = _maps(case, experiment.sight.edge, experiment.sight.boxes)
        scores = case_metrics(case.native(maps), case.truth, case.spacing, case.structures)
        assert all(own["dice"] > 0.85 for own in scores.values()), (case.case, scores)


def _maps(case, edge, boxes):
    """Class maps (K, C, edge, edge) of the truth."""
    truth = torch.from_numpy(case.truth.astype(np.int64))
    slices = truth[None] if truth.ndim == 2 else truth.permute(2, 0, 1)
    holds = [k for k in range(len(slices)) if slices[k].any()]
    one_hot = F.one_hot(slices[holds], len(case.structures) + 1).permute(0, 3, 1, 2).float()
    if boxes:
        filled = (slices[holds] > 0).any(0).nonzero()
        tight = np.array([filled.amin(0).tolist(), (filled.amax(0) + 1).tolist()], dtype=float)
        np.testing.assert_allclose(case.box, [[edge * (1 - 1 / boxes) / 2] * 2, [edge * (1 + 1 / boxes) / 2] * 2])
        maps = View.around(tight, boxes, edge).cut(one_hot)
        maps[:, 0] += (maps.sum(1) < 0).float()  # beyond the image lies background
        return maps.clamp_min(0)
    if truth.ndim == 2:
        return F.interpolate(one_hot, size=(edge, edge), mode="bilinear", align_corners=False, antialias=True)
    window = case.native.args[0]
    smaller = F.interpolate(one_hot, size=window.resampled, mode="bilinear", align_corners=False, antialias=True)
    maps = torch.stack([window.cut(channel) for channel in smaller.unbind(1)], 1)
    maps[:, 0] = maps[:, 0].clamp_min(0)
    return maps.clamp_min(0)


@pytest.mark.slow
@pytest.mark.parametrize("sees_box", ["not at all", "by cropping", "in a window"])
@pytest.mark.parametrize("name", ["acdc", "isic"])
def test_samples_depend_on_seed_and_number_alone(prepared, name, sees_box):
    experiment = tiny(data=name, sees_box=sees_box)
    one, again = (prepared.training_samples(experiment)[5] for _ in range(2))
    other = prepared.training_samples(experiment.model_copy(update={"seed": 1}))[5]
    assert all(torch.equal(one[key], again[key]) for key in one) and not torch.equal(one["image"], other["image"])
    edge = experiment.sight.edge
    assert one["image"].shape == (3, edge, edge) and one["label"].shape == (edge, edge)
    if (boxes := experiment.sight.boxes) > 0:
        torch.testing.assert_close(one["box"], edge / 2 + edge / (2 * boxes) * torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))


def test_a_cut_lesion_fills_its_image_from_edge_to_edge(prepared):
    sample = prepared.training_samples(tiny(sees_box="by cropping"))
    shares = [float((sample[n]["label"] > 0).float().mean()) for n in range(20)]
    assert 0.4 < np.median(shares) < 0.95  # an ellipse fills pi / 4 of its box


@pytest.mark.parametrize("name", ["acdc", "isic"])
def test_the_split_is_assigned_once_and_held_to(prepared, data, tmp_path, name):
    experiment = tiny(data=name)
    split = prepared.split(experiment)
    sides = [split.train, split.validation, split.test]
    assert all(sides) and len({x for side in sides for x in side}) == sum(map(len, sides)) == {"acdc": 3, "isic": 12}[name]
    assert prepared.split(experiment) == split
    assert {case.patient for case in prepared.eval_cases(experiment)} <= set(split.test)
    path = tmp_path / f"split_{name}.json"
    path.write_text(path.read_text().replace(split.test[0], "another"))
    with pytest.raises(ExperimentError, match="other patients or images"):
        prepared.split(experiment)


def test_a_tenth_is_tested_and_a_tenth_held_back():
    split = assign_split({f"patient{n:03d}": None for n in range(100)})
    assert (len(split.train), len(split.validation), len(split.test)) == (80, 10, 10)


def test_images_are_drawn_by_their_names(data):
    some, more = (set(lesion_names(data["isic"], count)) for count in (10, 11))
    assert len(some) == 10 and some < more
    with pytest.raises(ExperimentError, match="holds 12 pairs"):
        lesion_names(data["isic"], 13)


def test_an_image_that_cannot_be_read_is_named(data, tmp_path):
    name = lesion_names(data["isic"], None)[0]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"{name}.jpg").write_bytes(b"nothing")
    with pytest.raises(ExperimentError, match=name):
        training_lesion(tmp_path, name, 64)


def test_boxes_are_drawn_by_condition(data):
    name = lesion_names(data["isic"], None)[0]
    tight, again, loose, beside = (
        lesion_case(data["isic"], name, condition, Sight(64, 64, 0.0)).box for condition in ("tight", "tight", "oversized", "misleading")
    )
    assert np.array_equal(tight, again)
    assert np.prod(loose[1] - loose[0]) > 1.3 * np.prod(tight[1] - tight[0])
    assert np.minimum(tight[1], beside[1]).min() and ((beside[0] >= tight[1]) | (beside[1] <= tight[0])).any()


def test_studies_without_labels_are_refused(tmp_path):
    with pytest.raises(ExperimentError, match="no labelled studies"):
        ExperimentData({"acdc": tmp_path}, tmp_path).split(tiny(data="acdc"))


def test_a_data_set_is_found_by_its_name_and_a_name_taken_once():
    assert {"acdc", "isic"} <= {*list_datasets()}
    with pytest.raises(ValueError, match="Two data sets are registered as 'isic'"):

        @register_dataset("isic")
        class Another(SegmentationDataset):
            pass
