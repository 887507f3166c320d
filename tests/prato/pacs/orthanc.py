"""A real Orthanc with DICOMweb, for tests to fill, kill and start again."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom.dataset import FileDataset

from tests.prato.dicom.scans import to_bytes
from tests.waiting import wait_until

PLUGIN = "libOrthancDicomWeb.so"
PLACES = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")
USER, PASSWORD = "labeller", "s3cret-of-the-pacs"


class Orthanc:
    """On this machine, with basic authentication; ``folder`` holds what it stores."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("Orthanc")
        plugin = next((path for place in PLACES for path in Path(place).glob(f"{PLUGIN}*")), None)
        if program is None or plugin is None:
            pytest.skip("Orthanc or its DICOMweb plugin is not installed: apt-get install orthanc orthanc-dicomweb")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command, self._folder = [program, str(folder / "orthanc.json")], folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(plugin)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(self._answers, self._require_running, every=0.05)

    def _require_running(self) -> None:
        assert self._process is not None and self._process.poll() is None, (self._folder / "log").read_text()[-2000:]

    def kill(self) -> None:
        """As a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def rest(self, method: str, path: str, **options: Any) -> Any:
        response = requests.request(method, f"http://127.0.0.1:{self.port}{path}", auth=(USER, PASSWORD), timeout=200, **options)
        response.raise_for_status()
        return response.json()

    def add(self, images: Iterable[FileDataset]) -> None:
        for image in images:
            self.rest("POST", "/instances", data=to_bytes(image))

    def clear(self) -> None:
        for study in self.rest("GET", "/studies"):
            self.rest("DELETE", f"/studies/{study}")

    def segmentations(self) -> list[dict[str, Any]]:
        """The tags of every SEG that it holds, by name."""
        found = self.rest("POST", "/tools/find", json={"Level": "Instance", "Query": {"Modality": "SEG"}})
        return [self.rest("GET", f"/instances/{one}/tags?simplify") for one in found]

    def _answers(self) -> bool:
        try:
            return self.rest("GET", "/system")["Version"] != ""
        except requests.RequestException:
            return False
