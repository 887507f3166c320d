"""Masks as prompts: the mask so far, which of its voxels are certain, which slices are right; and how JSON carries them."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prato.data.stack import slice_axis
from prato.data.structures import NUM_CLASSES
from prato.prompts.base import PromptError
from prato.prompts.box import Box

_ENCODING = "zlib+base64"


@dataclass(frozen=True)
class MaskPrompt:
    """What a labeller has so far.

    Attributes:
        mask: uint8 (X, Y, Z), the whole image; 0 where nothing was sent. box: the part that was sent.
        certain: bool (X, Y, Z), voxels that the labeller painted; None for none.
        right: slices whose mask is right. propagate_to: slices that are to follow from them.
    """

    mask: np.ndarray
    box: Box
    certain: np.ndarray | None = None
    right: tuple[int, ...] = ()
    propagate_to: tuple[int, ...] = ()


def read_mask_prompt(params: Mapping[str, Any], shape: tuple[int, ...], spacing: tuple[float, ...]) -> MaskPrompt | None:
    """The masks that a request holds, None without ``previous``.

    Args:
        params: of the request. shape, spacing: of its image, in voxels and mm.

    Raises:
        PromptError: they cannot be used on that image, or something needs a ``previous`` and there is none.
    """
    others = [name for name in ("certain", "right_slices", "propagate_to", "done") if params.get(name)]
    if params.get("previous") is None:
        if others:
            raise PromptError(f"{others[0]} refers to a mask: send the mask as previous.")
        return None
    box, part = decode_part("previous", params["previous"], shape)
    if part.size and part.max() >= NUM_CLASSES:
        raise PromptError(f"previous must hold values from 0 to {NUM_CLASSES - 1}, not {part.max()}.")
    across = slice_axis(shape, spacing)
    if any(size < whole for axis, (size, whole) in enumerate(zip(box.size, shape)) if axis != across):
        # what is missing of a slice would count as background, and come back as such
        whole_slices = "a box from 0 to the image's size along the two axes of a slice"
        raise PromptError(f"previous holds only a part of its slices, {list(box.bounds)}: send them whole, that is, {whole_slices}.")
    mask = np.zeros(shape, np.uint8, order="F")
    mask[box.slices] = part
    certain = None
    if params.get("certain") is not None:
        where, marks = decode_part("certain", params["certain"], shape)
        if box.intersection(where) != where:
            raise PromptError(f"certain reaches beyond the box of previous, {list(box.bounds)}: send a previous that holds all of it.")
        certain = np.zeros(shape, bool, order="F")
        certain[where.slices] = marks > 0
    inside = range(box.start[across], box.stop[across])
    right, wanted = (_slices(name, params.get(name), inside) for name in ("right_slices", "propagate_to"))
    if both := {*right} & {*wanted}:
        raise PromptError(f"Slice {min(both)} is both in right_slices and in propagate_to: leave it out of one of them.")
    reached = {*right}
    for k in sorted(wanted, key=lambda k: min((abs(k - r) for r in right), default=0)):
        if not {k - 1, k + 1} & reached:
            raise PromptError(f"Slice {k} has no right slice to follow: name those between it and a right one in propagate_to, too.")
        reached.add(k)
    return MaskPrompt(mask, box, certain, right, wanted)


def encode_part(mask: np.ndarray, box: Box) -> dict[str, Any]:
    """``mask`` (uint8, X, Y, Z) in ``box``, as JSON carries it."""
    part = np.ascontiguousarray(mask[box.slices], np.uint8)
    data = base64.b64encode(zlib.compress(part.tobytes(), 1)).decode("ascii")
    return {"shape": list(mask.shape), "box": list(box.bounds), "dtype": "uint8", "order": "C", "encoding": _ENCODING, "data": data}


def decode_part(name: str, sent: Any, shape: tuple[int, ...]) -> tuple[Box, np.ndarray]:
    """The box and uint8 values that :func:`encode_part` has encoded, for an image of ``shape``.

    Raises:
        PromptError: it is nothing of the kind, or does not fit the image.
    """
    if not isinstance(sent, Mapping) or not {"box", "data"} <= set(sent):
        raise PromptError(
            f'{name} must be {{"shape": [x,y,z], "box": [i0,i1,j0,j1,k0,k1], "encoding": "{_ENCODING}", "data": text}}, not {sent!r:.60}.'
        )
    known = {"dtype": "uint8", "order": "C", "encoding": _ENCODING}
    if other := [key for key, value in known.items() if sent.get(key, value) != value]:
        raise PromptError(f"{name} must have {other[0]} {known[other[0]]!r}, not {sent[other[0]]!r:.40}.")
    if "shape" in sent and (not isinstance(sent["shape"], (list, tuple)) or list(sent["shape"]) != list(shape)):
        raise PromptError(f"{name} is of an image of shape {sent['shape']!r:.40}, not of this one of {'x'.join(map(str, shape))} voxels.")
    bounds = sent["box"]
    if not (isinstance(bounds, (list, tuple)) and len(bounds) == 6 and all(type(v) is int for v in bounds)):
        raise PromptError(f"The box of {name} must be six whole numbers [i0,i1,j0,j1,k0,k1], not {bounds!r:.60}.")
    if any(not 0 <= a < b <= n for a, b, n in zip(bounds[::2], bounds[1::2], shape)):
        raise PromptError(f"The box of {name}, {list(bounds)}, does not lie in the image of {'x'.join(map(str, shape))} voxels.")
    box = Box(tuple(bounds[::2]), tuple(bounds[1::2]))
    try:
        packed, inflate = base64.b64decode(sent["data"], validate=True), zlib.decompressobj()
        data = inflate.decompress(packed, box.voxels + 1)  # no more than belongs there, whatever was sent
    except (TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise PromptError(f"The data of {name} is not {_ENCODING}: send bytes that were deflated and written in base64.") from error
    if len(data) != box.voxels:
        raise PromptError(f"The data of {name} must be {box.voxels} bytes, one for each voxel of its box, not {len(data)}.")
    return box, np.frombuffer(data, np.uint8).reshape(box.size)


def _slices(name: str, sent: Any, inside: range) -> tuple[int, ...]:
    if sent is None:
        return ()
    if not isinstance(sent, (list, tuple)) or not all(type(k) is int for k in sent):
        raise PromptError(f"{name} must be a list of slice numbers, not {sent!r:.60}.")
    if beyond := [k for k in sent if k not in inside]:
        raise PromptError(f"{name} names slice {beyond[0]}, but previous has only the slices {inside.start} to {inside.stop - 1}.")
    return tuple(sorted(set(sent)))
