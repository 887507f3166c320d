"""Calls of networks side by side: on a CPU two threads that compute a stack each are faster than two that share every product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Protocol, TypeVar

import torch

#: Pixels of the stacks that a CPU computes side by side: as many as fit into its memory beside all else.
_PIXELS = 5 * 2**19
_T = TypeVar("_T")
_R = TypeVar("_R")


class Map(Protocol):
    """As the built-in ``map``: what ``call`` makes of each of ``items``, in their order."""

    def __call__(self, call: Callable[[_T], _R], items: Iterable[_T], /) -> Iterator[_R]: ...


def count_workers(pixels: int) -> int:
    """How many stacks of so many ``pixels`` a CPU computes side by side; 1 where one has to be computed after the other."""
    return max(1, min(torch.get_num_threads(), _PIXELS // pixels))


@contextmanager
def side_by_side(workers: int) -> Iterator[Map]:
    """A ``map`` whose calls ``workers`` threads make, each with its share of torch's threads; with one, the calling thread makes them.

    Threads that share a product wait for each other at its end, some hundred times in a network; where another process has taken a core,
    each time until it gives that back. When the block ends, early or not, calls that have not begun are dropped, and those that have are
    waited for.
    """
    if workers < 2:
        yield map
        return
    threads, started = torch.get_num_threads(), Barrier(workers + 1)

    def start() -> None:
        torch.set_num_threads(max(1, threads // workers))
        torch.get_num_threads()  # settles it: at its first call, or product, a thread takes over what was set last, by whomever
        started.wait()

    pool = ThreadPoolExecutor(workers, "side-by-side", start)
    try:
        try:
            for _ in range(workers):
                pool.submit(int)  # a thread begins for each, as those before it are not idle yet
        except RuntimeError:  # the system starts no more of them: those that have begun must not wait for them
            started.abort()
            pool.shutdown()
            torch.set_num_threads(threads)
            raise
        started.wait()
        torch.set_num_threads(threads)  # they have set what threads begin with that come to compute meanwhile
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
