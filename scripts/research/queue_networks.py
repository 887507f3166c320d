"""The network of an entry of the training queue: as its training begins, as it is judged, and as it is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import scripts.research.baselines.unet  # noqa: F401 - registers a network
from prato.models import overview_swin_unetr, overview_unet  # noqa: F401 - register networks
from prato.models.registry import build_model
from prato.training.slice_bank import SliceBank
from prato.training.window_dice import window_dice
from scripts.common.model_files import model_file
from scripts.research.narrowing import narrow_state
from scripts.research.paper_rows import PaperRow, row_dice
from scripts.research.queue_weights import load_weights


def paper_row(entry: dict[str, Any]) -> PaperRow:
    """What an entry of scripts/research/paper_queue.py trains."""
    return PaperRow(entry["network"], entry["arguments"], **entry["row"])


def start_network(entry: dict[str, Any], out: Path) -> Any:
    """The network of ``entry`` as its training begins: fresh but for the weights, of the entries that it starts from, that it has by name
    and shape, or but for the channels of a shipped model that is wider; its ``frozen`` modules are not trained."""
    network = build_model(entry["network"], **entry["arguments"])
    own = network.state_dict()
    if "narrow" in entry:
        from prato.models.checkpoint import load_model  # needs what other entries do not, see above

        own = narrow_state(load_model(model_file(entry["narrow"]))[0].state_dict(), network)
    for name in entry.get("start", ()):
        stored = load_weights(out / name)["weights"]
        own |= {key: value.to(own[key].dtype) for key, value in stored.items() if key in own and own[key].shape == value.shape}
    network.load_state_dict(own)
    for name in entry.get("frozen", ()):
        network.get_submodule(name).requires_grad_(False)
    return network


class Judge:
    """A network of ``entry`` that takes the weights of its training, time and again."""

    def __init__(self, entry: dict[str, Any], device: torch.device) -> None:
        self.promptings: list[Any] = entry["promptings"]
        self.row = paper_row(entry) if "row" in entry else None
        built = self.row.build() if self.row else build_model(entry["network"], **entry["arguments"])
        self.network = built.to(device).eval()

    def validate(self, weights: dict[str, torch.Tensor], bank: SliceBank) -> dict[str, Any]:
        """Mean Dice of ``weights`` on the validation patients, by prompting."""
        self.network.load_state_dict(weights)
        found: dict[str, Any] = {}
        for prompting in self.promptings:
            dice = row_dice(self.row, self.network, bank) if self.row else window_dice(self.network, bank, prompting)
            found[prompting] = round(float(dice.mean()), 4)
            found[f"{prompting}_structures"] = [round(value, 4) for value in dice.mean(0).tolist()]
        return found
