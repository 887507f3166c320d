"""A small network that finds the heart on a coarse image, for requests that bring no box."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import UNet
from scipy import ndimage
from torch import Tensor

from prato.data.nifti import Volume
from prato.data.resampling import normalise, resample_in_plane, stack_neighbours
from prato.inference.window import Window
from prato.models.checkpoint import CheckpointError, ModelSpec, load_model
from prato.models.registry import register_model
from prato.prompts.box import Box
from prato.runtime.batch_runner import IMMEDIATE, BatchRunner, minibatches
from prato.runtime.cancel_token import CancelToken

register_model("locator")(UNet)
#: MONAI's UNet on 384 mm at 3 mm: the whole field of view of a cardiac scan. Without residual units its last layer is a plain
#: convolution; with them, normalisation and PReLU on the single output channel kept every logit below zero.
LOCATOR = ModelSpec(
    network="locator",
    arguments={
        "spatial_dims": 2,
        "in_channels": 3,
        "out_channels": 1,
        "channels": (12, 24, 48, 96, 96),
        "strides": (2, 2, 2, 2),
        "norm": "batch",
    },
    window=128,
    pixel=3.0,
    plan=None,
)
#: Room left round what was found, in mm: more than a pixel of the coarse image.
_MARGIN_MM = 4.0


class Locator:
    """Proposes a box round the heart.

    Raises:
        CheckpointError: the model file cannot be used, or is not a locator's.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        network, self.spec, self.version = load_model(path)
        if self.spec.is_promptable:
            raise CheckpointError(f"{path.name} holds a {self.spec.network}, not a locator.")
        self.device = device
        self.network = network.to(device)

    @torch.inference_mode()
    def propose(self, volume: Volume, runner: BatchRunner = IMMEDIATE) -> Box | None:
        """The box (voxels of the stored image) round the heart of ``volume``; None where no heart is seen.

        Raises:
            CancelledError: ``runner`` was cancelled.
        """
        slices = torch.from_numpy(normalise(volume.array)).permute(2, 0, 1)
        shape = volume.array.shape
        window = Window.from_centre(Box.whole(shape), shape, volume.spacing, self.spec.pixel, self.spec.window)
        coarse = window.cut(resample_in_plane(slices, window.resampled))
        parts = [stack_neighbours(coarse, planes) for planes in minibatches(shape[2])]
        logits = torch.cat([runner(partial(self._logits, part)) for part in parts])
        native, extent = window.to_native(logits)
        found = (native[:, 0] > 0).permute(1, 2, 0).numpy()
        # one heart: of several pieces, the one with the most voxels
        pieces, count = ndimage.label(found)
        if count == 0:
            return None
        tight = Box.around(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))
        if tight is None:
            return None
        margin = [round(_MARGIN_MM / mm) for mm in volume.spacing[:2]]
        start = [extent[a].start + tight.start[a] - margin[a] for a in (0, 1)]
        stop = [extent[a].start + tight.stop[a] + margin[a] for a in (0, 1)]
        return Box((max(start[0], 0), max(start[1], 0), tight.start[2]), (min(stop[0], shape[0]), min(stop[1], shape[1]), tight.stop[2]))

    @torch.inference_mode()
    def _logits(self, image: Tensor, token: CancelToken) -> Tensor:
        token.raise_if_cancelled()
        return self.network(image.to(self.device)).float().cpu()
