"""A run's folder: what is done stays done, what a kill left is made whole, and what somebody else wrote is not touched."""

import hashlib
import json
from pathlib import Path

import pytest

from prato.archive.run import Run, ToDo
from prato.archive.studies import ArchiveError, Job

PARAMETERS = {"model_version": "abc", "prune": None}


@pytest.fixture
def jobs(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.nii.gz").write_bytes(name.encode())
    return [Job(name, str(tmp_path / f"{name}.nii.gz")) for name in ("a", "b", "c")]


def label(run, job):
    """What a worker and the script do."""
    mask, image = b"mask of " + job.study.encode(), Path(job.image).read_bytes()
    run.mask(job.study).write_bytes(mask)
    sums = {"mask_sha256": hashlib.sha256(mask).hexdigest(), "image_sha256": hashlib.sha256(image).hexdigest()}
    run.add({"study": job.study, "status": "done", "roi": job.roi, **sums})


@pytest.fixture
def out(tmp_path, jobs):
    """A run that has labelled a and b, failed at c, and was closed."""
    run = Run(tmp_path / "out", PARAMETERS)
    assert run.to_do(jobs) == ToDo(jobs, [], [])
    label(run, jobs[1])
    label(run, jobs[0])
    run.add({"study": "c", "status": "failed", "roi": None, "error": "no"})
    run.close()
    return tmp_path / "out"


def lines(out):
    return [json.loads(line)["study"] for line in (out / "records.jsonl").read_text().splitlines()]


def test_only_what_is_not_done_is_to_do(out, jobs):
    assert lines(out) == ["a", "b", "c"]
    run = Run(out, PARAMETERS)
    assert run.to_do(jobs) == ToDo([jobs[2]], [], [])
    assert lines(out) == ["a", "b"]  # the failure is tried again: one line a study
    label(run, jobs[2])
    run.close()
    assert lines(out) == ["a", "b", "c"]
    run = Run(out, PARAMETERS)
    assert run.to_do(jobs) == ToDo([], [], [])
    run.close()


def test_a_kill_between_mask_and_record_is_repaired(out, jobs):
    stored = (out / "records.jsonl").read_bytes()
    (out / "records.jsonl").write_bytes(stored[: stored.index(b'{"study": "b"') + 9])  # killed within the record of b
    (out / ".c.nii.gz.xyz.tmp").write_bytes(b"mas")  # and within the mask of c
    run = Run(out, PARAMETERS)
    assert run.to_do(jobs) == ToDo(jobs[1:], [], [])
    assert lines(out) == ["a"] and not list(out.glob("*.tmp"))
    run.close()


def test_another_image_or_box_makes_a_study_anew(out, jobs, tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"another")
    asked = [jobs[0], Job("b", jobs[1].image, [0, 1, 0, 1, 0, 1])]
    run = Run(out, PARAMETERS)
    assert run.to_do(asked) == ToDo(asked, [], [])
    assert not run.mask("a").exists() and not run.mask("b").exists()  # they show what is no more
    run.close()
    assert lines(out) == ["c"]  # not asked for this time


def test_a_mask_that_somebody_corrected_or_drew_is_left_alone(out, jobs):
    run = Run(out, PARAMETERS)
    run.mask("a").write_bytes(b"corrected")
    run.mask("c").write_bytes(b"drawn by hand where the model failed")
    assert run.to_do(jobs) == ToDo([], ["a", "c"], [])
    assert run.mask("a").read_bytes() == b"corrected" and run.mask("c").exists()
    run.close()


def test_one_process_at_a_time(out):
    run = Run(out, PARAMETERS)
    with pytest.raises(ArchiveError, match="Another process"):
        Run(out, PARAMETERS)
    run.close()
    Run(out, PARAMETERS).close()


@pytest.mark.parametrize("kind", ["file", "foreign", "parameters", "damaged"])
def test_an_unfit_folder_is_refused_and_left_as_it_is(out, tmp_path, kind):
    place = tmp_path / "place"
    if kind == "file":
        place.touch()
    elif kind in ("parameters", "damaged"):
        place.mkdir()
        (place / "run.json").write_text(json.dumps({**PARAMETERS, "prune": "50"}) if kind == "parameters" else "{")
    else:
        place.mkdir()
        (place / "heart.nii.gz").touch()
    before = sorted(tmp_path.rglob("*"))
    words = {"file": "is a file", "foreign": "no run here", "parameters": "another prune", "damaged": "cannot be read"}
    with pytest.raises(ArchiveError, match=words[kind]):
        Run(place, PARAMETERS)
    assert sorted(tmp_path.rglob("*")) == before
