"""Calls captured as CUDA graphs: a GPU is handed hundreds of small kernels at once instead of one by one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from prato.runtime.flops import counted
from prato.runtime.tensor_cache import held

_T = TypeVar("_T")


class Graphs:
    """Makes calls; one that comes a second time is captured, and from then on replayed. On a CPU calls are made as they are.

    A call must be a function of its tensors and its key alone, and ask the device nothing. For the use of one thread.

    Args:
        most: captured calls that are kept, the longest unused forgotten first. They share their working memory.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._pool: Any = None

    def __len__(self) -> int:
        return len(self._graphs)

    def __call__(self, key: Hashable, call: Callable[..., _T], inputs: Sequence[Tensor]) -> tuple[_T, int]:
        """What ``call`` makes of ``inputs``: good until the same ``key`` is called again; and the operations that no counter saw."""
        if not inputs[0].is_cuda:
            return call(*inputs), 0
        key = key, tuple((x.shape, x.dtype, x.stride()) for x in inputs)
        if key in self._graphs:
            self._graphs.move_to_end(key)
        elif key in self._seen:
            flop = self._seen.pop(key)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            self._graphs[key] = _Graph(call, inputs, flop, self._pool)
            while len(self._graphs) > self._most:
                self._graphs.popitem(last=False)
        else:
            output, gflop = counted(lambda: call(*inputs))
            self._seen[key] = round(gflop * 1e9)
            while len(self._seen) > 8 * self._most:
                self._seen.popitem(last=False)
            return output, 0
        graph = self._graphs[key]
        graph.replay(inputs)
        return graph.output, graph.flop


class _Graph:
    """One captured call, with memory of its own for what goes in and comes out."""

    def __init__(self, call: Callable[..., Any], inputs: Sequence[Tensor], flop: int, pool: Any) -> None:
        self.flop = flop
        self._inputs = [x.clone() for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(inputs[0].device)
        stream.wait_stream(torch.cuda.current_stream())
        # whoever counts operations is told of them once, when the call is replayed
        with torch._C.DisableTorchFunction(), held() as self._held:
            with torch.cuda.stream(stream):
                call(*self._inputs)  # what libraries set up on first use must not be captured
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self.output = call(*self._inputs)

    def replay(self, inputs: Sequence[Tensor]) -> None:
        torch._foreach_copy_(self._inputs, list(inputs))
        self._graph.replay()
