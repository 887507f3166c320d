"""Which study comes next."""

from __future__ import annotations

import errno
from collections.abc import Callable
from gzip import BadGzipFile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException
from monailabel.interfaces.tasks.strategy import Strategy

import lib.datastore.studies
from lib.activelearning import acquisition_strategy, facility_location
from lib.activelearning.registry import build_strategies, register_strategy
from lib.activelearning.scores import SAMPLE, Phases, ScoreStrategy, StudyScore
from lib.datastore.studies import StudiesDatastore
from prato.acquisition.facility_location import StudySummary
from prato.acquisition.scores import Score
from prato.data.nifti import VolumeError, write_volume
from prato.models.checkpoint import CheckpointError


class Folder:
    """A datastore with ``unlabelled`` studies, some of them handed out at a time by the strategy "random"."""

    def __init__(self, *unlabelled: str, handed_out: dict[str, int] | None = None, reviews: dict[str, Any] | None = None) -> None:
        self.unlabelled, self.handed_out, self.reviews = list(unlabelled), handed_out or {}, reviews or {}

    def get_unlabeled_images(self) -> list[str]:
        return self.unlabelled

    def list_images(self) -> list[str]:
        return self.unlabelled

    def get_image_uri(self, study: str) -> str:
        return f"/nowhere/{study}.nii.gz"

    def get_image_info(self, study: str) -> dict[str, Any]:
        ts, review = self.handed_out.get(study), self.reviews.get(study)
        return ({} if ts is None else {"strategy": {"random": {"ts": ts}}}) | ({} if review is None else {"review": review})


class Cines(Folder):
    """A datastore with cines of ``count`` phases, the ``states`` of whose labels are known by study."""

    def __init__(self, count: int, states: dict[str, dict[str, str] | None], marked: dict[str, tuple[int, int]] | None = None) -> None:
        super().__init__(*(study for study, label in states.items() if label == {}))
        self.count, self.states, self.marked = count, states, marked or {}

    def list_images(self) -> list[str]:
        return list(self.states)

    def get_image_info(self, study: str) -> dict[str, Any]:
        info: dict[str, Any] = {"phases": self.count} if self.count > 1 else {}
        return info | ({"marked": dict(zip(("ed", "es"), self.marked[study]))} if study in self.marked else {})

    def get_label_info(self, study: str, tag: str) -> dict[str, Any]:
        label = self.states[study]
        return {} if label is None else {"phases": {number: {"state": state} for number, state in label.items()}}


class Model:
    """As much of a live predictor as is used when no image is looked at."""

    current: str | None = "0123456789ab"

    def version(self) -> str | None:
        return self.current


def built(name: str, model: Model | None = None) -> Strategy:
    """The strategy ``name`` of a server with one model."""
    return build_strategies({"heart": model or Model()}, "heart")[name]


def drawn(folder: Folder, **more: Any) -> str:
    return built("random")({"strategy": "random", **more}, folder)["id"]


def scoring(scores: Callable[[str], float], looked_at: list[str], **models: Model) -> ScoreStrategy:
    """A strategy with these ``scores``; each study that it scores is added to ``looked_at``."""

    class Given(ScoreStrategy):
        description = "x"

        def scorer(self, datastore: object) -> Callable[[str], StudyScore]:
            def score_of(study: str) -> StudyScore:
                def score(predictor: object) -> Score:
                    looked_at.append(study)
                    return Score(scores(study), f"of {study}")

                return (), score

            return score_of

    return Given({"heart": Model(), **models}, "heart")


def test_first_is_the_first_by_name() -> None:
    assert built("first")({}, Folder("c", "a", "b")) == {"id": "a"}


def test_thousands_of_studies_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    class Time(int):
        def __lt__(self, other: int) -> bool:
            nonlocal compared
            compared += 1
            return int(self) < int(other)

    names = [f"study{number}" for number in range(300)]
    monkeypatch.setattr("lib.activelearning.studies.first_readable", lambda studies, datastore: studies[0])
    drawn(Folder(*names, handed_out={name: Time(1) for name in names}))
    assert 0 < compared < 20 * len(names)


def test_a_file_that_cannot_be_read_is_handed_out_where_there_is_no_other_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    write_volume(tmp_path / "c.nii.gz", np.ones((8, 7, 3), np.int16), np.diag([-1.5, -1.5, 8.0, 1.0]))
    (tmp_path / "a.nii.gz").write_bytes((tmp_path / "c.nii.gz").read_bytes()[:80])
    (tmp_path / "b.nii.gz").write_text("version https://git-lfs.github.com/spec/v1")
    store = StudiesDatastore(str(tmp_path))
    assert built("first")({}, store) == {"id": "c"}
    assert {built("random")({"strategy": "random", "seed": seed}, store)["id"] for seed in range(8)} == {"c"}
    (tmp_path / "c.nii.gz").unlink()
    store.refresh()
    assert built("first")({}, store) == {"id": "a"}


def test_rejected_studies_are_not_handed_out_and_skipped_ones_last() -> None:
    skipped, rejected = {"state": "skipped", "reason": "?"}, {"state": "rejected", "reason": "no heart"}
    assert built("first")({}, Folder("a", "b", "c", reviews={"a": rejected, "b": skipped})) == {"id": "c"}
    assert built("first")({}, Folder("a", "b", reviews={"a": rejected, "b": skipped})) == {"id": "b"}
    assert built("first")({}, Folder("a", "b", reviews={"a": {"state": "open"}})) == {"id": "a"}
    assert built("first")({}, Folder("a", reviews={"a": "no review of ours"})) == {"id": "a"}
    with pytest.raises(HTTPException, match=r"rejected \(1\)") as refusal:
        built("first")({}, Folder("a", reviews={"a": rejected}))
    assert refusal.value.status_code == 404


def test_random_follows_its_seed() -> None:
    names = [f"heart{n}" for n in range(20)]
    assert {drawn(Folder(*names), seed=4) for _ in range(3)} == {drawn(Folder(*reversed(names)), seed=4)}
    assert len({drawn(Folder(*names), seed=seed) for seed in range(10)}) > 4


def test_random_prefers_what_was_handed_out_longest_ago() -> None:
    assert drawn(Folder("a", "b", "c", handed_out={"a": 100, "c": 90})) == "b"
    assert drawn(Folder("a", "b", "c", handed_out={"a": 100, "b": 100, "c": 90})) == "c"


@pytest.mark.parametrize("name", build_strategies({}, "heart"))
@pytest.mark.parametrize(
    ("folder", "words"),
    [(Cines(1, {"a": {"0": "corrected"}}), "Every study here has a final label"), (Folder(), "There are no studies here")],
)
def test_nothing_left_is_said(name: str, folder: Folder, words: str) -> None:
    with pytest.raises(HTTPException, check=lambda error: error.status_code == 404 and words in error.detail):
        built(name)({"strategy": name}, folder)


def test_the_highest_score_wins_and_the_name_decides_a_tie() -> None:
    answer = scoring({"a": 0.1, "b": 0.7, "c": 0.7}.__getitem__, [])({}, Folder("c", "b", "a"))
    expected = {"id": "b", "score": 0.7, "reason": "of b", "scored": 3, "unlabelled": 3, "model_version": Model.current}
    assert answer == expected


def test_of_many_studies_a_seeded_sample_is_looked_at() -> None:
    names, one, other = [f"heart{n}" for n in range(1000)], [], []
    answer = scoring(lambda study: 0.5, one)({"seed": 1}, Folder(*names))
    scoring(lambda study: 0.5, other)({"seed": 1}, Folder(*reversed(names)))
    assert one == other and len(one) == answer["scored"] == SAMPLE
    assert answer["id"] == min(one) and answer["unlabelled"] == 1000
    scoring(lambda study: 0.5, two := [])({"seed": 2}, Folder(*names))
    assert set(two) != set(one)


def test_who_was_handed_out_already_waits_for_the_others() -> None:
    folder = Folder("a", "b", handed_out={"a": 7})
    assert scoring({"a": 0.9, "b": 0.1}.__getitem__, [])({"strategy": "random"}, folder)["id"] == "b"


def test_a_score_is_kept_until_the_model_changes() -> None:
    model, looked_at = Model(), []
    strategy = scoring(lambda study: 0.5, looked_at, heart=model)
    strategy({}, Folder("a"))
    strategy({}, Folder("a", "b"))
    assert looked_at == ["a", "b"]
    model.current = "ba9876543210"
    assert strategy({}, Folder("a"))["model_version"] == "ba9876543210"
    assert looked_at == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("reason", "times"), [(PermissionError(errno.EACCES, "Permission denied"), 2), (BadGzipFile("damaged"), 1)], ids=["passes", "stays"]
)
def test_what_kept_an_image_from_being_read_is_remembered_where_it_stays(reason: OSError, times: int) -> None:
    looked_at: list[str] = []

    def refuse(study: str) -> float:
        if len(looked_at) > 1:
            return 0.5
        raise VolumeError(f"{study} cannot be read.") from reason

    strategy = scoring(refuse, looked_at)
    assert strategy({}, Folder("a"))["reason"] == "a cannot be read."
    assert strategy({}, Folder("a"))["reason"] == ("of a" if times == 2 else "a cannot be read.") and len(looked_at) == times


def test_a_model_file_that_cannot_be_used_is_said() -> None:
    def refuse(study: str) -> float:
        raise CheckpointError("heart.safetensors is damaged.")

    with pytest.raises(HTTPException, check=lambda error: (error.status_code, error.detail) == (503, "heart.safetensors is damaged.")):
        scoring(refuse, [])({}, Folder("a"))


def test_the_model_that_the_request_names_scores() -> None:
    other, looked_at = Model(), []
    other.current = "ba9876543210"
    strategy = scoring(lambda study: 0.5, looked_at, other=other)
    for model, version in (("other", other.current), (None, Model.current), ("other", other.current), ("heart", Model.current)):
        assert strategy({"model": model}, Folder("a"))["model_version"] == version
    assert looked_at == ["a", "a"]  # once by each: what one found is kept while the other is used
    for model in ("unet", ["heart"], 7):
        with pytest.raises(HTTPException, check=lambda error: error.status_code == 404 and "choose heart or other" in error.detail):
            strategy({"model": model}, Folder("a"))


def test_when_time_is_up_one_study_was_looked_at_and_what_is_known_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquisition_strategy, "SECONDS", 0.0)
    strategy, folder = scoring(lambda study: 0.5, looked_at := []), Folder(*"abcdef")
    assert strategy({}, folder)["scored"] == len(looked_at) == 1
    strategy({}, Folder(next(name for name in folder.unlabelled if name not in looked_at)))
    assert strategy({}, folder)["scored"] == len(looked_at) == 2


def test_without_a_model_there_is_no_score() -> None:
    model = Model()
    model.current = None
    with pytest.raises(HTTPException, check=lambda error: error.status_code == 404 and "random" in error.detail):
        built("jitter", model)({"strategy": "jitter"}, Folder("a"))


@pytest.mark.parametrize("name", ["entropy", "coverage"])
def test_an_image_that_cannot_be_read_is_the_least_useful(name: str) -> None:
    answer = built(name)({"strategy": name}, Folder("a"))
    assert (answer["id"], answer["score"]) == ("a", 0) and "a.nii.gz" in answer["reason"]


def test_coverage_chooses_the_study_that_is_worth_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heart like another one, and easily corrected, tells the most; one that is like no other the least."""
    seen = {"a": ([9.0, 9.0], 1.0), "b": ([0.0, 0.0], 0.1), "c": ([0.1, 0.0], 1.0)}
    summaries = {study: StudySummary(np.array(features), uncertainty) for study, (features, uncertainty) in seen.items()}
    monkeypatch.setattr(facility_location.images, "read_phase", lambda path, phase: path.name[0])
    monkeypatch.setattr(facility_location, "summarise", lambda predictor, study: summaries[study])
    answer = built("coverage")({"strategy": "coverage"}, Folder("a", "b", "c"))
    worth = facility_location.facility_location([*summaries.values()], np.zeros(3, bool))
    assert answer["id"] == "b" and answer["score"] == pytest.approx(worth[1], abs=1e-4) and worth[1] == worth.max() > worth.min()
    covered = facility_location.facility_location([*summaries.values()], np.array([False, True, False]))
    answer = built("coverage")({"strategy": "coverage"}, Cines(1, {"a": {}, "b": {"0": "corrected"}, "c": {}}))
    assert (answer["id"], answer["scored"]) == ("a", 2) and answer["score"] == pytest.approx(covered[0], abs=1e-4)


def test_coverage_looks_at_the_phase_that_is_handed_out_and_else_at_end_diastole(monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[str, int | None] = {}
    monkeypatch.setattr(facility_location.images, "read_phase", lambda path, phase: read.update({path.name[0]: phase}))
    monkeypatch.setattr(facility_location, "summarise", lambda predictor, image: StudySummary(np.zeros(2), 1.0))
    states: dict[str, dict[str, str] | None] = {"a": {"4": "corrected", "9": "final"}, "b": {"4": "final"}, "c": {}, "d": None}
    assert built("coverage")({"strategy": "coverage"}, Cines(12, states, dict.fromkeys("abc", (4, 9))))["scored"] == 2
    assert read == {"a": 4, "b": 9, "c": 4, "d": 0}
    built("coverage")({"strategy": "coverage"}, Cines(1, {"e": {}, "f": {"0": "corrected"}}))
    assert (read["e"], read["f"]) == (None, None)


def test_a_phase_alone_is_no_pair() -> None:
    score_of = Phases({}, "heart").scorer(Folder("a_ED", "a_ES", "b_ED"))
    assert [path.name for path in score_of("a_ES")[0]] == ["a_ED.nii.gz", "a_ES.nii.gz"]
    paths, score = score_of("b_ED")
    assert paths == () and score(None).value == 0


def test_a_cine_beside_single_frames_of_its_patient_is_no_part_of_their_pair() -> None:
    class Mixed(Folder):
        def get_image_info(self, study: str) -> dict[str, Any]:
            return super().get_image_info(study) | ({"phases": 12} if study.endswith("_4d") else {})

    score_of = Phases({}, "heart").scorer(Mixed("a_frame01", "a_frame12", "a_4d", "b_frame01", "b_4d"))
    assert score_of("a_frame12")[0] == (Path("/nowhere/a_frame01.nii.gz"), Path("/nowhere/a_frame12.nii.gz"))
    assert score_of("b_frame01")[0] == ()
    assert [phase for _, phase in score_of("a_4d")[0]] == [0, 4]


def test_a_cine_is_handed_out_until_end_diastole_and_end_systole_are_done() -> None:
    states: dict[str, dict[str, str] | None] = {
        "a": {"4": "corrected", "9": "final"},
        "b": {"4": "final", "9": "proposed", "0": "corrected"},
        "c": {},
        "d": None,  # a label of which the list knows nothing
    }
    folder = Cines(12, states, dict.fromkeys("abc", (4, 9)))
    assert built("first")({}, folder) == {"id": "b", "phase": 9}
    assert {drawn(folder, seed=seed) for seed in range(9)} == {"b", "c"}
    answer = scoring({"b": 0.1, "c": 0.7}.__getitem__, [])({}, folder)
    assert (answer["id"], answer["phase"], answer["unlabelled"]) == ("c", 4, 2)
    assert [(path.name, phase) for path, phase in Phases({}, "heart").scorer(folder)("c")[0]] == [("c.nii.gz", 4), ("c.nii.gz", 9)]


def test_a_volume_that_was_sent_back_is_handed_out_again() -> None:
    assert built("first")({}, Cines(1, {"a": {"0": "corrected"}, "b": {"0": "proposed"}})) == {"id": "b"}


def test_strategies_are_registered_by_name() -> None:
    assert list(build_strategies({}, "heart"))[:6] == ["first", "random", "jitter", "phases", "entropy", "coverage"]
    with pytest.raises(ValueError, match="registered as 'phases'"):
        register_strategy("phases")(ScoreStrategy)
