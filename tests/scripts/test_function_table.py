"""scripts/function_table.py: cines and pairs of frames in one table, a page about each, and one sentence for what cannot be measured."""

import csv
import hashlib
import json
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import write_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import Manifest, Study, load_manifest, save_manifest
from prato.function import report
from prato.function.hearts import find_hearts
from prato.labelling.versions import LabelVersions
from scripts import function_table
from scripts.common.results import read_rows
from tests.scripts.cli import run_script

AFFINE = np.diag([2.0, 2.0, 10.0, 1.0])


def hearts(shares: list[float]) -> np.ndarray:
    """uint8 (48, 48, 4, T): round hearts whose cavities hold such shares of their largest volume."""
    i, j = np.mgrid[:48, :48] * 2.0
    masks = np.zeros((48, 48, 4, len(shares)), np.uint8)
    for (k, size), (t, share) in product(enumerate((1.0, 0.9, 0.75, 0.5)), enumerate(shares)):
        lv, rv = np.hypot(i - 60, j - 50), np.hypot(i - 28, j - 50)
        flat = np.where(rv < 24 * size * share**0.5, STRUCTURES["RV cavity"], 0)
        flat = np.where(lv < 30 * size, STRUCTURES["myocardium"], flat)
        masks[:, :, k, t] = np.where(lv < 22 * size * share**0.5, STRUCTURES["LV cavity"], flat)
    return masks


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A cine of 16 phases, a pair of frames whose patient's size is known, and a frame that is alone."""
    folder = tmp_path / "studies"
    (folder / "labels" / "final").mkdir(parents=True)
    beat = hearts([0.7 + 0.3 * np.cos(2 * np.pi * (t - 3) / 16) for t in range(16)])
    write_cine(folder / "a_4d.nii.gz", (beat * 100 + 20).astype(np.int16), AFFINE, 50)
    write_cine(folder / "labels" / "final" / "a_4d.nii.gz", beat, AFFINE)
    manifest = Manifest(source="test")
    for name, share, phase in (("b_frame01", 1.0, "ED"), ("b_frame09", 0.4, "ES"), ("c_frame01", 1.0, None)):
        mask = hearts([share])[..., 0]
        write_volume(folder / f"{name}.nii.gz", (mask * 100 + 20).astype(np.int16), AFFINE)
        write_volume(folder / "labels" / "final" / f"{name}.nii.gz", mask, AFFINE)
        manifest.studies[name] = Study(patient=name[0], frame=int(name[-2:]), phase=phase, height_cm=180, weight_kg=80)  # type: ignore[arg-type]
    save_manifest(folder, manifest)
    return folder


@pytest.mark.slow  # matplotlib
def test_cines_and_pairs_are_in_one_table_with_a_page_each(studies: Path, tmp_path: Path) -> None:
    done = run_script(function_table.main, studies, "--out", tmp_path / "t.csv", "--reports", tmp_path / "pages")
    assert done.exit_code == 1
    assert "c is left out: fewer than two of its phases have a mask" in done.output
    pair, cine = sorted(read_rows(tmp_path / "t.csv"), key=lambda row: row["study"] == "a_4d")
    assert (cine["study"], cine["phases"], cine["lv"]["ef_percent"] > 40, "bsa_m2" in cine) == ("a_4d", 16, True, False)
    assert abs(cine["ed"] - 3) <= 1 and abs(cine["es"] - 11) <= 1
    assert (pair["ed"], pair["es"], pair["bsa_m2"]) == ("b_frame01", "b_frame09", 2.0)
    assert pair["indexed"]["lv_edv_ml_per_m2"] == pytest.approx(pair["lv"]["edv_ml"] / 2, abs=0.01)
    assert "warnings" not in pair
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["a_4d.html", "a_4d.pdf", "b.html", "b.pdf"]
    page = (tmp_path / "pages" / "b.html").read_text(encoding="utf-8")
    assert "end-diastole: b_frame01, end-systole: b_frame09 (named by the manifest)" in page
    assert "EF (%)" in page and "data:image/png;base64," in page and "body surface 2.00" in page
    assert (tmp_path / "pages" / "a_4d.pdf").read_bytes().startswith(b"%PDF")


def test_a_spreadsheet_finds_names_as_they_are_and_nothing_where_nothing_is_known(studies: Path, tmp_path: Path) -> None:
    for folder in (studies, studies / "labels" / "final"):
        (folder / "a_4d.nii.gz").rename(folder / "101.nii.gz")
    run_script(function_table.main, studies, "--out", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["phases"] == "16")
    assert (row["study"], row["patient"], row["bsa_m2"]) == ("101", "101", "")
    assert float(row["lv.ef_percent"]) > 40


def test_a_heart_is_drawn_from_the_same_side_however_its_voxels_are_stored(studies: Path) -> None:
    drawn = find_hearts(studies).hearts[0]
    rv, lv = (np.argwhere(drawn.masks[:, :, 0, 3] == STRUCTURES[name])[:, 1].mean() for name in ("RV cavity", "LV cavity"))
    assert rv > lv  # here the RV is on the patient's left, which is on the right of the picture
    turned = nib.as_closest_canonical(nib.load(studies / "a_4d.nii.gz")).slicer[::-1]
    for folder in (studies, studies / "labels" / "final"):
        image = nib.load(folder / "a_4d.nii.gz")
        array, affine = np.asanyarray(image.dataobj)[::-1].swapaxes(0, 1).copy(), turned.affine[:, [1, 0, 2, 3]]
        write_cine(folder / "a_4d.nii.gz", array, affine, 50)
    again = find_hearts(studies).hearts[0]
    assert np.array_equal(again.masks, drawn.masks) and np.array_equal(again.images, drawn.images)


@pytest.mark.slow  # matplotlib
def test_no_line_is_drawn_over_phases_without_a_mask(studies: Path) -> None:
    heart = find_hearts(studies).hearts[0]
    some = replace(heart, phases=("0", "1", "5", "6", *map(str, range(9, 21))))
    lines = report._draw(some, is_whole=False).axes[-1].lines[:2]
    assert [int(np.isnan(line.get_ydata()).sum()) for line in lines] == [2, 2]


@pytest.mark.slow  # matplotlib
def test_a_heart_may_be_called_anything(studies: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    name = "心臟 $_$ 5"
    for folder in (studies, studies / "labels" / "final"):
        (folder / "a_4d.nii.gz").rename(folder / f"{name}.nii.gz")
        for frame in folder.glob("b_*"):
            frame.unlink()  # whose page would say nothing of names
    done = run_script(function_table.main, studies, "--out", tmp_path / "t.csv", "--reports", tmp_path / "pages")
    assert done.exit_code == 1, done.output
    assert f"<h1>{name}</h1>" in (tmp_path / "pages" / f"{name}.html").read_text(encoding="utf-8")
    assert (tmp_path / "pages" / f"{name}.pdf").exists()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_page_is_called_like_the_first_frame_where_the_patient_s_name_is_no_file_s(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(source="test")
    for old, new, phase in (("b_frame01", "x", "ED"), ("b_frame09", "y", "ES")):
        for folder in (studies, studies / "labels" / "final"):
            (folder / f"{old}.nii.gz").rename(folder / f"{new}.nii.gz")
        manifest.studies[new] = Study.model_validate({"patient": "../site/1", "phase": phase})
    save_manifest(studies, manifest)
    monkeypatch.setattr(report, "_draw", lambda *_, **__: None)
    monkeypatch.setattr(report, "_save", lambda *_: b"")
    (pages := tmp_path / "pages").mkdir()
    heart = next(heart for heart in find_hearts(studies).hearts if heart.name == "../site/1")
    report.write_report(heart, pages)
    assert sorted(path.name for path in pages.iterdir()) == ["x.html", "x.pdf"]


@pytest.mark.slow  # matplotlib
def test_pages_that_find_no_room_cost_no_table(studies: Path, tmp_path: Path) -> None:
    (tmp_path / "pages").write_text("no folder")
    done = run_script(function_table.main, studies, "--out", tmp_path / "t.csv", "--reports", tmp_path / "pages")
    assert done.exit_code == 1 and len(read_rows(tmp_path / "t.csv")) == 2
    assert f"The table is in {tmp_path / 't.csv'}, but not every heart has its page." in done.stderr


@pytest.mark.slow  # matplotlib
def test_however_much_is_to_be_said_nothing_on_the_page_covers_anything(studies: Path) -> None:
    heart = find_hearts(studies).hearts[0]
    told = "; ".join(f"{phase}: label version {phase} of somebody" for phase in range(40))
    function = replace(
        heart.function, warnings=tuple(f"The RV cavity comes and goes in slice {k}: its volumes jump there." for k in range(30))
    )
    figure = report._draw(replace(heart, source=told, function=function), is_whole=True)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts] + [axis.get_window_extent() for axis in figure.axes]
    assert not [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)]
    assert all(box.y0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)


def test_masks_of_another_folder_and_json(studies: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    (studies / "labels" / "final").rename(masks)
    (masks / "c_frame01.nii.gz").unlink()
    done = run_script(function_table.main, studies, "--masks", masks, "--out", tmp_path / "t.json")
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert {row["study"]: row["masks"] for row in rows} == dict.fromkeys(("a_4d", "b"), "masks of masks, of no recorded model")
    names = sorted(path.name for path in masks.glob("*.nii.gz"))
    (masks / "run.json").write_text('{"model": "prato_unetr", "model_version": "0123456789ab"}')
    sums = {name: hashlib.sha256((masks / name).read_bytes()).hexdigest() for name in names}
    sums["b_frame01.nii.gz"] = "changed since"
    lines = [{"study": name[:-7], "mask_sha256": digest, "model_version": "0123456789ab"} for name, digest in sums.items()]
    (masks / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run_script(function_table.main, studies, "--masks", masks, "--out", tmp_path / "t.json").exit_code == 0
    rows = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    recorded = "masks of masks, by prato_unetr, version 0123456789ab"
    mixed = f"b_frame01: masks of masks, of no recorded model; b_frame09: {recorded}"
    assert {row["study"]: row["masks"] for row in rows} == {"a_4d": recorded, "b": mixed}


def test_proposals_of_a_batch_name_their_model(studies: Path, tmp_path: Path) -> None:
    (studies / "labels" / "final").rename(studies / "labels" / "original")
    proposal = {"labels": {"original": {"ext": ".nii.gz", "info": {"model": "prato_unetr", "params": {"model_version": "0123456789ab"}}}}}
    (studies / "datastore_v2.json").write_text(json.dumps({"objects": {"a_4d": proposal}}))
    done = run_script(function_table.main, studies, "--masks", studies / "labels" / "original", "--out", tmp_path / "t.json")
    rows = {row["study"]: row["masks"] for row in json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))}
    assert rows["a_4d"] == "masks of original, by prato_unetr, version 0123456789ab", done.output
    assert rows["b"] == "masks of original, of no recorded model"


def mark(studies: Path, **marked: object) -> None:
    """As the server writes it into its list of studies."""
    (studies / "datastore_v2.json").write_text(json.dumps({"objects": {"a_4d": {"image": {"info": {"marked": marked}}}}}))


def measured(studies: Path, tmp_path: Path) -> dict[str, Any]:
    """The row of the cine."""
    assert run_script(function_table.main, studies, "--out", tmp_path / "t.json").exit_code == 1  # a frame is alone
    return next(row for row in json.loads((tmp_path / "t.json").read_text(encoding="utf-8")) if row["study"] == "a_4d")


def test_phases_that_somebody_marked_count_and_the_table_says_whose_they_are(studies: Path, tmp_path: Path) -> None:
    manifest = load_manifest(studies)
    assert manifest is not None
    manifest.studies["a_4d"] = Study(patient="a", ed=2, es=10)
    save_manifest(studies, manifest)
    row = measured(studies, tmp_path)
    assert (row["ed"], row["es"], row["ed_es_source"]) == (2, 10, "named by the manifest")
    mark(studies, ed=4, es=12, annotator="Ada")
    row = measured(studies, tmp_path)
    assert (row["ed"], row["es"], row["ed_es_source"], row["warnings"]) == (4, 12, "marked by Ada", "")
    mark(studies, ed=None, es=None, annotator="Ada")
    row = measured(studies, tmp_path)
    assert (row["ed"], row["es"], row["ed_es_source"]) == (3, 11, "found by the volumes")


def test_proposals_are_not_measured_beside_what_labellers_drew(studies: Path, tmp_path: Path) -> None:
    label, image = LabelVersions(studies, "a_4d"), read_cine(studies / "a_4d.nii.gz")
    beat = read_cine(studies / "labels" / "final" / "a_4d.nii.gz")
    grid = image.grid().with_array(np.stack([beat.phase(t).array for t in range(16)], 3).astype(np.uint8))
    (studies / "labels" / "final" / "a_4d.nii.gz").unlink()
    every = dict.fromkeys(map(str, range(16)), "proposed")
    label.save(grid, {"annotator": "a model", "model": "prato_unetr", "model_version": "0123456789ab", "phases": every})
    row = measured(studies, tmp_path)
    assert row["masks"] == "a proposal of prato_unetr 0123456789ab that nobody has corrected, label version 1"
    label.save(grid, {"annotator": "Ada", "phases": [5]})
    row = measured(studies, tmp_path)
    assert row["phases"] == 16 and "; 5: label version 2 of Ada" in row["masks"] and row["masks"].startswith("0-4, 6-15: a proposal")
    label.save(grid, {"annotator": "Bob", "phases": [9]})
    mark(studies, ed=3, es=9, annotator="Ada")
    row = measured(studies, tmp_path)
    assert (row["phases"], row["ed"], row["es"], row["ed_es_source"]) == (16, 3, 9, "marked by Ada")
    assert row["warnings"] == "Proposals, or phases that were sent back, are measured: phase 3."
    mark(studies, ed=None, es=None, annotator="Ada")
    row = measured(studies, tmp_path)
    assert (row["phases"], row["ed"], row["es"], row["ed_es_source"]) == (2, 5, 9, "found by the volumes")
    assert row["masks"] == "5: label version 2 of Ada; 9: label version 3 of Bob"
    assert "2 of 16 phases are measured: end-diastole and end-systole are the fullest" in row["warnings"]


def test_named_phases_without_a_mask_give_no_other_function(studies: Path, tmp_path: Path) -> None:
    path = studies / "labels" / "final" / "a_4d.nii.gz"
    beat = read_cine(path)
    masks = np.stack([beat.phase(t).array for t in range(16)], 3).astype(np.uint8)
    masks[..., 11] = 0
    write_cine(path, masks, AFFINE)
    mark(studies, ed=3, es=11, annotator="Ada")
    done = run_script(function_table.main, studies, "--out", tmp_path / "t.json")
    told = "end-diastole and end-systole are marked by Ada as phase 3 and phase 11, which are not both among the measured phases"
    assert f"a_4d is left out: {told}." in done.output
    assert [row["study"] for row in json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))] == ["b"]


def test_what_cannot_be_measured_is_one_sentence_and_nothing_is_written(studies: Path, tmp_path: Path) -> None:
    for path in (studies / "labels" / "final").glob("b_*"):
        path.unlink()
    write_volume(studies / "labels" / "final" / "a_4d.nii.gz", hearts([1.0])[..., 0], AFFINE)
    for arguments, words in (
        ([tmp_path / "none", "--out", tmp_path / "t.csv"], "is not a folder"),
        ([studies, "--out", tmp_path / "t.xlsx"], "must be a .csv or .json file"),
        ([studies, "--masks", tmp_path, "--out", tmp_path / "t.csv"], "has no mask of an image"),
        ([studies, "--out", tmp_path / "t.csv"], "No heart of"),
    ):
        done = run_script(function_table.main, *arguments)
        assert done.exit_code == 2 and words in done.output, done.output
    assert not list(tmp_path.glob("t.*"))
    assert "one phase and its image 16 phases" in done.output


def test_frames_that_are_stored_differently_are_seen_from_the_same_side(studies: Path) -> None:
    before = next(heart for heart in find_hearts(studies).hearts if heart.patient == "b")
    for path in (studies / "b_frame09.nii.gz", studies / "labels" / "final" / "b_frame09.nii.gz"):
        image = nib.load(path)
        turned = np.diag([-1.0, 1.0, 1.0, 1.0])[:, [1, 0, 2, 3]]  # rows and columns swapped, and one of them reversed
        turned[0, 3] = image.shape[0] - 1
        array = np.asanyarray(image.dataobj)[::-1].transpose(1, 0, 2)
        write_volume(path, np.ascontiguousarray(array), image.affine @ turned)
    again = next(heart for heart in find_hearts(studies).hearts if heart.patient == "b")
    assert np.array_equal(again.images, before.images) and np.array_equal(again.masks, before.masks)
    assert again.function == before.function


def test_frames_of_other_voxel_sizes_are_not_measured_as_one_heart(studies: Path, tmp_path: Path) -> None:
    mask, finer = hearts([0.4])[..., 0], np.diag([1.6, 1.6, 10.0, 1.0])
    write_volume(studies / "b_frame09.nii.gz", (mask * 100 + 20).astype(np.int16), finer)
    write_volume(studies / "labels" / "final" / "b_frame09.nii.gz", mask, finer)
    done = run_script(function_table.main, studies, "--out", tmp_path / "t.json")
    assert done.exit_code == 1
    assert "b is left out: its frames differ in voxel size" in done.output
    assert [row["study"] for row in json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))] == ["a_4d"]


def test_a_voxel_size_that_was_guessed_is_told_beside_the_volumes(studies: Path, tmp_path: Path) -> None:
    for path in (studies / "a_4d.nii.gz", studies / "b_frame09.nii.gz"):
        image = nib.load(path)
        image.header["pixdim"][3] = 12  # and 10 in the sform
        nib.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(path)
    run_script(function_table.main, studies, "--out", tmp_path / "t.json")
    rows = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    told = "The image's header gives more than one voxel size, and the more plausible one is used: volumes may be wrong."
    assert {row["study"]: told in row["warnings"] for row in rows} == {"a_4d": True, "b": True}


def test_phases_that_an_import_guessed_are_said_to_be_guesses(studies: Path, tmp_path: Path) -> None:
    manifest = load_manifest(studies)
    assert manifest is not None
    for name in ("b_frame01", "b_frame09"):
        manifest.studies[name].guessed = True
    save_manifest(studies, manifest)
    run_script(function_table.main, studies, "--out", tmp_path / "t.json")
    pair = next(row for row in json.loads((tmp_path / "t.json").read_text(encoding="utf-8")) if row["study"] == "b")
    assert pair["ed_es_source"] == "guessed by the import"
    assert "End-diastole and end-systole were guessed by the import" in pair["warnings"]


def test_frames_of_two_examinations_of_a_patient_are_two_hearts(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    (folder / "labels" / "final").mkdir(parents=True)
    manifest = Manifest(source="DICOM")
    shares = {"p1_a_frame01": 1.0, "p1_a_frame08": 0.6, "p1_b_frame01": 0.8, "p1_b_frame09": 0.2}
    for name, share in shares.items():
        mask = hearts([share])[..., 0]
        write_volume(folder / f"{name}.nii.gz", (mask * 100 + 20).astype(np.int16), AFFINE)
        write_volume(folder / "labels" / "final" / f"{name}.nii.gz", mask, AFFINE)
        frame = int(name[-2:])
        manifest.studies[name] = Study(patient="p1", frame=frame, phase="ED" if frame == 1 else "ES")
    save_manifest(folder, manifest)
    done = run_script(function_table.main, folder, "--out", tmp_path / "t.csv")
    assert done.exit_code == 0, done.output
    rows = {row["study"]: row for row in read_rows(tmp_path / "t.csv")}
    assert {name: (row["patient"], row["ed"], row["es"]) for name, row in rows.items()} == {
        "p1_a": ("p1", "p1_a_frame01", "p1_a_frame08"),
        "p1_b": ("p1", "p1_b_frame01", "p1_b_frame09"),
    }
    assert rows["p1_a"]["lv"]["ef_percent"] == pytest.approx(40, abs=3) and rows["p1_b"]["lv"]["ef_percent"] == pytest.approx(75, abs=3)
    for name in ("p1_a_frame08", "p1_b_frame01"):  # one phase of each is left: these are no heartbeat
        (folder / "labels" / "final" / f"{name}.nii.gz").unlink()
    done = run_script(function_table.main, folder, "--out", tmp_path / "none.csv")
    assert done.exit_code == 2 and "p1_a is left out: fewer than two of its phases have a mask" in done.output
