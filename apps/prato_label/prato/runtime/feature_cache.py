"""Caches what networks compute of images before they look at a prompt, for the next prompt on the same image."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Protocol, TypeVar

from cachetools import LRUCache


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


_Embedding = TypeVar("_Embedding", bound=_Sized)


class FeatureCache:
    """Image embeddings, those used longest ago dropped first.

    The slices of one request may be embedded in several parts, one for each call of the network. They are kept and dropped together, so
    that the parts of a long stack do not push each other out.

    Args:
        max_bytes: memory that all of them may take together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._entries: LRUCache[Hashable, dict[tuple[int, ...], Any]] = LRUCache(max_bytes, getsizeof=_bytes)

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[int]]:
        """A copy, as of a predictor for another process, starts empty."""
        return FeatureCache, (self._max_bytes,)

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return int(self._entries.currsize)

    def get(self, key: Hashable, planes: tuple[int, ...], encode: Callable[[], _Embedding]) -> _Embedding:
        """The embedding of the slices ``planes``.

        Args:
            key: everything that it depends on but ``planes``: the image, the model's version, the window and so on.
            encode: computes it where it is not at hand.
        """
        with self._lock:
            parts = self._entries.get(key, {})
            if planes in parts:
                found: _Embedding = parts[planes]
                return found
        embedding = encode()
        with self._lock:
            parts = dict(self._entries.get(key, {}))
            if _bytes(parts) + embedding.nbytes > self._max_bytes:  # what was embedded for other requests of the same slices goes first
                parts = {others: part for others, part in parts.items() if not set(others) & set(planes)}
            parts[planes] = embedding
            if _bytes(parts) <= self._max_bytes:
                self._entries[key] = parts
        return embedding


def _bytes(parts: dict[tuple[int, ...], Any]) -> int:
    return sum(part.nbytes for part in parts.values())
