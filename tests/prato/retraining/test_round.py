"""A round that is stopped goes on where it was, to the same model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from prato.data.cine import read_cine
from prato.data.nifti import read_volume, write_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.labelling.versions import LabelVersions
from prato.models.card import stated_version
from prato.retraining.model_store import StoreError
from prato.retraining.round import TrainingOrder, recover_round, round_folder, train_round
from prato.retraining.training_data import TooFewPatientsError
from prato.training import fine_tuning
from prato.training.fine_tuning import TrainingParameters, TrainingStopped
from prato.training.progress import load_progress
from tests.app.hearts import blank_model, heart, stack_model
from tests.app.live import write_study

pytestmark = pytest.mark.slow

STEPS = 5


def order(folder: Path, steps: int = STEPS, **parameters: int) -> TrainingOrder:
    """Two patients and a model that knows nothing, in ``folder``."""
    files = []
    for n, study in enumerate(("a_ED", "b_ED")):
        image, label = folder / f"{study}.nii.gz", folder / f"label_{study}.nii.gz"
        if not image.exists():
            write_study(image, seed=n)
            write_volume(label, heart(), read_volume(image).affine)
        files.append(StudyFile(study, study[0], image, label))
    if not (folder / "model").exists():
        (folder / "model").mkdir()
        blank_model(folder / "model" / "m.safetensors")
    return TrainingOrder(
        model=folder / "model" / "m.safetensors", parameters=TrainingParameters(max_steps=steps, **parameters), files=files
    )


def until_step(number: int, order: TrainingOrder) -> Callable[[], bool]:
    return lambda: load_progress(round_folder(order.model) / "stats.json").get("step", 0) < number


@pytest.fixture(autouse=True)
def every_step_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tuning, "LEARNING_RATE", 0.01)
    monkeypatch.setattr(fine_tuning, "BATCH_SIZE", 4)
    monkeypatch.setattr("prato.training.progress._EVERY_S", 0.0)


def test_stopped_and_taken_up_again_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    for name in ("through", "broken"):
        (tmp_path / name).mkdir()
    whole = train_round(order(tmp_path / "through"), lambda: True)
    broken = order(tmp_path / "broken")
    start = broken.model.read_bytes()
    with pytest.raises(TrainingStopped):
        train_round(broken, until_step(3, broken))
    assert broken.model.read_bytes() == start
    (state,) = round_folder(broken.model).glob("state_*.pt")
    (state.parent / ".state.pt.torn.tmp").write_bytes(b"of a process that was killed")
    steps: list[int] = []
    seen = load_progress

    def counting() -> bool:
        steps.append(seen(state.parent / "stats.json").get("step", 0))
        return True

    result = train_round(broken, counting)
    assert result["model_version_after"] == whole["model_version_after"] != whole["model_version_before"]
    assert STEPS in steps and 1 not in steps  # it did not begin anew
    assert sorted(os.listdir(state.parent)) == [".lock", "stats.json"]
    card = broken.model.with_suffix(".md").read_text()
    assert stated_version(card) == result["model_version_after"] and "POST /train/m {" in card and f"Seed 1; {STEPS} steps on cpu" in card
    assert f"| mean | {result['dice_before']:.3f} | {result['dice_after']:.3f} |" in card


@pytest.mark.parametrize("make_model", [blank_model, stack_model])
def test_it_starts_with_the_dice_that_those_of_its_steps_compare_with(tmp_path: Path, make_model: Callable[[Path], object]) -> None:
    """That of whole volumes is another: of hearts unlike the model's it was 0.46, and 0.61 after a step that had changed nothing."""
    begun = order(tmp_path, 100)
    make_model(begun.model)
    with pytest.raises(TrainingStopped):
        train_round(begun, until_step(1, begun))
    stats = load_progress(round_folder(begun.model) / "stats.json")
    assert stats["step"] == 1 and set(stats["validation"]) == {*STRUCTURES, "mean"}


@pytest.mark.parametrize("changed", ["label", "model", "parameters"])
def test_a_state_of_something_else_is_not_taken_up(tmp_path: Path, changed: str) -> None:
    first = order(tmp_path)
    with pytest.raises(TrainingStopped):
        train_round(first, until_step(2, first))
    if changed == "label":
        label = read_volume(first.files[0].label)
        label.array[:, :, 0] = 0
        write_volume(first.files[0].label, label.array, label.affine)
    if changed == "model":
        blank_model(first.model, seed=1)
    then = order(tmp_path, seed=2) if changed == "parameters" else first
    steps: list[int] = []

    def counting() -> bool:
        steps.append(load_progress(round_folder(then.model) / "stats.json").get("step", 0))
        return True

    train_round(then, counting)
    assert 1 in steps


def test_a_network_that_looks_at_stacks_is_retrained_too(tmp_path: Path) -> None:
    first = order(tmp_path)
    stack_model(first.model)
    with pytest.raises(TrainingStopped):
        train_round(first, until_step(3, first))
    result = train_round(first, lambda: True)
    assert result["steps"] == STEPS and result["published"] is True and result["model_version_after"] != result["model_version_before"]
    assert load_progress(round_folder(first.model) / "stats.json")["step"] == STEPS


def test_what_was_stopped_goes_on_although_labels_of_another_folder_were_trained_on_meanwhile(tmp_path: Path) -> None:
    """Two departments share the models: the state of the one was removed by the training of the other."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours = order(tmp_path / "ours")
    theirs = order(tmp_path / "theirs", seed=2).model_copy(update={"model": ours.model})
    for each, step in ((ours, 3), (theirs, 2)):
        with pytest.raises(TrainingStopped):
            train_round(each, until_step(step, each))
        (round_folder(ours.model) / "stats.json").unlink()
    steps: list[int] = []

    def counting() -> bool:
        steps.append(load_progress(round_folder(ours.model) / "stats.json").get("step", 0))
        return True

    train_round(ours, counting)
    assert min(step for step in steps[steps.index(0) :] if step) >= 3  # it did not begin anew


def test_what_a_round_came_to_is_told_without_touching_the_numbers_of_one_that_runs(tmp_path: Path) -> None:
    ended = order(tmp_path).model_copy(update={"job": "ended"})
    result = train_round(ended, lambda: True)
    stats = round_folder(ended.model) / "stats.json"
    of_the_other = b'{"step": 7, "total_steps": 9}'
    stats.write_bytes(of_the_other)
    with FileLock(stats.parent / ".lock"):
        found = recover_round(ended.model, "ended")
    assert found is not None and found["model_version_after"] == result["model_version_after"]
    assert stats.read_bytes() == of_the_other


def test_another_servers_round_of_the_same_model_is_left_alone(tmp_path: Path) -> None:
    waiting = order(tmp_path)
    folder = round_folder(waiting.model)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        (folder / ".state.pt.half.tmp").write_bytes(b"the other one writes it")
        recover_round(waiting.model)
        with pytest.raises(StoreError, match="m is being trained by another server with the same models"):
            train_round(waiting, lambda: True)
        assert (folder / ".state.pt.half.tmp").exists()
    recover_round(waiting.model)
    assert not (folder / ".state.pt.half.tmp").exists()


def cine_order(folder: Path) -> TrainingOrder:
    """Two patients' cines with three phases, of which those of ``phases`` were drawn; the others are proposals."""
    files = []
    for study, drawn in (("a_4d", [0, 2]), ("b_4d", [1])):
        image = write_study(folder / f"{study}.nii.gz", shape=(40, 36, 5, 3))
        mask = np.repeat(heart()[..., None], 3, axis=3)
        states = {str(phase): "corrected" if phase in drawn else "proposed" for phase in range(3)}
        label = LabelVersions(folder, study)
        label.save(read_cine(image).grid().with_array(mask), {"annotator": "Ada", "phases": states})
        files.append(StudyFile(study, study[0], image, label.current_path()))
    (folder / "model").mkdir()
    blank_model(folder / "model" / "m.safetensors")
    return TrainingOrder(model=folder / "model" / "m.safetensors", parameters=TrainingParameters(max_steps=1), files=files)


def test_phases_that_labellers_drew_are_the_cases_of_a_round(tmp_path: Path) -> None:
    round = cine_order(tmp_path)
    result = train_round(round, lambda: True)
    used = {"a_4d phase 0", "a_4d phase 2", "b_4d phase 1"}
    assert set(result["labels"]) == used
    sides = result["patients"]
    assert sorted(sides["train"] + sides["validation"]) == ["a", "b"]
    assert set(result["cases"]) == {name for name in used if name[0] in sides["validation"]}
    LabelVersions(tmp_path, "a_4d").review("sent back", {"annotator": "Ben", "reason": "the apex is missing"})
    with pytest.raises(TooFewPatientsError, match="there are only labels of b"):
        train_round(round, lambda: True)
