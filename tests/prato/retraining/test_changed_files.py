"""Labels that people submit, and files that they replace or remove, while a round reads, trains and measures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import StudyFile
from prato.models.checkpoint import read_spec
from prato.retraining import round as retraining_round
from prato.retraining import training_data
from prato.retraining.comparison import NothingComparedError
from prato.retraining.file_changes import FileChanges
from prato.retraining.round import TrainingOrder, train_round
from prato.retraining.training_data import load_training_data
from tests.app.hearts import heart
from tests.app.live import write_study
from tests.prato.retraining.test_round import order

pytestmark = pytest.mark.slow


def round_with(order: TrainingOrder, change: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A round, and ``change`` in the middle of it: after the current model was measured, before the candidate is."""
    train = retraining_round.fine_tune
    monkeypatch.setattr(retraining_round, "fine_tune", lambda *given: (train(*given), change())[0])
    return train_round(order, lambda: True)


def submit_without_the_first_slice(file: StudyFile) -> None:
    volume = read_volume(file.label)
    write_volume(file.label, (volume.array * (np.arange(volume.array.shape[2]) > 0)).astype(np.uint8), volume.affine)


def sides(order: TrainingOrder) -> tuple[StudyFile, list[StudyFile]]:
    """A study that is held back, and the others."""
    asked = order.parameters
    data = load_training_data(FileChanges(order.files, int), read_spec(order.model).pixel, asked.val_split, asked.seed, int)
    chosen = data.validation_files[0]
    return chosen, [file for file in order.files if file is not chosen]


def with_two_held_back(folder: Path) -> tuple[TrainingOrder, StudyFile]:
    """A round in which two studies of one patient are held back, and one of the two."""
    first = order(folder, steps=1)
    held_back, _ = sides(first)
    image, label = folder / f"{held_back.patient}_ES.nii.gz", folder / f"label_{held_back.patient}_ES.nii.gz"
    write_study(image, seed=9)
    write_volume(label, heart(), read_volume(image).affine)
    more = StudyFile(f"{held_back.patient}_ES", held_back.patient, image, label)
    return first.model_copy(update={"files": [*first.files, more]}), more


@pytest.mark.parametrize("change", [submit_without_the_first_slice, lambda file: file.label.unlink(), lambda file: file.image.unlink()])
def test_models_are_not_compared_on_a_label_that_was_replaced_or_removed_meanwhile(
    tmp_path: Path, change: Callable[[StudyFile], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, changing = with_two_held_back(tmp_path)
    result = round_with(whole, lambda: change(changing), monkeypatch)
    assert list(result["cases"]) == [file.name for file in whole.files if file.patient == changing.patient and file is not changing]
    assert "left out of the comparison" in result["left_out"][changing.name] and changing.name not in result["labels"]
    (case,) = result["cases"].values()
    assert result["dice_before"] == case["before"]["mean"] and result["dice_after"] == case["after"]["mean"]


def test_files_that_get_other_times_and_numbers_and_no_other_content_are_compared_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = order(tmp_path, steps=1)
    held_back, _ = sides(first)

    def put_copies_back() -> None:
        for path in (held_back.image, held_back.label):
            data = path.read_bytes()
            path.rename(tmp_path / f"before_{path.name}")
            path.write_bytes(data)

    result = round_with(first, put_copies_back, monkeypatch)
    assert list(result["cases"]) == [held_back.name] and not result["left_out"]


@pytest.mark.parametrize("change", [submit_without_the_first_slice, lambda file: file.label.unlink()])
def test_without_any_label_to_compare_on_nothing_is_published(
    tmp_path: Path, change: Callable[[StudyFile], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = order(tmp_path, steps=1)
    held_back, _ = sides(first)
    before = first.model.read_bytes()
    with pytest.raises(NothingComparedError, match="start it again"):
        round_with(first, lambda: change(held_back), monkeypatch)
    assert first.model.read_bytes() == before


def test_what_was_trained_on_is_recorded_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = order(tmp_path, steps=1)
    _, (trained_on,) = sides(first)
    checksum = hashlib.sha256(trained_on.label.read_bytes()).hexdigest()
    result = round_with(first, lambda: submit_without_the_first_slice(trained_on), monkeypatch)
    assert result["labels"][trained_on.name] == checksum and not result["left_out"]


def test_a_label_that_was_removed_while_its_training_waited_is_left_out(tmp_path: Path) -> None:
    whole, gone = with_two_held_back(tmp_path)
    gone.label.unlink()
    result = train_round(whole, lambda: True)
    assert "removed before it was read" in result["left_out"][gone.name] and gone.name not in result["labels"]


def overtaken_while_read(change: Callable[[], None], times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``change`` follow each of the first ``times`` readings of a study."""
    read, left = training_data.read_training_cases, iter(range(times))

    def read_and_be_overtaken(*given: Any) -> Any:
        found = read(*given)
        if next(left, None) is not None:
            change()
        return found

    monkeypatch.setattr(training_data, "read_training_cases", read_and_be_overtaken)


def test_a_label_that_is_submitted_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, changing = with_two_held_back(tmp_path)
    overtaken_while_read(lambda: submit_without_the_first_slice(changing), len(whole.files), monkeypatch)
    result = train_round(whole, lambda: True)
    assert not result["left_out"] and changing.name in result["cases"]
    assert result["labels"][changing.name] == hashlib.sha256(changing.label.read_bytes()).hexdigest()


def test_a_label_that_is_replaced_whenever_it_is_read_waits_for_the_next_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, changing = with_two_held_back(tmp_path)
    overtaken_while_read(lambda: changing.label.write_bytes(changing.label.read_bytes() + b"\0"), 100, monkeypatch)
    result = train_round(whole, lambda: True)
    assert "while it was being read" in result["left_out"][changing.name] and changing.name not in result["labels"]


def test_a_label_that_is_removed_while_it_is_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, changing = with_two_held_back(tmp_path)
    overtaken_while_read(lambda: changing.label.unlink(missing_ok=True), 100, monkeypatch)
    result = train_round(whole, lambda: True)
    assert "was removed before it was read" in result["left_out"][changing.name] and changing.name not in result["labels"]
