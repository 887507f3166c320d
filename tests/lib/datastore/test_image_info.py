"""What only the server writes into its list of images: no client sets it, and nonsense that stands there already stops nobody's work."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException, UploadFile
from hypothesis import example, given
from hypothesis import strategies as st
from monailabel.datastore.local import DataModel, ImageLabelModel

import lib.datastore.studies
from lib.activelearning.registry import build_strategies
from lib.activelearning.studies import shuffle_unlabelled
from lib.datastore.entries import image_entry, known_phases, mark_known_phases
from lib.datastore.studies import StudiesDatastore
from lib.server.uploads import add_image
from prato.data.nifti import write_volume
from prato.data.studies.folder import Manifest, Study, save_manifest
from tests.app.live import write_study
from tests.lib.activelearning.test_acquisition_strategy import Folder

PLAIN = st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=3) | st.floats(allow_nan=False)
KEYS = st.sampled_from(["ed", "es", "state", "reason", "ts", "random", "x"])
ANYTHING = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)
KEPT = ("marked", "review", "strategy", "phases")


class Listed(Folder):
    """A folder of one unlabelled study, of which ``info`` is known."""

    def __init__(self, info: dict[str, Any]) -> None:
        super().__init__("a")
        self.info = info

    def get_image_info(self, study: str) -> dict[str, Any]:
        return self.info


@example({"marked": {"ed": 1, "es": 4}}, 3)
@example({"marked": {"ed": 1, "es": 4}}, 6)
@given(st.dictionaries(st.sampled_from(KEPT), ANYTHING), st.none() | st.integers(1, 6))
def test_whatever_stands_in_the_list_a_study_is_handed_out(info: dict[str, Any], phases: int | None) -> None:
    header = None if phases is None else {"phases": phases} if phases > 1 else {}
    read = image_entry(DataModel(info={"note": "x", **info}, ext=".nii.gz"), header).info
    count, marked = known_phases(read)
    assert count >= 1 and (phases is None or count == phases)
    assert marked is None or max(marked) < count
    assert list(shuffle_unlabelled({"strategy": "random"}, Listed(read))) == ["a"]
    assert isinstance(read.get("strategy", {}), dict) and isinstance(read.get("review", {}).get("reason", ""), str)
    assert read["note"] == "x" and image_entry(DataModel(info=read, ext=".nii.gz"), header).info == read


def test_a_cine_that_the_manifest_does_not_list_is_not_marked_and_keeps_no_other_from_it(tmp_path: Path) -> None:
    save_manifest(tmp_path, Manifest(source="x", studies={"b": Study(patient="p", ed=1, es=3)}))
    found = {study: ImageLabelModel(image=DataModel(info={"phases": 5}, ext=".nii.gz"), labels={}) for study in "abc"}
    marked = mark_known_phases(found, str(tmp_path))
    assert {study: known_phases(entry.image.info)[1] for study, entry in marked.items()} == {"a": None, "b": (1, 3), "c": None}


def test_a_list_with_nonsense_in_it_serves_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    bad = {"marked": 5, "strategy": "x", "review": {"state": "rejected", "reason": 5}, "note": "kept"}
    write_study(tmp_path / "a.nii.gz")
    objects = {"a": {"image": {"ext": ".nii.gz", "info": bad}, "labels": {}}}
    (tmp_path / "datastore_v2.json").write_text(json.dumps({"name": "x", "description": "", "objects": objects}))
    store = StudiesDatastore(str(tmp_path))
    for name in ("first", "random"):
        assert build_strategies({}, "heart")[name]({"strategy": name}, store)["id"] == "a"
    assert store.get_image_info("a")["note"] == "kept" and not {"marked", "review"} & set(store.get_image_info("a"))


def test_a_study_that_vanishes_is_unknown_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanishing(dict[str, ImageLabelModel]):
        """A list that loses what it was asked for, as where a file is removed while a page of all studies is put together."""

        def __contains__(self, study: object) -> bool:
            return dict.pop(self, study, None) is not None

    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    write_study(tmp_path / "a.nii.gz")
    store = StudiesDatastore(str(tmp_path))
    store._datastore.objects = Vanishing(store._datastore.objects)
    assert store.get_image_info("a").get("path") in (None, str(tmp_path / "a.nii.gz"))


@pytest.mark.parametrize("params", [{"marked": 5}, {"review": {"state": "rejected", "reason": 5}}, {"strategy": "x"}, {"phases": 3}])
def test_who_sends_an_image_may_not_set_it_either(tmp_path: Path, params: dict[str, Any]) -> None:
    write_volume(tmp_path / "a.nii.gz", np.ones((8, 7, 3), np.int16), np.diag([-1.5, -1.5, 8.0, 1.0]))
    file = UploadFile(io.BytesIO((tmp_path / "a.nii.gz").read_bytes()), filename="a.nii.gz")
    with pytest.raises(HTTPException, match=f"params must not set {next(iter(params))}") as refused:
        add_image(file=file, image="a", params=json.dumps(params))
    assert refused.value.status_code == 400
