"""The examples in tests/contract/ are what the real server says, and docs/protocol describes just that."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from prato.inference.image_stack import IMAGE_WARNINGS
from prato.inference.prediction_warnings import MASK_WARNINGS
from prato.inference.request import CONTRACT
from prato.prompts.points import PointsPrompt
from tests.app.live import LiveServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "tests" / "contract").glob("*.json"))
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "protocol").glob("*.md")}
#: Parts of a reply that are the same for every model and machine.
FIXED = ("label_names", "box", "box_source")


def example(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def same_kind(said: Any, shown: Any, where: str) -> None:
    """``said`` has the types and, in objects, the keys of ``shown``."""
    numbers = isinstance(said, (int, float)) and isinstance(shown, (int, float))
    assert numbers or type(said) is type(shown), where
    if isinstance(shown, dict):
        assert list(said) == list(shown) or set(said) == set(shown), where
        for key in shown:
            same_kind(said[key], shown[key], f"{where}.{key}")


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_the_server_answers_as_the_example_says(live_server: LiveServer, path: Path) -> None:
    request, shown = (example(path)[part] for part in ("request", "reply"))
    said = live_server.infer(request["model"], request["image"], request["params"])
    assert said.status == shown["status"], said.json
    if said.status != 200:
        assert said.json == {"detail": shown["detail"], "request_id": said.json["request_id"]}
        return
    same_kind(said.json, shown["params"], path.stem)
    assert {key: said.json[key] for key in FIXED} == {key: shown["params"][key] for key in FIXED}
    assert list(said.json["kept_fraction"]) == list(shown["params"]["kept_fraction"])
    assert re.fullmatch(r"[0-9a-f]{12}", said.json["model_version"])
    assert said.name.endswith(request["params"].get("result_extension", "" if "previous" in request["params"] else ".nii.gz"))
    if "tokens" in shown["params"]:
        fixed = ("shape", "dtype", "order", "encoding")
        assert [said.json["tokens"][key] for key in fixed] == [shown["params"]["tokens"][key] for key in fixed]


def test_the_first_page_lists_every_route(live_server: LiveServer) -> None:
    listed = set(re.findall(r"`((?:GET|HEAD|POST|PUT|DELETE) [^`? ]+)`", PAGES["README"].split("## All requests", 1)[1]))
    routes = {
        f"{method.upper()} {path}"
        for path, methods in requests.get(f"{live_server.url}/openapi.json", timeout=200).json()["paths"].items()
        for method in methods
    }
    assert {route for route in routes if "/scoring/" not in route} <= listed


def test_the_server_describes_the_routes_that_answer(live_server: LiveServer) -> None:
    """And not those of MONAI Label that they stand before."""
    paths = requests.get(f"{live_server.url}/openapi.json", timeout=200).json()["paths"]
    removing = [parameter["name"] for parameter in paths["/datastore/label"]["delete"]["parameters"]]
    assert {"id", "tag", "annotator"} <= {*removing}
    assert "its versions stay" in paths["/datastore/label"]["delete"]["description"]
    assert not [path for path in paths if path.startswith(("/infer/wsi", "/reload"))]


def first_column(heading: str) -> set[str]:
    """The code words in the first column of the table of docs/protocol/infer.md with that ``heading``."""
    rows = re.findall(r"^\|(.*?)\|", PAGES["infer"].split(heading, 1)[1].split("\n\n", 1)[0], flags=re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_the_page_lists_the_parameters() -> None:
    assert first_column("| parameter |") == {*CONTRACT, *PointsPrompt.fields, "propagate", "result_extension", "result_dtype"}


def test_the_page_lists_the_parts_of_a_reply() -> None:
    replies = [example(path)["reply"] for path in EXAMPLES]
    assert first_column("| key of the JSON part |") == {key for reply in replies for key in reply.get("params", ())}


def test_the_page_lists_the_warnings() -> None:
    box = {"box_cut_by_target", "box_far_larger_than_target", "box_misses_target", "whole_image"}
    assert first_column("| warning |") == {*IMAGE_WARNINGS, *box, *MASK_WARNINGS, "parameter_ignored: <name>"}


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem.startswith("error")], ids=lambda path: path.stem)
def test_the_page_shows_how_refusals_read(path: Path) -> None:
    assert f"`{example(path)['reply']['detail']}`" in PAGES["errors"]
