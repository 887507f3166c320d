"""Training on stacks: batches depend on seed and step alone, boxes lie where hearts do, a killed run goes on, and it learns."""

import math
from dataclasses import fields, replace

import pytest
import torch
from monai.losses import DiceCELoss

from prato.data.cases import TrainingCase
from prato.data.structures import STRUCTURES
from prato.models.registry import build_model
from prato.training.batch_augmentation import TOKEN, StackBatch, StackSampler
from prato.training.batch_intensity import bent, blurred, change_some, coarsened, ghosted, mixed, noisy, rescaled
from prato.training.slice_bank import CANVAS, SliceBank, load_packed, save_packed
from prato.training.stack_trainer import Recipe, StackTrainer, segmentation_loss
from prato.training.window_dice import window_dice

SMALL = {"in_channels": 3, "out_channels": 4, "norm_name": "batch", "spatial_dims": 2, "feature_size": 12, "window_size": 5}
SMALL |= {"num_heads": (1, 2, 2, 4), "overview_dim": 16, "overview_depth": 1}
RECIPE = Recipe(steps=3, stacks=1, depth=3, edge=96, precision="float32")
CPU = torch.device("cpu")


def case(patient: str, slices: int, size: tuple[int, int], middle: tuple[int, int]) -> TrainingCase:
    """Rings round ``middle``: LV 3 in myocardium 2, and RV 1 beside it, brighter than what is round them."""
    i, j = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    distance = ((i - middle[0]) ** 2 + (j - middle[1]) ** 2).sqrt()
    label = torch.where(distance < 12, 3, torch.where(distance < 20, 2, 0))
    label = torch.where((label == 0) & (distance < 32) & (j > middle[1]), 1, label).to(torch.uint8)
    image = torch.tensor([-0.8, 0.4, -0.2, 0.8])[label.long()] + 0.05 * torch.randn(size, generator=torch.Generator().manual_seed(0))
    labels = label.repeat(slices, 1, 1)
    return TrainingCase(patient, image.repeat(slices, 1, 1).half(), labels, (label > 0).nonzero(), (0, slices), (1.5, 1.5))


@pytest.fixture(scope="module")
def cases() -> list[TrainingCase]:
    return [case("a", 6, (150, 170), (70, 90)), case("b", 2, (300, 140), (150, 60))]


@pytest.fixture(scope="module")
def bank(cases) -> SliceBank:
    return SliceBank.from_cases(cases, CPU)


def small_network():
    torch.manual_seed(0)
    return build_model("overview_unet", filters=(8, 8, 12, 16, 16), overview_dim=16, overview_depth=1)


def test_slices_lie_in_the_middle_of_the_canvas(cases, bank):
    assert bank.images.shape == bank.labels.shape == (8, CANVAS, CANVAS) and bank.count.tolist() == [6, 2] and bank.first.tolist() == [0, 6]
    top, left = (CANVAS - 150) // 2, (CANVAS - 170) // 2
    assert torch.equal(bank.labels[0, top : top + 150, left : left + 170], cases[0].label[0])
    assert int(bank.labels[0].sum()) == int(cases[0].label[0].sum())  # nothing beside it
    cut = (300 - CANVAS) // 2
    assert torch.equal(bank.labels[7, :, (CANVAS - 140) // 2 : (CANVAS - 140) // 2 + 140], cases[1].label[1, cut : cut + CANVAS])
    assert torch.equal(bank.footprints[0], (bank.labels[:6] > 0).any(0).to(torch.uint8))


def test_a_bank_without_cases_is_refused():
    with pytest.raises(ValueError, match="at least one labelled case"):
        SliceBank.from_cases([], CPU)


def test_a_case_whose_heart_lies_beyond_the_canvas_is_left_out(cases, bank):
    away = case("c", 3, (400, 400), (30, 40))
    again = SliceBank.from_cases([cases[0], away, cases[1]], CPU)
    assert again.patients == ("a", "b") and torch.equal(again.labels, bank.labels) and torch.equal(again.first, bank.first)
    with pytest.raises(ValueError, match=f"with a heart in the middle {CANVAS} x {CANVAS} pixels"):
        SliceBank.from_cases([away], CPU)


def test_packed_cases_come_back(tmp_path, cases, bank):
    save_packed(tmp_path / "cases.zip", cases)
    again = load_packed(tmp_path / "cases.zip", CPU)
    assert again.patients == bank.patients and torch.equal(again.labels, bank.labels) and torch.equal(again.first, bank.first)
    assert (again.images.float() - bank.images.float()).abs().mean() < 3
    assert load_packed(tmp_path / "cases.zip", CPU, ["b"]).patients == ("b",)
    with pytest.raises(ValueError, match="no case of the chosen patients"):
        load_packed(tmp_path / "cases.zip", CPU, ["c"])


@pytest.mark.slow
def test_a_thick_slice_is_the_mean_of_two_and_its_contours_lie_between_theirs(monkeypatch):
    """A disc whose radius grows by 2 pixels a slice, brighter from slice to slice: what a slice shows says which ones it is made of."""
    i, j = torch.meshgrid(torch.arange(CANVAS), torch.arange(CANVAS), indexing="ij")
    distance = ((i - 128) ** 2 + (j - 128) ** 2).sqrt()
    labels = torch.stack([3 * (distance < 20 + 2 * k) for k in range(9)]).to(torch.uint8)
    images = torch.stack([torch.full((CANVAS, CANVAS), -0.9 + 0.2 * k) for k in range(9)])
    grown = TrainingCase("a", images.half(), labels, (labels > 0).any(0).nonzero(), (0, 9), (1.5, 1.5))
    bank = SliceBank.from_cases([grown], CPU)
    seen = {}
    for share in (0.0, 1.0):
        sampler = StackSampler(bank, 0, 6, 3, CANVAS, share)
        straight = (sampler._mesh * (2 / CANVAS)).flip(-1).expand(6, -1, -1, -1)
        monkeypatch.setattr(sampler, "_grid", lambda grid=straight: grid)
        monkeypatch.setattr(sampler, "_intensity", lambda image: image)
        batch = sampler.batch(1)
        grey = batch.window[:, :, 1, 5, 5]  # of each slice itself
        number = (grey + 0.9) / 0.2  # of the slice, from 0; of thick ones it ends in a half
        radius = ((batch.label == 3).flatten(2).sum(2) / math.pi).sqrt()
        assert torch.allclose(radius, 20 + 2 * number, atol=0.4)
        seen[share] = number
    assert torch.allclose(seen[0.0], seen[0.0].round(), atol=0.03)
    assert torch.allclose(seen[1.0] % 1, torch.tensor(0.5), atol=0.03)
    steps = (seen[1.0][:, 1:] - seen[1.0][:, :-1]).abs()
    assert ((steps - 2).abs() < 0.1).any() and bool(((steps - 2).abs().minimum(steps) < 0.1).all())  # of two slices; edges repeat
    assert len({round(float(value) % 2, 1) for value in seen[1.0].flatten()}) == 2  # pairs begin at even slices and at odd ones


def test_labels_between_slices_lie_half_way_within_a_case_and_nowhere_else():
    rings = case("a", 4, (150, 170), (70, 90))
    for k, radius in enumerate((20, 26, 26, 40)):
        i, j = torch.meshgrid(torch.arange(150), torch.arange(170), indexing="ij")
        rings.label[k] = 2 * (((i - 70) ** 2 + (j - 90) ** 2).sqrt() < radius)
    bank = SliceBank.from_cases([rings, rings], CPU)
    area = (bank.between > 0).flatten(1).sum(1) / math.pi
    assert torch.allclose(area.sqrt(), torch.tensor([23.0, 26.0, 33.0, 40.0] * 2), atol=0.5)
    assert all(torch.equal(bank.between[k], bank.labels[k]) for k in (1, 3, 5, 7))  # no difference, or nothing that follows


def test_what_is_changed_for_some_stacks_alone_is_what_changing_all_gives():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(1, 5, (3, 2, 24, 24), generator=generator) / 5
    amount = torch.tensor([0.3, 0.0, 0.2]).view(3, 1, 1, 1)
    move, grain = torch.tensor([[[1, 2], [0, 3]], [[4, 0], [5, 1]], [[0, 7], [2, 2]]]), torch.randn(image.shape, generator=generator)
    for change, *also in ([mixed], [blurred], [coarsened], [ghosted, move], [noisy, grain], [bent], [rescaled]):
        changed = change_some(image, amount, change, *also)
        assert torch.equal(changed[1], image[1]) and not torch.equal(changed[0], image[0])
        torch.testing.assert_close(changed, change(image, amount, *also), atol=1e-4, rtol=0)


def test_what_another_scanner_does_is_what_it_says():
    point = torch.zeros(1, 3, 12, 12)
    point[0, 1, 6, 6] = 1
    share = torch.tensor(0.2).view(1, 1, 1, 1)
    assert mixed(point, share)[0, :, 6, 6].tolist() == pytest.approx([0.2, 0.6, 0.2])
    assert coarsened(point, torch.ones(1, 1, 1, 1)).max() == pytest.approx(0.5625 * 0.25)  # a quarter, and read off its centre
    sigma = torch.tensor(0.8).view(1, 1, 1, 1)
    line = blurred(point, sigma)[0, 1, 6]
    assert blurred(point, sigma).sum() == pytest.approx(1, abs=1e-5)
    assert (line[5] / line[6], line[8] / line[6]) == pytest.approx((math.exp(-0.5 / 0.64), math.exp(-2 / 0.64)), rel=1e-4)
    flat = torch.full((1, 3, 12, 12), 0.3)
    assert torch.allclose(mixed(flat, share), flat) and torch.allclose(coarsened(flat, share), flat)


def test_what_a_bad_acquisition_does_is_what_it_says():
    point = torch.zeros(2, 1, 12, 12)
    point[:, 0, 6, 6] = 1
    move = torch.tensor([[[2, -1], [0, 7]], [[0, 0], [0, 0]]])
    found = ghosted(point, torch.tensor([0.5, 0.5]).view(2, 1, 1, 1), move)
    assert found[0, 0].nonzero().tolist() == [[6, 1], [6, 6], [8, 5]] and found[0, 0, 6, 6] == 0.5 and found[0, 0, 8, 5] == 0.25
    assert torch.equal(found[1], point[1])
    ramp = torch.linspace(2, 4, 10_001).view(1, 1, 73, 137)
    scaled = rescaled(ramp, torch.ones(1, 1, 1, 1)).flatten()
    assert [int((scaled < 0).sum()), int((scaled > 1).sum())] == pytest.approx([50, 50], abs=8)
    half = torch.full((1, 1, 2, 2), 0.5)
    assert bent(half, torch.full((1, 1, 1, 1), 2.0)).unique().tolist() == [0.25]
    assert noisy(half, torch.ones(1, 1, 1, 1), -torch.ones(1, 1, 2, 2)).unique().tolist() == [0.5]


@pytest.mark.slow
def test_only_as_many_stacks_are_degraded_as_are_asked_for(bank):
    image = torch.rand(200, 1, CANVAS, CANVAS, generator=torch.Generator().manual_seed(1))
    sampler = StackSampler(bank, 0, 200, 1, 96, degraded=0.3)
    changed = [not torch.equal(now, before) for now, before in zip(sampler._degrade(image.clone()), image)]
    assert 40 <= sum(changed) <= 80


@pytest.mark.slow
def test_a_batch_depends_on_seed_and_step_alone(bank):
    sampler, again, other = (StackSampler(bank, seed, 2, 4, 96) for seed in (0, 0, 1))
    again.batch(3)  # something drawn in between
    first, second, third = sampler.batch(5), again.batch(5), other.batch(5)
    for field in fields(StackBatch):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name)), field.name
    assert not torch.equal(first.window, third.window) and not torch.equal(first.window, sampler.batch(6).window)


@pytest.mark.slow
def test_windows_labels_and_tokens_show_the_same_place(bank):
    sampler = StackSampler(bank, 0, 8, 4, 96)
    for step in range(4):
        batch = sampler.batch(step)
        assert batch.window.shape == (8, 4, 3, 96, 96) and batch.overview.shape == (8, 4, CANVAS // 2, CANVAS // 2)
        assert (batch.corner % TOKEN == 0).all() and (batch.corner >= 0).all() and (batch.corner + 96 <= CANVAS).all()
        for n in range(8):
            y, x = (batch.corner[n] // TOKEN).tolist()
            tokens = batch.holds_heart[n, :, y : y + 12, x : x + 12]
            seen = torch.nn.functional.max_pool2d((batch.label[n] > 0).float(), TOKEN)
            assert torch.equal(tokens, seen)
        # the middle channel is the slice itself, the others its neighbours
        assert torch.equal(batch.window[:, 1:, 0], batch.window[:, :-1, 1]) and torch.equal(batch.window[:, :-1, 2], batch.window[:, 1:, 1])


@pytest.mark.slow
def test_boxes_are_of_every_kind_and_mostly_tight(bank):
    sampler, overlaps, boxed = StackSampler(bank, 0, 16, 4, 96), [], 0
    for step in range(12):
        batch = sampler.batch(step)
        boxed += int(batch.has_box.sum())
        cells = batch.holds_heart.any(1)
        for n in range(16):
            if batch.has_box[n] and cells[n].any():
                where = cells[n].nonzero() * TOKEN
                low, high = where.amin(0), where.amax(0) + TOKEN
                shared = (torch.minimum(high, batch.box[n, 1]) - torch.maximum(low, batch.box[n, 0])).clamp_min(0).prod()
                overlaps.append(float(shared / ((high - low).prod() + (batch.box[n, 1] - batch.box[n, 0]).prod() - shared)))
    assert 0.7 < boxed / (12 * 16) < 0.92
    assert sum(overlap > 0.6 for overlap in overlaps) > 0.4 * len(overlaps) and min(overlaps) == 0.0


def test_the_loss_is_monai_s_dice_and_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits, label = torch.randn(3, 4, 20, 20, generator=generator), torch.randint(0, 4, (3, 20, 20), generator=generator)
    reference = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
    torch.testing.assert_close(segmentation_loss(logits, label), reference(logits, label.unsqueeze(1)))


@pytest.mark.slow
def test_training_learns_and_one_seed_gives_one_result(bank):
    recipe = replace(RECIPE, steps=8, stacks=2)
    first, second = (StackTrainer(small_network(), bank, recipe) for _ in range(2))
    losses = []
    assert first.fit(lambda trainer: losses.append(trainer.losses[0]) or True)
    assert second.fit()
    assert losses[-1] < losses[0]
    before = small_network().state_dict()
    for name, value in first.averaged().items():
        assert torch.equal(value, second.averaged()[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in first.averaged().items())


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path, bank):
    whole = StackTrainer(small_network(), bank, RECIPE)
    assert whole.fit()
    state = tmp_path / "state.pt"
    stopped = StackTrainer(small_network(), bank, RECIPE, run={"model": "x"})
    assert not stopped.fit(lambda trainer: trainer.step < 2, state_file=state)
    resumed = StackTrainer(small_network(), bank, RECIPE, run={"model": "x"})
    resumed.resume(state)
    assert resumed.step == 2 and resumed.fit()
    assert [name for name, value in whole.averaged().items() if not torch.equal(value, resumed.averaged()[name])] == []
    with pytest.raises(ValueError, match="another model"):
        StackTrainer(small_network(), bank, RECIPE, run={"model": "y"}).resume(state)
    state.write_bytes(b"no state")
    with pytest.raises(ValueError, match="not a training state"):
        StackTrainer(small_network(), bank, RECIPE).resume(state)


def test_frozen_norms_keep_their_statistics(bank):
    network = small_network()
    norm = network.input_block.norm1
    before = norm.running_mean.clone()
    StackTrainer(network, bank, replace(RECIPE, steps=1, frozen_norm=True)).fit()
    assert torch.equal(norm.running_mean, before)


def test_a_module_that_is_not_trained_is_what_it_was(bank):
    network = small_network()
    network.overview.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer = StackTrainer(network, bank, replace(RECIPE, steps=1))
    trainer.fit()
    moved = {name for name, value in trainer.averaged().items() if not torch.equal(value, before[name])}
    assert moved and not {name for name in moved if name.startswith("overview.")}


@pytest.mark.parametrize("prompting", ["tight", "none"])
def test_dice_of_windows(bank, prompting):
    dice = window_dice(small_network().eval(), bank, prompting, edge=96)
    assert dice.shape == (2, 3) and bool(((dice >= 0) & (dice <= 1)).all())


def test_a_structure_that_a_case_has_not_and_the_mask_neither_counts_as_right(bank, monkeypatch):
    network = small_network().eval()
    labels = torch.where(bank.labels == STRUCTURES["RV cavity"], 0, bank.labels)

    def blank(window, *_):
        return torch.eye(4)[0].view(1, 4, 1, 1).expand(window.shape[1], -1, *window.shape[-2:]), None

    monkeypatch.setattr(network, "train_windows", blank)
    assert window_dice(network, replace(bank, labels=labels), edge=96).tolist() == [[1.0, 0.0, 0.0]] * 2
