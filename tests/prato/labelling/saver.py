"""A process to be killed while it changes a studies folder: `python saver.py`, one order a line on its standard input, in JSON.

Each order is carried out by a fork, so that importing is paid for once: {"studies": folder, "do": "save", "remove",
"import DICOM" or "import nnU-Net", "seed": n, "event": n, "seconds": s, "source": what is imported}.
The fork dies by SIGKILL before it changes the file system for the `event`th time (which Python's audit hooks tell of), or after `seconds`,
during which it saves one version after the other. It writes what it is about to save, and what is saved, to STUDIES/../told.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from prato.data.nifti import Volume
from prato.dicom.cines import identity
from prato.dicom.reading.files import LIMITS
from prato.dicom.studies import import_into_studies
from prato.exchange.importing import import_cases
from prato.exchange.nnunet import find_cases
from prato.labelling.versions import LabelVersions

SHAPE, AFFINE = (24, 20, 4), np.diag([-1.5, -1.5, 8.0, 1.0])


def carry_out(studies: Path, order: dict) -> None:
    """Do what ``order`` says; returns only where nothing ended the process."""
    told = os.open(studies.parent / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    versions, random, seen = LabelVersions(studies, "a"), np.random.default_rng(order["seed"]), 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in ("os.rename", "os.link", "os.remove", "os.mkdir") or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            seen += 1
            if seen == order["event"]:
                os.kill(os.getpid(), signal.SIGKILL)

    if order.get("event"):
        sys.addaudithook(hook)
    if order["do"] == "import DICOM":
        import_into_studies(Path(order["source"]), studies, "ed,es", LIMITS)
        return
    if order["do"] == "import nnU-Net":
        source = Path(order["source"])
        import_cases(find_cases(source), source, studies, "nnU-Net", {})
        return
    if order["do"] == "remove":
        versions.remove("Bob")
        return
    while True:
        mark = int(random.integers(1 << 30))
        os.write(told, b"%d about\n" % mark)
        number = versions.save(
            Volume(random.integers(0, 4, SHAPE).astype(np.uint8), AFFINE), {"annotator": "Ada", "mark": mark}
        ).version.version
        os.write(told, b"%d saved %d\n" % (mark, number))
        if not order.get("seconds"):
            return


def main() -> None:
    # a pseudonym is slow on purpose, and each fork would take longer for its two than for all else that it imports
    identity._derive = lambda text, secret: hashlib.sha256(f"{secret}{text}".encode()).hexdigest()[:8]
    os.fsync = lambda handle: None  # what was written outlives a kill; only a power cut would take it
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                carry_out(Path(order["studies"]), order)
            finally:
                os._exit(sys.exc_info()[0] is not None)
        if order.get("seconds"):
            time.sleep(order["seconds"])
            os.kill(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
