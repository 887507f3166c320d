"""Labelling an archive in one process: masks as the predictor makes them, one record each, and every way it can stop."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from prato.archive.labeller import Labeller, run_parameters
from prato.archive.run import Run
from prato.data.cine import read_cine, write_cine
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import Manifest, Study, save_manifest
from prato.inference.cine_predictor import predict_cine
from prato.inference.predictor import Predictor
from prato.models.checkpoint import ModelSpec, load_model, save_model
from prato.prompts.box import Box, BoxPrompt
from scripts import batch_label
from scripts.common import model_files
from scripts.research.baselines import unet  # noqa: F401 - registers its networks
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec
from tests.scripts.cli import run_script

pytestmark = pytest.mark.slow

#: Of a network that takes no prompts.
PLAIN = {"in_channels": 3, "out_channels": 4, "feature_size": 12, "spatial_dims": 2, "num_heads": [1, 2, 2, 4]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two phantom patients, one study that cannot be read, boxes for one, and small models."""
    folder = tmp_path_factory.mktemp("archive")
    make_thin_phantoms(folder / "studies", 2)
    (folder / "studies" / "broken.nii.gz").write_bytes(b"no image")
    (folder / "boxes.json").write_text(json.dumps({"phantom001_ED": [30, 110, 40, 120, 1, 4]}))
    for name, spec in ((n, small_spec(n)) for n in ("swin_unetr", "overview_unet")):
        torch.manual_seed(0)
        save_model(folder / f"{name}.safetensors", spec.build(), spec)
    plain = ModelSpec(network="window_swin_unetr", arguments=PLAIN, window=64, pixel=1.5, plan=None)
    save_model(folder / "unet.safetensors", plain.build(), plain)
    save_model(folder / "dense.safetensors", small_spec("swin_unetr").build(), small_spec("swin_unetr").with_plan(None))
    return folder


@pytest.fixture(autouse=True)
def small_locator(archive, monkeypatch):
    (archive / "prato_overview_unet.safetensors").write_bytes((archive / "overview_unet.safetensors").read_bytes())
    monkeypatch.setattr(model_files, "MODELS", archive)


def run(archive, out, *more):
    given = ["--studies", archive / "studies", "--out", out, "--model", archive / "swin_unetr.safetensors", "--local", *more]
    return run_script(batch_label.main, *given)


def records(out):
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def labelled(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("labelled") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model_files, "MODELS", archive)
        (archive / "prato_overview_unet.safetensors").write_bytes((archive / "overview_unet.safetensors").read_bytes())
        return out, run(archive, out, "--boxes", archive / "boxes.json")


def test_a_cine_is_labelled_in_all_phases(archive, tmp_path):
    beat = np.stack([read_volume(archive / "studies" / f"phantom001_{phase}.nii.gz").array for phase in ("ED", "ES", "ES")], -1)
    write_cine(tmp_path / "studies.nii.gz", beat, read_volume(archive / "studies" / "phantom001_ED.nii.gz").affine, 300)
    (tmp_path / "list.txt").write_text("studies.nii.gz\n")
    about = Study(patient="a", ed=1, es=2, height_cm=180.0, weight_kg=81.0)
    save_manifest(tmp_path, Manifest(source="test", studies={"studies": about}))
    given = ["--studies", tmp_path / "list.txt", "--out", tmp_path / "out", "--model", archive / "swin_unetr.safetensors", "--local"]
    assert run_script(batch_label.main, *given).exit_code == 0
    (record,) = records(tmp_path / "out")
    assert record["phases"] == [0, 1, 2] and len(record["volumes_ml"]["LV cavity"]) == 3 and "function" in record
    assert (record["ed"], record["es"], record["ed_es_source"], record["function"]["bsa_m2"]) == (1, 2, "manifest", 2.01)
    predictor = Predictor.from_files(archive / "swin_unetr.safetensors", archive / "overview_unet.safetensors")
    found = predict_cine(predictor, read_cine(tmp_path / "studies.nii.gz")).mask
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "out" / "studies.nii.gz").dataobj), found)


def test_boxes_of_phases_are_taken_as_the_server_takes_them(archive, tmp_path):
    ed = read_volume(archive / "studies" / "phantom001_ED.nii.gz")
    write_cine(tmp_path / "beat.nii.gz", np.stack([ed.array] * 2, -1), ed.affine, 300)
    write_volume(tmp_path / "still.nii.gz", ed.array, ed.affine)
    (tmp_path / "list.txt").write_text("beat.nii.gz\nstill.nii.gz\n")
    one, other = [5, 30, 5, 30, 1, 2], [5, 30, 5, 30, 2, 3]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"beat": {"0": one, "1": other}, "still": {"0": one}}))
    given = ["--studies", tmp_path / "list.txt", "--model", archive / "swin_unetr.safetensors", "--local", "--boxes", boxes]
    assert run_script(batch_label.main, *given, "--out", tmp_path / "out").exit_code == 0
    beat, still = records(tmp_path / "out")
    assert beat["box_source"] == still["box_source"] == "roi" and still["box"] == one and beat["box"] == [5, 30, 5, 30, 1, 3]
    boxes.write_text(json.dumps({"beat": {"2": one}}))
    assert run_script(batch_label.main, *given, "--out", tmp_path / "bad").exit_code == 1
    assert "the image has phases 0 to 1" in next(r["error"] for r in records(tmp_path / "bad") if r["status"] == "failed")


def test_masks_are_the_predictor_s_and_a_broken_study_stops_nothing(archive, labelled):
    out, done = labelled
    assert done.exit_code == 1 and "broken failed: broken.nii.gz is not readable NIfTI" in done.output
    assert "4 of 5 studies" in done.output
    found = {record["study"]: record for record in records(out)}
    assert list(found) == ["broken", *(f"phantom00{n}_{phase}" for n in (1, 2) for phase in ("ED", "ES"))]
    assert found["broken"]["status"] == "failed" and not (out / "broken.nii.gz").exists()

    predictor = Predictor.from_files(archive / "swin_unetr.safetensors", archive / "overview_unet.safetensors")
    for study, record in found.items():
        if study == "broken":
            continue
        volume = read_volume(archive / "studies" / f"{study}.nii.gz")
        boxed = study == "phantom001_ED"
        predictor.set_image(volume)
        wanted = predictor.predict([BoxPrompt(Box((30, 40, 1), (110, 120, 4)))] if boxed else [])
        mask = nib.load(out / f"{study}.nii.gz")
        assert mask.get_data_dtype() == np.uint8 and np.array_equal(np.asarray(mask.dataobj), wanted.mask)
        np.testing.assert_allclose(mask.affine, volume.affine, atol=1e-5)
        assert record["box"] == list(wanted.box.bounds) and record["box_source"] == wanted.box_source
        assert (wanted.box_source == "roi") == boxed
        assert record["model_version"] == predictor.version and record["gflops"] == round(wanted.gflops, 3)
        assert {"read", "locate", "network", "write", "total"} <= record["latency_ms"].keys()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["studies"] == 4 and summary["workers"] == 1 and {"commit", "command", "device", "seed"} <= summary.keys()


def test_masks_follow_from_the_model_that_proposes_their_boxes(archive, labelled):
    """A model of stacks proposes its own, whatever other one there is."""
    locator, version = archive / "overview_unet.safetensors", load_model(archive / "overview_unet.safetensors")[2]
    assert json.loads((labelled[0] / "run.json").read_text())["locator_version"] == version
    given = {(name, found): archive / f"{name}.safetensors" for name in ("swin_unetr", "overview_unet") for found in (locator, None)}
    followed = [run_parameters(model, found, None, "cpu")["locator_version"] for (_, found), model in given.items()]
    assert followed == [version, None, None, None]


def test_a_second_time_only_the_failure_is_tried(archive, labelled, monkeypatch):
    out, _ = labelled
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    requested = []
    label = Labeller.label
    monkeypatch.setattr(Labeller, "label", lambda self, job: requested.append(job.study) or label(self, job))
    again = run(archive, out, "--boxes", archive / "boxes.json")
    assert again.exit_code == 1 and requested == ["broken"]
    assert times == {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")} and len(records(out)) == 5


def test_ctrl_c_says_how_to_go_on(archive, labelled, tmp_path, monkeypatch):
    label = Labeller.label

    def interrupted(self, job):
        if job.study == "phantom001_ES":
            raise KeyboardInterrupt
        return label(self, job)

    with monkeypatch.context() as within:
        within.setattr(Labeller, "label", interrupted)
        stopped = run(archive, tmp_path / "out")
    assert stopped.exit_code == 130 and "resumes from here" in stopped.output and "1 of 5" in stopped.output
    assert run(archive, tmp_path / "out").exit_code == 1
    for path in labelled[0].glob("*.nii.gz"):
        if path.name != "phantom001_ED.nii.gz":  # there it had a box
            assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_images_that_cannot_be_read_for_a_while_cost_no_masks(archive, labelled, tmp_path):
    studies, out = tmp_path / "studies", tmp_path / "out"
    studies.mkdir()
    for name in ("phantom001_ES", "phantom002_ED"):
        (studies / f"{name}.nii.gz").write_bytes((archive / "studies" / f"{name}.nii.gz").read_bytes())
    (tmp_path / "list.txt").write_text("studies/phantom001_ES.nii.gz\nstudies/phantom002_ED.nii.gz\n")
    given = ["--studies", tmp_path / "list.txt", "--out", out, "--model", archive / "swin_unetr.safetensors", "--local"]
    assert run_script(batch_label.main, *given).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    studies.rename(tmp_path / "away")
    done = run_script(batch_label.main, *given)
    assert (
        done.exit_code == 1
        and "2 images cannot be read now, and their masks are left as they are: phantom001_ES, phantom002_ED" in done.output
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (tmp_path / "away").rename(studies)
    assert run_script(batch_label.main, *given).exit_code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_full_disk_stops_the_run_in_a_sentence(archive, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prato.archive.labeller.write_bytes", full)
    done = run(archive, tmp_path / "out")
    assert done.exit_code == 1 and "No space left" in done.output and "resumes from here" in done.output
    assert [record["study"] for record in records(tmp_path / "out")] == ["broken"]


def test_a_disk_too_full_for_records_and_summary_stops_the_run_in_a_sentence(archive, tmp_path):
    """As on a real one: when a record finds no room, neither does the file in which they are put in order."""
    compared = Run.to_do

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:

        def then_full(self, *given):
            to_do = compared(self, *given)
            patched.setattr("prato.archive.run.write_bytes", full)
            patched.setattr(batch_label, "write_bytes", full)
            return to_do

        patched.setattr(Run, "to_do", then_full)
        done = run(archive, tmp_path / "out")
    assert done.exit_code == 1 and "No space left" in done.output and "resumes from here" in done.output
    assert "4 of 5 studies have their mask" in run(archive, tmp_path / "out").output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--model", "prato_vgg"], "no model prato_vgg"),
        (["--model", "{archive}/unet.safetensors"], "takes no prompts"),
        (["--prune", "60"], "off, 25, 50, 75"),
        (["--model", "{archive}/dense.safetensors", "--prune", "50"], "no plan"),
        (["--gpus-per-worker", "1"], "CUDA"),
        (["--workers", "2"], "leave --workers"),
        (["--address", "auto"], "leave --workers"),
        (["--boxes", "nowhere.json"], "cannot be read"),
        (["--studies", "nowhere"], "cannot be read"),
        (["--out", "{archive}/studies"], "no run here has written"),
        (["--out", "{labelled}", "--prune", "50"], "another prune"),
    ],
)
def test_refusals_change_nothing(archive, labelled, tmp_path, arguments, word):
    if "--gpus-per-worker" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which is no refusal")
    before = sorted(archive.rglob("*")), (labelled[0] / "run.json").read_bytes(), (labelled[0] / "records.jsonl").read_bytes()
    done = run(archive, tmp_path / "out", *(a.format(archive=archive, labelled=labelled[0]) for a in arguments))
    assert done.exit_code == 2 and word in done.output
    assert not (tmp_path / "out").exists()
    assert before == (sorted(archive.rglob("*")), (labelled[0] / "run.json").read_bytes(), (labelled[0] / "records.jsonl").read_bytes())
