"""What speaks against a label is said until the label or its image changes, wherever it is asked for, and is looked for once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import lib.datastore.entries
import lib.datastore.studies
from lib.activelearning.studies import list_unlabelled
from lib.datastore.studies import StudiesDatastore
from lib.server.page.state import _studies
from lib.server.page.study import show_study
from prato.data.cine import write_cine
from prato.data.nifti import read_volume, write_volume
from prato.labelling.versions import LabelVersions
from tests.app.hearts import heart
from tests.app.live import write_study

#: RV and LV cavity exchanged, which nothing in the file says.
SWAPPED = np.array([0, 3, 2, 1], np.uint8)[heart()]


def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> StudiesDatastore:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    return StudiesDatastore(str(folder))


def put_label(folder: Path, mask: np.ndarray) -> None:
    (folder / "labels" / "final").mkdir(parents=True, exist_ok=True)
    write_volume(folder / "labels" / "final" / "a.nii.gz", mask, read_volume(folder / "a.nii.gz").affine)


def warnings(store: StudiesDatastore) -> list[str]:
    """What every place says that shows warnings: the list, the page, and the reply to a training."""
    listed = store.get_label_info("a", "final")["warnings"]
    page = show_study(cast(Any, SimpleNamespace(datastore=lambda: store)), "a").state()["label"]["warnings"]
    assert page == listed and store.label_warnings() == [f"a: {warning}" for warning in listed]
    return listed


@pytest.fixture
def doubted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies whose label was looked at."""
    found: list[str] = []
    real = lib.datastore.entries.doubt_label
    monkeypatch.setattr(lib.datastore.entries, "doubt_label", lambda label, *more: found.append(label.study) or real(label, *more))
    return found


def test_the_warning_of_a_found_label_stays_whatever_is_decided_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doubted: list[str]
) -> None:
    write_study(tmp_path / "a.nii.gz")
    put_label(tmp_path, SWAPPED)
    store = served(tmp_path, monkeypatch)
    found = warnings(store)
    assert len(found) == 1 and "RV and LV cavity seem to be swapped" in found[0]
    store.review_label("a", "final", "approved", {"annotator": "Cy"})
    store.update_label_info("a", "final", {"comment": "odd"})
    assert warnings(store) == found
    store.refresh()
    assert warnings(served(tmp_path, monkeypatch)) == found
    assert doubted == ["a"]
    put_label(tmp_path, heart())
    store.refresh()
    assert warnings(store) == [] and doubted == ["a", "a"]


@pytest.mark.parametrize("is_found", [True, False])
def test_the_log_has_the_warning_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_found: bool
) -> None:
    """That of a submitted label was logged only where the scan of the folder came upon it before the submission had listed it."""
    image = write_study(tmp_path / "a.nii.gz")
    if is_found:
        put_label(tmp_path, SWAPPED)
    store = served(tmp_path, monkeypatch)
    if not is_found:
        write_volume(tmp_path / "sent.tmp", SWAPPED, read_volume(image).affine)
        store.save_label("a", str(tmp_path / "sent.tmp"), "final", {"annotator": "Ada"})
    store.refresh()
    store.review_label("a", "final", "approved", {"annotator": "Cy"})
    logged = [record.getMessage() for record in caplog.records if "seem to be swapped" in record.getMessage()]
    assert logged == [f"a: {warning}" for warning in warnings(store)] and len(logged) == 1


@pytest.mark.parametrize("is_found", [True, False])
def test_an_image_that_is_replaced_makes_its_label_unfit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doubted: list[str], is_found: bool
) -> None:
    image = write_study(tmp_path / "a.nii.gz")
    write_study(tmp_path / "b.nii.gz", seed=1)
    if is_found:
        put_label(tmp_path, heart())
    else:
        LabelVersions(tmp_path, "a").save(read_volume(image).with_array(heart()), {"annotator": "Ada"})
    store, before = served(tmp_path, monkeypatch), image.read_bytes()
    assert warnings(store) == [] and list(list_unlabelled(store)) == ["b"]
    write_study(image, shape=(32, 30, 4))
    store.refresh()
    [warning] = warnings(store)
    assert warning.endswith("has 40x36x5 voxels and its image 32x30x4: export it on the image's own grid.")
    assert list(list_unlabelled(store)) == ["a", "b"]
    store.refresh()
    image.write_bytes(before)
    served(tmp_path, monkeypatch)  # another server sees it first
    store.refresh()
    assert warnings(store) == [] and list(list_unlabelled(store)) == ["b"]
    assert doubted == ["a"] * 3


def test_a_proposal_is_not_shown_with_an_image_that_took_the_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same grid, contours and volumes of the one heart lay over the other."""
    image = write_study(tmp_path / "a.nii.gz")
    label = tmp_path.parent / f"{tmp_path.name}_label.nii.gz"
    write_volume(label, heart(), read_volume(image).affine)
    store, before = served(tmp_path, monkeypatch), image.read_bytes()
    app = cast(Any, SimpleNamespace(datastore=lambda: store, info=lambda: {"name": "", "version": "", "models": {}}))

    def shown() -> tuple[bool, str | None, bool]:
        page = show_study(app, "a")
        return bool(page.state()["volumes_ml"]), page.state()["fault"], bool(_studies(app)["listed"][0]["tags"])

    store.submit_label("a", str(label), "original", {"model": "m"})
    assert shown() == (True, None, True)
    write_study(image, seed=1)
    assert shown()[0] is False  # at once
    store.refresh()
    replaced = "The image of a was replaced after a model proposed this label: start a batch inference for a new one."
    assert shown() == (False, replaced, False)
    assert {"fits": False, "warnings": [replaced]}.items() <= store.get_label_info("a", "original").items()
    image.write_bytes(before)  # a copy of its own image
    store.refresh()
    assert shown() == (True, None, True)
    write_study(image, seed=1)
    store.submit_label("a", str(label), "original", {"model": "m"})
    store.refresh()
    assert shown() == (True, None, True)


def test_two_servers_of_which_one_cannot_read_an_image_do_not_write_the_list_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_study(tmp_path / "a.nii.gz")
    LabelVersions(tmp_path, "a").save(read_volume(image).with_array(heart()), {"annotator": "Ada"})
    one, other = served(tmp_path, monkeypatch), served(tmp_path, monkeypatch)
    before = (tmp_path / "datastore_v2.json").read_bytes()
    monkeypatch.setattr(other, "_read_head", lambda study, ending: "a.nii.gz is not readable NIfTI (Permission denied).")
    for store in (other, one, other):
        store.refresh()
        assert (tmp_path / "datastore_v2.json").read_bytes() == before
    (tmp_path / "datastore_v2.json").unlink()
    other.refresh()
    assert one.get_label_info("a", "final")["warnings"] == []
    one.refresh()
    other.refresh()
    assert json.loads((tmp_path / "datastore_v2.json").read_bytes())["objects"] == json.loads(before)["objects"]


def test_marks_go_with_the_phases_that_an_image_has_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    affine = np.diag([-1.5, -1.5, 8.0, 1.0])
    write_cine(tmp_path / "a.nii.gz", np.ones((8, 7, 3, 6), np.int16), affine, 100)
    store = served(tmp_path, monkeypatch)
    mark = {"ed": 0, "es": 3, "annotator": "Ada", "ts": 1}
    store.update_image_info("a", {"marked": mark})
    store.refresh()
    assert store.get_image_info("a")["marked"] == mark
    write_cine(tmp_path / "a.nii.gz", np.ones((8, 7, 3, 3), np.int16), affine, 100)
    store.refresh()
    assert "marked" not in store.get_image_info("a") and list_unlabelled(store) == {"a": 0}
    store.update_image_info("a", {"marked": {"ed": None, "es": None}})  # somebody took a mark back: the manifest's is not wanted
    store.refresh()
    assert store.get_image_info("a")["marked"] == {"ed": None, "es": None}


def test_a_label_that_was_mirrored_is_kept_and_its_labeller_is_told_where_a_proposal_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, sent = tmp_path / "a.nii.gz", tmp_path / "sent" / "label.nii.gz"
    sent.parent.mkdir()
    write_study(image)
    store = served(tmp_path, monkeypatch)

    def submit(mask: np.ndarray, tag: str = "final") -> tuple[str, ...]:
        write_volume(sent, mask, read_volume(image).affine)
        saved = store.submit_label("a", str(sent), tag, {"annotator": "Bo"})
        if saved is None:
            return ()
        assert np.array_equal(store.versions("a", tag).read_mask(saved.version.version).array, mask)
        return saved.version.warnings

    assert submit(heart()[::-1]) == ()  # there is nothing to compare it with
    submit(heart(), "original")
    assert submit(heart()) == ()
    (told,) = submit(heart()[::-1])
    assert told.startswith("It agrees with the model's proposal if it is mirrored along i (DSC 1.00), and far less as it is (0.")
    assert warnings(store) == [told]
    write_study(image, seed=9)
    store.refresh()
    assert submit(heart()[::-1]) == ()  # the proposal is of another image


def test_of_a_cine_the_phases_that_a_labeller_drew_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, sent = tmp_path / "a.nii.gz", tmp_path / "sent" / "label.nii.gz"
    sent.parent.mkdir()
    write_study(image)
    still = read_volume(image)
    write_cine(image, np.stack([still.array] * 3, 3), still.affine)
    store = served(tmp_path, monkeypatch)
    proposed = np.stack([heart()] * 3, 3)
    mirrored = proposed.copy()
    mirrored[..., 1] = heart()[::-1]
    write_cine(sent, proposed, still.affine)
    store.submit_label("a", str(sent), "original", {})
    write_cine(sent, mirrored, still.affine)
    saved = store.submit_label("a", str(sent), "final", {"annotator": "Bo", "phases": {"0": "proposed", "1": "corrected"}})
    assert saved is not None and len(saved.version.warnings) == 1 and "mirrored along i" in saved.version.warnings[0]
