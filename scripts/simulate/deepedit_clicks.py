"""The same simulated labellers with DeepEdit, which is trained on the slices that the click refiner is trained on, and corrected alike.

It begins with the U-Net in the default network, without the overview before it, and makes the first masks itself; after a click it makes
that slice anew, from all clicks on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from prato.data.atomic import make_folder
from prato.data.structures import NUM_CLASSES
from prato.inference.image_stack import ImageStack
from prato.inference.postprocess import remove_small_components
from prato.models.checkpoint import load_model, model_preset
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box
from prato.prompts.clicks import Stroke
from prato.runtime.precision import inference
from prato.training.click_bank import ClickBank
from prato.training.click_sessions import ClickSampler
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import model_file
from scripts.common.paths import ACDC_SPLIT, check_writable
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows
from scripts.simulate.click_study import Correct, correct_by_clicks, read_study
from scripts.simulate.deepedit import IMAGES, WINDOW, add_clicks, deepedit_network, train_deepedit
from scripts.simulate.simulate_clicks import CLICKS, MANNERS, Labeller, measure_course

PIXEL = model_preset("click_refiner").pixel


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    bank: Annotated[Path, typer.Option(help="What scripts/research/train_clicks.py learns from: bank.npz in its folder.")],
    weights: Annotated[Path, typer.Option(help="File of DeepEdit's weights; they are trained now if it is missing.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other ways and labellers stay.")],
    slices: Annotated[int, typer.Option(min=1, help="To train on.")] = 60_000,
    patients: Annotated[int, typer.Option(min=1, help="Validation patients.")] = 8,
) -> None:
    """Write a row for each study and labeller, by the way "DeepEdit"."""
    if not weights.exists():
        check_writable(weights, is_folder=False)
    files = require_labelled_studies(studies, ACDC_SPLIT, patients)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = deepedit_network(load_model(model_file(DEFAULT_MODEL))[0])
    if not weights.exists():
        with tqdm(unit="step", mininterval=10.0) as bar:
            sampler = ClickSampler(ClickBank.load(bank), 0, 1, WINDOW)
            train_deepedit(network, sampler, slices, lambda loss: (bar.set_postfix(loss=loss, refresh=False), bar.update()))
        make_folder(weights.parent)
        torch.save({"network": network.state_dict(), "slices": slices}, weights)
    stored = torch.load(weights, weights_only=True)
    network.load_state_dict(stored["network"])
    rows: list[dict[str, Any]] = []
    for number, file in enumerate(tqdm(files, desc="studies")):
        image, truth = read_study(file)
        deepedit = _DeepEdit(network.eval(), image, Box.around(truth) or Box.whole(truth.shape))
        mask = deepedit.first()
        for labeller in Labeller:
            course = correct_by_clicks(mask, truth, deepedit.correct(), MANNERS[labeller], CLICKS, number)
            about = {"way": "DeepEdit", "labeller": labeller.value, "study": file.study, "patient": file.patient}
            made = {"threads": 1, "seed": number, **origin()}
            rows.append({**about, "slices": stored["slices"], **measure_course(course), **made})
    replace_rows(out, rows, ("way", "labeller", "study"))


class _DeepEdit:
    """DeepEdit on one image, as :func:`read_study` has it, in a window round the middle of ``box``."""

    def __init__(self, network: nn.Module, image: ImageStack, box: Box) -> None:
        self._network, self._slices, self._box = network, image.slices(PIXEL), box
        self._size = image.volume.array.shape[:2]
        self._scale = np.array(self._slices.shape[1:]) / self._size
        self._corner = np.round(self._scale * [(a + b) / 2 for a, b in zip(box.start[:2], box.stop[:2])] - WINDOW / 2).astype(int)

    def first(self) -> np.ndarray:
        """uint8 (X, Y, Z): what it makes of the box's slices without a click."""
        mask = np.zeros((*self._size, len(self._slices)), np.uint8)
        for k in range(self._box.start[2], self._box.stop[2]):
            mask[:, :, k] = self._look(k, {})
        return remove_small_components(mask)

    def correct(self) -> Correct:
        """Of one labeller."""

        def correct(mask: np.ndarray, before: list[Stroke], new: Stroke) -> np.ndarray:
            out, k = mask.copy(), int(new.points[0, 2])
            clicks: dict[int, list[list[int]]] = {}
            for stroke in [each for each in (*before, new) if each.points[0, 2] == k]:
                pixels = np.floor((stroke.points[:, :2] + 0.5) * self._scale).astype(int) - self._corner
                clicks.setdefault(stroke.structure, []).extend(pixels[((pixels >= 0) & (pixels < WINDOW)).all(1)].tolist())
            out[:, :, k] = self._look(k, clicks)
            return out

        return correct

    def _look(self, k: int, clicks: dict[int, list[list[int]]]) -> np.ndarray:
        """uint8 (X, Y): slice ``k`` by all ``clicks`` on it."""
        whole = self._slices[[min(max(n, 0), len(self._slices) - 1) for n in (k - 1, k, k + 1)]]
        rows, columns = (np.arange(start, start + WINDOW) for start in self._corner)
        inside = [(line >= 0) & (line < size) for line, size in zip((rows, columns), whole.shape[1:])]
        image = np.full((IMAGES, WINDOW, WINDOW), -1.0, np.float32)
        window: tuple[Any, ...] = (slice(None), *np.ix_(*inside))
        there: tuple[Any, ...] = (slice(None), *np.ix_(rows[inside[0]], columns[inside[1]]))
        image[window] = whole.numpy()[there]
        seen = torch.from_numpy(add_clicks(image, clicks))[None]
        with inference(torch.device("cpu")):
            found: Tensor = self._network(seen).float()[0]
        logits = np.zeros((NUM_CLASSES, *whole.shape[1:]), np.float32)
        logits[0] = 20.0  # background, where it looks at nothing
        logits[there] = found.numpy()[window]
        native = nn.functional.interpolate(torch.from_numpy(logits)[None], size=self._size, mode="bilinear", align_corners=False)
        return native[0].argmax(0).to(torch.uint8).numpy()


if __name__ == "__main__":
    typer.run(main)
