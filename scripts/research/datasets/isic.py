"""ISIC 2017: pairs of a photograph and a lesion's mask, ``images/NAME.jpg`` and ``masks/NAME_segmentation.png``, 256 x 256."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from prato.data.cases import TrainingCase
from prato.training.augmentation import augment_intensity, random_affine, random_box, sample_window, scale_to_box
from scripts.research.datasets.base import EvalCase, ExperimentError, OnLoad, SegmentationDataset, Sight, View, draw_box, register_dataset

#: Edge of the images as they are stored and scored.
NATIVE = 256


@register_dataset("isic")
class ISIC(SegmentationDataset):
    """A folder with ``images/NAME.jpg`` and ``masks/NAME_segmentation.png``."""

    title = "ISIC 2017"
    structures = {"lesion": 1}
    colours = {"lesion": to_rgb("tab:red")}
    unit = "px"
    sample = "an image"
    subjects = "images"
    can_draw = True
    figure = 4

    def groups(self, images: int | None) -> dict[str, str | None]:
        return dict.fromkeys(lesion_names(self.folder, images))

    def training_cases(self, names: Sequence[str], image: int, fine: bool, on_load: OnLoad) -> list[TrainingCase]:
        found = []
        for done, name in enumerate(names, start=1):
            found.append(training_lesion(self.folder, name, NATIVE if fine else image))
            on_load(done, len(names))
        return [case for case in found if case is not None]

    def samples(self, cases: Sequence[TrainingCase], sight: Sight, seed: int, batch: int) -> Dataset:
        return LesionSamples(cases, sight.edge, seed, sight.boxes)

    def eval_cases(self, names: Sequence[str], condition: str, sight: Sight) -> list[EvalCase]:
        cases = (lesion_case(self.folder, name, condition, sight) for name in names)
        return [case for case in cases if case is not None]


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
    smaller = _shrink(torch.cat((image, torch.from_numpy(label)[None].float())), edge)
    small = (smaller[3] > 0.5).to(torch.uint8)
    if not small.any():
        return None
    pixel = NATIVE / edge
    return TrainingCase(name, smaller[:3].half(), small[None], small.nonzero(), (0, 1), (pixel, pixel))


class LesionSamples(Dataset):
    """As ``SliceDataset`` of hearts: an endless, seeded stream of which sample ``n`` depends on the seed and ``n`` alone.

    Args:
        cases: of :func:`training_lesion`. size: edge of a sample. boxes: as for ``SliceDataset``.
    """

    def __init__(self, cases: Sequence[TrainingCase], size: int, seed: int, boxes: float) -> None:
        self.cases, self.size, self.seed, self.boxes = list(cases), size, seed, boxes

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, n))
        case = self.cases[rng.integers(len(self.cases))]
        affine = random_affine(rng, case.pixel)
        box, _ = random_box(rng, case, affine)
        centre = np.round(affine @ np.array(case.image.shape[1:]) / 2)
        if self.boxes:
            affine, box, centre = scale_to_box(affine, box, self.size, self.boxes)
        image, label = sample_window(case, [0, 1, 2], 0, affine, centre, self.size)
        return {"image": augment_intensity(image, rng), "label": label, "box": torch.from_numpy(box - centre + self.size / 2).float()}


def lesion_case(folder: Path, name: str, condition: str, sight: Sight) -> EvalCase | None:
    """One pair, scored at 256 x 256; None without a lesion in it."""
    image, truth = read_pair(folder, name)
    if not truth.any():
        return None
    box = draw_box(name, truth, condition)
    drawn = np.array([box.start, box.stop], dtype=float)
    small = _shrink(image, sight.image)
    around = drawn * sight.image / NATIVE
    case = EvalCase(
        case=name,
        patient=name,
        image=small[None],
        box=around,
        truth=truth,
        spacing=(1.0, 1.0),
        structures=ISIC.structures,
        native=_native,
        picture=partial(_picture, sight.image),
        grey=small.mean(0).numpy(),
        grey_box=around,
    )
    if not sight.boxes:
        return case
    view = View.around(drawn, sight.boxes, sight.edge)
    native = partial(_from_view, view)
    seen = View.around(around, sight.boxes, sight.edge)
    return replace(case, image=view.cut(image[None]), box=view.inside(drawn), native=native, view=seen)


def _native(maps: Tensor) -> np.ndarray:
    maps = F.interpolate(maps, size=(NATIVE, NATIVE), mode="bilinear", align_corners=False)
    return maps.argmax(1)[0].to(torch.uint8).numpy()


def _from_view(view: View, maps: Tensor) -> np.ndarray:
    values, seen = view.back(maps, (NATIVE, NATIVE))
    mask = np.zeros((NATIVE, NATIVE), dtype=np.uint8)
    mask[seen] = values.argmax(1)[0].to(torch.uint8).numpy()
    return mask


def _picture(edge: int, mask: np.ndarray) -> np.ndarray:
    places = ((np.arange(edge) + 0.5) * NATIVE / edge).astype(int)
    return mask[np.ix_(places, places)]


def _shrink(image: Tensor, edge: int) -> Tensor:
    return F.interpolate(image[None], size=(edge, edge), mode="bilinear", align_corners=False, antialias=True)[0]
