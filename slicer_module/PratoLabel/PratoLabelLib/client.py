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
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from PratoLabelLib.connection import Connection, ServerError
from PratoLabelLib.responses import (
    LabelVersion,
    Prediction,
    ServerInfo,
    Study,
    TrainingState,
    parse_prediction,
    parse_server_info,
    parse_studies,
    parse_training_state,
    parse_versions,
    require_type,
)

if TYPE_CHECKING:
    import requests

_T = TypeVar("_T")


class Client:
    """HTTP client of one server; every method waits for the reply, and any thread may call any of them at any time.

    Each request has a ``requests.Session`` of its own, because a session is not thread-safe and the server may have closed a connection
    that is kept alive. Proxies and certificates: see transport.py.
    All methods but :meth:`cancel` raise ServerError, and its subclass Cancelled when they were cancelled.

    Args:
        address: "127.0.0.1:8000", or "http://host:port/".
        token: access token, for servers that require one.
        timeout: seconds of silence after which a request fails.
        certificate: file that the server's certificate is checked against, for servers with one of their own; "" for the environment's.

    Raises:
        ServerError: the address or the token is malformed.
    """

    def __init__(self, address: str, token: str = "", timeout: float = 120.0, certificate: str = "") -> None:
        self.address, self.timeout, self._certificate = _parse_address(address), timeout, certificate
        self._client_id = f"prato-slicer-{uuid.uuid4().hex[:12]}"
        self._token = token.strip()
        if not (self._token.isascii() and self._token.isprintable()):
            raise ServerError("The access token contains characters that no token has: copy it again.")
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()

    def info(self) -> ServerInfo:
        """What the server offers."""
        start = time.perf_counter()
        response = self._request("GET", "/info/")
        return self._parse(response, lambda: parse_server_info(response.json(), 1000 * (time.perf_counter() - start)))

    def studies(self) -> list[Study]:
        """All studies, sorted by id."""
        response = self._request("GET", "/datastore/", params={"output": "all"})
        return self._parse(response, lambda: parse_studies(response.json()))

    def next_study(self, strategy: str, model: str = "") -> str:
        """The id of the study to label next; ``model`` scores the images where the strategy needs that ("": the server's own choice)."""
        params = {"client_id": self._client_id, **({"model": model} if model else {})}
        response = self._request("POST", f"/activelearning/{quote(strategy, safe='')}", json=params)
        return self._parse(response, lambda: require_type(str, response.json()["id"]))

    def download_image(self, study: str, folder: str | os.PathLike[str]) -> Path:
        """Write the study's image into ``folder``, whole or not at all. Raises OSError if the folder cannot be written to."""
        response = self._download("/datastore/image", {"image": study}, f"image of {study}")
        return self._save(response, Path(folder) / Path(study).name)

    def download_label(self, study: str, folder: str | os.PathLike[str], tag: str = "final") -> Path:
        """Write the study's label into ``folder`` as ``<study>_<tag>``, whole or not at all. Raises OSError as above."""
        response = self._download("/datastore/label", {"label": study, "tag": tag}, f"{tag} label of {study}")
        return self._save(response, Path(folder) / f"{Path(study).name}_{tag}")

    def current_version(self, study: str) -> int | None:
        """The number of the version that is the study's final label, 0 for none; None where the server keeps no versions."""
        try:
            response = self._request("GET", "/datastore/label/versions", params={"image": study})
        except ServerError as error:
            if error.status in (400, 404, 405):
                return None
            raise
        return self._parse(response, lambda: require_type(int, response.json()["current"] or 0))

    def download_version(self, study: str, version: int, folder: str | os.PathLike[str]) -> Path:
        """As :meth:`download_label`, of one version of the final label."""
        response = self._download("/datastore/label/version", {"image": study, "version": str(version)}, f"version {version} of {study}")
        return self._save(response, Path(folder) / f"{Path(study).name}_final")

    def versions(self, study: str) -> list[LabelVersion]:
        """Every version of the study's final label, newest first; none where the server keeps no versions."""
        try:
            response = self._request("GET", "/datastore/label/versions", params={"image": study})
        except ServerError as error:
            if error.status in (400, 404, 405):
                return []
            raise
        return self._parse(response, lambda: parse_versions(response.json()))

    def restore_version(self, study: str, version: int, annotator: str) -> dict[str, Any]:
        """Make a copy of a version the study's final label; returns the contract's reply."""
        data, query = {"params": self._params({"annotator": annotator})}, {"image": study, "version": str(version)}
        response = self._request("POST", "/datastore/label/restore", params=query, data=data)
        return self._parse(response, lambda: {**response.json(), "version": require_type(int, response.json()["version"])})

    def review(self, study: str, state: str, reason: str, annotator: str) -> None:
        """Set the study's state: "skipped", "rejected" or "open"."""
        data = {"params": self._params({"state": state, "reason": reason, "annotator": annotator})}
        response = self._request("PUT", "/datastore/image/review", params={"image": study}, data=data)
        self._parse(response, lambda: require_type(dict, response.json()["review"]))

    def upload_image(self, study: str, path: str | os.PathLike[str]) -> str:
        """Add the NIfTI file ``path`` as a new study; returns its id. Raises OSError if the file cannot be read."""
        data, query = {"params": self._params({})}, {"image": study}
        response = self._request("PUT", "/datastore/image", params=query, data=data, files={"file": _read_file(path)})
        return self._parse(response, lambda: require_type(str, response.json()["image"]))

    def infer(self, model: str, study: str, params: dict[str, Any]) -> Prediction:
        """Segment a study with the contract's ``params``; the mask comes as NRRD."""
        data = {"params": self._params({**params, "result_extension": ".nrrd"})}
        response = self._request("POST", f"/infer/{quote(model, safe='')}", params={"image": study, "output": "all"}, data=data)
        return self._parse(response, lambda: parse_prediction(response.headers.get("content-type", ""), response.content))

    def submit(self, study: str, label_path: str | os.PathLike[str], info: dict[str, Any]) -> dict[str, Any]:
        """Store the NIfTI file ``label_path`` as the final label of ``study`` and ``info`` with it; returns the contract's reply.

        Raises:
            OSError: the file cannot be read.
        """
        data, query = {"params": self._params(info)}, {"image": study, "tag": "final"}
        response = self._request("PUT", "/datastore/label", params=query, data=data, files={"label": _read_file(label_path)})
        return self._parse(response, lambda: {**response.json(), "voxels": require_type(dict, response.json()["voxels"])})

    def train(self, model: str, params: dict[str, Any]) -> None:
        """Start a training; :meth:`training` tells when it is over."""
        try:
            response = self._request("POST", f"/train/{quote(model, safe='')}", json={**params, "client_id": self._client_id})
        except ServerError as error:
            if error.status == 429:
                raise ServerError("A training is already running: wait until it has ended, or stop it.", 429) from error
            raise
        self._parse(response, lambda: require_type(str, response.json()["status"]))

    def training(self, model: str) -> TrainingState:
        """The progress of the latest training of ``model``."""
        info = self._request("GET", "/info/")
        try:
            tasks = self._request("GET", "/train/", params={"all": "true"})
        except ServerError as error:
            if error.status != 404:
                raise
            return self._parse(info, lambda: parse_training_state(model, [], info.json()))
        return self._parse(tasks, lambda: parse_training_state(model, tasks.json(), info.json()))

    def stop_training(self) -> None:
        """Stop the running training, whoever started it; the models stay as they were. Raises ServerError if none is running."""
        response = self._request("DELETE", "/train/")
        if not self._parse(response, lambda: response.json() is not None and require_type(str, response.json()["status"])):
            raise ServerError("No training is running: there is nothing to stop.")

    def cancel(self) -> None:
        """Abort the requests in flight, from any thread: they raise Cancelled at once; later requests are not affected.

        The server may go on computing for a while; its result is discarded.
        """
        with self._lock:
            for connection in self._connections:
                connection.abort()

    def _params(self, params: dict[str, Any]) -> str:
        return json.dumps({**params, "client_id": self._client_id})

    def _request(self, method: str, path: str, **parts: Any) -> requests.Response:
        from PratoLabelLib.transport import send  # with requests, which is imported when it is needed

        connection = Connection()
        with self._lock:
            self._connections.add(connection)
        try:
            return send(connection, method, self.address, path, self._token, self._certificate, self.timeout, **parts)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _parse(self, response: requests.Response, parse: Callable[[], _T]) -> _T:
        try:
            return parse()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            sentence = f"{self.address} answers, but not like a PrATo Label server that fits this module: check the address."
            raise ServerError(sentence, response.status_code) from error

    def _download(self, path: str, query: dict[str, str], what: str) -> requests.Response:
        try:
            return self._request("GET", path, params=query)
        except ServerError as error:
            if error.status == 404:
                raise ServerError(f"The server has no {what}: refresh the list of studies.", 404) from error
            raise

    def _save(self, response: requests.Response, stem: Path) -> Path:
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


def _parse_address(address: str) -> str:
    """``address`` with its scheme and without a slash at its end."""
    text = address.strip()
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        has_more = url.query or url.fragment or "@" in url.netloc
        is_valid = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not has_more
    except ValueError:
        is_valid = False
    if not is_valid or any(c.isspace() for c in text):
        raise ServerError(f"{address!r:.80} is not a server address: enter one like 127.0.0.1:8000 or http://host:8000.")
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}"


def _read_file(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """The file's bytes under an ASCII name, as not every server understands others."""
    path = Path(path)
    return f"file{'.nii.gz' if path.name.endswith('.gz') else path.suffix}", path.read_bytes()
