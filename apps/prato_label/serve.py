"""Start the server: ``python serve.py --studies FOLDER [--host 127.0.0.1] [--port 8000] [options of monailabel start_server]``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import prato  # noqa: F401  (before MONAI Label imports MONAI, of which the server needs half)
from prato_server.startup import allow_open_files, reason_not_to_start

_APP = Path(__file__).resolve().parent
#: MONAI Label starts the whole app once more for every score, and tracks trainings in a database.
#: Threads of OpenMP wait for each other by spinning: beside another busy process they take a core from the one that they wait for.
_DEFAULTS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    "MONAI_LABEL_TRACKING_ENABLED": "false",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="serve.py", description="The PrATo Label server, guarded; see docs/server.md.")
    parser.add_argument("--studies", required=True, help="folder of NIfTI images, or the address of a PACS's DICOMweb service")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to; any other than 127.0.0.1 needs an access token")
    parser.add_argument("--port", default="8000", help="port to listen on; 8000 by default")
    options, passed_on = parser.parse_known_args()
    reason = reason_not_to_start(_APP, options.studies, options.host, options.port, passed_on)
    if reason:
        print(reason, file=sys.stderr)
        sys.exit(2)
    allow_open_files()
    os.environ.update({name: value for name, value in _DEFAULTS.items() if name not in os.environ})
    from monailabel.main import Main  # after the environment, which it reads as it is imported

    checked = ["--app", str(_APP), "--studies", options.studies, "--host", options.host, "--port", options.port]
    # of an option that is given twice the last one counts: the values checked here must be it
    sys.argv = ["monailabel", "start_server", *passed_on, *checked, "--uvicorn_app", "prato_server.app:app"]
    Main().run()


if __name__ == "__main__":
    main()
