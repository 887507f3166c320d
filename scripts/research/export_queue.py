"""Collect what scripts/research/train_queue.py left: learning curves into docs/results, and weights as a model file of the app.

python scripts/research/export_queue.py --queue-out out/queue --commit COMMIT --device "NVIDIA H200" --command "..."
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prato.data.structures import STRUCTURES
from prato.data.studies.splits import load_split
from prato.models.checkpoint import model_preset, save_model
from prato.models.registry import PIXEL
from scripts.common.paths import MODELS, RESULTS
from scripts.common.refusals import refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.queue_weights import load_weights, read_points


@refuses_in_one_sentence
def main(
    queue_out: Annotated[Path, typer.Option(help="The queue's --out.")],
    commit: Annotated[str, typer.Option(help="Commit that it ran at.")],
    device: Annotated[str, typer.Option(help="Device that it ran on.")],
    command: Annotated[str, typer.Option(help="Command that started it.")],
    ship: Annotated[str, typer.Option(help="Entry whose weights become a model file of the app, prato_ENTRY.safetensors.")] = "",
    pixel: Annotated[float, typer.Option(min=0.1, help="In-plane resolution (mm) at which it is used.")] = PIXEL,
    note: Annotated[str, typer.Option(help="What else the model card should say.")] = "",
    split: Annotated[Path, typer.Option(help="The queue's --split.")] = RESULTS / "acdc_split.json",
    curves: Annotated[Path, typer.Option(help="CSV file of learning curves.")] = RESULTS / "training_queue.csv",
) -> None:
    """Curves of all trainings that ended, and one model file."""
    about = {"device": device, "commit": commit, "command": command}
    trained = sorted(queue_out.glob("*/weights.pt"))
    if not trained:
        raise ValueError(f"{queue_out} holds no finished training: run scripts/research/train_queue.py first.")
    for path in trained:
        stored = load_weights(path.parent)
        rows = list(curve_rows(path.parent, stored["recipe"]))
        replace_rows(curves, [{**row, "seed": stored["recipe"]["seed"], **about} for row in rows], ("training",))
        typer.echo(f"{path.parent.name}: {len(rows)} points")
    if ship:
        typer.echo(f"{ship}: version {ship_weights(queue_out / ship, about, pixel, note, split)}")


def curve_rows(folder: Path, recipe: dict[str, Any]) -> list[Row]:
    """The points of a training's curve at which it was validated."""
    rows: list[Row] = []
    for point in read_points(folder):
        promptings = [name for name in ("tight", "none") if name in point]
        if promptings:
            row: Row = {"training": folder.name, "slices": point["slices"], "seconds": point["seconds"]}
            row["slices_per_second"] = point["slices_per_second"]
            if "loss" in point:  # a mean of weights has none
                row["loss"] = dict(zip(("segmentation", "relevance"), point["loss"]))
            for name in promptings:
                structures = dict(zip(STRUCTURES, point[f"{name}_structures"]))
                row[f"dice {name}"] = {**structures, "mean": point[name]}
            rows.append({**row, "edge": recipe["edge"], "stacks": recipe["stacks"], "depth": recipe["depth"], "rate": recipe["rate"]})
    return rows


def ship_weights(folder: Path, about: dict[str, str], pixel: float, note: str, split: Path) -> str:
    """Write the weights of ``folder`` as a model file of the app; returns its version."""
    stored = load_weights(folder)
    entry, recipe = stored["entry"], stored["recipe"]
    spec = model_preset(entry["network"])
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in entry["arguments"].items() if name != "stages"}
    last = read_points(folder)[-1]
    sides = load_split(split)
    training = {
        **{"seed": recipe["seed"], "steps": recipe["steps"], "slices": recipe["steps"] * recipe["stacks"] * recipe["depth"]},
        **{"training_minutes": round(last["seconds"] / 60, 1), "dense": False, "recipe": recipe, **about},
        **({"note": note} if note else {}),
        "patients": {"train": len(sides.train), "validation": len(sides.validation)},
    }
    spec = spec.model_copy(update={"arguments": arguments, "pixel": pixel, "training": training})
    network = spec.build()
    network.load_state_dict(stored["weights"])
    return save_model(MODELS / f"prato_{folder.name}.safetensors", network, spec)


if __name__ == "__main__":
    typer.run(main)
