"""ISIC 2017: pairs of a photograph and a lesion's mask, ``images/NAME.jpg`` and ``masks/NAME_segmentation.png``, 256 x 256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from prato.box import Box
from prato.data.cases import TrainingCase
from prato.data.sampling import cut, prompt, random_turn, relit, stretch
from prato.experiments.cases import TestCase, boxed_view, drawn_box, filling, unboxed
from prato.experiments.schema import ExperimentError

LESION = {"lesion": 1}
#: Edge of the images as they are stored and scored.
NATIVE = 256


def lesion_names(folder: Path, images: int | None) -> list[str]:
    """Names of the pairs in ``folder``, sorted; of so many ``images``, drawn by a hash of the name.

    Raises:
        ExperimentError: there are fewer.
    """
    names = [path.name.removesuffix("_segmentation.png") for path in (folder / "masks").glob("*_segmentation.png")]
    names = sorted(name for name in names if (folder / "images" / f"{name}.jpg").is_file())
    if len(names) < max(images or 1, 1):
        raise ExperimentError(
            f"{folder} holds {len(names)} pairs of images/NAME.jpg and masks/NAME_segmentation.png, not {images or 'one'}."
        )
    drawn = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:images]
    return sorted(drawn)


def read_pair(folder: Path, name: str) -> tuple[Tensor, np.ndarray]:
    """A photograph, float32 (3, 256, 256) in [-1, 1], and its mask, uint8 (256, 256), of 0 and 1.

    Raises:
        ExperimentError: a file cannot be read, or has another size.
    """
    try:
        with Image.open(folder / "images" / f"{name}.jpg") as photograph, Image.open(folder / "masks" / f"{name}_segmentation.png") as mask:
            image, label = np.asarray(photograph.convert("RGB")), np.asarray(mask.convert("1"))
    except OSError as error:
        raise ExperimentError(f"The image {name} of {folder} or its mask cannot be read.") from error
    if image.shape != (NATIVE, NATIVE, 3) or label.shape != (NATIVE, NATIVE):
        raise ExperimentError(f"The image {name} of {folder} is not {NATIVE} x {NATIVE} pixels.")
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 127.5 - 1, label.astype(np.uint8)


def training_lesion(folder: Path, name: str, edge: int) -> TrainingCase | None:
    """One pair at ``edge`` pixels, its three colours in the place of slices; None without a lesion in it."""
    image, label = read_pair(folder, name)
    smaller = _shrunk(torch.cat((image, torch.from_numpy(label)[None].float())), edge)
    small = (smaller[3] > 0.5).to(torch.uint8)
    if not small.any():
        return None
    pixel = NATIVE / edge
    return TrainingCase(name, smaller[:3].half(), small[None], small.nonzero(), (0, 1), (pixel, pixel))


class LesionSamples(Dataset):
    """As ``SliceSamples`` of hearts: an endless, seeded stream of which sample ``n`` depends on the seed and ``n`` alone.

    Args:
        cases: of :func:`training_lesion`. size: edge of a sample. stretched: a sample is the box alone, stretched.
    """

    def __init__(self, cases: Sequence[TrainingCase], size: int, seed: int, stretched: bool) -> None:
        self.cases, self.size, self.seed, self.stretched = list(cases), size, seed, stretched

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, n))
        case = self.cases[rng.integers(len(self.cases))]
        turn = random_turn(rng, case.pixel)
        box, _ = prompt(rng, case, turn)
        centre = np.round(turn @ np.array(case.image.shape[1:]) / 2)
        if self.stretched:
            turn, box, centre = stretch(turn, box, self.size)
        image, label = cut(case, [0, 1, 2], 0, turn, centre, self.size)
        return {"image": relit(image, rng), "label": label, "box": torch.from_numpy(box - centre + self.size / 2).float()}


def lesion_case(folder: Path, name: str, condition: str, edge: int, stretched: bool) -> TestCase | None:
    """One pair, scored at 256 x 256; None without a lesion in it. Arguments as for hearts."""
    image, truth = read_pair(folder, name)
    if not truth.any():
        return None
    box = drawn_box(name, truth, condition)
    start, stop = np.array(box.start, dtype=float), np.array(box.stop, dtype=float)
    whole = 2 * edge if stretched else edge
    small = _shrunk(image, whole)
    around = np.stack([start, stop]) * whole / NATIVE
    case = TestCase(
        case=name,
        patient=name,
        image=small[None],
        box=around,
        truth=truth,
        spacing=(1.0, 1.0),
        structures=LESION,
        native=_native,
        picture=partial(_picture, whole),
        grey=small.mean(0).numpy(),
        grey_box=around,
    )
    if not stretched:
        return case
    return replace(case, image=boxed_view(image[None], start, stop, edge), box=filling(edge), native=partial(_from_box, box))


def lesion_cases(folder: Path, names: Iterable[str], condition: str, edge: int, stretched: bool) -> list[TestCase]:
    """All that hold a lesion."""
    cases = (lesion_case(folder, name, condition, edge, stretched) for name in names)
    return [case for case in cases if case is not None]


def _native(maps: Tensor) -> np.ndarray:
    return unboxed(maps, (NATIVE, NATIVE)).argmax(1)[0].to(torch.uint8).numpy()


def _from_box(box: Box, maps: Tensor) -> np.ndarray:
    mask = np.zeros((NATIVE, NATIVE), dtype=np.uint8)
    mask[box.slices] = unboxed(maps, (box.size[0], box.size[1])).argmax(1)[0].numpy()
    return mask


def _picture(edge: int, mask: np.ndarray) -> np.ndarray:
    places = ((np.arange(edge) + 0.5) * NATIVE / edge).astype(int)
    return mask[np.ix_(places, places)]


def _shrunk(image: Tensor, edge: int) -> Tensor:
    return F.interpolate(image[None], size=(edge, edge), mode="bilinear", align_corners=False, antialias=True)[0]
