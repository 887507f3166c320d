"""The paper's experiments from their matrix, and which of them are the rows of which table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from prato.data.wording import first_fault
from scripts.common.results import read_rows
from scripts.research.datasets.base import ExperimentError
from scripts.research.experiments.schema import Experiment

MATRIX = Path(__file__).with_name("matrix.yaml")
PAPER_TABLES = Path(__file__).with_name("paper_tables.csv")


def load_experiments(path: Path = MATRIX) -> dict[str, Experiment]:
    """Every experiment of the matrix at ``path``, by name such as "table4/prato_acdc"; checked against each other.

    Raises:
        ExperimentError: it is no matrix, has none, one is not an experiment, or one needs another that is not there.
    """
    try:
        matrix = yaml.safe_load(path.read_bytes())
        expanded = [*_expanded(matrix["common"], matrix["data"], matrix["rows"])]
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read ({error.strerror}): name a matrix of experiments.") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ExperimentError(f"{path} is not a matrix of experiments with common, data and rows: {error!r}.") from error
    found: dict[str, Experiment] = {}
    for name, fields in expanded:
        try:
            found[name] = Experiment.model_validate(fields)
        except ValidationError as error:
            raise ExperimentError(f"{path}: {name} is not an experiment: {first_fault(error)}.") from error
    if not found:
        raise ExperimentError(f"{path} holds no experiments such as table4/prato.")
    for name, experiment in found.items():
        for needed in experiment.needs:
            if needed not in found:
                raise ExperimentError(f"{name} needs {needed}, which is not a row of the matrix.")
            _check_fit(name, experiment, needed, found[needed])
    return found


def _expanded(
    common: Mapping[str, Any], data: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, row in rows.items():
        whole = {**common, **_inherited(row, rows)}
        boxes = whole["box"] if isinstance(whole["box"], list) else [whole["box"]]
        for dataset in whole.pop("data"):
            if dataset not in data:
                raise ExperimentError(f"{name} is on {dataset}, of which the matrix says nothing under data, such as its budget.")
            needed = {key: f"{whole[key]}_{dataset}" for key in ("model_of", "teacher") if whole.get(key)}
            for box in boxes:
                fields = {**whole, **data[dataset], **needed, "data": dataset, "box": box}
                yield f"{name.format(box=box)}_{dataset}", fields


def _inherited(row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``row`` with what it takes from the row that it is like."""
    own = dict(row)
    source = own.pop("like", None) or own.get("model_of")
    base = _inherited(rows[source], rows) if source else {}
    if "plan" in own or "plan" in base:
        own["plan"] = {**base.get("plan", {}), **own.get("plan", {})}
    return {**base, **own}


def _check_fit(name: str, experiment: Experiment, needed: str, other: Experiment) -> None:
    if other.model_of is not None:
        raise ExperimentError(f"{name} needs {needed}, which trains no model of its own.")
    same = ["network", "size", "data", "images", "image", "sees_box"]
    if experiment.model_of:
        same += ["method", "plan", "recipe", "dense_first", "seed", "budget"]
    elif other.method != "dense":
        raise ExperimentError(f"The teacher of {name} must be dense: {needed} is not.")
    differ = [field for field in same if getattr(experiment, field) != getattr(other, field)]
    if differ:
        raise ExperimentError(f"{name} and {needed}, whose model it takes, must agree in {', '.join(differ)}.")


def load_tables(path: Path, experiments: Mapping[str, Experiment]) -> dict[str, list[str]]:
    """The names of each table's experiments, in the table's order.

    Raises:
        ExperimentError: not such a file, or a row whose experiment is not in the matrix.
    """
    tables = _read_tables(path)
    for table, names in tables.items():
        for name in names:
            if name not in experiments:
                raise ExperimentError(f"{table} has the row {name}, which is not in the matrix.")
    return tables


def paper_tables(experiments: Mapping[str, Experiment]) -> dict[str, list[str]]:
    """As :func:`load_tables`, of the paper's tables those whose experiments are all there: a matrix of one's own may have none."""
    return {table: names for table, names in _read_tables(PAPER_TABLES).items() if all(name in experiments for name in names)}


def _read_tables(path: Path) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    try:
        for row in read_rows(path):
            names = tables.setdefault(row["table"], [])
            if row["experiment"] not in names:
                names.append(row["experiment"])
    except OSError as error:
        raise ExperimentError(
            f"{path} cannot be read ({error.strerror}): name a file that says which experiments each table has."
        ) from error
    except (ValueError, KeyError) as error:
        raise ExperimentError(f"{path} does not say which experiments are the rows of which table.") from error
    return tables


def select(names: Sequence[str], tables: Mapping[str, list[str]], experiments: Mapping[str, Experiment]) -> list[str]:
    """The experiments that ``names``, of tables or experiments, stand for, each once.

    Raises:
        ExperimentError: a name that is neither.
    """
    found: list[str] = []
    for name in names:
        if name not in tables and name not in experiments:
            known = f"neither a table ({', '.join(tables)}) nor" if tables else "not"
            raise ExperimentError(f"{name} is {known} an experiment such as {next(iter(experiments))}.")
        found += tables.get(name, [name])
    return list(dict.fromkeys(found))
