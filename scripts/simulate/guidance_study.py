"""How a click should be given to the network behind it: as channels beside the image, or as an addition to the embeddings.

Three networks are trained anew, alike but for where guidance (what is known by the new click: its trace, other clicks', how alike it
and where as seen from it each pixel lies) enters: as channels of the U-Net; embedded by itself at a quarter of the resolution and
added to the U-Net's coarsest features there, as segment-anything adds its dense prompts to image embeddings; or as channels and by
the perceptron that is shipped. Then each corrects masks of validation patients, as :mod:`scripts.simulate.simulate_clicks` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from prato.data.atomic import make_folder
from prato.data.structures import NUM_CLASSES
from prato.data.studies.folder import StudyFile
from prato.models.checkpoint import model_preset
from prato.models.click_refiner import INPUTS, PLACED, ClickRefiner
from prato.refinement.refiner import Refiner
from prato.refinement.refiner_input import NEWEST
from prato.training.click_bank import ClickBank
from prato.training.click_trainer import ClickRecipe, ClickTrainer
from scripts.common.labelled import require_labelled_studies
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows
from scripts.simulate.click_study import correct_by_clicks, make_drafts
from scripts.simulate.simulate_clicks import CLICKS, MANNERS, Labeller, measure_course, refined

#: Channels that clicks say something in: all strokes' traces and the new one's, how alike it each pixel is, and where it lies.
GUIDANCE = (*range(NEWEST - NUM_CLASSES, NEWEST + 1), *range(INPUTS - PLACED - 3, INPUTS))


class Entry(str, Enum):
    """Where guidance enters."""

    CHANNELS, EMBEDDING, PERCEPTRON = "channels", "added to embeddings", "channels and perceptron"


class ByChannels(ClickRefiner):
    """The U-Net alone, which is given all channels."""

    def forward(self, x: Tensor) -> Tensor:
        """As the base class."""
        return self.unet(x)


class ByEmbedding(ClickRefiner):
    """The U-Net sees no guidance; two strided convolutions make embeddings of it, which come to the coarsest features."""

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 48)) -> None:
        super().__init__(INPUTS - len(GUIDANCE), widths=widths)
        _, middle, coarse = widths
        first = nn.Conv2d(len(GUIDANCE), middle, 3, 2, padding=1, bias=False)
        self.embed = nn.Sequential(first, nn.BatchNorm2d(middle), nn.ReLU(inplace=True), nn.Conv2d(middle, coarse, 3, 2, padding=1))
        self.seen = [channel for channel in range(INPUTS) if channel not in GUIDANCE]

    def forward(self, x: Tensor) -> Tensor:
        """As the base class."""
        return self.unet(x[:, self.seen], self.embed(x[:, GUIDANCE]))


BUILD: dict[Entry, type[ClickRefiner]] = {Entry.CHANNELS: ByChannels, Entry.EMBEDDING: ByEmbedding, Entry.PERCEPTRON: ClickRefiner}


#: Of each training.
_STEPS, _SEED = 4_000, 0


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    bank: Annotated[Path, typer.Option(help="What scripts/research/train_clicks.py learns from: bank.npz in its folder.")],
    work: Annotated[Path, typer.Option(help="Folder of the trainings' states; a stopped training resumes.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other ways and labellers stay.")],
    patients: Annotated[int, typer.Option(min=1, help="Validation patients.")] = 8,
) -> None:
    """Write a row for each study, labeller and entry."""
    torch.set_num_threads(1)
    files = require_labelled_studies(studies, ACDC_SPLIT, patients)
    learned_from, made = ClickBank.load(bank), {"steps": _STEPS, "seed": _SEED, **origin()}
    make_folder(work)
    for each in Entry:
        network = _train(each, learned_from, work / f"{each.name.lower()}-{_SEED}-{_STEPS}.pt")
        rows = [{"entry": each.value, **row, **made} for row in _measure(network, files)]
        replace_rows(out, rows, ("entry", "labeller", "study", "seed", "steps"))


def _train(entry: Entry, bank: ClickBank, state: Path) -> ClickRefiner:
    spec = model_preset("click_refiner")
    torch.manual_seed(_SEED)
    network = BUILD[entry]()
    trainer = ClickTrainer(network, bank, ClickRecipe(_STEPS, edge=spec.window, seed=_SEED))
    with tqdm(total=_STEPS, desc=entry.value, unit="step", mininterval=10.0) as bar:
        trainer.fit(state, lambda now: bar.update(now.step - bar.n))
    network.load_state_dict(trainer.averaged)
    return network.eval()


def _measure(network: ClickRefiner, files: Sequence[StudyFile]) -> list[dict[str, Any]]:
    refiner = Refiner(network, model_preset("click_refiner"), "", torch.device("cpu"))
    rows: list[dict[str, Any]] = []
    for number, draft in enumerate(make_drafts(files)):
        for labeller in (Labeller.CAREFUL, Labeller.SCRIBBLING):
            correct = refined(refiner, draft.image, draft.scores)
            found = measure_course(correct_by_clicks(draft.mask, draft.truth, correct, MANNERS[labeller], CLICKS, number))
            rows.append({"labeller": labeller.value, "study": draft.file.study, "patient": draft.file.patient, **found})
    return rows


if __name__ == "__main__":
    typer.run(main)
