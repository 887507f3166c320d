"""Who says which phases are end-diastole and end-systole, and whom that binds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.data.studies.ed_es import named_ed_es
from prato.data.studies.folder import Study, describe_study
from prato.data.studies.label_records import recorded_image_info

ANYTHING = st.sampled_from([None, True, False, -1, 0, 1, 2, 3, 5, 7, 1.0, float("nan"), "", "2", [], {}])
#: Two phases, or one twice, since hardly any two of ANYTHING are.
PAIRS = st.permutations(range(6)) | st.tuples(st.integers(0, 5), st.integers(0, 5))
NAMED = PAIRS.map(lambda pair: {"ed": pair[0], "es": pair[1]})


@settings(deadline=None)
@given(
    info=st.fixed_dictionaries({}, optional={"marked": NAMED | ANYTHING | st.fixed_dictionaries({"ed": ANYTHING, "es": ANYTHING})}),
    about=st.none() | (NAMED | st.fixed_dictionaries({"es": st.integers(0, 8)})).map(lambda named: Study(patient="p", **named)),
    count=st.integers(1, 6),
)
def test_whatever_is_recorded_the_two_are_phases_of_the_cine(info: dict[str, Any], about: Study | None, count: int) -> None:
    named = named_ed_es(info, about, count)
    if named is not None:
        assert named.ed != named.es and {named.ed, named.es} <= {*range(count)}
        told = info["marked"] if named.source == "marked" else {"ed": about and about.ed, "es": about and about.es}
        assert named.pair == (told["ed"], told["es"])


@pytest.mark.parametrize(
    ("marked", "named"),
    [
        ({"ed": 1, "es": 3, "annotator": "Ada"}, (1, 3, "marked", "marked by Ada")),
        ({"ed": None, "es": None, "annotator": "Ada"}, None),  # taken back: they are found
        (None, (0, 2, "manifest", "named by the manifest")),
    ],
)
def test_a_mark_counts_before_the_manifest(tmp_path: Path, marked: object, named: tuple[object, ...] | None) -> None:
    info = {"info": {} if marked is None else {"marked": marked}}
    (tmp_path / "datastore_v2.json").write_text(json.dumps({"objects": {"a": {"image": info}}}))
    (tmp_path / "manifest.json").write_text('{"source": "test", "studies": {"a": {"patient": "p", "ed": 0, "es": 2}}}')
    found = named_ed_es(recorded_image_info(tmp_path, "a"), describe_study(tmp_path, "a"), 4)
    assert (found and (found.ed, found.es, found.source, found.told_by)) == named


def test_of_a_folder_that_says_nothing_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "datastore_v2.json").write_text('{"objects": {"a": []}}')
    (tmp_path / "manifest.json").write_text("{")
    assert recorded_image_info(tmp_path, "a") == recorded_image_info(tmp_path / "none", "a") == {}
    assert describe_study(tmp_path, "p_ED") == Study(patient="p")
