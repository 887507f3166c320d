"""All training slices on one device, as bytes: what :mod:`prato.training.batch_augmentation` cuts whole batches from."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from prato.data.distances import halfway

if TYPE_CHECKING:  # reading NIfTI files is no matter of a bank that comes from a packed file
    from prato.data.cases import TrainingCase

#: Edge of the square, in pixels, that every slice is centred in: 384 mm at 1.5 mm, the field of view of nearly every cardiac scan.
CANVAS = 256
#: Pixels beyond which it does not matter how far a contour is, for what lies between two slices.
_REACH = 8.0


@dataclass(frozen=True)
class SliceBank:
    """The slices of all cases, one after the other.

    Attributes:
        images: uint8 (N, CANVAS, CANVAS); 0 is the darkest value, and what lies beyond the image.
        labels: uint8 (N, CANVAS, CANVAS).
        footprints: uint8 (cases, CANVAS, CANVAS), 1 where any slice of a case holds a structure: what a tight box encloses in plane.
        first: int64 (cases,), each case's first slice. count: int64 (cases,), how many it has.
        patients: whose heart each case is.
    """

    images: Tensor
    labels: Tensor
    footprints: Tensor
    first: Tensor
    count: Tensor
    patients: tuple[str, ...]

    @classmethod
    def from_cases(cls, cases: Sequence[TrainingCase], device: torch.device) -> SliceBank:
        """The slices of ``cases`` on ``device``, the middle of each in the middle of the canvas; what is larger is cut, and a case whose
        heart lies beyond is left out.

        Raises:
            ValueError: there are no cases.
        """
        cases = [case for case in cases if bool(_footprint(case.label).any())]
        if not cases:
            raise ValueError(f"A slice bank needs at least one labelled case with a heart in the middle {CANVAS} x {CANVAS} pixels.")
        return cls._from_slices(
            [_as_bytes(case.image) for case in cases], [case.label for case in cases], [case.patient for case in cases], device
        )

    @classmethod
    def _from_slices(cls, images: Sequence[Tensor], labels: Sequence[Tensor], patients: Sequence[str], device: torch.device) -> SliceBank:
        count = torch.tensor([len(image) for image in images])
        return cls(
            images=torch.cat([_centred(image) for image in images]).to(device),
            labels=torch.cat([_centred(label) for label in labels]).to(device),
            footprints=torch.stack([_footprint(label) for label in labels]).to(device),
            first=(count.cumsum(0) - count).to(device),
            count=count.to(device),
            patients=tuple(patients),
        )

    @cached_property
    def between(self) -> Tensor:
        """uint8 (N, CANVAS, CANVAS): the label of the mean of each slice and the next one; of a case's last slice, its own."""
        labels = self.labels.cpu().numpy()
        between = labels.copy()
        inner = np.setdiff1d(np.arange(len(labels) - 1), (self.first + self.count - 1).cpu().numpy())
        for k in inner[(labels[inner] != labels[inner + 1]).any((1, 2))]:
            found = labels[k : k + 2].any(0)
            rows, columns = (_reached(found.any(axis)) for axis in (1, 0))
            one, other = labels[k : k + 2, rows, columns]
            between[k, rows, columns] = halfway(one, other, (1.0, 1.0), _REACH)
        return torch.from_numpy(between).to(self.labels.device)

    @property
    def nbytes(self) -> int:
        """Memory of the slices and their labels, also of those between slices, on their device."""
        return self.images.nbytes + 2 * self.labels.nbytes

    def __len__(self) -> int:
        return len(self.patients)

    def case(self, number: int) -> tuple[Tensor, Tensor]:
        """The slices of one case, float32 (K, CANVAS, CANVAS) in [-1, 1], and their labels, int64."""
        first, count = int(self.first[number]), int(self.count[number])
        return self.images[first : first + count].float() / 127.5 - 1, self.labels[first : first + count].long()


def _reached(present: np.ndarray) -> slice:
    """From the first to the last of what is True in bool (H,), and two beyond."""
    where = np.flatnonzero(present)
    return slice(max(int(where[0]) - 2, 0), int(where[-1]) + 3)


def _footprint(label: Tensor) -> Tensor:
    """uint8 (CANVAS, CANVAS), 1 where any slice of ``label`` (K, H, W) holds a structure."""
    return _centred((label > 0).any(0, keepdim=True).to(torch.uint8))[0]


def _as_bytes(image: Tensor) -> Tensor:
    """uint8: grey values in [-1, 1] as a bank stores them."""
    return ((image.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _centred(slices: Tensor) -> Tensor:
    """(K, H, W) in the middle of (K, CANVAS, CANVAS)."""
    out = slices.new_zeros(slices.shape[0], CANVAS, CANVAS)
    source, target = [], []
    for length in slices.shape[1:]:
        start = (CANVAS - length) // 2
        source.append(slice(max(-start, 0), max(-start, 0) + min(length, CANVAS)))
        target.append(slice(max(start, 0), max(start, 0) + min(length, CANVAS)))
    out[:, target[0], target[1]] = slices[:, source[0], source[1]]
    return out


def save_packed(path: Path, cases: Sequence[TrainingCase], quality: int = 97) -> None:
    """Write ``cases`` to one small file (a zip of WebP slices, lossy, and PNG labels), to train where the originals cannot be carried."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, case in enumerate(cases):
            for kind, slices, options in (
                ("image.webp", _as_bytes(case.image), {"format": "WEBP", "quality": quality, "method": 4}),
                ("label.png", case.label, {"format": "PNG"}),
            ):
                for k, plane in enumerate(slices.numpy()):
                    buffer = io.BytesIO()
                    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, **options)
                    archive.writestr(f"{number:04d}/{case.patient}/{k:03d}.{kind}", buffer.getvalue())


def load_packed(path: Path, device: torch.device, patients: Sequence[str] | None = None) -> SliceBank:
    """The cases of a file of :func:`save_packed` as a bank on ``device``; of ``patients`` alone where they are given.

    Raises:
        ValueError: it is no such file, or no case is of those patients.
        OSError: it cannot be read.
    """
    images: dict[str, list[Tensor]] = {}
    labels: dict[str, list[Tensor]] = {}
    owners: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                case, patient, file = name.split("/")
                if patients is not None and patient not in patients:
                    continue
                plane = torch.from_numpy(np.array(Image.open(io.BytesIO(archive.read(name))).convert("L")))
                (images if file.endswith("webp") else labels).setdefault(case, []).append(plane)
                owners[case] = patient
    except (zipfile.BadZipFile, UnidentifiedImageError, ValueError):
        raise ValueError(f"{path} is not a file of packed slices.") from None
    if not owners:
        raise ValueError(f"{path} holds no case of the chosen patients.")
    return SliceBank._from_slices(
        [torch.stack(images[case]) for case in owners], [torch.stack(labels[case]) for case in owners], list(owners.values()), device
    )
