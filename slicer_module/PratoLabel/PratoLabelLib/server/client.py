"""The PrATo Label server over HTTP, as ``docs/protocol`` defines it; every failure is one sentence for the user."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.server.http_client import HttpClient
from PratoLabelLib.server.label_responses import LabelVersion, parse_versions
from PratoLabelLib.server.progress import Progress, watch
from PratoLabelLib.server.responses import (
    NextStudy,
    Prediction,
    ServerInfo,
    Study,
    TrainingState,
    parse_next_study,
    parse_prediction,
    parse_server_info,
    parse_studies,
    parse_training_state,
    require_type,
)
from PratoLabelLib.translation import translator

if TYPE_CHECKING:
    import requests

_ = translator(__file__)


class Client(HttpClient):
    """What the server offers, a method for each request; see :class:`HttpClient` for the rest."""

    def info(self) -> ServerInfo:
        """What the server offers."""
        start = time.perf_counter()
        response = self._request("GET", "/info/")
        return self._parse(response, lambda: parse_server_info(response.json(), 1000 * (time.perf_counter() - start)))

    def studies(self) -> list[Study]:
        """All studies, sorted by id."""
        response = self._request("GET", "/datastore/", params={"output": "all"})
        return self._parse(response, lambda: parse_studies(response.json()))

    def next_study(self, strategy: str, model: str = "") -> NextStudy:
        """The study to label next; ``model`` scores the images where the strategy needs that ("": the server's own choice)."""
        params = {"client_id": self._client_id, **({"model": model} if model else {})}
        response = self._request("POST", f"/activelearning/{quote(strategy, safe='')}", json=params)
        return self._parse(response, lambda: parse_next_study(response.json()))

    def download_image(self, study: str, folder: str | os.PathLike[str]) -> Path:
        """Write the study's image into ``folder``, whole or not at all. Raises OSError if the folder cannot be written to."""
        response = self._download(
            "/datastore/image", {"image": study}, _("The server has no image of {study}: refresh the list of studies.").format(study=study)
        )
        return self._save(response, Path(folder) / Path(study).name)

    def is_same_image(self, study: str, checksum: str) -> bool:
        """Whether the server's file of the study's image has this SHA-256; also where the server does not tell."""
        try:
            self._request("HEAD", "/datastore/image", params={"image": study, "check_sum": f"SHA256:{checksum}"})
            return True
        except ServerError as error:
            if error.status is None:
                raise
            if error.status != 404:
                return True
        try:  # MONAI Label itself finds no file to be the same
            response = self._request("GET", "/datastore/image", params={"image": study})
        except ServerError as error:
            if error.status is None:
                raise
            return True  # whoever sends something next hears what is wrong
        return hashlib.sha256(response.content).hexdigest() == checksum

    def download_label(self, study: str, folder: str | os.PathLike[str]) -> Path:
        """Write the study's final label into ``folder`` as ``<study>_final``, whole or not at all. Raises OSError as above."""
        response = self._download(
            "/datastore/label",
            {"label": study, "tag": "final"},
            _("The server has no final label of {study}: refresh the list of studies.").format(study=study),
        )
        return self._save(response, Path(folder) / f"{Path(study).name}_final")

    def current_version(self, study: str) -> int | None:
        """The number of the version that is the study's final label, 0 for none; None where the server keeps no versions."""
        response = self._request_versions(study)
        return None if response is None else self._parse(response, lambda: require_type(int, response.json()["current"] or 0))

    def download_version(self, study: str, version: int, folder: str | os.PathLike[str]) -> Path:
        """As :meth:`download_label`, of one version of the final label."""
        response = self._download(
            "/datastore/label/version",
            {"image": study, "version": str(version)},
            _("The server has no version {version} of {study}: refresh the list of studies.").format(version=version, study=study),
        )
        return self._save(response, Path(folder) / f"{Path(study).name}_final")

    def versions(self, study: str) -> list[LabelVersion]:
        """Every version of the study's final label, newest first; none where the server keeps no versions."""
        response = self._request_versions(study)
        return [] if response is None else self._parse(response, lambda: parse_versions(response.json()))

    def _request_versions(self, study: str) -> requests.Response | None:
        """The response about the versions of the study's final label; None where the server keeps none, as stock MONAI Label does not."""
        try:
            return self._request("GET", "/datastore/label/versions", params={"image": study})
        except ServerError as error:
            if error.status in (400, 404, 405):
                return None
            raise

    def restore_version(self, study: str, version: int, annotator: str) -> dict[str, Any]:
        """Make a copy of a version the study's final label; returns the contract's reply."""
        data, query = {"params": self._params({"annotator": annotator})}, {"image": study, "version": str(version)}
        response = self._request("POST", "/datastore/label/restore", params=query, data=data)
        return self._parse(response, lambda: {**response.json(), "version": require_type(int, response.json()["version"])})

    def approve(self, study: str, phases: Sequence[int], annotator: str, version: int) -> list[str]:
        """Make phases of the study's label final, as they are in ``version``; returns what speaks against them, a sentence each."""
        return self._decide("approve", study, {"phases": [*phases], "annotator": annotator, "base_version": version})

    def send_back(self, study: str, phases: Sequence[int], reason: str, annotator: str, version: int) -> list[str]:
        """Send phases of the study's label back to their labellers, as they are in ``version``; returns the same."""
        return self._decide("send_back", study, {"phases": [*phases], "reason": reason, "annotator": annotator, "base_version": version})

    def _decide(self, decision: str, study: str, params: dict[str, Any]) -> list[str]:
        data = {"params": self._params(params)}
        response = self._request("POST", f"/datastore/label/{decision}", params={"image": study}, data=data)
        return self._parse(response, lambda: require_type(list, response.json().get("warnings", [])))

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

    def correct(self, model: str, study: str, params: dict[str, Any]) -> dict[str, Any]:
        """Correct by clicks the mask that is sent in the contract's ``params``; the reply has the region that has changed."""
        query, data = {"image": study, "output": "json"}, {"params": self._params(params)}
        response = self._request("POST", f"/infer/{quote(model, safe='')}", params=query, data=data)

        def parse() -> dict[str, Any]:
            reply = require_type(dict, response.json())
            require_type(list, require_type(dict, reply["refined"])["box"] or [])
            return reply

        return self._parse(response, parse)

    def infer_phases(
        self, model: str, study: str, params: dict[str, Any], progress: Progress, label: str | os.PathLike[str] | None = None
    ) -> Prediction:
        """As :meth:`infer`, of several phases of a cine; their mask comes as gzipped NIfTI.

        Args:
            progress: is kept up to date meanwhile.
            label: a NIfTI file with the phases that ``propagate`` lists; nothing is stored of it.

        Raises:
            OSError: that file cannot be read.
        """
        request, data = uuid.uuid4().hex, {"params": self._params({**params, "result_extension": ".nii.gz"})}
        path, query, headers = f"/infer/{quote(model, safe='')}", {"image": study, "output": "all"}, {"X-Request-ID": request}
        files: dict[str, Any] = {} if label is None else {"files": {"label": _read_file(label)}}
        with watch(lambda: self._request("GET", f"/infer/{request}").json(), progress):
            response = self._request("POST", path, params=query, data=data, headers=headers, **files)
        return self._parse(response, lambda: parse_prediction(response.headers.get("content-type", ""), response.content))

    def mark_phases(self, study: str, ed: int | None, es: int | None, annotator: str) -> None:
        """Mark the phases of end-diastole and end-systole of a cine; without both, the server finds them."""
        data = {"params": self._params({"ed": ed, "es": es, "annotator": annotator})}
        response = self._request("PUT", "/datastore/image/phases", params={"image": study}, data=data)
        self._parse(response, lambda: require_type(dict, response.json()["marked"]))

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
                raise ServerError(_("A training is already running: wait until it has ended, or stop it."), 429) from error
            raise
        self._parse(response, lambda: require_type(str, response.json()["status"]))

    def training(self, model: str) -> TrainingState:
        """The progress of the latest training of ``model``."""
        tasks: Any = []  # fetched before the statistics: of a training that has ended they hold the result already
        try:
            response = self._request("GET", "/train/", params={"all": "true"})
            tasks = self._parse(response, response.json)
        except ServerError as error:
            if error.status != 404:
                raise
        info = self._request("GET", "/info/")
        return self._parse(info, lambda: parse_training_state(model, tasks, info.json()))

    def stop_training(self) -> None:
        """Stop the running training, whoever started it; the models stay as they were. Raises ServerError if none is running."""
        response = self._request("DELETE", "/train/")
        if not self._parse(response, lambda: response.json() is not None and require_type(str, response.json()["status"])):
            raise ServerError(_("No training is running: there is nothing to stop."))


def _read_file(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """The file's bytes under an ASCII name, as not every server understands others."""
    path = Path(path)
    return f"file{'.nii.gz' if path.name.endswith('.gz') else path.suffix}", path.read_bytes()
