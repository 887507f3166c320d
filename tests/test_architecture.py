"""Imports point one way: the app and the scripts know the science, the science knows neither, and the Slicer module knows only HTTP."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Modules of MONAI Label that import torchvision, which does not import beside a CPU build of torch.
PULLS_TORCHVISION = (
    "torchvision",
    "monailabel.transform.post",
    "monailabel.deepedit.handlers",
    "monailabel.scribbles",
    "monailabel.sam2.infer",
    "monailabel.tasks.infer.bundle",
)
#: Folder (or file) -> what nothing in it may import.
FORBIDDEN = {
    "apps": ("scripts", "slicer"),
    "apps/prato_label/prato": ("monailabel", "fastapi", "starlette", "prato_server", "lib", "main"),
    "apps/prato_label/prato/data/labels": ("prato.data.studies", "prato.data.cases"),
    "apps/prato_label/prato/dicom/reading": ("prato.dicom.cines", "prato.dicom.origin", "prato.dicom.labels", "prato.dicom.importer"),
    "apps/prato_label/prato/dicom/cines": ("prato.dicom.origin", "prato.dicom.labels", "prato.dicom.importer"),
    "apps/prato_label/prato/dicom/origin": ("prato.dicom.labels", "prato.dicom.importer"),
    "apps/prato_label/prato/dicom/labels": ("prato.dicom.importer", "prato.dicom.studies"),
    "apps/prato_label/lib": ("main", "prato.phantom"),
    "apps/prato_label/prato_server": ("torch", "prato", "lib", "main"),
    "scripts": ("monailabel", "lib", "main", "slicer"),
    "slicer_module": ("torch", "monai", "monailabel", "prato", "lib", "main", "scripts"),
}


def imported(source: str) -> Iterator[str]:
    """Every module that ``source`` imports anywhere, dotted; ``from a import b`` gives ``a`` and ``a.b``, as b may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(source: str, forbidden: tuple[str, ...]) -> list[str]:
    """The imports of ``source`` that are one of ``forbidden`` or lie below one."""
    return sorted({name for name in imported(source) for bad in forbidden if name == bad or name.startswith(f"{bad}.")})


def python_files(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(p for p in path.rglob("*.py") if "__pycache__" not in p.parts)


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_point_one_way(place: str) -> None:
    found = {str(p.relative_to(ROOT)): offences(p.read_text(encoding="utf-8"), FORBIDDEN[place]) for p in python_files(place)}
    assert {name: bad for name, bad in found.items() if bad} == {}


@pytest.mark.parametrize(
    ("place", "package"),
    [
        ("apps/prato_label/prato", "prato"),
        ("apps/prato_label/prato/data", "prato.data"),
        ("apps/prato_label/prato/dicom", "prato.dicom"),
        ("apps/prato_label/lib", "lib"),
        ("slicer_module/PratoLabel/PratoLabelLib", "PratoLabelLib"),
        ("scripts", "scripts"),
        ("scripts/research", "scripts.research"),
        ("scripts/simulate", "scripts.simulate"),
    ],
)
def test_folders_stand_one_above_the_other(place: str, package: str) -> None:
    below = dict[str, set[str]]()
    for path in python_files(place):
        room = path.relative_to(ROOT / place).parts[0].removesuffix(".py")
        inside = [module for module in imported(path.read_text(encoding="utf-8")) if module.startswith(f"{package}.")]
        below.setdefault(room, set()).update({module.removeprefix(f"{package}.").split(".")[0] for module in inside} - {room})
    assert len(below) > 3
    assert list(TopologicalSorter(below).static_order())  # CycleError names the folders that need each other


@pytest.mark.parametrize("place", ["apps", "scripts", "slicer_module", "tests"])
def test_nothing_pulls_in_torchvision(place: str) -> None:
    found = {str(p.relative_to(ROOT)): offences(p.read_text(encoding="utf-8"), PULLS_TORCHVISION) for p in python_files(place)}
    assert {name: bad for name, bad in found.items() if bad} == {}


def registered_networks() -> set[str]:
    """The names of the classes that ``@register_model`` decorates."""
    return {
        node.name
        for path in python_files("apps/prato_label/prato/models")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any("register_model" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def asks_which_network(source: str, networks: set[str]) -> list[str]:
    """Calls of isinstance or issubclass, and patterns of match, that name one of the classes ``networks``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass")
        if call or isinstance(node, ast.MatchClass):
            names = {n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)}
            found += [ast.unparse(node)] if names & networks else []
    return found


@pytest.mark.slow
def test_nobody_outside_models_asks_which_network_it_has() -> None:
    networks = registered_networks()
    assert {"PratoUNETR", "PratoSwinUNETR", "PratoTransUNet", "PratoSegFormer"} <= networks
    outside = [path for place in ("apps", "scripts") for path in python_files(place) if "prato/models" not in path.as_posix()]
    found = {str(p.relative_to(ROOT)): asks_which_network(p.read_text(encoding="utf-8"), networks) for p in outside}
    assert {name: calls for name, calls in found.items() if calls} == {}
    assert asks_which_network("isinstance(x, int | models.PratoUNETR)", networks)
    assert asks_which_network("match x:\n  case PratoUNETR(): pass", networks)
    assert not asks_which_network("isinstance(x, UNETR), PratoUNETR()", networks)


def test_the_top_of_scripts_holds_what_a_user_runs_and_no_more() -> None:
    assert len([path for path in (ROOT / "scripts").iterdir() if path.is_file()]) <= 18


def unexplained(source: str) -> list[str]:
    """The options and arguments of a command line, ``parser.add_argument`` or ``typer``'s, that no help says anything of."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    declared = [call for call in calls if ast.unparse(call.func).endswith((".add_argument", "typer.Option", "typer.Argument"))]
    return [ast.unparse(call) for call in declared if not any(keyword.arg == "help" for keyword in call.keywords)]


@pytest.mark.parametrize("place", ["scripts", "apps/prato_label/serve.py"])
def test_every_option_says_what_it_is_for(place: str) -> None:
    found = {str(path.relative_to(ROOT)): unexplained(path.read_text(encoding="utf-8")) for path in python_files(place)}
    assert not {path: options for path, options in found.items() if options}


def test_options_without_a_word_are_seen_in_either_form() -> None:
    assert unexplained('parser.add_argument("--a")\nb: Annotated[int, typer.Option(min=0)] = 0') == [
        "parser.add_argument('--a')",
        "typer.Option(min=0)",
    ]
    assert not unexplained('parser.add_argument("--a", help="x")\nb: Annotated[int, typer.Argument(help="x")]')


def test_a_person_can_read_the_results() -> None:
    results = [path for path in (ROOT / "docs" / "results").rglob("*") if path.is_file()]
    assert results
    assert sum(path.read_bytes().count(b"\n") for path in results) <= 20_000


@pytest.mark.parametrize("place", ["apps", "scripts", "slicer_module"])
def test_a_file_holds_one_idea(place: str) -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in python_files(place)}
    assert {name: lines for name, lines in lengths.items() if lines > 280} == {}


def test_the_rules_look_at_files_that_exist() -> None:
    assert len(python_files("apps/prato_label/prato")) > 10
    assert len(python_files("apps/prato_label/lib")) > 3
    assert len(python_files("scripts")) >= 4


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import monailabel.interfaces.app", ["monailabel.interfaces.app"]),
        ("from monailabel import config", ["monailabel", "monailabel.config"]),
        ("def f():\n    import lib.infers as x", ["lib.infers"]),
        ("if False:\n    from lib import y", ["lib", "lib.y"]),
        ("import library, prato.lib, monailabelling", []),
        ("from . import lib", []),
    ],
)
def test_the_rules_see_every_form_of_import(source: str, found: list[str]) -> None:
    assert offences(source, ("monailabel", "lib")) == found


def test_the_modules_that_pull_in_torchvision_are_seen_by_either_form() -> None:
    assert offences("from monailabel.transform import post", PULLS_TORCHVISION) == ["monailabel.transform.post"]
    assert offences("import torchvision.ops", PULLS_TORCHVISION) == ["torchvision.ops"]


#: Names of the standard library that Python 3.10 has not got, by module; mypy looks with 3.11, as it takes some syntax of 3.10 for newer.
NEWER_THAN_3_10 = {
    "asyncio": {"Barrier", "Runner", "TaskGroup", "timeout", "timeout_at"},
    "contextlib": {"chdir"},
    "datetime": {"UTC"},
    "enum": {"EnumCheck", "FlagBoundary", "ReprEnum", "StrEnum", "global_enum", "member", "nonmember", "property", "verify"},
    "hashlib": {"file_digest"},
    "inspect": {"getmembers_static", "ismethodwrapper"},
    "logging": {"getHandlerByName", "getHandlerNames", "getLevelNamesMapping"},
    "math": {"cbrt", "exp2"},
    "operator": {"call"},
    "sys": {"exception"},
    "typing": {"LiteralString", "Never", "NotRequired", "Required", "Self", "TypeVarTuple", "Unpack", "assert_never", "assert_type"},
}


def newer_names(source: str) -> list[str]:
    """What of ``source`` Python 3.10 does not know: modules, names imported from them, and names used as their attributes."""
    newer = {f"{module}.{name}" for module, names in NEWER_THAN_3_10.items() for name in names}
    used = set(imported(source))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Name) and node.id in ("ExceptionGroup", "BaseExceptionGroup"):
            used.add(node.id)
    return sorted(used & {*newer, "tomllib", "wsgiref.types", "ExceptionGroup", "BaseExceptionGroup"})


@pytest.mark.parametrize("place", ["apps", "scripts", "tests"])
def test_python_3_10_knows_everything_that_is_used(place: str) -> None:
    found = {str(p.relative_to(ROOT)): newer_names(p.read_text(encoding="utf-8")) for p in python_files(place)}
    assert {name: newer for name, newer in found.items() if newer} == {}


def test_newer_names_are_seen_however_they_are_written() -> None:
    source = "from enum import StrEnum\nimport tomllib, hashlib\nhashlib.file_digest\nraise ExceptionGroup('', [])"
    assert newer_names(source) == ["ExceptionGroup", "enum.StrEnum", "hashlib.file_digest", "tomllib"]
