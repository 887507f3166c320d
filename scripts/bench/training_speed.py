"""Slices per second in training, augmentation and averaging included, and which share is data, forward, backward and optimiser.

    python scripts/bench/training_speed.py --packed acdc.zip --out docs/results/training_speed.csv

Ways take turns, a few steps each, so that whatever else the machine does falls on all of them. Needs no more than torch and MONAI.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prato.models.registry import build_model
from prato.runtime.devices import default_device, device_name, synchronise
from prato.training.slice_bank import load_packed
from prato.training.stack_trainer import Recipe, StackTrainer, segmentation_loss
from scripts.common.arguments import HelpFormatter, positive_int, refused_in_one_sentence, table_file
from scripts.common.provenance import origin
from scripts.common.results import replace_rows
from scripts.research.train_queue import QUEUE, entries

#: What rows call the queue's entry dense_twin: the Swin UNETR with an overview, without one.
DENSE_TWIN = "window_swin_unetr"


def main() -> None:
    """Measure, print, and write one row a network and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--packed", type=Path, required=True, help="file that scripts/research/pack_stacks.py wrote")
    parser.add_argument("--out", type=table_file, required=True, help="CSV file to add to")
    parser.add_argument(
        "--networks", nargs="*", default=[DENSE_TWIN, "overview_swin_unetr", "overview_unet", "unet"], help="kinds of networks"
    )
    parser.add_argument("--stacks", nargs="*", type=positive_int, default=[16], help="stacks per step; several numbers may be given")
    parser.add_argument("--rounds", type=positive_int, default=5, help="how often each is timed, in turn")
    parser.add_argument("--steps", type=positive_int, default=10, help="steps per round")
    parser.add_argument("--commit", help="commit that the rows name, where there is no checkout")
    given = parser.parse_args()
    device = torch.device(default_device())
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    with refused_in_one_sentence(parser):
        known = {entry["name"]: entry for entry in entries(QUEUE)}
        known[DENSE_TWIN] = known["dense_twin"]
        if unknown := [name for name in given.networks if name not in known]:
            raise ValueError(f"There is no network called {unknown[0]}: name some of {', '.join(known)}.")
        bank = load_packed(given.packed, device)
    rows = []
    for name in given.networks:
        entry = known[name]
        for stacks in given.stacks:
            recipe = Recipe(steps=100_000, stacks=stacks, precision="bfloat16" if device.type == "cuda" else "float32")
            ways = {"eager": False, **({"captured": True} if device.type == "cuda" else {})}
            trainers = {}
            for way, capture in ways.items():
                torch.manual_seed(0)
                began = time.perf_counter()
                network = build_model(entry["network"], **entry["arguments"])
                trainers[way] = StackTrainer(network, bank, recipe, capture=capture)
                speed(trainers[way], 5)
                print(name, stacks, way, "ready after", round(time.perf_counter() - began, 1), "s", flush=True)
            speeds: dict[str, list[float]] = {way: [] for way in trainers}
            for _ in range(given.rounds):
                for way, trainer in trainers.items():
                    speeds[way].append(speed(trainer, given.steps))
            for way, found in speeds.items():
                row = {"network": name, "way": way, "slices a step": recipe.slices, "edge": recipe.edge}
                row |= {"slices a second": round(statistics.median(found)), "lowest": round(min(found)), "highest": round(max(found))}
                if way == "eager":
                    row |= shares(trainers[way])
                rows.append(row)
                print(json.dumps(row), flush=True)
            del trainers
    made = {"torch": torch.__version__, **origin(device_name(device), given.commit)}
    replace_rows(given.out, [{**row, **made} for row in rows], ("network", "way", "slices a step", "device"))


def speed(trainer: StackTrainer, steps: int) -> float:
    """Slices a second over so many further steps."""
    synchronise(trainer.device)
    start = time.perf_counter()
    for _ in range(steps):
        trainer.take_step()
    synchronise(trainer.device)
    return steps * trainer.recipe.slices / (time.perf_counter() - start)


def shares(trainer: StackTrainer) -> dict[str, float]:
    """Share of an eager step that is data, forward with the loss, backward, and the optimiser with averaging."""
    device, spent = trainer.device, dict.fromkeys(("data", "forward", "backward", "optimiser"), 0.0)

    def timed(part: str, call: Callable[[], Any]) -> Any:
        synchronise(device)
        start = time.perf_counter()
        result = call()
        synchronise(device)
        spent[part] += time.perf_counter() - start
        return result

    for step in range(5):
        batch = timed("data", partial(trainer.sampler.batch, step))

        def forward(batch: Any = batch) -> Any:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=trainer.recipe.precision == "bfloat16"):
                logits, relevance = trainer.network.train_windows(batch.window, batch.corner, batch.overview, batch.box, batch.has_box)
            loss = segmentation_loss(logits.float(), batch.label.flatten(0, 1))
            return loss if relevance is None else loss + 0.2 * relevance.float().mean()

        loss = timed("forward", forward)
        timed("backward", loss.backward)
        timed("optimiser", trainer.update_weights)
    total = sum(spent.values())
    return {f"{part} share": round(seconds / total, 3) for part, seconds in spent.items()}


if __name__ == "__main__":
    main()
