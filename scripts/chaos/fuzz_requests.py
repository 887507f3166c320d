"""Requests that nobody should send, made from what /openapi.json says of the routes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

#: Names that climb, hide, pretend or overflow.
HOSTILE = (
    *("..", "../..", "../../etc/passwd", "/etc/passwd", "..\\..\\x", "%2e%2e%2fx", "a/../b", "C:\\x", "\\\\host\\x", "~", "x\0y", "\0"),
    *("\uff0e\uff0e\uff0fx", "a\u2215b", "x\u202ey", "\ud800", "a" * 300, "\u00e4" * 200, "", " ", ".", "-", "--help", "$(id)", "x;y"),
    *("<script>alert(1)</script>", "' OR 1=1 --", "NaN", "null", "-1", "1e999", "9" * 40, "0", "true", "[]", "{}"),
)
#: Routes left out of /openapi.json.
HIDDEN = (
    *(
        ("GET", path)
        for path in (
            *("/", "/docs", "/openapi.json", "/favicon.ico", "/static/{name}", "/ohif/{name}", "/prato/", "/prato/state"),
            *("/prato/study", "/prato/study/state", "/prato/study/pictures"),
        )
    ),
    *(("POST", path) for path in ("/reload", "/infer/wsi/{name}", "/proxy/dicom/{name}")),
    *(("PUT", "/datastore/"), ("DELETE", "/datastore/"), ("PUT", "/datastore/updatelabelinfo"), ("DELETE", "/infer/{name}")),
)
#: What would only cost time here: the work of a whole job inside one request.
_NEVER = ("run_sync",)


@dataclass(frozen=True)
class Fuzz:
    """A request: ``route`` is its method and the path as the routes are listed, ``parts`` what ``requests.request`` takes."""

    route: str
    method: str
    path: str
    parts: dict[str, Any]


def requests_for(openapi: dict[str, Any], known: Iterable[str], files: Iterable[bytes]) -> st.SearchStrategy[Fuzz]:
    """Requests to every route; ``known`` are names that exist on the server, ``files`` whole files that it might take."""
    names = st.one_of(st.sampled_from(sorted(known)), st.sampled_from(HOSTILE), st.text(max_size=40))
    contents = st.one_of(st.sampled_from(list(files)), st.binary(max_size=600))
    listed = [(method.upper(), path, described) for path, methods in openapi["paths"].items() for method, described in methods.items()]
    hidden = [(method, path, {"parameters": [{"name": "name", "in": "path"}] if "{name}" in path else []}) for method, path in HIDDEN]
    schemas = openapi.get("components", {}).get("schemas", {})
    return st.one_of([_one(*route, schemas, names, contents) for route in [*listed, *hidden]])


def _one(
    method: str,
    path: str,
    described: dict[str, Any],
    schemas: dict[str, Any],
    names: st.SearchStrategy[str],
    contents: st.SearchStrategy[bytes],
) -> st.SearchStrategy[Fuzz]:
    parameters = [p for p in described.get("parameters", []) if p["name"] not in _NEVER]
    # what exists is not to be removed, or the rest would have nothing to work on
    own = names if method != "DELETE" else st.sampled_from(HOSTILE)
    values = {p["name"]: own for p in parameters if p["in"] == "path"}
    query = st.dictionaries(st.sampled_from([p["name"] for p in parameters if p["in"] == "query"] or ["x"]), own, max_size=4)

    def build(inside: dict[str, str], query: dict[str, str], body: dict[str, Any]) -> Fuzz:
        filled = path
        for name, value in inside.items():
            filled = filled.replace(f"{{{name}}}", _sendable(value) or "-")
        query = {name: _sendable(value) for name, value in query.items()}
        return Fuzz(f"{method} {path}", method, filled, {"params": query, **body})

    return st.builds(build, st.fixed_dictionaries(values), query, _body(described, schemas, names, contents))


def _body(
    described: dict[str, Any], schemas: dict[str, Any], names: st.SearchStrategy[str], contents: st.SearchStrategy[bytes]
) -> st.SearchStrategy[dict[str, Any]]:
    kinds = described.get("requestBody", {}).get("content", {})
    json_body = st.one_of(_json(names).map(_sent_as_json), st.binary(max_size=60).map(lambda raw: {"data": raw, "headers": _JSON}))
    form = kinds.get("multipart/form-data") or kinds.get("application/x-www-form-urlencoded")
    if form is None:
        return json_body if "application/json" in kinds else st.just({})
    schema = form["schema"]
    schema = schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    fields = {name: _form_field(field, names, contents) for name, field in schema.get("properties", {}).items()}
    return st.fixed_dictionaries({}, optional=fields).map(lambda parts: {"files": parts} if parts else {})


def _form_field(field: dict[str, Any], names: st.SearchStrategy[str], contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    if "binary" in json.dumps(field) or "octet-stream" in json.dumps(field):
        return st.tuples(names.map(lambda name: _sendable(name) or "x"), contents)
    text = st.one_of(st.just("{}"), _json(names).map(json.dumps), names.map(_sendable))
    return text.map(lambda value: (None, value))


def _sendable(text: str) -> str:
    """``text`` without the half surrogate pairs that no client can send."""
    return text.encode("utf-8", "replace").decode()


_JSON = {"Content-Type": "application/json"}


def _sent_as_json(value: Any) -> dict[str, Any]:
    return {"data": json.dumps(value), "headers": _JSON}


def _json(names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(("roi", "prune", "device", "model", "image", "seed", "max_steps", "RV cavity", "label_info", "annotator", "x"))
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), names)

    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(st.lists(inner, max_size=7), st.dictionaries(keys, inner, max_size=3))

    tree = st.recursive(leaves, deeper, max_leaves=8)
    return st.one_of(st.dictionaries(keys, tree, max_size=4), tree)
