"""Prompts: what a labeller draws, and all that the rest of the program may know of it.

A kind of prompt is one class in one file of this folder. It reads itself from a request, says which voxels it spans, and answers the four
questions that a network has: what relevance is measured against (``queries``), which tokens must stay (``protected``), what must be decoded
(``footprint``), and what else the network may be shown (``guidance``). Nobody outside this folder asks which kind a prompt is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from prato.prompts.bounds import Box, PromptError
from prato.runtime.region import Region
from prato.runtime.registry import Registry, import_modules

__all__ = ["Prompt", "PromptError", "list_prompts", "register_prompt"]


@dataclass(frozen=True)
class Prompt(ABC):
    """One prompt in voxels of the image that it was drawn on; its static methods answer for N prompts of its kind on a network's input.

    There, a prompt is its ``coordinates`` alone: (N, P, D) for N prompts of P positions each, in pixels of the input (D = 2 or 3).

    Attributes:
        box: the voxels that it spans: no other slices are segmented, and the network's window shows all of it where it can.
        name: the name that the kind is registered by, which is the reply's ``box_source``.
        fields: the parameters of a request that it is read from.
        locates: whether its extent says where the heart is; one that does not has its tokens kept, and is no reason to look elsewhere.
        bounds_heart: whether its extent says how far the heart reaches, too, so that it can be too small or too large.
    """

    box: Box
    name: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    locates: ClassVar[bool] = True
    bounds_heart: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def from_request(cls, params: Mapping[str, Any], shape: tuple[int, ...], spacing: tuple[float, ...]) -> Sequence[Prompt]:
        """The prompts of this kind in a request's ``params``, none where its ``fields`` are absent or empty.

        Args:
            shape, spacing: of the image, in voxels and mm.

        Raises:
            PromptError: they cannot be used on such an image.
        """

    @property
    def coordinates(self) -> Sequence[Sequence[float]]:
        """Its P positions in voxels, (i, j, k) each: by default its box's two corners."""
        return self.box.start, self.box.stop

    @staticmethod
    def clip(coordinates: Tensor, size: tuple[int, ...]) -> Tensor | None:
        """One prompt's float32 (P, D) positions, clipped to an input of ``size`` pixels; None where their bounding box misses it.

        A box that is larger than the input has both corners outside, and is none the less a prompt.
        """
        limit = torch.tensor(size, dtype=coordinates.dtype)
        meets = (coordinates.amin(0) < limit) & (coordinates.amax(0) >= 0)
        return torch.minimum(coordinates.clamp_min(0.0), limit) if bool(meets.all()) else None

    @staticmethod
    @abstractmethod
    def queries(features: Tensor, coordinates: Tensor, sample: Tensor, k: int) -> Tensor:
        """What relevance is measured against (eq. 2).

        Args:
            features: (B, C, *grid); the centre of cell ``t`` lies at ``t + 0.5``.
            coordinates: (N, P, D) in cells of the grid.
            sample: int64 (N,), whose features each prompt refers to.
            k: how finely a prompt is sampled, along each axis.

        Returns:
            (N, m, C): m queries of each prompt.
        """

    @staticmethod
    def protected(coordinates: Tensor, size: tuple[int, ...], grid: tuple[int, ...], margin: float = 0.0) -> Tensor:
        """bool (N, *grid): the tokens that a prompt touches, or comes within ``margin`` pixels of; by default those of its bounding box.

        Where that has no extent, it touches the token that it lies in. In torch's functions alone, and without asking the device for a
        number, so that calls can be captured.
        """
        low, high = coordinates.double().amin(1), coordinates.double().amax(1)
        hits = torch.ones(len(coordinates), *(1,) * len(grid), dtype=torch.bool, device=coordinates.device)
        for axis, (cells, pixels) in enumerate(zip(grid, size)):
            token, number = pixels / cells, torch.arange(cells, device=coordinates.device)
            start = ((low[:, axis] - margin) / token).floor()
            stop = ((high[:, axis] + margin) / token).ceil().maximum(start + 1)
            within = (number >= start.unsqueeze(1)) & (number < stop.unsqueeze(1))
            hits = hits & within.view(-1, *(cells if a == axis else 1 for a in range(len(grid))))
        return hits

    @staticmethod
    def footprint(coordinates: Tensor, size: tuple[int, ...], grid: tuple[int, ...], margin: float = 0.0) -> Region:
        """The smallest region of ``grid`` that holds all N prompts and ``margin`` pixels round them: at full resolution, what must be
        decoded whatever tokens were kept."""
        low, high = coordinates.flatten(0, 1).aminmax(dim=0)
        token = [pixels / cells for pixels, cells in zip(size, grid)]
        first = [math.floor((a - margin) / t) for a, t in zip(low.tolist(), token)]
        end = [max(math.ceil((b + margin) / t), a + 1) for a, b, t in zip(first, high.tolist(), token)]
        start, stop = (tuple(min(max(edge, 0), n) for edge, n in zip(edges, grid)) for edges in (first, end))
        return Region(start, stop, grid)

    @staticmethod
    def guidance(coordinates: Tensor, size: tuple[int, ...]) -> Tensor | None:
        """float32 (N, channels, *size) for a network that takes prompts as input channels; None for a kind without such a picture."""
        return None


_Kind = TypeVar("_Kind", bound=type[Prompt])
_KINDS: Registry[type[Prompt]] = Registry("kinds of prompts")


def register_prompt(name: str) -> Callable[[_Kind], _Kind]:
    """Class decorator: from now on requests may hold prompts of the decorated kind, which replies call ``name``.

    Raises:
        TypeError: its ``fields`` are no tuple of names.
        ValueError: another kind is registered by that name, or reads one of its fields.
    """

    def register(kind: _Kind) -> _Kind:
        fields = getattr(kind, "fields", None)
        if not isinstance(fields, tuple) or not all(isinstance(field, str) for field in fields):
            raise TypeError(f"{kind.__name__}.fields must be a tuple of the parameters that it is read from, such as ({name!r},).")
        for other in _KINDS.values():
            if other is not kind and (shared := set(fields) & set(other.fields)):
                raise ValueError(f"The prompts {other.name!r} and {name!r} are both read from {min(shared)!r}: give one another parameter.")
        _KINDS.register(name)(kind).name = name
        return kind

    return register


def list_prompts() -> list[type[Prompt]]:
    """The kinds of prompts, in the order in which a request is searched for them: boxes first, then by name."""
    import prato.prompts

    import_modules(prato.prompts)
    return [_KINDS[name] for name in sorted(_KINDS, key=lambda name: (name != "roi", name))]
