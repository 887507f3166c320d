"""A model's rounds of training as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prato.retraining.records import ModelRecord


def history_png(model: str, records: Sequence[ModelRecord]) -> bytes:
    """Mean Dice on the patients held back by round, with the 95 % interval of its change, over the number of labels that it learnt from."""
    rounds = [record for record in records if record.kind == "trained"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    dice, labels = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    x = np.arange(1, len(rounds) + 1)
    dice.plot(x, [r.training["dice_before"] for r in rounds], "_", color="0.5", markersize=14, label="before")
    for published, colour in ((True, "tab:blue"), (False, "tab:red")):
        chosen = [(n, r) for n, r in zip(x, rounds) if r.published is published]
        after = [r.training["dice_after"] for _, r in chosen]
        dice.plot([n for n, _ in chosen], after, "o", color=colour, label="published" if published else "not published")
        for n, record in chosen:
            if record.training["interval"]:
                low, high = (record.training["dice_before"] + change for change in record.training["interval"])
                dice.vlines(n, low, high, color=colour, alpha=0.5)
    dice.set(title=f"{model}: rounds of training", ylabel="mean Dice, patients held back")
    dice.legend(loc="best")
    labels.bar(x, [len(r.training["labels"]) for r in rounds], color="0.7")
    labels.set(xlabel="round", ylabel="labels")
    labels.xaxis.set_major_locator(MaxNLocator(integer=True))
    labels.yaxis.set_major_locator(MaxNLocator(integer=True))
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
