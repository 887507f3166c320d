"""The module's layers: the server's side knows neither Qt nor MRML, the logic knows MRML but no Qt, and only the panel knows Qt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_architecture import offences

LIBRARY = Path(__file__).resolve().parents[2] / "slicer_module" / "PratoLabel" / "PratoLabelLib"
#: Layer -> its files, and what they may not import.
LAYERS = {
    "server": (
        ("connection", "transport", "http_client", "progress", "responses", "label_responses", "client", "worker", "server_logic"),
        ("qt", "ctk", "slicer", "vtk", "numpy"),
    ),
    "measures": (("cardiac", "click_history", "click_request", "nifti_frames"), ("qt", "ctk", "slicer", "vtk", "requests")),
    "scene": (
        (
            *("volumes", "geometry", "slice_views", "placement", "segments", "segmentation", "open_study", "drafts", "autosave"),
            *("label_versions", "cardiac_report", "cardiac_table", "study_logic", "logic", "sample_data", "study_files", "study_nodes"),
            *("cine_files", "cine_nodes", "cine_report", "cine_study", "open_cine", "phase_boxes", "phase_edits", "predict_logic"),
            *("click_logic", "click_markers", "click_queue", "watched_segments"),
        ),
        ("qt", "ctk", "requests"),
    ),
    "panel": (("parameters", "panel", "sections", "consent"), ("requests", "PratoLabelLib.client", "PratoLabelLib.connection")),
}
#: Layer -> the layers below it, which is all that it may import of the library.
BELOW = {"server": (), "measures": (), "scene": ("server", "measures"), "panel": ("server", "measures", "scene")}


def sources(name: str) -> list[Path]:
    return sorted((LIBRARY / name).glob("*.py")) or [LIBRARY / f"{name}.py"]


def test_every_file_is_in_a_layer() -> None:
    listed = [path for names, _ in LAYERS.values() for name in names for path in sources(name)]
    assert sorted(listed) == sorted({*LIBRARY.rglob("*.py")} - {LIBRARY / "__init__.py"})


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_what_lies_below_it(layer: str) -> None:
    names, forbidden = LAYERS[layer]
    others = [name for other, (members, _) in LAYERS.items() if other not in (layer, *BELOW[layer]) for name in members]
    above = tuple(f"PratoLabelLib.{name}" for name in others)
    found = {path.name: offences(path.read_text(encoding="utf-8"), (*forbidden, *above)) for name in names for path in sources(name)}
    assert {name: bad for name, bad in found.items() if bad} == {}
