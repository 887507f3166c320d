"""The guards one by one, before a small application that says what reached it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from prato_server.middleware import (
    MAX_BODY_BYTES,
    PUBLIC_PATHS,
    AddressMiddleware,
    BodyLimitMiddleware,
    HostMiddleware,
    RequestIdMiddleware,
    TokenMiddleware,
    error_response,
)
from prato_server.settings import Settings, SettingsError, load_settings

TOKEN = "a-token-of-thirty-two-characters"


def client(*guards: Middleware, address: str = "http://127.0.0.1:8000") -> TestClient:
    app = FastAPI(middleware=[Middleware(RequestIdMiddleware), *guards])

    @app.exception_handler(HTTPException)
    def told(request: Request, error: HTTPException) -> Any:
        return error_response(request.scope, error.status_code, str(error.detail))

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT"])
    async def reached(request: Request, path: str) -> dict[str, Any]:
        if path == "broken":
            raise RuntimeError("a secret of the server")
        return {"bytes": len(await request.body())}

    return TestClient(app, base_url=address, raise_server_exceptions=False)


def sentence(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"detail", "request_id"}
    assert response.json()["request_id"] == response.headers["X-Request-ID"]
    return str(response.json()["detail"])


def test_every_reply_has_an_id_and_a_failure_keeps_its_reason_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    asking = client()
    first, second = (asking.get("/x").headers["X-Request-ID"] for _ in range(2))
    assert first != second
    assert asking.get("/x", headers={"X-Request-ID": "mine-1234"}).headers["X-Request-ID"] == "mine-1234"
    assert asking.get("/x", headers={"X-Request-ID": "bad\tid, bad id"}).headers["X-Request-ID"] != "bad\tid, bad id"
    answer = asking.get("/broken", headers={"X-Request-ID": "failing-1"})
    assert "secret" not in sentence(answer, 500)
    assert "failing-1" in caplog.text
    assert "RuntimeError: a secret of the server" in caplog.text


WRONG = [None, TOKEN, f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer ", "Bearer ÿ"]


@pytest.mark.parametrize("given", WRONG)
def test_a_wrong_token_opens_nothing_but_the_pages_own_files(given: str | None) -> None:
    asking = client(Middleware(TokenMiddleware, token=TOKEN.encode()))
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    shown = ("/prato/state", "/prato/study/state", "/prato/study/pictures")
    for path in ("/", "/info/", *shown, "/prato", "/prato/page.js/", "/prato/../info/"):
        refused = asking.get(path, headers=headers)
        assert "access token" in sentence(refused, 401)
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    for path in PUBLIC_PATHS:
        assert asking.get(path, headers=headers).status_code == 200
        sentence(asking.post(path, headers=headers), 401)


def test_the_pages_own_files_under_the_path_of_a_proxy() -> None:
    """As uvicorn does with --root_path, whose value it puts before every path."""
    asking = TestClient(client(Middleware(TokenMiddleware, token=TOKEN.encode())).app, root_path="/heart")
    for path in PUBLIC_PATHS:
        assert asking.get(f"/heart{path}").status_code == 200
    sentence(asking.get("/heart/info/"), 401)


def test_redirects_hold_under_every_address_that_a_proxy_gives_this_server() -> None:
    app = FastAPI(middleware=[Middleware(RequestIdMiddleware), Middleware(AddressMiddleware)])
    for path in ("/prato/", "/datastore/image", "/a b/"):
        app.add_api_route(path, lambda: None)
    asking = TestClient(app, base_url="http://127.0.0.1:8000", follow_redirects=False)
    outside = "https://hospital.example/heart"
    for path, to in (("/prato?x=1", "/prato/?x=1"), ("/datastore/image/", "/datastore/image"), ("/a%20b", "/a%20b/")):
        redirect = asking.get(path)
        assert redirect.status_code == 307
        assert urljoin(outside + path, redirect.headers["location"]) == outside + to
        assert asking.get(path, follow_redirects=True).status_code == 200


def test_the_right_token() -> None:
    asking = client(Middleware(TokenMiddleware, token=TOKEN.encode()))
    for scheme in ("Bearer", "bearer"):
        assert asking.get("/info/", headers={"Authorization": f"{scheme} {TOKEN}"}).status_code == 200


HOSTS = Middleware(HostMiddleware, origins=("https://viewer.example",), open_to_others=False)


def test_without_a_token_only_this_machine_is_answered() -> None:
    assert client(HOSTS).get("/info/").status_code == 200
    for host in ("localhost", "[::1]:9000", "127.0.0.1", "127.8.8.8:1"):
        assert client(HOSTS).get("/info/", headers={"Host": host}).status_code == 200
    disguised = ("127.0.0.1.evil.example", "127.0.0.1@evil.example", "localhost.", "0.0.0.0", "", "[::1")
    for host in ("evil.example", "evil.example:8000", *disguised):
        assert "host" in sentence(client(HOSTS).get("/info/", headers={"Host": host}), 403)
    assert "no access token" in sentence(client(HOSTS, address="http://10.0.0.5").get("/info/"), 403)
    others = Middleware(HostMiddleware, origins=(), open_to_others=True)
    assert client(others, address="http://labels.example").get("/info/").status_code == 200


def test_other_web_pages_are_refused_whatever_they_send() -> None:
    asking = client(HOSTS)
    others = ("https://viewer.example.evil.example", "http://viewer.example", "http://[", "http://127.0.0.1:8000/x", "127.0.0.1:8000")
    for origin in ("https://evil.example", "null", "http://127.0.0.1:8001", *others):
        assert "may not use" in sentence(asking.post("/train/x", headers={"Origin": origin}), 403)
    for origin in ("http://127.0.0.1:8000", "https://viewer.example"):
        assert asking.post("/train/x", headers={"Origin": origin}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/a/%2e%2e/b", "/a/..%2fb", "/a/..%5cb", "/%2e/a", "/a%00b", "/a?image=%00", "/a?image=x%0ay", "/" + 9000 * "a"]
)
def test_addresses_that_climb_or_hide(path: str) -> None:
    # past the client's own tidying: the raw path goes into the request as it is
    asking = client(Middleware(AddressMiddleware))
    url = asking.base_url.copy_with(raw_path=path.encode())
    sentence(asking.send(asking.build_request("GET", url)), 414 if len(path) > 8192 else 400)
    for good in ("/a..b/c.nii.gz", "/a?image=..%2fx", "/a?image=Übung 1"):
        assert asking.get(good).status_code == 200


def test_bodies_are_bounded_by_what_they_say_and_by_what_they_bring() -> None:
    asking = client(Middleware(BodyLimitMiddleware, upload=2 * MAX_BODY_BYTES))

    def streamed(size: int) -> Iterator[bytes]:
        yield from (b"x" * 2**16 for _ in range(size // 2**16))

    for kind, limit in (("application/json", MAX_BODY_BYTES), ("multipart/form-data; boundary=x", 2 * MAX_BODY_BYTES)):
        headers = {"Content-Type": kind}
        assert asking.post("/x", content=b"x" * limit, headers=headers).json() == {"bytes": limit}
        assert "MiB" in sentence(asking.post("/x", content=b"x" * (limit + 1), headers=headers), 413)
        assert asking.post("/x", content=streamed(limit), headers=headers).json() == {"bytes": limit}
        assert "MiB" in sentence(asking.post("/x", content=streamed(limit + 2**16), headers=headers), 413)


def test_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Settings().read_token() is None
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert Settings(token_file=tmp_path / "token").read_token() == TOKEN.encode()
    monkeypatch.setenv("PRATO_LABEL_TOKEN", TOKEN)
    assert load_settings().read_token() == TOKEN.encode()
    assert TOKEN not in repr(load_settings())
    with pytest.raises(SettingsError, match="both set"):
        Settings(token_file=tmp_path / "token").read_token()
    monkeypatch.setenv("PRATO_LABEL_ORIGINS", "https://a.example, http://b.example:81")
    assert load_settings().origins == ("https://a.example", "http://b.example:81")


@pytest.mark.parametrize("token", ["", "short", "has a space but is long", "schlüssel-mit-umlaut-drin", "with\ttab-that-is-long"])
def test_tokens_that_protect_nothing_are_refused(token: str) -> None:
    with pytest.raises(SettingsError, match="at least 16"):
        Settings(token=token).read_token()


@pytest.mark.parametrize(
    ("name", "value"),
    [("ORIGINS", "viewer.example"), ("ORIGINS", "*"), ("ORIGINS", "https://a.example/"), ("MAX_REQUEST_MB", "0"), ("MAX_WAITING", "many")],
)
def test_settings_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PRATO_LABEL_{name}", value)
    with pytest.raises(SettingsError, match=rf"^PRATO_LABEL_{name} cannot be used: .+\.$"):
        load_settings()
