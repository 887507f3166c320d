"""Each phase of a label is whose it is, of the version in which it was drawn, whatever is done to others."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.data.cine import read_cine, write_cine
from prato.labelling.provenance import find_provenance
from prato.labelling.restoring import restore
from prato.labelling.versions import LabelVersions

PHASES = 3
NUMBERS = st.lists(st.integers(0, PHASES - 1), min_size=1, unique=True)
DRAWN = st.tuples(st.just("drawn"), st.sampled_from(["Ada", "Bob"]), NUMBERS, st.sampled_from([None, "prato_unetr", "prato_auto"]))
APPROVED, RESTORED = st.tuples(st.just("approved")), st.tuples(st.just("restored"), st.integers(0, 99))


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(DRAWN | APPROVED | RESTORED, min_size=1, max_size=8), seed=st.integers(0, 999))
def test_a_phase_comes_from_whoever_drew_it_whatever_became_of_others(steps: list[tuple], seed: int) -> None:
    random = np.random.default_rng(seed)
    with TemporaryDirectory() as folder:
        image = Path(folder) / "a.nii.gz"
        write_cine(image, random.integers(0, 99, (4, 4, 2, PHASES)).astype(np.int16), np.diag([2.0, 2.0, 8.0, 1.0]))
        label, grid = LabelVersions(folder, "a"), read_cine(image).grid()
        told: list[dict[int, tuple]] = []  # by version, then by phase
        for what, *how in steps:
            if what == "drawn":
                annotator, numbers, model = how
                about = {"annotator": annotator, "phases": numbers, **({"model": model, "model_version": "7"} if model else {})}
                saved = label.save(grid.with_array(random.integers(1, 4, grid.array.shape).astype(np.uint8)), about).version
                own = (saved.version, saved.created, annotator, (model, "7") if model else None)
                told.append({**(told[-1] if told else {}), **dict.fromkeys(numbers, own)})
            elif told and what == "approved":
                label.review("approved", {"annotator": "Cy"})
            elif told:
                which = how[0] % len(told)
                restore(label, which + 1, image, {"annotator": "Dee"})
                told.append(told[which])
        versions = label.all()
        found = {number: find_provenance(versions, number) for number in versions[-1].phases} if versions else {}
        assert {n: (p.version, p.created, p.editor, p.model) for n, p in found.items()} == (told[-1] if told else {})
