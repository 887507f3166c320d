"""A PACS that is slow, full, locked or mad costs one sentence, and no secret is in it."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from prato.pacs import web
from prato.pacs.web import Pacs, PacsError
from tests.prato.dicom.scans import Scan

IMAGE = Scan(slices=3, phases=6).image(0, 0)
IDS = (str(IMAGE.StudyInstanceUID), str(IMAGE.SeriesInstanceUID), str(IMAGE.SOPInstanceUID))
SECRET = "a-secret-token-nobody-may-read"
CALLS: dict[str, Callable[[Pacs], object]] = {
    "search_series": lambda pacs: pacs.search_series({"Modality": "MR"}),
    "series_headers": lambda pacs: pacs.series_headers(*IDS[:2]),
    "header": lambda pacs: pacs.header(*IDS),
    "image": lambda pacs: pacs.image(*IDS),
    "has_instance": lambda pacs: pacs.has_instance(IDS[0], IDS[2]),
    "store": lambda pacs: pacs.store(IMAGE),
}
Answer = Callable[[BaseHTTPRequestHandler], None]


def reply(status: int = 200, body: bytes = b"", kind: str = "application/dicom+json", warning: str = "") -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if warning:
            handler.send_header("Warning", warning)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.end_headers()
    while True:
        handler.wfile.write(b"[")
        handler.wfile.flush()
        if stop.wait(0.02):
            return


def flood(handler: BaseHTTPRequestHandler) -> None:
    """As much as there is room for, and more."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.end_headers()
    while not stop.is_set():
        handler.wfile.write(b" " * 2**16)


def hang(handler: BaseHTTPRequestHandler) -> None:
    stop.wait(5)


def close(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def broken_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'[{"0020')


stop = threading.Event()
_MULTIPART = 'multipart/related; boundary="x"; type="application/dicom"'
FULL = {"00081198": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [IDS[2]]}, "00081197": {"vr": "US", "Value": [0xA700]}}]}}
ANSWERS: dict[str, tuple[Answer, str]] = {
    "a login page": (reply(200, b"<html>Sign in</html>", "text/html"), "answered with something other than"),
    "half of its JSON": (reply(200, b'[{"0020000D": {"vr": "UI", "Va'), "answered with something other than"),
    "numbers": (reply(200, b"[1, 2, 3]"), "answered with something other than"),
    "a text": (reply(200, b'"hello"'), "answered with something other than"),
    "values of the wrong kind": (reply(200, json.dumps([{"0020000D": 5}]).encode()), "answered with something other than"),
    "multipart without parts": (
        reply(200, b"--x--", 'multipart/related; boundary="x"; type="application/dicom"'),
        "answered with something other than",
    ),
    "401": (reply(401), "requires credentials: set PRATO_LABEL_PACS_USER"),
    "403": (reply(403), "does not allow this"),
    "404": (reply(404), "has no such address or image"),
    "500": (reply(500, b"oops"), "answered 500 instead of"),
    "507": (reply(507), "is full: free some space there"),
    "no end": (drip, "did not answer in time"),
    "too much": (flood, "answered with something other than"),
    "silence": (hang, "did not answer in time"),
    "a closed door": (close, "cannot be reached, or closed the connection"),
    "half an answer": (broken_off, "cannot be reached, or closed the connection"),
}


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer(self)
            except OSError:
                pass

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    stop.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ANSWERS)
def test_every_call_ends_in_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    answer, sentence = ANSWERS[name]
    patience = 0.3 if "in time" in sentence else 60.0  # a busy machine takes its time to answer, too
    monkeypatch.setattr(web, "_READ_S", patience)
    monkeypatch.setattr(web, "_WHOLE_S", patience)
    monkeypatch.setattr(web, "_MAX_BYTES", 2**20)
    with caplog.at_level(logging.DEBUG), served(answer) as url:
        pacs = Pacs(url, token=SECRET)
        for call, do in CALLS.items():
            with pytest.raises(PacsError) as caught:
                do(pacs)
            said = str(caught.value)
            is_gone = name == "404" and call in ("header", "image")
            assert ("restore it there" if is_gone else sentence) in said, f"{call}: {said}"
            assert said.startswith("The PACS ") and said.endswith((".", "?")) and SECRET not in said and IDS[0] not in said
    assert SECRET not in caplog.text


def test_a_connection_that_is_ended_while_it_is_used_again_costs_nothing() -> None:
    """As by Orthanc, which ends those that were idle for a second: only bad luck and a busy machine make both happen at once."""
    known: list[object] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version, handler.close_connection = "HTTP/1.1", handler.client_address in known
        known.append(handler.client_address)
        if not handler.close_connection:
            reply(200, b"[]")(handler)

    with served(answer) as url:
        pacs = Pacs(url)
        assert [pacs.search_series({}) for _ in range(2)] == [([], True)] * 2
    assert [known.count(one) for one in dict.fromkeys(known)] == [2, 1]


@pytest.mark.parametrize("status", [200, 409])
def test_a_full_pacs_that_says_so_in_its_reply(status: int) -> None:
    with served(reply(status, json.dumps(FULL).encode())) as url, pytest.raises(PacsError, match="is full: free some space there"):
        Pacs(url).store(IMAGE)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"00081190": {"vr": "UR", "Value": ["http://pacs/x"]}}'])
def test_what_is_no_acknowledgement_is_none(body: bytes) -> None:
    with served(reply(200, body)) as url, pytest.raises(PacsError, match="other than confirmation that an object was stored"):
        Pacs(url).store(IMAGE)


@pytest.mark.parametrize("count", [100, 101])
def test_a_pacs_that_ignores_where_a_list_goes_on_ends_and_may_have_cut_it(count: int) -> None:
    series = [{"0020000D": {"vr": "UI", "Value": ["1.2"]}, "0020000E": {"vr": "UI", "Value": [f"1.2.{n}"]}} for n in range(count)]
    with served(reply(200, json.dumps(series).encode())) as url:
        found, is_whole = Pacs(url).search_series({})
    assert len(found) == count and is_whole == (count == 101)


@pytest.mark.parametrize("more", ["", 'pacs: "There are 70 additional results that can be requested"'])
def test_a_pacs_that_says_that_there_is_more_and_does_not_tell_it_has_cut_its_list(more: str) -> None:
    lists = CutLists(30, 100)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (reply(200, b"[]", warning=f"299 {more}") if "offset=" in handler.path else lists)(handler)

    with served(answer) as url:
        found, is_whole = Pacs(url).search_series({})
    assert len(found) == 30 and is_whole == (more == "")


class CutLists:
    """A service that lists ``series`` so many at a time, and to which one is added, at the front, after each answer."""

    def __init__(self, count: int, at_once: int, arriving: int = 0) -> None:
        self.series, self._at_once, self._arriving = [f"1.2.{n}" for n in range(count)], at_once, arriving

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        offset = int(parse_qs(urlsplit(handler.path).query).get("offset", ["0"])[0])
        page = self.series[offset : offset + self._at_once]
        reply(200, json.dumps([{"0020000E": {"vr": "UI", "Value": [uid]}} for uid in page]).encode())(handler)
        if self._arriving:
            self._arriving -= 1
            self.series.insert(0, f"1.3.{self._arriving}")


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("count", [1, 30, 50])
def test_a_service_that_refuses_to_go_on_has_told_all_unless_that_is_a_round_number(status: int, count: int) -> None:
    lists = CutLists(count, 100)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (reply(status) if "offset=" in handler.path else lists)(handler)

    with served(answer) as url:
        found, is_whole = Pacs(url).search_series({})
    assert len(found) == count and is_whole == (count != 50)


def test_a_list_without_end_costs_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_LIST_S", 0.5)
    count = itertools.count()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        reply(200, json.dumps([{"0020000E": {"vr": "UI", "Value": [f"1.2.{next(count)}"]}}]).encode())(handler)

    with served(answer) as url, pytest.raises(PacsError, match="did not answer in time"):
        Pacs(url).search_series({})


@pytest.mark.parametrize("at_once", [25, 50, 64])
@pytest.mark.parametrize("arriving", [0, 2])
def test_lists_are_read_to_their_end_wherever_they_are_cut_and_whatever_arrives_meanwhile(at_once: int, arriving: int) -> None:
    with served(CutLists(130, at_once, arriving)) as url:
        found = {str(series.SeriesInstanceUID) for series in Pacs(url).search_series({})[0]}
    assert found >= {f"1.2.{n}" for n in range(130)}


def test_an_object_that_is_refused_because_it_is_there_is_there() -> None:
    failed = {"00081155": {"vr": "UI", "Value": [IDS[2]]}, "00081197": {"vr": "US", "Value": [0x0111]}}
    refusal = {"00081198": {"vr": "SQ", "Value": [failed]}}
    with served(reply(409, json.dumps(refusal).encode())) as url:
        Pacs(url).store(IMAGE)
    failed["00081155"]["Value"] = ["1.2.3"]
    with served(reply(409, json.dumps(refusal).encode())) as url, pytest.raises(PacsError, match="reason 0x0111"):
        Pacs(url).store(IMAGE)


def test_a_value_that_is_none_of_its_kind_costs_itself_alone() -> None:
    wrong = {"vr": "DS", "Value": ["70,5"]}
    header = {"00080018": {"vr": "UI", "Value": [IDS[2]]}, "00101030": wrong, "00280010": {"vr": "US", "Value": [12]}}
    header["52009229"] = {"vr": "SQ", "Value": [{"00181314": wrong, "00180050": {"vr": "DS", "Value": [8]}}]}
    with served(reply(200, json.dumps([header]).encode())) as url:
        [found] = Pacs(url).series_headers(*IDS[:2])
    assert (found.SOPInstanceUID, found.Rows, "PatientWeight" in found) == (IDS[2], 12, False)
    [shared] = found.SharedFunctionalGroupsSequence
    assert shared.SliceThickness == 8 and "FlipAngle" not in shared
