"""The real server for tests: the stock command over a copy of the app folder, with tiny models that are quick rather than good."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import requests
import torch
from requests_toolbelt.multipart import decoder

from prato.models.checkpoint import model_preset, save_model
from tests.app.forked import ForkedServer
from tests.waiting import wait_until

APP = Path(__file__).resolve().parents[2] / "apps" / "prato_label"


def tiny_model(path: Path, preset: str, seed: int = 0) -> str:
    """Save a small network with random weights, of the kind ``preset``, to ``path``; returns its version.

    One that finds the heart by itself sees it wherever it looks.
    """
    spec = model_preset(preset)
    window, small = {
        "unetr": (64, {"img_size": 64, "feature_size": 4, "hidden_size": 48, "mlp_dim": 48, "num_heads": 3}),
        "swin_unetr": (128, {"feature_size": 12, "window_size": 3}),
        "overview_unet": (96, {"filters": (8, 8, 12, 16, 16), "overview_dim": 16, "overview_depth": 1}),
        "overview_swin_unetr": (96, {"feature_size": 12, "num_heads": (1, 2, 2, 4), "overview_dim": 16, "overview_depth": 1}),
    }[preset]
    torch.manual_seed(seed)
    spec = spec.model_copy(update={"arguments": {**spec.arguments, **small}, "window": window, "pixel": 3.0})
    network = spec.build()
    with torch.no_grad():  # as they come, the output's biases decide and every voxel gets the same class
        for name, parameter in network.named_parameters():
            if name.startswith(("out.", "output_block.")):
                parameter.mul_(0 if name.endswith("bias") else 100)
            if name.startswith("heart_relevance."):
                parameter.fill_(9.0 if name.endswith("offset") else 0.0)
    return save_model(path, network, spec)


def oblique(spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine (voxel -> RAS+ mm) of ``spacing`` mm with no axis along the scanner's."""
    q, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = q * spacing
    affine[:3, 3] = (-21.5, 33.25, 7.0)
    return affine


def write_study(path: Path, shape: tuple[int, ...] = (40, 36, 5), affine: np.ndarray | None = None, seed: int = 0) -> Path:
    """A noisy image with a bright disc: int16, 4 x 4 x 9 mm and oblique unless ``affine`` says otherwise."""
    noise = np.random.default_rng(seed).integers(0, 60, shape)
    disc = (np.hypot(*np.meshgrid(np.arange(shape[0]) - 20, np.arange(shape[1]) - 18, indexing="ij")) < 9) * 200
    array = noise + disc.reshape(*shape[:2], *[1] * (len(shape) - 2))
    image = nib.Nifti1Image(array.astype(np.int16), None)
    affine = oblique((4.0, 4.0, 9.0)) if affine is None else affine
    # past nibabel's own checks, which refuse some of what lies in real folders
    image.header.set_sform(affine, code=1)
    image.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    nib.save(image, path)
    return path


@dataclass
class Reply:
    """An answer of the server: its status, its JSON part and, where there was one, the file (as bytes) with its name."""

    status: int
    json: Any
    file: bytes | None = None
    name: str = ""


@dataclass
class LiveServer:
    """A running server; ``scratch`` is its folder for temporary files, ``headers`` go with every request."""

    url: str
    app: Path
    studies: Path
    log: Path
    scratch: Path
    process: subprocess.Popen[bytes] | ForkedServer
    headers: dict[str, str] = field(default_factory=dict)

    def answers(self) -> bool:
        """Whether it has started; one that has ended instead is an error."""
        code = self.process.poll()
        assert code is None, f"the server ended with exit code {code}:\n{self.log.read_text()[-4000:]}"
        with suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/info/", headers=self.headers, timeout=200).ok
        return False

    def infer(self, model: str, image: str | None = None, params: Any = None, **query: str) -> Reply:
        """POST /infer; ``params`` is sent as JSON, or as it is where it is text."""
        text = params if isinstance(params, str) else json.dumps(params or {})
        query = query if image is None else {"image": image, **query}
        url = f"{self.url}/infer/{model}"
        return self.read(requests.post(url, params=query, data={"params": text}, headers=self.headers, timeout=200))

    def post(self, path: str, body: Any = None) -> Reply:
        return self.read(requests.post(self.url + path, json=body, headers=self.headers, timeout=200))

    @staticmethod
    def read(response: requests.Response) -> Reply:
        kind = response.headers.get("content-type", "")
        if kind.startswith("multipart"):
            # requests_toolbelt's decoder is the counterpart of the encoder that MONAI Label answers with
            params, image = decoder.MultipartDecoder.from_response(response).parts
            name = image.headers[b"Content-Disposition"].decode().split('filename="')[1].rstrip('"')
            return Reply(response.status_code, json.loads(params.text), image.content, name)
        return Reply(response.status_code, response.json() if "json" in kind else response.text)

    @contextmanager
    def leaves_no_file(self) -> Iterator[None]:
        """What the block asks for leaves nothing in ``scratch``: files go after a reply, those of earlier requests perhaps meanwhile."""
        before = set(self.scratch.iterdir())
        yield
        wait_until(lambda: not set(self.scratch.iterdir()) - before)

    def tree(self) -> dict[str, bytes]:
        """Every file of the studies and model folders, by name: what a refused request must leave as it was."""
        folders = (self.studies, self.app / "model")
        return {str(path): path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def copy_app(target: Path) -> Path:
    """The app folder without weights and logs, but with its bytecode: each server would compile the app anew."""
    return Path(shutil.copytree(APP, target, ignore=shutil.ignore_patterns("model", "logs", "bin", "*.egg-info")))


@contextmanager
def start_server(
    app: Path,
    studies: Path | str,
    log: Path,
    guarded: dict[str, str] | None = None,
    forked: bool = True,
    forked_training: bool = True,
    options: Sequence[str] = (),
) -> Iterator[LiveServer]:
    """The stock command on a free port, until the block ends; then its whole process group is killed.

    ``studies`` may be the address of a PACS. With ``guarded``, it is ``serve.py`` of ``app`` instead, with these environment variables; a
    token among them goes with the requests.
    Unless ``forked``, it starts in full, as a user starts it, and takes many times as long; unless ``forked_training``, so does its process
    that trains. ``options`` are further ones of the command.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binaries = Path(sys.executable).parent  # the stock command is a script that runs the first python on the path
    stock = [str(binaries / "monailabel"), "start_server", "--app", str(app)]
    command = [*(stock if guarded is None else [sys.executable, str(app / "serve.py")]), "--studies", str(studies)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    scratch = log.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    env |= {"PATH": f"{binaries}{os.pathsep}{env['PATH']}", "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
    env |= {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false", "MONAI_LABEL_SESSION_PATH": str(log.parent / "sessions")}
    env |= guarded or {}
    headers = {"Authorization": f"Bearer {guarded['PRATO_LABEL_TOKEN']}"} if guarded and "PRATO_LABEL_TOKEN" in guarded else {}
    command += ["--host", "127.0.0.1", "--port", str(port), *options]
    process: subprocess.Popen[bytes] | ForkedServer
    if forked:
        process = ForkedServer(command if guarded is None else command[1:], log, env, forked_training)
    else:
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=log.parent, start_new_session=True)
    try:
        server = LiveServer(f"http://127.0.0.1:{port}", app, Path(studies), log, scratch, process, headers)
        wait_until(server.answers, state=lambda: log.read_text()[-4000:], every=0.1)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
