"""Fill the parts of docs/method.md that stand between marks; the words round them are written by hand, the numbers never."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from prato.data.atomic import write_bytes
from scripts.research.paper_report import method_before, method_found
from scripts.research.paper_report.pages import filled
from scripts.research.paper_report.tables import Table


def fill_method(page: Path, results: Path, tables: Mapping[str, Table]) -> None:
    """Write the marked parts of ``page`` from the files in ``results`` and the paper's ``tables``.

    Raises:
        ValueError: the page has other marks than there are parts, or a file is not what it should be.
        OSError: a file is not there.
    """
    try:
        evidence = json.loads((results / "method_evidence.json").read_bytes())
        study = method_found.study(results)
        parts = {
            "scores": method_before.scores(evidence),
            "thresholds": method_before.thresholds(evidence),
            "operations": method_before.operations(evidence, tables),
            "decoding": method_before.decoding(evidence),
            "columns": method_before.columns(tables) + method_found.by_structure(results),
            "masking": method_found.masking(study),
            "worth": method_found.worth(study),
            "speed": method_found.speed(results),
            "validation": method_found.validation(results),
            "claims": method_found.claims(tables),
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"A file in {results} lacks {error}.") from None
    write_bytes(page, filled(page.read_text(), parts).encode())
