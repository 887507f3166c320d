"""The part of docs/results/speed_tables.md on GPUs: each way as torch makes the call, kernel by kernel, and captured as one graph."""

from __future__ import annotations

from typing import Any

from scripts.bench.timing import CAPTURED

_SIZE = ("model", "dtype", "batch", "box_edge")
_HEAD = [
    "network",
    "numbers",
    "slices a call",
    "box, % of the image",
    "way",
    "eager ms",
    "captured ms (quartiles)",
    "times faster than dense captured",
    "GFLOP",
    "MiB at most",
]
_SAID = """A call of these networks is some hundreds of small kernels, and a GPU of this size is done with most of them before the next one
is launched. So *eager* calls, launched one by one, take the same time whatever they compute; *captured* as a CUDA graph, as the app makes
them, they are several times faster. Then dropping tokens saves what it saves in arithmetic and costs its own kernels (scoring, ranking,
gathering) and one look at what was kept, to know where to decode: with few slices a call the dense network, captured, is as fast or
faster, and cutting to the box always. Dropping pays with many slices a call, in 3D, and in memory. Captured, UNETR's tokens are packed by
counts known beforehand; Swin UNETR computes all tokens of a frame round the box and masks those that left, so that its GFLOP are more than
those of the eager call. Masking tokens saves nothing, and was not captured: its eager times are in the CSV file alone.

"""


def gpu_part(result: dict[str, Any]) -> list[list[str]]:
    """Head and rows of a table of ``result``, as ``scripts/bench/benchmark.py`` writes it on a GPU: captured calls beside the eager
    ones."""
    captured = {(*_size(row), row["way"].removesuffix(CAPTURED)): row for row in result["rows"] if row["way"].endswith(CAPTURED)}
    rows = []
    for row in result["rows"]:
        if graph := captured.get((*_size(row), row["way"])):
            spread = f"{graph['ms']:.2f} ({graph['ms_q25']:.2f} to {graph['ms_q75']:.2f})"
            times = [spread, f"{graph['times_faster_than_dense']:.2f}"]
            rows.append([*_describe(row), *times, f"{graph['gflops']:.1f}", f"{row['peak_mib']:.0f}"])
    return [_HEAD, *rows]


def gpu_said() -> str:
    """What the tables show, in words."""
    return _SAID


def _size(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in _SIZE)


def _describe(row: dict[str, Any]) -> list[str]:
    dropped = f" ({100 * row['tokens_dropped']:.0f} % of tokens dropped)" if "tokens_dropped" in row else ""
    size = [row["dtype"], str(row["batch"]), f"{100 * row['box_area']:.0f}"]
    return [row["model"], *size, row["way"] + dropped, f"{row['ms']:.1f}"]
