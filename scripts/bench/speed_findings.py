"""What the measurements of docs/speed.md say, each in a sentence with its numbers: the good and the bad."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from prato.data.wording import span
from scripts.bench.speed_goals import dice_by_way
from scripts.bench.speed_tables import TITLES, is_gpu, quartiles
from scripts.bench.timing import CAPTURED
from scripts.common.markdown import markdown_table

_WINDOW, _PLAN = "window at the box, dense", "window at the box, plan"
_CROPS = ("cut to the box", "cut to the box, norms folded")
#: Share of kept tokens, in %, at which the ways of the study of tokens are compared.
_KEPT = 25


@dataclass(frozen=True)
class Measured:
    """All that is on the page: ``benchmarks`` by name and ``requests`` by device with their ``rows``, ``studies`` of tokens by network
    with one for each seed, rows of the crop's ``floor``, and of pruned networks and their dense ``twins``."""

    benchmarks: Mapping[str, Mapping[str, Any]]
    requests: list[dict[str, Any]]
    studies: Mapping[str, list[dict[str, Any]]]
    floor: list[dict[str, Any]]
    twins: list[dict[str, Any]]

    def cpu(self) -> list[dict[str, Any]]:
        """Rows of one CPU thread, in 2D."""
        return [row for b in self.benchmarks.values() if not is_gpu(b) and b["threads"] == 1 for row in b["rows"] if not _is_3d(row)]

    def gpu(self) -> list[dict[str, Any]]:
        """Rows of a GPU in half precision, in 2D, captured."""
        rows = [row for b in self.benchmarks.values() if is_gpu(b) for row in b["rows"]]
        return [row for row in rows if row["way"].endswith(CAPTURED) and row["dtype"] == "float16" and not _is_3d(row)]


def findings(measured: Measured) -> str:
    """Markdown, a list."""
    parts: tuple[Callable[[Measured], Iterator[str]], ...] = (_window, _plan, _engine, _masked, _gpu, _requests, _worth)
    return "".join(_item(sentence) for part in parts for sentence in part(measured)) + "\n"


def _item(sentence: str) -> str:
    """An item of a list, its lines wrapped; a table may follow its words."""
    words, *table = sentence.rstrip().split("\n\n")
    unbroken = words.replace(" %", "\0%")
    lines = textwrap.fill(unbroken, 120, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n\n".join([lines.replace("\0%", " %"), *table]) + ("\n\n" if table else "\n")


def _window(measured: Measured) -> Iterator[str]:
    rows = measured.cpu()
    yield (
        "**Computing only the part of the image around the box saves most, even without pruning.** On one CPU thread, for boxes of "
        f"{_areas(rows)} % of the image, a dense network is {span(_speedups(rows, (_WINDOW,)))} times as fast on a window at the box as "
        f"on the whole image, and {span(_speedups(rows, _CROPS))} times as fast on the box alone."
    )


def _plan(measured: Measured) -> Iterator[str]:
    told = []
    for model, title in TITLES.items():
        pruned, dense = (_of_tight_boxes(measured.twins, name) for name in (model, model.replace("prato", "dense")))
        if pruned and dense:
            ms, ms_dense = (median(row["latency_ms"]["network"] for row in rows) for rows in (pruned, dense))
            gflops = fmean(row["gflops"] for row in pruned) / fmean(row["gflops"] for row in dense)
            told.append(f"{title} {100 * (ms / ms_dense - 1):+.0f} % ({ms:.0f} ms per study, GFLOP {100 * (gflops - 1):+.0f} %)")
    yield (
        "**In that window, pruning adds little with networks as small as the shipped ones.** Network time for a new image, on one CPU "
        f"thread with tight boxes, compared with the same network trained and run dense: {'; '.join(told)}. In one call of the "
        f"benchmark the plan takes {span(_against(measured.cpu(), _PLAN, _WINDOW))} times as long as the dense network in the same "
        "window. It costs no accuracy either ([compared with dense twins](measured/method.md#networks-of-windows))."
    )


def _engine(measured: Measured) -> Iterator[str]:
    rows = measured.cpu()
    crops, windows = (_against(rows, "engine", *ways) for ways in (_CROPS, (_WINDOW,)))
    yield (
        f"**On the whole image the engine is {span(_speedups(rows, ('engine',)))} times as fast as dense**, and faster than the dense "
        f"window in {sum(value < 1 for value in windows)} of {len(windows)} cases. **The crop stays faster in "
        f"{sum(value > 1 for value in crops)} of {len(crops)}**: the engine takes {span(crops)} times as long."
    )
    shares = [row["gflops"]["decoding the box alone"] / row["gflops"]["crop"] for row in measured.floor]
    yield (
        "More pruning cannot change that: to give the dense network's numbers, each convolution also computes the border that the "
        f"next one needs. Decoding the box alone, without any encoder, is {span(shares)} times the arithmetic of the whole crop."
    )
    volumes = [row for b in measured.benchmarks.values() if not is_gpu(b) for row in b["rows"] if _is_3d(row)]
    if volumes:
        yield (
            f"In 3D, with a volume in one call, the engine is {span(_speedups(volumes, ('engine',)))} times as fast as dense and takes "
            f"{span(_against(volumes, 'engine', *_CROPS))} times as long as the crop (untrained networks)."
        )


def _masked(measured: Measured) -> Iterator[str]:
    rows = measured.cpu()
    yield (
        f"**Masking tokens instead of dropping them saves little:** {span(_speedups(rows, ('masked',)))} times as fast as dense. "
        f"Dropping them is {span(_speedups(rows, ('dropped, decode all',)))} times as fast if the whole image is decoded, and "
        f"{span(_speedups(rows, ('dropped, decode kept',)))} times if only the kept region is."
    )


def _gpu(measured: Measured) -> Iterator[str]:
    rows = measured.gpu()
    if not rows:
        return
    yield (
        "**On a large GPU, pruning in the window makes a call slower:** captured, the plan takes "
        f"{span(_against(rows, _PLAN, _WINDOW))} times as long as the dense network in the same window, for {_batches(rows)} slices per "
        "call. A call of these networks consists of hundreds of small kernels; scoring, ranking and gathering add more. What helps there "
        "is to capture the call as a CUDA graph."
    )
    yield (
        f"The engine on the whole image is {span(_speedups(rows, ('engine',)))} times as fast as dense there: it pays off with many "
        "slices per call, in 3D, and in memory ([tables](results/speed_tables.md))."
    )


def _requests(measured: Measured) -> Iterator[str]:
    lines = []
    for result in measured.requests:
        for row in result["rows"]:
            share = f"{100 * row['steps_ms']['network'] / row['ms']:.0f} %"
            cells = [
                TITLES.get(row["model"], row["model"]),
                row["request"],
                quartiles(row),
            ]
            lines.append([result["device"], *cells, share])
    frames = measured.requests[0]["frames"]
    head = ["device", "network", "request", "ms (quartiles)", "network's share"]
    table = markdown_table(head, lines)
    yield (
        "**A request over HTTP, from the prompt sent to the mask received**, on a warm server, for images of "
        f"{measured.requests[0]['slices']} slices and cines of {frames} frames:\n\n{table}"
    )


def _worth(measured: Measured) -> Iterator[str]:
    told = {TITLES[f"prato_{network}"]: dice_by_way(seeds) for network, seeds in measured.studies.items()}

    def minus(one: tuple[str, int], two: tuple[str, int], box: str) -> str:
        return "; ".join(f"{title} {', '.join(f'{d[(*one, box)] - d[(*two, box)]:+.3f}' for d in dice)}" for title, dice in told.items())

    relevance, chance, engine = ("relevance, dropped", _KEPT), ("random tokens", _KEPT), ("engine", _KEPT)
    yield (
        f"**Relevance to the box is worth little compared with chance.** With {_KEPT} % of the tokens kept on whole slices and tight "
        f"boxes, its DSC minus that of random tokens (one number per seed): {minus(relevance, chance, 'tight')}."
    )
    crop, dense = ("cut to the box", 100), ("dense", 100)
    yield (
        f"**The engine keeps the dense network's accuracy**, DSC minus dense, tight boxes: {minus(engine, dense, 'tight')}. **It tolerates "
        f"bad boxes better than the crop**, DSC minus the crop's: oversized {minus(engine, crop, 'oversized')}; partial "
        f"{minus(engine, crop, 'partial')}."
    )
    worst = [d[(*engine, "misleading")] for dice in told.values() for d in dice]
    yield (
        f"With a box beside the heart, neither finds the heart: the engine's DSC is {span(worst)}. That is why the app looks where its "
        "overview sees the heart."
    )


def _is_3d(row: Mapping[str, Any]) -> bool:
    return bool(row["model"].endswith("3D"))


def _of_tight_boxes(rows: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["model"], row["box"]) == (model, "tight")]


def _by_call(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """ms by way, of each network, number of slices and box."""
    found: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        found.setdefault((row["model"], row["batch"], row["box_edge"]), {})[row["way"].removesuffix(CAPTURED)] = row["ms"]
    return list(found.values())


def _speedups(rows: list[dict[str, Any]], ways: tuple[str, ...]) -> list[float]:
    return [ms["dense"] / min(ms[way] for way in ways if way in ms) for ms in _by_call(rows) if any(way in ms for way in ways)]


def _against(rows: list[dict[str, Any]], way: str, *others: str) -> list[float]:
    """How many times as long ``way`` takes as the quickest of ``others``."""
    return [ms[way] / min(ms[each] for each in others if each in ms) for ms in _by_call(rows) if way in ms and any(o in ms for o in others)]


def _areas(rows: list[dict[str, Any]]) -> str:
    areas = [100 * row["box_area"] for row in rows]
    return f"{min(areas):.0f} to {max(areas):.0f}"


def _batches(rows: list[dict[str, Any]]) -> str:
    batches = sorted({row["batch"] for row in rows})
    return f"{batches[0]} to {batches[-1]}"
