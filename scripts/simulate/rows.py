"""What a simulation found so far: a row a round in one CSV file, and a row a study beside it in NAME_studies.csv."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from scripts.common.results import Row, read_rows, write_rows

#: What tells one round from another, in both files.
_ROUND = ("strategy", "seed", "pruned", "labelled_patients")
#: A round's values by study, and what such a study is called in the column ``when``: corrected in patients chosen for this round, to be
#: corrected in those chosen for the next one, or left by the last round's model.
_CHOSEN, _NEXT, _LEFT = "chosen", "next", "left"
_BY_STUDY = ("corrected_voxels", "heart_voxels", "next_corrected_voxels", "unlabelled_voxels")


class Rows:
    """The rounds in ``file``, written as they come; every new one says how it was ``made``.

    Raises:
        ValueError: ``file`` is there, but no simulation of ``budget`` on ``patients``.
    """

    def __init__(self, file: Path, budget: dict[str, Any], patients: Collection[str], made: dict[str, Any]) -> None:
        self.file, self.budget, self.made = file, budget, made
        self.rows = self._stored(patients) if file.exists() else []

    def of(self, strategy: str, seed: int, pruned: bool) -> list[Row]:
        """Those of one run, in order."""
        return [row for row in self.rows if (row["strategy"], row["seed"], row["pruned"]) == (strategy, seed, pruned)]

    def append(self, row: Row) -> None:
        """Add ``row``, on disk before this returns."""
        self.rows.append({**row, **self.made, "budget": self.budget})
        newest = {key[:3]: key for key in (tuple(each[name] for name in _ROUND) for each in self.rows)}
        studies = [study for each in self.rows for study in _studies(each, tuple(each[name] for name in _ROUND) in newest.values())]
        write_rows(_beside(self.file), studies)
        write_rows(self.file, [{name: value for name, value in each.items() if name not in _BY_STUDY} for each in self.rows])

    def _stored(self, patients: Collection[str]) -> list[Row]:
        try:
            rows = read_rounds(self.file)
            same = all(row["budget"] == self.budget and set(row.get("patients", ())) <= set(patients) for row in rows)
        except (ValueError, KeyError, TypeError, OSError):
            same = False
        if not same:
            raise ValueError(
                f"{self.file} is not a simulation of this budget and split: use those that it was begun with, or another file."
            )
        return rows


def read_rounds(file: Path) -> list[Row]:
    """The rounds of ``file``, each with its values by study: ``corrected_voxels``, ``heart_voxels``, and where there are any
    ``next_corrected_voxels`` or ``unlabelled_voxels``.

    Raises:
        ValueError: it is no such file.
    """
    by_round: dict[tuple[Any, ...], Row] = {tuple(row[name] for name in _ROUND): row for row in read_rows(file)}
    latest = {key[:3]: row for key, row in by_round.items()}
    for study in read_rows(_beside(file)):
        key, name, when = tuple(study[column] for column in _ROUND), study["study"], study["when"]
        row = by_round.get(key)
        if row is None and when == _CHOSEN:  # a kill came between the two files: what was corrected was chosen by the round before
            row, when = latest.get(key[:3]), _NEXT
        if row is None:
            continue
        if when == _CHOSEN:
            row.setdefault("corrected_voxels", {})[name] = study["corrected_voxels"]
            row.setdefault("heart_voxels", {})[name] = study["heart_voxels"]
        else:
            row.setdefault("next_corrected_voxels" if when == _NEXT else "unlabelled_voxels", {})[name] = study["corrected_voxels"]
    return list(by_round.values())


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}_studies.csv")


def _studies(row: Row, newest: bool) -> Iterator[Row]:
    """Rows for the second file; what was chosen next is one of them until it stands in the following round."""
    about = {name: row[name] for name in _ROUND}
    made = {name: row[name] for name in ("threads", "device", "commit")}
    for study, voxels in row.get("corrected_voxels", {}).items():
        yield {**about, "study": study, "when": _CHOSEN, "corrected_voxels": voxels, "heart_voxels": row["heart_voxels"][study], **made}
    following = ((_LEFT, "unlabelled_voxels"),) if "unlabelled_voxels" in row else ((_NEXT, "next_corrected_voxels"),) if newest else ()
    for when, name in following:
        for study, voxels in row.get(name, {}).items():
            yield {**about, "study": study, "when": when, "corrected_voxels": voxels, **made}
