"""The module's layers: the server's side knows neither Qt nor MRML, the logic knows MRML but no Qt, and only the panel knows Qt."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.test_architecture import imported, offences

LIBRARY = Path(__file__).resolve().parents[2] / "slicer_module" / "PratoLabel" / "PratoLabelLib"
#: Of the standard library, what Python 3.9 of 3D Slicer 5.6 and 5.8 does not have: names by module, and arguments of any function.
_NEWER_NAMES = {
    "itertools": {"batched", "pairwise"},
    "typing": {"Concatenate", "NotRequired", "ParamSpec", "Self", "TypeAlias", "TypeGuard", "Unpack", "assert_never", "override"},
    "types": {"EllipsisType", "NoneType", "UnionType"},
    "enum": {"StrEnum"},
    "datetime": {"UTC"},
    "contextlib": {"aclosing", "chdir"},
}
_NEWER_ARGUMENTS = {"strict", "slots", "kw_only"}
#: Layer -> what it may not import.
FORBIDDEN = {
    **dict.fromkeys(("errors", "translation"), ("qt", "ctk", "slicer", "vtk", "numpy", "requests")),
    "server": ("qt", "ctk", "slicer", "vtk", "numpy"),
    "measures": ("qt", "ctk", "slicer", "vtk", "requests"),
    **dict.fromkeys(("scene", "studies", "clicks", "reports", "logic", "sample_data"), ("qt", "ctk", "requests")),
    **dict.fromkeys(("consent", "parameters", "panel", "sections"), ("requests",)),
}
#: Layer -> the layers below it, which is all that it may import of the library.
_SCENE = ("translation", "errors", "measures", "scene")
_STUDIES = ("server", *_SCENE, "studies")
_PANEL = ("consent", "parameters", "panel", "sections")
_LOGIC = (*_STUDIES, "clicks", "reports", "logic", "sample_data")
BELOW: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("sample_data", "translation"), ()),
    "errors": ("translation",),
    **dict.fromkeys(("server", "measures"), ("translation", "errors")),
    "scene": ("translation", "errors", "measures"),
    "studies": ("server", *_SCENE),
    **dict.fromkeys(("clicks", "reports"), _STUDIES),
    "logic": (*_STUDIES, "clicks", "reports"),
    **dict.fromkeys(("consent", "parameters", "panel", "sections"), (*_LOGIC, *_PANEL)),
}
#: Of the server, the panel knows what it says and what waits for it, and not how it is spoken to.
_SPOKEN = ("PratoLabelLib.server.client", "PratoLabelLib.server.connection")


def sources(name: str) -> list[Path]:
    return sorted((LIBRARY / name).glob("*.py")) or [LIBRARY / f"{name}.py"]


def test_every_file_is_in_a_layer() -> None:
    listed = [path for name in FORBIDDEN for path in sources(name)]
    assert sorted(listed) == sorted({*LIBRARY.rglob("*.py")} - {LIBRARY / "__init__.py"}) and FORBIDDEN.keys() == BELOW.keys()


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_imports_what_lies_below_it(layer: str) -> None:
    above = tuple(f"PratoLabelLib.{name}" for name in FORBIDDEN if name not in (layer, *BELOW[layer]))
    spoken = _SPOKEN if "panel" in BELOW[layer] else ()
    forbidden = (*FORBIDDEN[layer], *above, *spoken)
    found = {path.name: offences(path.read_text(encoding="utf-8"), forbidden) for path in sources(layer)}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_no_two_files_need_each_other() -> None:
    """Not even for their types: what one is told by another it listens to, and what it needs of the panel is a protocol."""
    names = {
        ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in LIBRARY.rglob("*.py")
    }
    below = {name: names.keys() & {*imported(path.read_text(encoding="utf-8"))} - {name} for name, path in names.items()}
    assert "PratoLabelLib.sections" in below["PratoLabelLib.sections.box"]
    assert list(TopologicalSorter(below).static_order())  # CycleError names the files that need each other


@pytest.mark.parametrize("path", sorted(LIBRARY.parent.rglob("*.py")), ids=lambda path: path.name)
def test_the_oldest_slicers_python_knows_what_is_used(path: Path) -> None:
    nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9)))]
    imports = [(node.module, alias.name) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert [name for module, name in imports if name in _NEWER_NAMES.get(module or "", ())] == []
    attributes = [(node.value.id, node.attr) for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    assert [name for module, name in attributes if name in _NEWER_NAMES.get(module, ())] == []
    assert [node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg in _NEWER_ARGUMENTS] == []
