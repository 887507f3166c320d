"""Training samples: a slice in a window centred on a jittered box, rotated, scaled, deformed, and with its intensities augmented."""

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
from prato.models.checkpoint import Centre

_INTENSITY = Compose(
    [
        RandBiasField(degree=3, coeff_range=(-0.25, 0.25), prob=0.2),
        RandAdjustContrast(prob=0.3, gamma=(0.6, 1.6), retain_stats=False),
        RandScaleIntensity(factors=0.25, prob=0.3),
        RandGaussianSmooth(sigma_x=(0.4, 1.0), sigma_y=(0.4, 1.0), prob=0.15),
        RandGaussianNoise(std=0.08, prob=0.3),
    ]
)


class SliceDataset(Dataset):
    """An endless, seeded stream: sample ``n`` depends on the seed and ``n`` alone, so a resumed run sees what an unbroken one would.

    A sample is ``image`` float32 (3, size, size), ``label`` int64 (size, size) and ``box`` float32 (2, 2), start and stop in pixels.

    Args:
        cases: at least one.
        size: window edge in pixels.
        length: how many samples ``len()`` says there are.
        centre: what windows are centred on: the "box", or the "image", where a window does not tell where the heart is.
        elastic: whether the windows of half of the samples are deformed, see :func:`elastic_displacement`.
        box_lengths: above 0, a window is this many times as long as the box instead, round its middle, and scaled to ``size``.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        size: int,
        seed: int,
        length: int,
        centre: Centre = "box",
        box_lengths: float = 0.0,
        elastic: bool = True,
    ) -> None:
        self.box_lengths, self.elastic = box_lengths, elastic
        self.cases, self.size, self.seed, self.length, self.centre = list(cases), size, seed, length, centre

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, n))
        size = self.size
        case = self.cases[rng.integers(len(self.cases))]
        first, last = max(case.slices[0] - 1, 0), min(case.slices[1] + 1, case.image.shape[0])
        k = int(rng.integers(first, last))
        affine = random_affine(rng, case.pixel)
        box, centre = random_box(rng, case, affine)
        if self.centre == "image":
            centre = np.round(affine @ np.array(case.image.shape[1:]) / 2)
        if self.box_lengths:
            affine, box, centre = scale_to_box(affine, box, size, self.box_lengths)
        order = (-1, 0, 1) if rng.random() < 0.5 else (1, 0, -1)  # stacks are stored base to apex and apex to base
        planes = [min(max(k + step, 0), case.image.shape[0] - 1) for step in order]
        displacement = elastic_displacement(rng, size) if self.elastic else 0.0
        image, label = sample_window(case, planes, k, affine, centre, size, displacement)
        return {"image": augment_intensity(image, rng), "label": label, "box": torch.from_numpy(box - centre + size / 2).float()}


def augment_intensity(image: Tensor, rng: np.random.Generator) -> Tensor:
    """``image`` (channels, H, W) in -1..1 with another coil, contrast, sharpness and noise."""
    _INTENSITY.set_random_state(seed=int(rng.integers(2**31)))
    return torch.as_tensor(np.asarray(_INTENSITY((image + 1) / 2))).float().clamp(0, 1.5) * 2 - 1


def random_affine(rng: np.random.Generator, pixel: tuple[float, float]) -> np.ndarray:
    """Random rotation, scale and reflection: 2 x 2 matrix, image pixels -> transformed pixels.

    A scanner may turn the field of view in any direction, so quarter turns are anatomy as it comes. Mirror images are not, but files are
    stored with either handedness (rows top to bottom or bottom to top, seen from apex or base), so they come too, rarely.
    """
    angle = rng.uniform(-math.pi / 5, math.pi / 5) + (math.pi / 2 * rng.integers(4) if rng.random() < 0.2 else 0.0)
    scale = math.exp(rng.uniform(-0.2, 0.2))
    affine = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if rng.random() < 0.12:
        affine = affine @ np.diag([-1.0, 1.0])
    # pixels may be not quite square, from rounding to whole pixels
    return affine @ np.diag([1.0, pixel[1] / pixel[0]])


def scale_to_box(affine: np.ndarray, box: np.ndarray, size: int, box_lengths: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``affine``, ``box`` (2, 2) and window centre, scaled so that a window of ``size`` pixels is ``box_lengths`` boxes long."""
    zoom = size / (box_lengths * np.maximum(box[1] - box[0], 1.0))
    return np.diag(zoom) @ affine, box * zoom, (box * zoom).mean(0)


def random_box(rng: np.random.Generator, case: TrainingCase, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A box such as a person would draw round the heart: (2, 2) start and stop in transformed pixels, and the window's centre."""
    places = (case.footprint.numpy() + 0.5) @ affine.T
    reach = 0.5 * np.abs(affine).sum(1)  # from pixel centres to pixel edges
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
        missing = rng.uniform(0.0, 0.45, 2) * rng.integers(0, 2, 2)
        side = rng.integers(0, 2, 2)
        low, high = low + size * missing * side, high - size * missing * (1 - side)
    return np.stack([low, high]), np.round((low + high) / 2)


def elastic_displacement(rng: np.random.Generator, size: int) -> np.ndarray:
    """How far (size, size, 2), in pixels, each pixel of a window is moved: no heart has quite the shape of another.

    Drawn every 24 pixels and interpolated between, with up to 2.5 pixels of standard deviation; half of all windows are not deformed.
    """
    spread, nodes = max(rng.uniform(-2.5, 2.5), 0.0), max(size // 24, 2)
    drawn = torch.from_numpy(rng.normal(0.0, 1.0, (1, 2, nodes, nodes)) * spread)
    return F.interpolate(drawn, size=(size, size), mode="bicubic", align_corners=True)[0].permute(1, 2, 0).numpy()


def sample_window(
    case: TrainingCase, planes: list[int], k: int, affine: np.ndarray, centre: np.ndarray, size: int, displacement: np.ndarray | float = 0.0
) -> tuple[Tensor, Tensor]:
    """Image (3, size, size) of ``planes`` and label (size, size) of plane ``k`` in the window round ``centre`` (transformed pixels).

    ``displacement`` is of :func:`elastic_displacement`.
    """
    shape = case.image.shape[1:]
    inverse = np.linalg.inv(affine)
    axis = np.arange(size) + 0.5 - size / 2
    mesh = (np.stack(np.meshgrid(axis + centre[0], axis + centre[1], indexing="ij"), -1) + displacement) @ inverse.T
    grid = torch.from_numpy(2.0 * mesh / np.array(shape) - 1.0).float().flip(-1).unsqueeze(0)
    # shifted by one, so that what lies outside the image reads as the darkest value
    image = F.grid_sample(case.image[planes].float().unsqueeze(0) + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1
    label = F.grid_sample(case.label[k].float()[None, None], grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return image[0], label[0, 0].long()
