"""Calls side by side: each has its share of torch's threads, and nobody else loses any."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from prato.runtime.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result(60)


@pytest.mark.parametrize(("workers", "share"), [(2, 2), (3, 1), (8, 1)])
def test_only_those_who_compute_side_by_side_share_threads(workers: int, share: int) -> None:
    with side_by_side(workers) as run:
        found = list(run(lambda number: (number, torch.get_num_threads(), threading.get_ident()), range(20)))
        assert [number for number, _, _ in found] == [*range(20)] and {threads for _, threads, _ in found} == {share}
        assert threading.get_ident() not in {thread for _, _, thread in found}
        assert torch.get_num_threads() == threads_of_a_new_thread() == 4
    assert torch.get_num_threads() == threads_of_a_new_thread() == 4
    assert not any(thread.name.startswith("side-by-side") for thread in threading.enumerate())


def test_where_the_system_starts_no_more_threads_nobody_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = threading.Thread.start, iter(range(2))

    def start_some(thread: threading.Thread) -> None:
        if thread.name.startswith("side-by-side") and next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with pytest.raises(RuntimeError, match="can't start new thread"), side_by_side(4):
        pass
    assert torch.get_num_threads() == threads_of_a_new_thread() == 4
    assert not any(thread.name.startswith("side-by-side") for thread in threading.enumerate())
