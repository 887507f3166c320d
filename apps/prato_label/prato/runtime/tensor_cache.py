"""Tensors that take long to make and are asked for again: kept up to so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

from torch import Tensor

_P = ParamSpec("_P")
_T = TypeVar("_T", bound=Tensor | tuple[Tensor, ...])


_HELD: ContextVar[list[Tensor | tuple[Tensor, ...]] | None] = ContextVar("held", default=None)


@contextmanager
def held() -> Iterator[list[Tensor | tuple[Tensor, ...]]]:
    """What is asked for while the block lasts, also in this list: while that is kept, what is forgotten is not freed."""
    asked: list[Tensor | tuple[Tensor, ...]] = []
    token = _HELD.set(asked)
    try:
        yield asked
    finally:
        _HELD.reset(token)


def remembering(most: int) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Has a function of hashable arguments, without keywords, remember its tensors; those asked for longest ago are forgotten first.

    Args:
        most: bytes that all of them may take together; what was made last is kept whatever its size.
    """

    def decorated(make: Callable[_P, _T]) -> Callable[_P, _T]:
        kept: OrderedDict[Hashable, _T] = OrderedDict()
        lock = Lock()

        @wraps(make)
        def remembered(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            with lock:
                if args not in kept:
                    kept[args] = make(*args, **kwargs)
                kept.move_to_end(args)
                made = kept[args]
                while len(kept) > 1 and sum(map(_bytes, kept.values())) > most:
                    kept.popitem(last=False)
            holding = _HELD.get()
            if holding is not None:
                holding.append(made)
            return made

        return remembered

    return decorated


def _bytes(made: Tensor | tuple[Tensor, ...]) -> int:
    return sum(tensor.nbytes for tensor in ((made,) if isinstance(made, Tensor) else made))
