"""Time clicks over HTTP on a warm server: one on a slice of a mask that the client has, from request to region."""

from __future__ import annotations

import base64
import gzip
import shutil
import tempfile
import time
import zlib
from pathlib import Path
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import typer

from prato.data.cases import read_label
from prato.data.nifti import read_volume
from prato.data.splits import load_split
from prato.data.structures import STRUCTURES
from prato.data.studies import StudyFile, find_labelled_studies
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box
from prato.prompts.mask_prompt import encode_part
from prato.training.simulated_labeller import CAREFUL, point_at, wrong_parts
from scripts.common.demo_client import DemoServer, copy_app
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import command, commit
from scripts.common.results import replace_rows

NAMES = {0: "background", **{value: name for name, value in STRUCTURES.items()}}


def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write; rows of other devices in it stay.")],
    images: Annotated[int, typer.Option(min=1, help="Validation images.")] = 4,
    clicks: Annotated[int, typer.Option(min=1, help="Clicks on each.")] = 15,
    split: Annotated[Path, typer.Option(help="Split file.")] = ACDC_SPLIT,
) -> None:
    """Median and 90th percentile in ms, of the whole request and of what the server says it took."""
    validation = {*load_split(split).validation}
    files = [file for file in find_labelled_studies(studies) if file.patient in validation][:images]
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "studies"
        served.mkdir()
        for file in files:
            shutil.copy(file.image, served)
        with DemoServer(copy_app(Path(folder) / "app", DEFAULT_MODEL), served, Path(folder) / "server.log") as server:
            server.await_costs()
            taken = [each for file in files for each in _clicks(server, file, clicks)]
    about = {"model": DEFAULT_MODEL, "device": taken[0]["device"], "clicks": len(taken), "commit": commit(), "command": command()}
    rows = []
    for part, name in (
        ("request", "request, ms"),
        ("total", "server, ms"),
        ("read", "image, ms"),
        ("network", "refiner, ms"),
        ("KiB", "reply, KiB"),
    ):
        median, most = np.percentile([each[part] for each in taken], (50, 90)).round(1).tolist()
        rows.append({"part": name, "median": median, "p90": most, **about})
    replace_rows(out, rows, ("part", "device"))


def _clicks(server: DemoServer, file: StudyFile, count: int) -> list[dict[str, Any]]:
    """What each click took, after a box and a first click that are not timed."""
    volume = read_volume(file.image)
    truth = read_label(file.label, volume)
    roi = list((Box.around(truth) or Box.whole(truth.shape)).bounds)
    answer, _ = server.infer(DEFAULT_MODEL, file.study, {"roi": roi})
    mask = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(answer)).dataobj).astype(np.uint8)
    random, taken = np.random.default_rng(0), []
    for _ in range(count + 1):
        parts = [wrong_parts(mask[:, :, k], truth[:, :, k]) for k in range(mask.shape[2])]
        k = int(np.argmax([sizes.max() for _, sizes in parts]))
        structure, places = point_at(*parts[k], truth[:, :, k], CAREFUL, random)
        click = {"structure": NAMES[structure], "points": [[int(i), int(j), k] for i, j in places]}
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
