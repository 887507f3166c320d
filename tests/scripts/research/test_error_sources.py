"""scripts/research/error_sources.py: copies are turned back, places are those of the heart, and every way gives a mask."""

import numpy as np
import pytest
import torch

from prato.data.nifti import Volume
from prato.inference.image_stack import ImageStack
from prato.inference.postprocess import remove_small_components
from prato.inference.predictor import Predictor
from prato.prompts.box import Box, BoxPrompt
from scripts.common.results import read_rows
from scripts.research import error_sources
from scripts.research.error_sources import Case, logits_of, masks_of, place_rows, places_of, resampled_label
from tests.phantoms import make_thin_phantoms
from tests.scripts.cli import run_script


def case(slices: int = 7) -> Case:
    """A disc that grows along the stack, none in the first slice: 60 x 70 voxels of 2 x 1.5 x 9 mm."""
    i, j = np.mgrid[:60, :70]
    distance = np.hypot((i - 25) * 2.0, (j - 40) * 1.5)[..., None] - np.arange(slices) * 3
    label = np.where(distance < 10, 3, np.where(distance < 18, 2, 0)).astype(np.uint8)
    label[:, :, 0] = 0
    image = (np.array([50, 0, 150, 300])[label] + np.random.default_rng(0).normal(0, 10, label.shape)).astype(np.float32)
    box = Box.around(label > 0)
    assert box is not None
    return Case(ImageStack(Volume(image, np.diag([2.0, 1.5, 9.0, 1.0]))), label, box)


@pytest.mark.slow
def test_ways_are_compared_with_the_app_s_own_answer(overview_file):
    predictor, heart = Predictor.from_files(overview_file), case()
    for is_boxed in (True, False):
        masks = masks_of(predictor, heart, is_boxed)
        predictor.set_image(heart.volume)
        answer = predictor.predict([BoxPrompt(heart.box)] if is_boxed else [])
        assert np.array_equal(answer.mask, masks["as answered"])
        # what this script computes by itself is the same, but for the sides of the computed region
        there = slice(answer.box.start[2], answer.box.stop[2])
        again = remove_small_components(masks["small components kept"])
        assert np.mean(again[:, :, there] == answer.mask[:, :, there]) > 0.98


def test_turned_copies_are_turned_back():
    class Position(torch.nn.Module):
        """Says which side of the brightest pixel's row and column each pixel lies on; what turns with the image comes back as it was."""

        def encode_image(self, seen, plan):
            return type("Embedding", (), {"select": lambda self, planes: None})()

        def predict(self, seen, embedding, prompts, plan):
            boxes = prompts.groups[0].coordinates
            inside = torch.zeros(len(seen), 4, *seen.shape[2:])
            for k, ((a, b), (c, d)) in enumerate(boxes.round().long().tolist()):
                inside[k, 1, a:c, b:d] = 5
            inside[:, 2] = seen[:, 1]
            return type("Output", (), {"logits": inside})()

    heart = case()
    plain = logits_of(Position(), None, heart, 1.5, True)
    for turned in (False, True):
        for flips in ((), (2,), (3,), (2, 3)):
            again = logits_of(Position(), None, heart, 1.5, True, turned, flips)
            assert torch.allclose(again[:, 2], plain[:, 2], atol=1e-5)  # the image itself
            differing = (again[:, 1] != plain[:, 1]).float().mean()
            assert differing < 0.01  # the box, but for a rounded side


def test_places_and_what_is_lost_there():
    heart = case()
    places = places_of(heart.label)
    assert places == {"basal": [6, 5], "middle": [4, 3], "apical": [2, 1], "without a label": [0]}
    rows = {row["place"]: row for row in place_rows(heart.label, heart)}
    assert all(value == 1 for row in rows.values() for value in row["dice"].values())
    mask = heart.label.copy()
    mask[:, :, 6] = 0
    mask[:5, :5, 0] = 1
    rows = {row["place"]: row for row in place_rows(mask, heart)}
    ml = 2 * 1.5 * 9 / 1000
    assert rows["basal"]["ml"]["LV cavity"]["missed"] == pytest.approx((heart.label[:, :, 6] == 3).sum() * ml, abs=1e-3)
    assert rows["without a label"]["ml"]["RV cavity"]["too much"] == pytest.approx(25 * ml, abs=1e-3)
    assert rows["middle"]["dice"]["LV cavity"] == 1 and rows["basal"]["dice"]["LV cavity"] < 0.7


def test_a_label_comes_back_from_the_network_s_pixels_nearly_whole():
    heart = case()
    found = error_sources.dice_of(resampled_label(heart, 1.5), heart.label)
    assert 0.9 < found["myocardium"] <= 1 and found["RV cavity"] == 1


@pytest.mark.slow
def test_every_way_is_a_row(tmp_path, overview_file, monkeypatch):
    make_thin_phantoms(tmp_path / "studies", 1)
    flags = ["--studies", "studies", "--model", str(overview_file), "--out", "o.csv", "--places", "p.csv"]
    monkeypatch.chdir(tmp_path)
    done = run_script(error_sources.main, *flags)
    assert done.exit_code == 0, done.output
    rows, places = read_rows(tmp_path / "o.csv"), read_rows(tmp_path / "p.csv")
    assert len({row["way"] for row in rows}) == 12 and len(rows) == 48 and len(places) == 16
