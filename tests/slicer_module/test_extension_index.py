"""The repository passes what 3D Slicer's Extension Index checks of an extension, and so does the extension's own repository.

``SLICER_EXTENSIONS_INDEX`` names a checkout of the Index (GitHub: Slicer/ExtensionsIndex): its own checker then runs too, with this
machine's files in place of GitHub.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest

from scripts import extension
from tests.scripts.cli import run_script

ROOT = Path(__file__).resolve().parents[2]
RAW = "https://raw.githubusercontent.com/prato-label/SlicerPratoLabel/main/"
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
ENTRY = json.loads((ROOT / "PratoLabel.json").read_text(encoding="utf-8"))


def metadata(name: str) -> str:
    """``EXTENSION_<name>``, found as the Index's checker finds it."""
    return re.findall(rf'set\s*\(EXTENSION_{name}\s*"([^"]+)"[ ]*\)', CMAKE)[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension's own repository."""
    folder = tmp_path_factory.mktemp("export") / "SlicerPratoLabel"
    done = run_script(extension.app, "export", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_the_catalog_entry_is_what_the_schema_asks_for() -> None:
    expected = {
        "$schema": "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#",
        "build_dependencies": [],
        "build_subdirectory": ".",
        "category": metadata("CATEGORY"),
        "scm_revision": "main",
        "scm_url": f"{metadata('HOMEPAGE')}.git",
        "tier": 3,
    }
    assert expected == ENTRY
    assert b"\r" not in (ROOT / "PratoLabel.json").read_bytes()


def test_the_root_describes_the_extension() -> None:
    assert re.findall(r"project\s*\(\s*([^\s\)]+)", CMAKE)[0] == "PratoLabel"  # the name of the .json file
    assert metadata("CATEGORY") in ("Segmentation", "Cardiac", "Active Learning")  # some of those that the Index knows
    assert 1 <= metadata("DESCRIPTION").count(".") <= 2  # one or two sentences, for those who are no experts
    assert not {"token", "transformer", "prompt"} & set(metadata("DESCRIPTION").lower().split())
    assert metadata("CONTRIBUTORS")
    assert metadata("DEPENDS") == "NA" and ENTRY["build_dependencies"] == []


@pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
def test_icon_and_screenshots_are_files_of_the_repository(name: str, exported: Path) -> None:
    for url in metadata(name).split():
        assert url.startswith(RAW)
        for folder in (ROOT, exported):
            assert (folder / url.removeprefix(RAW)).read_bytes().startswith(b"\x89PNG")


def test_the_address_is_the_same_wherever_it_stands() -> None:
    named: dict[str, Path] = {}
    module = [path for path in (ROOT / "slicer_module").rglob("*") if path.suffix in (".py", ".md")]
    for path in (ROOT / "CMakeLists.txt", ROOT / "scripts" / "extension.py", *module, *(ROOT / "docs").rglob("*.md")):
        for found in re.findall(r"github(?:usercontent)?\.com/(prato-label/[\w-]+)", path.read_text(encoding="utf-8")):
            named.setdefault(found, path)
    assert set(named) <= {"prato-label/SlicerPratoLabel", extension.PROJECT.removeprefix("https://github.com/")}, named
    assert ENTRY["scm_url"] == "https://github.com/prato-label/SlicerPratoLabel.git"  # the Index wants names that begin with "Slicer"


def test_the_homepage_says_what_the_index_asks_for(exported: Path) -> None:
    page = (exported / "README.md").read_text(encoding="utf-8")
    assert page.startswith("# PrATo Label")
    description = " ".join(page.split("\n\n")[1].split())
    assert description.startswith(metadata("DESCRIPTION"))
    needed = (
        r"!\[.+\]\(docs/images/.+\.png\)",
        r"\*\*Module\*\*",
        r"docs/tutorial\.md",
        r"Sample Data",
        r"arxiv\.org/abs/",
        r"Apache-2\.0",
    )
    for pattern in needed:
        assert re.search(pattern, page), pattern


def test_what_is_exported_is_whole_and_small(exported: Path) -> None:
    files = [path for path in exported.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10 * 2**20
    module = ROOT / extension.MODULE
    ours = sorted(str(path.relative_to(ROOT)) for path in module.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert sorted(str(path.relative_to(exported)) for path in files if "slicer_module" in path.parts) == ours
    assert (exported / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    for page in (path for path in files if path.suffix == ".md"):
        for link, _ in extension._LINK.findall(page.read_text(encoding="utf-8")):
            assert (page.parent / link).resolve().is_file(), f"{page}: {link}"
        for aim in re.findall(rf"\]\({extension.PROJECT}/blob/main/([^)#]+)", page.read_text(encoding="utf-8")):
            assert (ROOT / aim).exists(), f"{page}: {aim}"


def test_nothing_is_exported_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run_script(extension.app, "export", tmp_path)
    assert done.exit_code == 2 and "is not empty: give a new folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_the_sample_data_are_what_the_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "ROOT", tmp_path)
    assert run_script(extension.app, "samples").exit_code == 0
    for path in (tmp_path / extension.MODULE).rglob("*.nii.gz"):
        kept = ROOT / path.relative_to(tmp_path)
        ours, made = nibabel.load(kept), nibabel.load(path)
        # libraries of other versions may round a value of the noise another way
        assert np.abs(np.asarray(ours.dataobj, np.int32) - np.asarray(made.dataobj, np.int32)).max() <= 1
        assert np.allclose(ours.affine, made.affine, atol=1e-4)


_STAND_IN = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/done.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/done.cmake)
"""
_USE = """
include(CMakeParseArguments)
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(M "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file ${M_SCRIPTS} ${M_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "missing: ${file}")
    endif()
    message(STATUS "installed: ${file}")
  endforeach()
endmacro()
macro(slicer_add_python_unittest)
  cmake_parse_arguments(T "" "SCRIPT" "" ${ARGN})
  message(STATUS "tested: ${T_SCRIPT}")
endmacro()
foreach(file ${EXTENSION_LICENSE_FILE} ${EXTENSION_README_FILE})
  if(NOT EXISTS ${file})
    message(FATAL_ERROR "missing: ${file}")
  endif()
endforeach()
"""


@pytest.mark.parametrize("whole", [True, False], ids=["this repository", "the extension's own"])
def test_cmake_configures_the_extension(whole: bool, exported: Path, tmp_path: Path) -> None:
    """With a stand-in for Slicer's build tree that takes what it is given."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed (apt install cmake): the build files are not configured")
    for name, text in (("SlicerConfig.cmake", _STAND_IN), ("use.cmake", _USE), ("done.cmake", "")):
        (tmp_path / name).write_text(text)
    options = [f"-DSlicer_DIR={tmp_path}", "-DBUILD_TESTING=ON", "-B", str(tmp_path / "build"), "-S", str(ROOT if whole else exported)]
    done = subprocess.run(["cmake", *options], capture_output=True, text=True, check=False)
    if "CMAKE_C_COMPILER" in done.stderr:
        pytest.skip("there is no C compiler, which cmake asks for: the build files are not configured")
    assert done.returncode == 0, done.stderr
    said = set(re.findall(r"-- (.+)", done.stdout))
    assert {"installed: PratoLabel.py", "tested: PratoLabel.py", "tested: PratoLabelBoxTestCase.py"} <= said


# The Index's own checker


@pytest.fixture
def checker() -> ModuleType:
    """check_description_files.py of the Index."""
    index = os.environ.get("SLICER_EXTENSIONS_INDEX", "")
    path = Path(index) / "scripts" / "check_description_files.py"
    if not index or not path.is_file():
        pytest.skip("SLICER_EXTENSIONS_INDEX names no checkout of github.com/Slicer/ExtensionsIndex: its own checker does not run")
    source = path.read_text(encoding="utf-8")
    if sys.version_info < (3, 12):  # one function, which no check calls, is written for newer ones
        source = re.sub(r"^def print_categories.*?(?=^def )", "", source, flags=re.DOTALL | re.MULTILINE)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_description_files", loader=None))  # type: ignore[arg-type]
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def from_disk(index: Path, folder: Path) -> Any:
    """``requests.get``, answered by the checkout of the Index and the repository in ``folder``."""

    def get(url: str, **_: Any) -> Any:
        import requests

        response = requests.Response()
        if url.startswith("https://api.github.com/"):
            found: Path | None = None
            response._content = json.dumps({"names": ["3d-slicer-extension"]}).encode()
        elif url.startswith(RAW):
            found = folder / url.removeprefix(RAW)
            response.headers["Content-Type"] = "image/png"
        else:
            found = index / "schemas" / url.rsplit("/", 1)[1]
        if found is not None:
            response._content = found.read_bytes()
        response.status_code = 200
        return response

    return get


def test_the_checker_finds_nothing(checker: ModuleType, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(exported)]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    for n, (key, value) in enumerate([(f"url.{exported}.insteadOf", ENTRY["scm_url"]), ("safe.directory", "*")]):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{n}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{n}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    import requests

    monkeypatch.setattr(requests, "get", from_disk(Path(os.environ["SLICER_EXTENSIONS_INDEX"]), exported))
    clone = tmp_path / "clone"
    given = {
        "check_clone_repository": {"cloned_repository_folder": str(clone)},
        "check_repository_size": {"cloned_repository_folder": str(clone)},
        "check_json_schema": {},
        "check_json_file_format": {"extension_file_path": str(ROOT / "PratoLabel.json")},
        "check_extension_name": {},
        "check_category": {},
        "check_git_repository_name": {},
        "check_git_repository_topics": {},
        "check_scm_url_syntax": {},
        "check_cmakelists_content": {"cloned_repository_folder": str(clone)},
        "check_license_file": {"cloned_repository_folder": str(clone)},
    }
    assert set(given) == {name for name in vars(checker) if name.startswith("check_")} - {"check_dependencies"}
    for name, arguments in given.items():
        getattr(checker, name)("PratoLabel", ENTRY, **arguments)  # raises where something is wrong


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    done = run_script(extension.app, "export", tmp_path / "file" / "export")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{tmp_path / 'file' / 'export'} cannot be written to (Not a directory): ")
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]
