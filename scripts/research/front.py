"""Dice against time: every trained network, in every way that it can be used, on the validation patients.

    python scripts/research/front.py --packed out/acdc.zip --out docs/results/front.csv

Dice is that of whole volumes at the networks' resolution, with small components removed. Time is the network's own for a volume of 10
slices, nothing kept from before; networks and ways take turns. Needs torch, MONAI, numpy, scipy and Pillow alone.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from statistics import mean, median
from typing import Any

from tqdm import tqdm

from prato.evaluation.box_conditions import BoxCondition
from prato.models.overview_network import OVERVIEW_PLAN
from scripts.common.arguments import HelpFormatter, positive_int, refused_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research import stack_ways
from scripts.research.queue_weights import list_trainings
from scripts.research.stack_ways import CONTEXT, Way
from scripts.research.stacks import Stack, Trained, add_arguments, begin, choose_evenly, dice_of, first_slices, load_trained

#: Slices of the volumes that are timed.
SLICES = 10
BOXES = (BoxCondition.tight, BoxCondition.partial, BoxCondition.none)
#: What a network with an overview can do besides: let fewer tokens leave.
_PERCENT = ("25", "50", "75")
#: Of the pixels that a network computes which was trained with random tokens: about what the default plan computes.
RANDOM_SHARE = 0.2


def ways_of(trained: Trained) -> dict[str, Way]:
    """By name, the ways in which a network is used."""
    crops = {"crop to the box": stack_ways.cropped(0), "crop with context": stack_ways.cropped(CONTEXT)}
    if not hasattr(trained.network, "choose_region"):
        return {"whole slices": partial(_without_box, stack_ways.cropped(0)), **crops}
    if trained.entry.get("tokens") == "random":
        return {"random region": stack_ways.random_square(RANDOM_SHARE), "whole slices": stack_ways.pruned(None), **crops}
    plans = {"pruned": OVERVIEW_PLAN, **{f"pruned {percent} %": OVERVIEW_PLAN.with_override(percent) for percent in _PERCENT}}
    ways = {name: stack_ways.pruned(plan) for name, plan in plans.items()}
    drawn = {"random tokens": stack_ways.random_tokens(OVERVIEW_PLAN), "random region": stack_ways.random_region(OVERVIEW_PLAN)}
    return {**ways, "whole slices": stack_ways.pruned(None), **drawn, **crops}


def _without_box(way: Way, network: Any, stack: Stack, planes: Any, box: Any) -> Any:
    """A way that makes no use of the box but for its slices."""
    return way(network, stack, planes, None)


def measure_dice(trained: Trained, stacks: list[Stack], way: Way, box: BoxCondition) -> dict[str, float]:
    """Mean Dice by structure, and their mean."""
    found = [dice_of(stack_ways.segment(trained.network, way, stack, box)[0], stack) for stack in stacks]
    structures = {name: round(mean(each[name] for each in found), 4) for name in found[0]}
    return {**structures, "mean": round(mean(structures.values()), 4)}


def measure_times(trained: dict[str, Trained], stacks: list[Stack], rounds: int) -> dict[tuple[str, str, str], dict[str, float]]:
    """Median milliseconds by part, for each network, way and box, and the share of the pixels that was computed; all take turns."""
    tens = [first_slices(stack, SLICES) for stack in stacks]
    calls = [
        (name, way, box, stack)
        for stack in tens
        for name, own in trained.items()
        for way in ways_of(own)
        for box in BOXES
        if stack_ways.has_box(way, box)
    ]
    for name, way, box, stack in calls[: len(calls) // len(tens)]:  # whatever is made at the first call
        stack_ways.segment(trained[name].network, ways_of(trained[name])[way], stack, box)
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for number in range(rounds):
        for name, way, box, stack in tqdm(calls[number % len(calls) :] + calls[: number % len(calls)], desc="times", mininterval=10):
            answer = stack_ways.segment(trained[name].network, ways_of(trained[name])[way], stack, box)[1]
            found.setdefault((name, way, box.value), []).append({**answer.ms, "share": answer.share})
    return {key: {part: median(each[part] for each in all_) for part in all_[0]} for key, all_ in found.items()}


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="*", help="names of trainings; by default all that have finished")
    parser.add_argument("--timed", type=positive_int, default=3, help="volumes that are timed")
    parser.add_argument("--rounds", type=positive_int, default=3, help="how often each is timed")
    given = parser.parse_args()
    with refused_in_one_sentence(parser):
        stacks, device, made = begin(given)
        trained = {name: load_trained(given.queue_out / name, device) for name in given.only or list_trainings(given.queue_out)}
        if not trained:
            raise ValueError(f"{given.queue_out} holds no finished training, nor does the app: run scripts/research/train_queue.py first.")
    times = measure_times(trained, choose_evenly(stacks, given.timed), given.rounds)
    rows: list[Row] = []
    for (name, way, box), took in tqdm(times.items(), desc="Dice", mininterval=10):
        own = trained[name]
        row: Row = {"training": name, "network": own.entry["network"], "parameters": sum(p.numel() for p in own.network.parameters())}
        row |= {"seed": own.seed, "slices_trained": own.slices, "way": way, "box": box, "volumes": len(stacks)}
        parts = {part: round(ms, 2) for part, ms in took.items() if part != "share"}
        row |= {"ms": {**parts, "all": round(sum(parts.values()), 2)}, "share": round(took["share"], 4)}
        row["dice"] = measure_dice(own, stacks, ways_of(own)[way], BoxCondition(box))
        rows.append({**row, **made})
        print(json.dumps(row), flush=True)
    replace_rows(given.out, rows, ("training", "way", "box", "device", "threads"))


if __name__ == "__main__":
    main()
