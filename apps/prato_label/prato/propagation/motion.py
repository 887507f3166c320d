"""How the heart moves from one phase of a cine to another, found by registering them in plane.

Slices are registered by themselves: a heart moves through them, so that what one shows at end-diastole may lie beside it at end-systole.
SimpleITK is given all slices of a phase side by side, as one image, which takes far less time than a call for each.
"""

from __future__ import annotations

import numpy as np
import SimpleITK
import torch
import torch.nn.functional as F

from prato.data.resampling import resample_in_plane

#: Pixels of nothing between two slices that lie side by side, so that neither is smoothed into the other.
_GAP = 8
#: By how much images are shrunk and how many iterations that takes, from coarse to fine.
_LEVELS = ((4, 20), (2, 20), (1, 10))
#: How far forces and displacements are smoothed, one standard deviation in pixels.
_FORCES, _DISPLACEMENTS = 1.0, 1.5
#: Iterations in which a displacement is inverted.
_INVERSIONS = 10


def register(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Where in ``moving`` each pixel of ``fixed`` is found; both float32 (Z, H, W), grey values of mean 0.

    Symmetric forces demons (Vercauteren et al., "Non-parametric diffeomorphic image registration with the demons algorithm", MICCAI 2007),
    from coarse to fine.

    Returns:
        float32 (2, Z, H, W): a displacement, in pixels along H and W, to be added to a pixel's place in ``fixed``.
    """
    planes = [torch.from_numpy(np.ascontiguousarray(each)) for each in (fixed, moving)]
    found = torch.zeros(2, len(fixed), 1, 1)
    for factor, iterations in _LEVELS:
        size = max(-(-fixed.shape[1] // factor), 1), max(-(-fixed.shape[2] // factor), 1)
        images = [resample_in_plane(each, size) for each in planes]
        scale = torch.tensor([n / m for n, m in zip(size, found.shape[2:])]).view(2, 1, 1, 1)
        found = resample_in_plane(found.flatten(0, 1), size).unflatten(0, (2, -1)) * scale
        demons = SimpleITK.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetSmoothUpdateField(True)
        demons.SetUpdateFieldStandardDeviations(_FORCES)
        demons.SetStandardDeviations(_DISPLACEMENTS)
        start = np.stack([_side_by_side(part.numpy()) for part in found.flip(0)], -1)  # SimpleITK counts columns first
        field = SimpleITK.GetImageFromArray(start.astype(np.float64), isVector=True)
        done = demons.Execute(*(SimpleITK.GetImageFromArray(_side_by_side(image.numpy())) for image in images), field)
        array = SimpleITK.GetArrayViewFromImage(done)
        found = torch.from_numpy(np.stack([_apart(array[..., i], len(fixed)) for i in (1, 0)]).astype(np.float32))
    return found.numpy()


def invert(displacement: np.ndarray) -> np.ndarray:
    """The displacement (2, Z, H, W) that leads back, by fixed-point iteration (Chen et al., Medical Physics 35, 2008)."""
    back = -displacement
    for _ in range(_INVERSIONS):
        back = -pull(displacement, back)
    return back


def compose(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The displacement (2, Z, H, W) that leads where ``then`` leads from where ``first`` leads."""
    return first + pull(then, first)


def pull(planes: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """``planes`` (C, Z, H, W) read where ``displacement`` (2, Z, H, W) leads, linearly; beyond an edge it goes on. float32."""
    size = displacement.shape[2:]
    steps = [torch.arange(n, dtype=torch.float32).view(shape) for n, shape in zip(size, ((-1, 1), (1, -1)))]
    # grid_sample counts columns first, from -1 to 1
    at = [2 * (step + torch.from_numpy(moved)) / max(n - 1, 1) - 1 for step, moved, n in zip(steps, displacement, size)]
    read = F.grid_sample(torch.from_numpy(planes).transpose(0, 1), torch.stack(at[::-1], -1), padding_mode="border", align_corners=True)
    return read.transpose(0, 1).numpy()


def _side_by_side(planes: np.ndarray) -> np.ndarray:
    """(Z, H, W) as one image (H, Z * (W + gap))."""
    apart = np.pad(planes, ((0, 0), (0, 0), (0, _GAP)))
    return np.ascontiguousarray(apart.transpose(1, 0, 2)).reshape(planes.shape[1], -1)


def _apart(image: np.ndarray, count: int) -> np.ndarray:
    """The inverse of :func:`_side_by_side`, for ``count`` slices."""
    return image.reshape(len(image), count, -1)[:, :, :-_GAP].transpose(1, 0, 2)
