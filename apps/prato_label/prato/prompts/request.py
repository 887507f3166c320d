"""What a client asks for, read and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prato.prompts.base import PromptError, list_prompts
from prato.prompts.box import Box
from prato.pruning.plan import PRUNE_CHOICES


class RequestError(ValueError):
    """A request that cannot be answered; the message is one sentence for the person who sent it."""


@dataclass(frozen=True)
class Request:
    """A checked request.

    Attributes:
        boxes: prompt boxes in voxels of the stored image; empty when the box has to be proposed.
        source: where ``boxes`` come from.
        prune: the contract's ``prune``, or None for the model's own plan.
        return_tokens: whether the token-retention map is wanted.
        return_opinion: whether entropy and summary are wanted; no client asks for them, the choice of the next study does.
    """

    boxes: tuple[Box, ...] = ()
    source: str = "none"
    prune: str | None = None
    return_tokens: bool = False
    return_opinion: bool = False


def parse_request(params: Mapping[str, Any], shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Request:
    """Read ``params`` as the wire contract defines it, for an image of ``shape`` voxels of ``spacing`` mm.

    Raises:
        RequestError: a value is not what the contract allows.
    """
    prune = params.get("prune")
    if isinstance(prune, (list, tuple)):  # a choice list that a stock client handed back untouched
        prune = None
    if prune is not None and prune not in PRUNE_CHOICES:
        raise RequestError(f"prune must be one of {', '.join(PRUNE_CHOICES)} (as text), not {prune!r}.")
    return_tokens = params.get("return_tokens", False)
    if not isinstance(return_tokens, bool):
        raise RequestError(f"return_tokens must be true or false, not {return_tokens!r}.")
    try:
        found = (tuple(kind.from_request(params, shape, spacing)) for kind in list_prompts())
        prompts = next((prompts for prompts in found if prompts), ())
        return Request(tuple(p.box for p in prompts), prompts[0].name if prompts else "none", prune, return_tokens)
    except PromptError as error:
        raise RequestError(str(error)) from error
