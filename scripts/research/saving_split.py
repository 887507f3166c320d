"""What pruning saves, split: fewer tokens to encode, and a smaller region to decode; beside crops from outside and random tokens.

    python scripts/research/saving_split.py --packed out/acdc.zip --out docs/results/saving_split.csv

One row a volume, box and way, with the milliseconds of the overview, of the encoder ("tokens") and of the decoder, and Dice at the
network's resolution. Needs torch, MONAI, numpy, scipy and Pillow alone.
"""

from __future__ import annotations

import argparse

from tqdm import tqdm

from prato.evaluation.box_conditions import BoxCondition
from prato.models.overview_network import OVERVIEW_PLAN
from scripts.common.arguments import HelpFormatter, refused_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research import stack_ways
from scripts.research.stack_ways import CONTEXT, Way
from scripts.research.stacks import add_arguments, begin, dice_of, load_trained

WAYS: dict[str, Way] = {
    "off": stack_ways.pruned(None),
    "plan": stack_ways.pruned(OVERVIEW_PLAN),
    "the plan's region cropped": stack_ways.cropped_as(OVERVIEW_PLAN),
    "crop to the box": stack_ways.cropped(0),
    "crop with context": stack_ways.cropped(CONTEXT),
    "random region": stack_ways.random_region(OVERVIEW_PLAN),
    "random tokens": stack_ways.random_tokens(OVERVIEW_PLAN),
}


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add_arguments(parser)
    parser.add_argument("--training", default="overview_unet", help="training whose weights are used")
    given = parser.parse_args()
    with refused_in_one_sentence(parser):
        stacks, device, made = begin(given)
        own = load_trained(given.queue_out / given.training, device)
        if not hasattr(own.network, "choose_region"):
            raise ValueError(f"{given.training} has no overview to choose a region by: name a training that has one.")
    boxes = (BoxCondition.tight, BoxCondition.none)
    calls = [(name, box) for name in WAYS for box in boxes if stack_ways.has_box(name, box)]
    for name, box in calls:  # whatever is made at the first call
        stack_ways.segment(own.network, WAYS[name], stacks[0], box)
    rows: list[Row] = []
    for number, stack in enumerate(tqdm(stacks, unit="volume", mininterval=10)):
        for name, box in calls[number % len(calls) :] + calls[: number % len(calls)]:
            mask, answer = stack_ways.segment(own.network, WAYS[name], stack, box)
            dice = {structure: round(value, 4) for structure, value in dice_of(mask, stack).items()}
            row: Row = {"training": given.training, "box": box.value, "way": name, "volume": stack.name, "slices": len(stack.label)}
            row |= {"ms": {part: round(ms, 2) for part, ms in answer.ms.items()}, "share": round(answer.share, 4), "dice": dice}
            rows.append({**row, "mean_dice": round(sum(dice.values()) / len(dice), 4), **made})
    replace_rows(given.out, rows, ("training", "box", "way", "device", "threads"))


if __name__ == "__main__":
    main()
