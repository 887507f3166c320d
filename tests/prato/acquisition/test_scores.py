"""Scores, against cases worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from prato.acquisition.phases import Pair, find_pairs, inconsistency, volumes
from prato.acquisition.scores import disagreement, entropy_score, jitter_box, jitter_score, phases_score
from prato.data.studies.folder import Manifest, Study
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.uncertainty import MeanEntropy
from prato.prompts.box import Box
from tests.app.live import tiny_model
from tests.prato.conftest import predict
from tests.storage import STORAGES, Storage, oblique


def row(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(-1, 1, 1)


def test_disagreement_is_one_less_the_mean_dice_of_all_pairs() -> None:
    same = row(3, 3, 0, 0)
    assert disagreement([same, same, same]) == 0
    # Dice of the pairs: 1, 2 * 1 / (2 + 2) and again
    assert disagreement([same, same, row(0, 3, 3, 0)]) == pytest.approx(1 - (1 + 0.5 + 0.5) / 3)
    # a structure that one mask lacks counts as 0, one that both lack not at all
    assert disagreement([row(3, 3, 1, 0), row(3, 3, 0, 0)]) == pytest.approx(1 - (1 + 0) / 2)
    assert disagreement([row(0, 0), row(0, 0)]) == 0


def test_jittered_boxes_are_seeded_stay_in_the_image_and_on_their_slices() -> None:
    box, shape = Box((0, 30, 2), (40, 60, 9)), (41, 61, 12)
    boxes = jitter_box(box, shape, 0.1, 200, seed=1)
    assert boxes == jitter_box(box, shape, 0.1, 200, seed=1) != jitter_box(box, shape, 0.1, 200, seed=2)
    assert {(b.start[2], b.stop[2]) for b in boxes} == {(2, 9)}
    assert {b.start[0] for b in boxes} == set(range(5)) and {b.stop[0] for b in boxes} == set(range(36, 42))  # clipped at 0 and 41
    assert {b.start[1] for b in boxes} == set(range(27, 34))
    assert jitter_box(Box((3, 3, 0), (4, 4, 1)), (4, 4, 1), 0.9, 9, 0)[0].voxels >= 1


@pytest.mark.parametrize("storage", STORAGES[1::6], ids=str)
def test_the_same_boxes_are_drawn_on_a_heart_however_it_is_stored(storage: Storage) -> None:
    usual, heart = oblique(np.zeros((40, 60, 5), np.int16), (1.5, 1.5, 8.0)), Box((8, 12, 1), (30, 45, 4))

    class FillsItsBox:
        """A predictor that finds heart wherever it is prompted."""

        def set_image(self, image: ImageStack) -> None:
            self.image, self.boxes = image, []

        def predict(self, prompts=(), **_):
            box = prompts[0].box if prompts else self.image.stored_box(heart)
            self.boxes.append(box.rearrange(*self.image.order))
            mask = np.zeros(self.image.stored.array.shape, np.uint8)
            mask[box.slices] = 3
            return SimpleNamespace(mask=mask, box=box)

    drawn, scores = [], []
    for volume in (usual, storage.volume(usual)):
        predictor = FillsItsBox()
        scores.append(jitter_score(predictor, ImageStack(volume)))
        drawn.append(predictor.boxes)
    assert drawn[0] == drawn[1] and scores[0] == scores[1] and len(set(drawn[0])) == 4


def test_entropy_is_measured_over_the_kept_pixels_alone() -> None:
    logits = torch.zeros(1, 4, 1, 3)
    logits[0, 0, 0, 1] = 100.0  # decided
    logits[0, :2, 0, 2] = 100.0  # between two of the four
    for kept, expected in (([1, 0, 0], 1.0), ([0, 1, 0], 0.0), ([0, 0, 1], math.log(2) / math.log(4)), ([1, 1, 0], 0.5), ([0, 0, 0], 0.0)):
        whole, halves = MeanEntropy(), MeanEntropy()
        whole.add(logits, torch.tensor([[kept]]).bool())
        for part in (slice(0, 2), slice(2, 3)):
            halves.add(logits[..., part], torch.tensor([[kept[part]]]).bool())
        assert whole.mean() == pytest.approx(expected, abs=1e-6) == halves.mean()


ED = {"LV cavity": 100.0, "RV cavity": 120.0, "myocardium": 80.0}


@pytest.mark.parametrize(
    ("es", "known", "expected"),
    [
        ({"LV cavity": 50.0, "RV cavity": 60.0, "myocardium": 80.0}, True, 0.0),
        ({"LV cavity": 50.0, "RV cavity": 60.0, "myocardium": 100.0}, True, 0.2 / 3),  # muscle cannot grow
        ({"LV cavity": 200.0, "RV cavity": 60.0, "myocardium": 80.0}, True, 0.5 / 3),  # a cavity should shrink
        ({"LV cavity": 200.0, "RV cavity": 240.0, "myocardium": 80.0}, True, 1.0 / 3),
        ({"LV cavity": 200.0, "RV cavity": 240.0, "myocardium": 80.0}, False, 0.0),  # it was the other way round
        ({"LV cavity": 200.0, "RV cavity": 90.0, "myocardium": 80.0}, False, 0.25 / 3),  # one cavity has to be wrong: the lesser
        ({"LV cavity": 0.0, "RV cavity": 0.0, "myocardium": 0.0}, True, 1.0 / 3),
    ],
)
def test_inconsistency_of_two_phases(es: dict[str, float], known: bool, expected: float) -> None:
    assert inconsistency(ED, es, known) == pytest.approx(expected)


def test_volumes_are_in_ml() -> None:
    assert volumes(row(3, 3, 2, 0), (10.0, 10.0, 5.0)) == {"RV cavity": 0.0, "myocardium": 0.5, "LV cavity": 1.0}


def test_pairs_are_by_manifest_by_name_or_of_two() -> None:
    manifest = Manifest(source="x", studies={"p_1": Study(patient="p", phase="ES"), "p_2": Study(patient="p", phase="ED")})
    found = find_pairs(
        ["p_1", "p_2", "b_ED", "b_ES", "b_frame07", "c_frame01", "c_frame09", "d", "e_frame1", "e_frame2", "e_frame3"], manifest
    )
    assert found["p_1"] == found["p_2"] == Pair("p_2", "p_1", True)
    assert found["b_ED"] == Pair("b_ED", "b_ES", True)
    assert found["c_frame09"] == Pair("c_frame01", "c_frame09", False)
    assert set(found) == {"p_1", "p_2", "b_ED", "b_ES", "c_frame01", "c_frame09"}


def test_examinations_of_one_patient_are_no_pair_of_phases() -> None:
    names = ["p_a_frame01", "p_a_frame08", "p_b_frame01", "q_a_4d", "q_b_4d"]
    manifest = Manifest(source="x", studies={name: Study(patient=name[0]) for name in names})
    assert set(find_pairs(names, manifest)) == {"p_a_frame01", "p_a_frame08"}


@pytest.mark.slow
def test_a_model_scores_an_image_the_same_way_each_time(tmp_path, heart) -> None:
    tiny_model(tmp_path / "swin.safetensors", "swin_unetr")  # whose mask is of more than one class
    predictor, image = Predictor.from_files(tmp_path / "swin.safetensors"), ImageStack(heart)
    for measure in (jitter_score, entropy_score):
        score = measure(predictor, image)
        assert 0 < score.value < 1
        assert measure(predictor, image) == score
    assert phases_score(predictor, image, image, True).value == 0


@pytest.mark.parametrize("empty", [0, 1])
def test_one_phase_without_a_heart_is_the_most_useful(empty: int) -> None:
    """The other may hold one: an empty mask is no heart that beats hard."""
    masks = [row(3, 2, 1, 0)] * 2
    masks[empty] = row(0, 0, 0, 0)
    found = iter(masks)

    class Finds:
        def set_image(self, image: ImageStack) -> None: ...

        def predict(self) -> SimpleNamespace:
            return SimpleNamespace(mask=next(found))

    image = ImageStack(oblique(np.zeros((4, 1, 1), np.int16), (1.5, 1.5, 8.0)))
    score = phases_score(Finds(), image, image, known=True)
    assert score.value == 1 and "no heart" in score.reason


@pytest.mark.slow
def test_no_heart_at_all_is_the_most_useful(model_files, heart, monkeypatch) -> None:
    predictor, image = Predictor.from_files(model_files["swin_unetr"]), ImageStack(heart)
    monkeypatch.setattr(type(predictor.segmenter), "_mask", lambda *_: np.zeros(heart.array.shape, np.uint8))
    for score in (
        jitter_score(predictor, image),
        entropy_score(predictor, image),
        phases_score(predictor, image, image, True),
    ):
        assert score.value == 1 and "no heart" in score.reason


@pytest.mark.slow
def test_the_segmenter_measures_entropy_where_every_stage_kept_the_token(model_files, heart, monkeypatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(MeanEntropy, "add", lambda self, logits, kept: seen.append((logits, kept)))
    monkeypatch.setattr(MeanEntropy, "mean", lambda self: 0.25)
    predictor = Predictor.from_files(model_files["unetr"])
    box = (Box((16, 6, 1), (44, 34, 4)),)
    assert predict(predictor, heart, *box).entropy is None and not seen
    assert predict(predictor, heart, *box, prune="50", return_uncertainty=True).entropy == 0.25
    logits, kept = seen[0]
    assert kept.shape == (logits.shape[0], *logits.shape[2:])
    assert 0 < kept.float().mean() < 0.5
