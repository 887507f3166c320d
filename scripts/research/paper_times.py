"""How long the network of each of the paper's rows takes for a slice: all rows in turn, in one process.

    python scripts/research/paper_times.py --data acdc=out/acdc --data isic=out/isic

A row's own run is timed by nothing, as no two runs meet the same machine. A network's time does not depend on what its weights have learned
unless they decide how many tokens it keeps; so each is built anew, and where it then keeps another share of its tokens than the trained one
did, it has no time. One CPU thread is timed by its own clock, which stands still while others have the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import torch
import typer
from tqdm import tqdm

from prato.models.checkpoint import channels_last
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.runtime.devices import device_name, find_device
from scripts.common.paths import ROOT
from scripts.common.provenance import origin
from scripts.common.refusals import refuses_in_one_sentence
from scripts.common.results import Row, read_rows, replace_rows
from scripts.research.datasets.base import EvalCase
from scripts.research.experiments.data import ExperimentData
from scripts.research.experiments.matrix import load_experiments
from scripts.research.experiments.networks import model_spec
from scripts.research.paper import data_folders
from scripts.research.stack_ways import Clock

#: Shares of tokens, of a trained and a fresh network, that are the same but for rounding and for what lies on a threshold.
_SAME_SHARE = 0.02
#: Slices in one call, as the server's.
_BATCH = 16


class _Timed(NamedTuple):
    """A row's network with what it is timed on, and the share of the image's tokens that it begins with."""

    network: Any
    plan: PruningPlan | None
    cases: Sequence[EvalCase]
    first_tokens: float


@refuses_in_one_sentence
def main(
    results: Annotated[Path, typer.Option(help="Folder of runs.csv and the splits; times.csv is written there.")] = ROOT
    / "docs/results/paper",
    data: Annotated[list[str], typer.Option(help="NAME=FOLDER of a data set; by default out/NAME.")] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    cases: Annotated[int, typer.Option(min=1, help="Test cases, evenly chosen.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="How often each row is timed.")] = 5,
) -> None:
    """Time every row that was measured, and write times.csv: milliseconds a slice, median over rounds and cases."""
    torch.set_num_threads(threads)
    on = find_device(device)
    trained: dict[str, dict[str, float]] = {}
    for case in read_rows(results / "cases.csv"):
        trained.setdefault(case["experiment"], {})[case["case"]] = case["tokens"]
    rows = _build(sorted(trained), ExperimentData(data_folders(data), results), cases, on)
    found: dict[str, list[float]] = {name: [] for name in rows}
    kept = {name: _time(row, on)[1] for name, row in tqdm(rows.items(), desc="first calls", unit="row")}
    names = list(rows)
    for number in tqdm(range(rounds), unit="round"):
        shift = number * len(names) // rounds
        for name in tqdm(names[shift:] + names[:shift], unit="row", leave=False):
            found[name].append(_time(rows[name], on)[0])
    made = {"threads": threads, **origin(device_name(on))}
    replace_rows(
        results / "times.csv",
        [
            {
                "experiment": name,
                **_summary(found[name], kept[name], _mean_tokens(row, trained[name])),
                "cases": cases,
                "rounds": rounds,
            }
            | made
            for name, row in rows.items()
        ],
        ("experiment", "device", "threads"),
    )


def _build(names: Sequence[str], data: ExperimentData, count: int, device: torch.device) -> dict[str, _Timed]:
    """The rows of the matrix among ``names``, each with a network that was not trained."""
    experiments, built = load_experiments(), dict[str, _Timed]()
    for name in tqdm([name for name in names if name in experiments], desc="networks", unit="row"):
        spec, cases = model_spec(experiments[name]), data.eval_cases(experiments[name])
        torch.manual_seed(0)
        network = channels_last(spec.build().to(device).eval())
        step, sight = max(1, len(cases) // count), experiments[name].sight
        built[name] = _Timed(network, spec.pruning_plan(), cases[::step][:count], (sight.edge / experiments[name].image) ** 2)
    return built


@torch.inference_mode()
def _time(row: _Timed, device: torch.device) -> tuple[float, float]:
    """Milliseconds a slice, the median over the cases, and the share of the image's tokens that went through to the end."""
    times, kept = [], list[float]()
    for case in row.cases:
        parts = [part.to(device).contiguous(memory_format=torch.channels_last) for part in case.image.split(_BATCH)]
        prompts = [PromptBatch.of(BoxPrompt, [[case.box.tolist()]] * len(part), part.shape[2:]) for part in parts]
        clock, outputs = Clock(device), []
        for part, prompt in zip(parts, prompts):
            outputs.append(row.network.segment(part, prompt, row.plan))
        clock.stop("network")
        times.append(clock.ms["network"] / len(case.image))
        last = [[*output.kept_fraction().values()][-1:] for output in outputs]
        shares = [float(share) for stage in last for slices in stage for share in slices]
        kept.append(row.first_tokens * (sum(shares) / len(shares) if shares else 1.0))
    return median(times), sum(kept) / len(kept)


def _mean_tokens(row: _Timed, trained: Mapping[str, float]) -> float:
    """The share of tokens that the trained network kept of the cases that are timed."""
    return sum(trained[case.case] for case in row.cases) / len(row.cases)


def _summary(times: Sequence[float], kept: float, trained: float) -> Row:
    """A row's time with its spread; none where fresh weights keep another share of the tokens than the trained ones did."""
    ms = {"median": round(median(times), 2), "lowest": round(min(times), 2), "highest": round(max(times), 2)}
    ms_or_none = ms if abs(kept - trained) <= _SAME_SHARE else dict.fromkeys(ms)
    return {"ms": ms_or_none, "tokens": round(kept, 4), "tokens_trained": round(trained, 4)}


if __name__ == "__main__":
    typer.run(main)
