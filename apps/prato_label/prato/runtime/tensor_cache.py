"""A cache of tensors that take long to compute and are needed again, up to a limit in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

from cachetools import LRUCache, cached
from torch import Tensor

_P = ParamSpec("_P")
_T = TypeVar("_T", bound=Tensor | tuple[Tensor, ...])

_PINNED: ContextVar[list[Tensor | tuple[Tensor, ...]] | None] = ContextVar("pinned", default=None)


@contextmanager
def pin() -> Iterator[list[Tensor | tuple[Tensor, ...]]]:
    """What cached functions return while the block lasts, also in this list: while that is kept, what the cache forgets is not freed."""
    used: list[Tensor | tuple[Tensor, ...]] = []
    token = _PINNED.set(used)
    try:
        yield used
    finally:
        _PINNED.reset(token)


def cached_tensors(max_bytes: int) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Decorator: a function of hashable arguments keeps its tensors; the least recently used are forgotten first.

    Args:
        max_bytes: that all of them may take together; what was made last is kept whatever its size.
    """

    def decorate(make: Callable[_P, _T]) -> Callable[_P, _T]:
        # what is larger than the cache fills it: the cache would not take it otherwise
        known: LRUCache[object, _T] = LRUCache(max_bytes, getsizeof=lambda made: min(_bytes(made), max_bytes))
        look_up = cached(known, lock=Lock())(make)

        @wraps(make)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            made = look_up(*args, **kwargs)
            pinned = _PINNED.get()
            if pinned is not None:
                pinned.append(made)
            return made

        return wrapper

    return decorate


def _bytes(made: Tensor | tuple[Tensor, ...]) -> int:
    return sum(tensor.nbytes for tensor in ((made,) if isinstance(made, Tensor) else made))
