"""Training samples: a slice in a window centred on a jittered box, rotated, scaled and re-lit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose, RandAdjustContrast, RandBiasField, RandGaussianNoise, RandGaussianSmooth, RandScaleIntensity
from torch import Tensor
from torch.utils.data import Dataset

from prato.data.cases import TrainingCase
from prato.inference.window import Centre

_LIGHTING = Compose(
    [
        RandBiasField(degree=3, coeff_range=(-0.25, 0.25), prob=0.2),
        RandAdjustContrast(prob=0.3, gamma=(0.6, 1.6), retain_stats=False),
        RandScaleIntensity(factors=0.25, prob=0.3),
        RandGaussianSmooth(sigma_x=(0.4, 1.0), sigma_y=(0.4, 1.0), prob=0.15),
        RandGaussianNoise(std=0.08, prob=0.3),
    ]
)


class SliceSamples(Dataset):
    """An endless, seeded stream: sample ``n`` depends on the seed and ``n`` alone, so a resumed run sees what an unbroken one would.

    A sample is ``image`` float32 (3, size, size), ``label`` int64 (size, size) and ``box`` float32 (2, 2), start and stop in pixels.

    Args:
        cases: at least one.
        sizes: window edges in pixels; one is drawn for each batch.
        batch: samples ``n * batch`` to ``n * batch + batch - 1`` share their window's edge.
        length: how many samples ``len()`` says there are.
        centre: what windows lie round: the "box", or the "image", where a window tells nothing of the heart's place.
        bend: whether the windows of half of the samples are bent, see :func:`bending`.
        boxes: above 0, a window is so many times as long as the box instead, round its middle, and stretched to ``sizes``.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        sizes: Sequence[int],
        seed: int,
        batch: int,
        length: int,
        centre: Centre = "box",
        boxes: float = 0.0,
        bend: bool = True,
    ) -> None:
        self.boxes, self.bend = boxes, bend
        self.cases, self.sizes, self.seed, self.batch, self.length, self.centre = list(cases), list(sizes), seed, batch, length, centre

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, n))
        size = self.sizes[np.random.default_rng((self.seed, n // self.batch, 2)).integers(len(self.sizes))]
        case = self.cases[rng.integers(len(self.cases))]
        first, last = max(case.slices[0] - 1, 0), min(case.slices[1] + 1, case.image.shape[0])
        k = int(rng.integers(first, last))
        turn = random_turn(rng, case.pixel)
        box, centre = prompt(rng, case, turn)
        if self.centre == "image":
            centre = np.round(turn @ np.array(case.image.shape[1:]) / 2)
        if self.boxes:
            turn, box, centre = stretch(turn, box, size, self.boxes)
        order = (-1, 0, 1) if rng.random() < 0.5 else (1, 0, -1)  # stacks are stored base to apex and apex to base
        planes = [min(max(k + step, 0), case.image.shape[0] - 1) for step in order]
        image, label = cut(case, planes, k, turn, centre, size, bending(rng, size) if self.bend else 0.0)
        return {"image": relit(image, rng), "label": label, "box": torch.from_numpy(box - centre + size / 2).float()}


def relit(image: Tensor, rng: np.random.Generator) -> Tensor:
    """``image`` (channels, H, W) in -1..1 with another coil, contrast, sharpness and noise."""
    _LIGHTING.set_random_state(seed=int(rng.integers(2**31)))
    return torch.as_tensor(np.asarray(_LIGHTING((image + 1) / 2))).float().clamp(0, 1.5) * 2 - 1


def random_turn(rng: np.random.Generator, pixel: tuple[float, float]) -> np.ndarray:
    """2 x 2 matrix, image pixels -> turned pixels.

    A scanner may turn the field of view in any direction, so quarter turns are anatomy as it comes. Mirror images are not, but files are
    stored with either handedness (rows top to bottom or bottom to top, seen from apex or base), so they come too, rarely.
    """
    angle = rng.uniform(-math.pi / 5, math.pi / 5) + (math.pi / 2 * rng.integers(4) if rng.random() < 0.2 else 0.0)
    scale = math.exp(rng.uniform(-0.2, 0.2))
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if rng.random() < 0.12:
        turn = turn @ np.diag([-1.0, 1.0])
    # pixels may be a hair off square, from rounding to whole pixels
    return turn @ np.diag([1.0, pixel[1] / pixel[0]])


def stretch(turn: np.ndarray, box: np.ndarray, size: int, boxes: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``turn``, ``box`` (2, 2) and window centre, so that a window of ``size`` pixels is ``boxes`` boxes long."""
    zoom = size / (boxes * np.maximum(box[1] - box[0], 1.0))
    return np.diag(zoom) @ turn, box * zoom, (box * zoom).mean(0)


def prompt(rng: np.random.Generator, case: TrainingCase, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A box such as a person would draw round the turned heart: (2, 2) start and stop in turned pixels, and the window's centre."""
    places = (case.footprint.numpy() + 0.5) @ turn.T
    reach = 0.5 * np.abs(turn).sum(1)  # from pixel centres to pixel edges
    low, high = places.min(0) - reach, places.max(0) + reach
    size = high - low
    kind = rng.random()
    if kind < 0.55:  # tight, by hand
        low, high = low + size * rng.normal(0, 0.04, 2), high + size * rng.normal(0, 0.04, 2)
    elif kind < 0.83:  # loose, off centre
        grow, shift = rng.uniform(0.0, 1.0, 2), rng.uniform(-0.5, 0.5, 2)
        low, high = low - size * grow * (0.5 + shift), high + size * grow * (0.5 - shift)
    elif kind < 0.93:  # misplaced
        shift = size * rng.uniform(-0.9, 0.9, 2)
        low, high = low + shift, high + shift
    else:  # partial
        cut = rng.uniform(0.0, 0.45, 2) * rng.integers(0, 2, 2)
        side = rng.integers(0, 2, 2)
        low, high = low + size * cut * side, high - size * cut * (1 - side)
    return np.stack([low, high]), np.round((low + high) / 2)


def bending(rng: np.random.Generator, size: int) -> np.ndarray:
    """How far (size, size, 2), in pixels, each pixel of a window is moved: no heart has quite the shape of another.

    Drawn every 24 pixels and interpolated between, with up to 2.5 pixels of standard deviation; half of all windows are left as they are.
    """
    spread, nodes = max(rng.uniform(-2.5, 2.5), 0.0), max(size // 24, 2)
    drawn = torch.from_numpy(rng.normal(0.0, 1.0, (1, 2, nodes, nodes)) * spread)
    return F.interpolate(drawn, size=(size, size), mode="bicubic", align_corners=True)[0].permute(1, 2, 0).numpy()


def cut(
    case: TrainingCase, planes: list[int], k: int, turn: np.ndarray, centre: np.ndarray, size: int, bent: np.ndarray | float = 0.0
) -> tuple[Tensor, Tensor]:
    """Image (3, size, size) and label (size, size) of the window round ``centre`` (turned pixels), ``bent`` as :func:`bending` says."""
    shape = case.image.shape[1:]
    back = np.linalg.inv(turn)
    axis = np.arange(size) + 0.5 - size / 2
    mesh = (np.stack(np.meshgrid(axis + centre[0], axis + centre[1], indexing="ij"), -1) + bent) @ back.T
    grid = torch.from_numpy(2.0 * mesh / np.array(shape) - 1.0).float().flip(-1).unsqueeze(0)
    # shifted by one, so that what lies outside the image reads as the darkest value
    image = F.grid_sample(case.image[planes].float().unsqueeze(0) + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1
    label = F.grid_sample(case.label[k].float()[None, None], grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return image[0], label[0, 0].long()
