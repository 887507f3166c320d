"""What the folder of a run records of the masks in it, for anyone who finds them later."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from prato.data.file_identity import FileStamp, file_stamp
from prato.data.studies.folder import split_name
from prato.labelling.files import sha256

#: Files beside a run's masks: what they follow from, and a line about each.
PARAMETERS_NAME, RECORDS_NAME = "run.json", "records.jsonl"


def read_records(path: Path) -> list[dict[str, Any]]:
    """The complete records of ``path``, without a line that a kill or a power cut left unfinished."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("study"), str):
            records.append(record)
    return records


def recorded_model(mask: Path) -> tuple[str, str] | None:
    """The model, and its version, with which a run made the file ``mask`` in its folder; None where no run did, or it was changed since.

    Raises:
        OSError: the mask cannot be read.
    """
    name, study = mask.parent / RECORDS_NAME, (split_name(mask.name) or (mask.name, ""))[0]
    try:
        stamp = file_stamp(name)
        parameters = json.loads((mask.parent / PARAMETERS_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    record = {} if stamp is None else _records_by_study(name, stamp).get(study, {})
    if not isinstance(parameters, dict) or record.get("mask_sha256") != sha256(mask.read_bytes()):
        return None
    return str(parameters.get("model") or "unknown"), str(record.get("model_version") or parameters.get("model_version") or "unknown")


@lru_cache(maxsize=4)
def _records_by_study(path: Path, stamp: FileStamp) -> dict[str, dict[str, Any]]:
    """The last record of each study at ``path``; ``stamp`` changes when the file does."""
    return {record["study"]: record for record in read_records(path)}
