"""Fill the marked parts of the pages on the method; the words round them are written by hand, the numbers never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.common.markdown import fill_pages
from scripts.common.results import read_rows
from scripts.research.tables import method_results, method_theory
from scripts.research.tables.relevance_results import relevance_text
from scripts.research.tables.rows import Table


def fill_method(pages: Sequence[Path], results: Path, tables: Mapping[str, Table]) -> None:
    """Write the marked parts of ``pages`` from the files in ``results`` and the paper's ``tables``.

    Raises:
        ValueError: the pages have other marks than there are parts, or a file is not what it should be.
        OSError: a file is not there.
    """
    try:
        evidence = read_rows(results / "method_evidence.csv")
        study = method_results.study(results)
        parts = {
            "scores": method_theory.scores(evidence),
            "thresholds": method_theory.thresholds(evidence),
            "operations": method_theory.operations(evidence, tables),
            "decoding": method_theory.decoding(evidence),
            "columns": method_theory.columns(tables) + method_results.by_structure(results),
            "masking": method_results.masking(study),
            "worth": method_results.worth(study),
            "chosen": relevance_text(results / "relevance.csv"),
            "speed": method_results.speed(results),
            "validation": method_results.validation(results),
            "claims": method_results.claims(tables),
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"A file in {results} lacks {error}.") from None
    fill_pages(pages, parts)
