"""The PrATo Label server over HTTP, as ``docs/protocol.md`` defines it; every failure is one sentence for the user."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests

from PratoLabelLib.answers import Answer, ServerInfo, Study, TrainingState, expected, read_answer, read_info, read_studies, read_training
from PratoLabelLib.connection import Line, LineAdapter, UnreachableError
from PratoLabelLib.errors import Cancelled, ServerError, no_answer, refusal

_T = TypeVar("_T")


class Client:
    """Asks one server; every method waits for the answer, and any thread may call any of them at any time.

    Each request has a ``requests.Session`` of its own, because a session is not thread-safe and a connection that is kept may have been
    closed by the server. Proxies and ``.netrc`` are not looked at: the server stands on this machine or in its network.
    All methods but :meth:`cancel` raise ServerError, and Cancelled once they were cancelled.

    Args:
        address: "127.0.0.1:8000", or "http://host:port/".
        token: access token, for servers that want one.
        timeout: seconds without a sign of the server after which a request fails.

    Raises:
        ServerError: the address or the token is none.
    """

    def __init__(self, address: str, token: str = "", timeout: float = 120.0) -> None:
        self.address, self.timeout = _url(address), timeout
        self._client_id = f"prato-slicer-{uuid.uuid4().hex[:12]}"
        token = token.strip()
        if not (token.isascii() and token.isprintable()):
            raise ServerError("The access token holds characters that no token has: copy it once more.")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._lock = threading.Lock()
        self._lines: set[Line] = set()

    def info(self) -> ServerInfo:
        """What the server offers."""
        start = time.perf_counter()
        response = self._request("GET", "/info/")
        return self._read(response, lambda: read_info(response.json(), 1000 * (time.perf_counter() - start)))

    def studies(self) -> list[Study]:
        """All studies, sorted by id."""
        response = self._request("GET", "/datastore/", params={"output": "all"})
        return self._read(response, lambda: read_studies(response.json()))

    def next_study(self, strategy: str, model: str = "") -> str:
        """The id of the study to label next, which ``model`` judges where the strategy looks at images ("": the server's own choice)."""
        asked = {"client_id": self._client_id, **({"model": model} if model else {})}
        response = self._request("POST", f"/activelearning/{quote(strategy, safe='')}", json=asked)
        return self._read(response, lambda: expected(str, response.json()["id"]))

    def download_image(self, study: str, folder: str | os.PathLike[str]) -> Path:
        """Write the study's image into ``folder``, whole or not at all. Raises OSError if the folder cannot be written to."""
        response = self._download("/datastore/image", {"image": study}, f"image of {study}")
        return self._store(response, Path(folder) / Path(study).name)

    def download_label(self, study: str, folder: str | os.PathLike[str], tag: str = "final") -> Path:
        """Write the study's label into ``folder`` as ``<study>_<tag>``, whole or not at all. Raises OSError as above."""
        response = self._download("/datastore/label", {"label": study, "tag": tag}, f"{tag} label of {study}")
        return self._store(response, Path(folder) / f"{Path(study).name}_{tag}")

    def current_version(self, study: str) -> int | None:
        """The number of the version that is the study's final label, 0 for none; None where the server keeps no versions."""
        try:
            response = self._request("GET", "/datastore/label/versions", params={"image": study})
        except ServerError as error:
            if error.status in (400, 404, 405):
                return None
            raise
        return self._read(response, lambda: expected(int, response.json()["current"] or 0))

    def download_version(self, study: str, version: int, folder: str | os.PathLike[str]) -> Path:
        """As :meth:`download_label`, of one version of the final label."""
        response = self._download("/datastore/label/version", {"image": study, "version": str(version)}, f"version {version} of {study}")
        return self._store(response, Path(folder) / f"{Path(study).name}_final")

    def upload_image(self, study: str, path: str | os.PathLike[str]) -> str:
        """Add the NIfTI file ``path`` as a new study; returns its id. Raises OSError if the file cannot be read."""
        data, query = {"params": self._params({})}, {"image": study}
        response = self._request("PUT", "/datastore/image", params=query, data=data, files={"file": _file(path)})
        return self._read(response, lambda: expected(str, response.json()["image"]))

    def infer(self, model: str, study: str, params: dict[str, Any]) -> Answer:
        """Segment a study with the contract's ``params``; the mask comes as NRRD."""
        data = {"params": self._params({**params, "result_extension": ".nrrd"})}
        response = self._request("POST", f"/infer/{quote(model, safe='')}", params={"image": study, "output": "all"}, data=data)
        return self._read(response, lambda: read_answer(response.headers.get("content-type", ""), response.content))

    def submit(self, study: str, label_path: str | os.PathLike[str], info: dict[str, Any]) -> dict[str, Any]:
        """Store the NIfTI file ``label_path`` as the final label of ``study`` and ``info`` with it; returns the contract's reply.

        Raises:
            OSError: the file cannot be read.
        """
        data, query = {"params": self._params(info)}, {"image": study, "tag": "final"}
        response = self._request("PUT", "/datastore/label", params=query, data=data, files={"label": _file(label_path)})
        return self._read(response, lambda: {**response.json(), "voxels": expected(dict, response.json()["voxels"])})

    def train(self, model: str, params: dict[str, Any]) -> None:
        """Start a training; it is over when :meth:`training` says so."""
        try:
            response = self._request("POST", f"/train/{quote(model, safe='')}", json={**params, "client_id": self._client_id})
        except ServerError as error:
            if error.status == 429:
                raise ServerError("A training runs already: wait until it has ended, or stop it.", 429) from error
            raise
        self._read(response, lambda: expected(str, response.json()["status"]))

    def training(self, model: str) -> TrainingState:
        """How far the latest training of ``model`` is."""
        info = self._request("GET", "/info/")
        try:
            tasks = self._request("GET", "/train/", params={"all": "true"})
        except ServerError as error:
            if error.status != 404:
                raise
            return self._read(info, lambda: read_training(model, [], info.json()))
        return self._read(tasks, lambda: read_training(model, tasks.json(), info.json()))

    def stop_training(self) -> None:
        """Stop the training that runs, whoever started it; it leaves the models as they were. ServerError if none runs."""
        response = self._request("DELETE", "/train/")
        if not self._read(response, lambda: response.json() is not None and expected(str, response.json()["status"])):
            raise ServerError("No training is running: there is nothing to stop.")

    def cancel(self) -> None:
        """End the requests in flight, from any thread: they raise Cancelled at once, and what comes after them works.

        The server may go on computing for a while; nobody hears of the result.
        """
        with self._lock:
            for line in self._lines:
                line.cut()

    def _params(self, params: dict[str, Any]) -> str:
        return json.dumps({**params, "client_id": self._client_id})

    def _request(self, method: str, path: str, **parts: Any) -> requests.Response:
        line = Line()
        with self._lock:
            self._lines.add(line)
        adapter = LineAdapter(line)
        try:
            with requests.Session() as session:
                session.trust_env = False
                session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
                session.mount("http://", adapter)
                session.mount("https://", adapter)
                url = self.address + path
                response = session.request(method, url, headers=self._headers, timeout=self.timeout, allow_redirects=False, **parts)
        except (requests.RequestException, UnreachableError) as error:
            raise (Cancelled() if line.is_cut else no_answer(self.address, self.timeout, error)) from error
        finally:
            with self._lock:
                self._lines.discard(line)
            line.release()
        if line.is_cut:
            raise Cancelled()
        refused = refusal(self.address, response)
        if refused:
            raise refused
        return response

    def _read(self, response: requests.Response, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            sentence = f"{self.address} answers, but not as a PrATo Label server of this module's version does: check the address."
            raise ServerError(sentence, response.status_code) from error

    def _download(self, path: str, query: dict[str, str], what: str) -> requests.Response:
        try:
            return self._request("GET", path, params=query)
        except ServerError as error:
            if error.status == 404:
                raise ServerError(f"The server has no {what}: refresh the list of studies.", 404) from error
            raise

    def _store(self, response: requests.Response, stem: Path) -> Path:
        zipped = response.content[:2] == b"\x1f\x8b"
        path = stem.with_name(f"{stem.name}.nii.gz" if zipped else f"{stem.name}.nii")
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with open(handle, "wb") as file:
                file.write(response.content)
            os.replace(partial, path)
        except OSError:
            os.unlink(partial)
            raise
        return path


def _url(address: str) -> str:
    """``address`` with its scheme and without a slash at its end."""
    text = address.strip()
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        good = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not (url.query or url.fragment or "@" in url.netloc)
    except ValueError:
        good = False
    if not good or any(c.isspace() for c in text):
        raise ServerError(f"{address!r:.80} is no server address: write one like 127.0.0.1:8000 or http://host:8000.")
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}"


def _file(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """The file's bytes under a name that every server understands."""
    path = Path(path)
    return f"file{'.nii.gz' if path.name.endswith('.gz') else path.suffix}", path.read_bytes()
