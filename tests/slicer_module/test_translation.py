"""What the panel says can be translated: it goes through ``_``, as one literal, which Slicer's tools look for."""

from __future__ import annotations

import ast
import builtins
import re
import string
from pathlib import Path
from typing import Any

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "slicer_module" / "PratoLabel" / "PratoLabelLib"
FILES = sorted(LIBRARY.rglob("*.py"))
#: Not for the eyes of a labeller, or the same in every language: names of structures, views, effects, keys, files and settings; what the
#: server's answers, requests and threads are told by; and Qt's styles.
_FIXED = {"RV cavity", "LV cavity", "Myocardium", "PrATo Label", "CSV (*.csv)", "PratoLabelSegmentEditor", "Red", "Green", "Yellow"}
_FIXED |= {"Paint", "Draw", "Erase", "Level tracing", "Islands", "Smoothing", "Margin", "Scissors", "Fill between slices", "Threshold"}
_FIXED |= {"Ctrl+Return", "Ctrl+Z", "Ctrl+Y", "Ctrl+Shift+Z", "Esc", "Resources", "Icons", ".\0.\0.npz", "\\d+ steps;|step \\d+/"}
_FIXED |= {"Authorization", "Bearer ", "SHA256:", "HTTPException: ", "PratoLabel progress", "PratoLabel worker"}
_FIXED |= {"restore \0 ", "decide \0 \0 "}
#: What nodes, and with them files, are called, and the columns that spreadsheets and scripts know.
_FIXED |= {
    " clicks",
    " browser",
    " heart",
    " tokens kept",
    " measures",
    "Structure",
    "Phase",
    "Time",
    "Patient",
    "End diastole",
    "End systole",
}
_FIXED |= {"Volume (ml)", "Mass (g)", "EDV (ml)", "ESV (ml)", "SV (ml)", "EF (%)"}
_MACHINE = re.compile(r"background: |%Y-|PratoLabel[/.-]|\w*[a-z]\w*\.\w+$|[A-Z_]+$|[A-Z]\w*[a-z][A-Z]\w*$|[A-Z]\w*(-[A-Z]\w*)+$")


def _is_for_the_console(node: ast.AST) -> bool:
    """Whether the node logs something, or raises an error of Python's own: no labeller reads that as a sentence."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return isinstance(node.func.value, ast.Name) and node.func.value.id == "_logger"
    is_raised = isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    return is_raised and hasattr(builtins, node.exc.func.id)


def literals(path: Path) -> tuple[list[str], list[ast.Call]]:
    """The texts of a file outside docstrings, with their placeholders left out, and the calls of ``_``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_"]
    inside = {id(child) for call in calls for child in ast.walk(call)}
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    inside |= {id(child) for node in ast.walk(tree) if _is_for_the_console(node) for child in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in inside:
            inside |= {id(child) for child in node.values}
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            found += ["\0".join(parts)] if any(c.isalpha() for part in parts for c in part) else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found.append(node.value)
    return found, calls


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_shown_goes_through_translation(path: Path) -> None:
    texts, _ = literals(path)
    shown = [text for text in texts if re.search(r"[a-z]{2}.*\s|\s.*[a-z]{2}|\0|^[A-Z]", text)]
    assert [text for text in shown if text not in _FIXED and not _MACHINE.match(text)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_translated_is_one_literal_with_named_placeholders(path: Path) -> None:
    _, calls = literals(path)
    texts = [ast.literal_eval(call.args[0]) for call in calls]  # fails for what is put together
    names = [name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    assert all(name.isidentifier() for name in names)  # the words of another language come in another order
    assert not [text for text in texts if '")' in text]  # where Slicer's tool would end it


@pytest.mark.slow
def test_the_panel_speaks_slicers_language(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    said = {"Not connected.": "Nicht verbunden.", "{labelled} of {count} labelled": "Von {count} beschriftet: {labelled}"}
    said["No study is open: there is nothing to submit."] = "Keine Studie ist geöffnet."
    said["{name} {version}, round trip {time:.0f} ms\nModels: {models}"] = "{name} {Version}"  # which cannot be filled in
    asked = set()
    monkeypatch.setattr(slicer.app, "translate", lambda context, text: asked.add((context, text)) or said.get(text, text))
    driver.panel.refresh()
    assert driver.ui.serverLabel.text == "Nicht verbunden."
    driver.click("test")
    assert driver.ui.studiesLabel.text == "Von 2 beschriftet: 1"
    assert "round trip" in driver.ui.serverLabel.text
    driver.logic.submit("Ada")
    assert driver.status == "Keine Studie ist geöffnet."  # what the logic says
    assert {("sections.study", "{labelled} of {count} labelled"), ("PratoLabelLib.panel", "Waiting for the server…")} <= asked
