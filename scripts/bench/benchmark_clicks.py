"""Time clicks over HTTP on a warm server: one on a slice of a mask that the client has, from request to region, alone and beside others."""

from __future__ import annotations

import base64
import gzip
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import typer

from prato.data.cases import read_label
from prato.data.nifti import read_volume
from prato.data.studies.folder import StudyFile
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box
from prato.prompts.mask_prompt import encode_part
from prato.training.simulated_labeller import CAREFUL, point_at, wrong_parts
from scripts.common.demo_client import DemoServer, copy_app
from scripts.common.labelled import require_labelled_studies
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import command, commit
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows
from scripts.simulate.click_study import NAMES


class Beside(str, Enum):
    """What else the server does meanwhile."""

    NOTHING, TRAINING, BATCH, IMAGES = "nothing", "training", "batch", "another client's images"


#: The path and the parameters of each job, and the steps after which it is at work.
JOBS: dict[Beside, tuple[str, dict[str, Any], int]] = {
    Beside.TRAINING: ("train", {"max_steps": 100_000}, 2),
    Beside.BATCH: ("batch/infer", {}, 0),
}
#: On each image.
_CLICKS = 15


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other devices and jobs in it stay.")],
    images: Annotated[int, typer.Option(min=1, help="Validation images.")] = 4,
) -> None:
    """Measure median and 90th percentile in ms, of the whole request and of what the server says it took."""
    files = require_labelled_studies(studies, ACDC_SPLIT)[:images]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "studies"
        served.mkdir()
        for file in files:
            shutil.copy(file.image, served)
        with DemoServer(copy_app(Path(folder) / "app", DEFAULT_MODEL), served, Path(folder) / "server.log") as server:
            server.await_costs()
            for job in Beside:
                rows += _rows(_beside(server, job, files), job)
    replace_rows(out, rows, ("part", "device", "beside"))


def _beside(server: DemoServer, job: Beside, files: list[StudyFile]) -> list[dict[str, Any]]:
    """What each click took while ``job`` ran; a batch begins again as soon as it is done."""
    if job is Beside.NOTHING:
        return [each for file in files for each in _clicks(server, file, lambda: None)]
    if job is Beside.IMAGES:
        with _asking(server, files):
            return [each for file in files for each in _clicks(server, file, lambda: None)]
    path, params, steps = JOBS[job]
    if job is Beside.TRAINING:
        for file in files:
            server.submit(file.study, file.label)
    taken = [each for file in files for each in _clicks(server, file, lambda: server.start(path, DEFAULT_MODEL, params, steps))]
    server.end(path)
    return taken


@contextmanager
def _asking(server: DemoServer, files: list[StudyFile]) -> Iterator[None]:
    """While it lasts, another client asks for the masks of ``files``, one after the other, each computed as a whole."""
    stopped = Event()

    def ask() -> None:
        for file in cycle(files):
            if stopped.is_set():
                return
            server.infer(DEFAULT_MODEL, file.study, {"prune": "off"})

    with ThreadPoolExecutor(1) as client:
        asked = client.submit(ask)
        try:
            yield
        finally:
            stopped.set()
            asked.result()


def _rows(taken: list[dict[str, Any]], job: Beside) -> list[dict[str, Any]]:
    about = {"beside": job.value, "clicks": len(taken), "commit": commit(), "command": command()}
    about |= {"model": DEFAULT_MODEL, "device": taken[0]["device"]}
    names = {"request": "request, ms", "total": "server, ms", "read": "image, ms", "network": "refiner, ms", "KiB": "reply, KiB"}
    rows = []
    for part, name in names.items():
        median, most = np.percentile([each[part] for each in taken], (50, 90)).round(1).tolist()
        rows.append({"part": name, "median": median, "p90": most, **about})
    return rows


def _clicks(server: DemoServer, file: StudyFile, prepare: Callable[[], None]) -> list[dict[str, Any]]:
    """What each click took, after a box and a first click that are not timed; ``prepare`` is called before each."""
    volume = read_volume(file.image)
    truth = read_label(file.label, volume)
    roi = list((Box.around(truth) or Box.whole(truth.shape)).bounds)
    answer, _ = server.infer(DEFAULT_MODEL, file.study, {"roi": roi})
    mask = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(answer)).dataobj).astype(np.uint8)
    random, taken = np.random.default_rng(0), []
    for _ in range(_CLICKS + 1):
        parts = [wrong_parts(mask[:, :, k], truth[:, :, k]) for k in range(mask.shape[2])]
        k = int(np.argmax([sizes.max() for _, sizes in parts]))
        structure, places = point_at(*parts[k], truth[:, :, k], CAREFUL, random)
        click = {"structure": NAMES[structure], "points": [[int(i), int(j), k] for i, j in places]}
        prepare()
        start = time.perf_counter()
        whole = Box((0, 0, k), (*mask.shape[:2], k + 1))
        params = {"clicks": [click], "previous": encode_part(mask, whole), "roi": roi}
        reply = server.correct(DEFAULT_MODEL, file.study, params)
        seconds, refined = time.perf_counter() - start, reply["refined"]
        if refined["box"] is not None:
            box = Box(tuple(refined["box"][::2]), tuple(refined["box"][1::2]))
            data = zlib.decompress(base64.b64decode(refined["mask"]["data"]))
            mask[box.slices] = np.frombuffer(data, np.uint8).reshape(box.size)
        taken.append({"request": 1000 * seconds, **reply["latency_ms"], "device": reply["device"], "KiB": len(str(reply)) / 1024})
    return taken[1:]


if __name__ == "__main__":
    typer.run(main)
