"""What was aimed at in speed, and in accuracy beside it, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scripts.common.markdown import markdown_table

GOAL_COLUMNS = ("what", "box, % of the image", "goal", "measured", "met")
#: Least share of tokens that must be gone before there is a goal.
_GONE = 0.75
#: Times faster than dense on one thread, by model and slices a call.
_FASTER = {
    ("prato_unetr", 1): 2.5,
    ("prato_unetr", 8): 3.3,
    ("prato_swin_unetr", 1): 2.5,
    ("UNETR 3D", 1): 3.5,
    ("Swin UNETR 3D", 1): 3.5,
}
#: Times as long as a crop.
_CROP = 1.2
#: ms of a whole request on a CPU, and on any other device by the request.
_CPU_MS = 1000
_GPU_MS = {
    "new image": ("volume", 60),
    "box moved": ("volume", 60),
    "cine of a slice": ("30-frame cine", 500),
    "cine of a stack": ("30-frame cine", 500),
}
_CINE_FRAMES = 30
#: The engine's share of kept tokens, in %, and the most DSC that it may lose to the dense network with a tight box.
_KEPT, _LOSS = 25, 0.005
_ENGINE, _CUT = ("engine", _KEPT), ("cut to the box", 100)


def goal_rows(benchmarks: list[dict[str, Any]], requests: list[dict[str, Any]], titles: dict[str, str]) -> list[list[str]]:
    """Rows "what, box, goal, measured, met" of results as ``scripts/bench/benchmark.py`` and ``scripts/bench/benchmark_http.py`` write
    them.

    Args:
        benchmarks: results of one thread count are enough; those of more than one thread have no goals.
        requests: results of whole requests; those that a CPU computed have a goal of their own.
    """
    rows: list[list[str]] = []
    for result in benchmarks:
        if result["threads"] == 1:
            for engine in (row for row in result["rows"] if row["way"] == "engine" and row["tokens_dropped"] >= _GONE):
                rows += _of_call(engine, result["rows"], titles)
    return rows + [row for result in requests for row in _of_requests(result, titles)]


def token_goal_rows(title: str, seeds: list[dict[str, Any]]) -> list[list[str]]:
    """Rows as of :func:`goal_rows`, of what ``scripts/research/token_study.py`` measured of one network, a result for each seed; a goal is
    met where every seed meets it."""
    dice = dice_by_way(seeds)

    def row(what: str, box: str, goal: str, own: tuple[str, int], other: tuple[str, int], least: float) -> list[str]:
        pairs = [(found[(*own, box)], found[(*other, box)]) for found in dice]
        measured = "; ".join(f"{a:.3f} against {b:.3f}" for a, b in pairs)
        return [f"{title}, {what}", box, goal, measured, _said(all(a - b > least for a, b in pairs))]

    engine = f"engine, {_KEPT} % kept"
    relevant = (("relevance, dropped", _KEPT), ("random tokens", _KEPT))
    return [
        row(engine, "tight", f"DSC at most {_LOSS} below dense", _ENGINE, ("dense", 100), -_LOSS),
        *(row(engine, box, "DSC above the crop's", _ENGINE, _CUT, 0.0) for box in ("oversized", "partial", "misleading")),
        row(f"relevance on whole slices, {_KEPT} % kept", "tight", "DSC above random tokens'", *relevant, 0.0),
    ]


def dice_by_way(seeds: list[dict[str, Any]]) -> list[dict[tuple[str, int, str], float]]:
    """Of each of ``seeds``, the DSC by way, kept tokens in % and box."""
    return [{(row["way"], row["keep"], row["box"]): row["dice"] for row in result["rows"]} for result in seeds]


def goal_summary(rows: list[list[str]]) -> str:
    """Markdown of how often each goal of ``rows`` was met, and where it was not."""
    goals: dict[str, list[list[str]]] = {}
    for row in rows:
        goals.setdefault(row[2], []).append(row)
    lines = []
    for goal, own in goals.items():
        missed = [what for what, _, _, _, met in own if met == "no"]
        lines.append([goal, f"{len(own) - len(missed)} of {len(own)}", "; ".join(dict.fromkeys(missed)) or "-"])
    return markdown_table(["goal", "met", "missed by"], lines)


def _of_requests(result: dict[str, Any], titles: dict[str, str]) -> Iterator[list[str]]:
    on_cpu = result.get("computed_on", "cpu") == "cpu"
    for row in result["rows"]:
        cine = row["request"].startswith("cine")
        if cine and (on_cpu or result["frames"] != _CINE_FRAMES):
            continue
        what = f"{titles.get(row['model'], row['model'])}, request over HTTP, {row['request']}"
        network = row["steps_ms"]["network"] / row["ms"]
        measured = f"{row['ms']:.0f} ms, the network {100 * network:.0f} % of it"
        if on_cpu:
            met = row["ms"] < _CPU_MS and network > 0.5
            yield [what, "", "< 1 s, more than half of it the network", measured, _said(met)]
        else:
            kind, most = _GPU_MS[row["request"]]
            yield [f"{what}, {result['device']}", "", f"{kind} over HTTP < {most} ms", measured, _said(row["ms"] < most)]


def _of_call(engine: dict[str, Any], rows: list[dict[str, Any]], titles: dict[str, str]) -> Iterator[list[str]]:
    same = [row for row in rows if all(row[key] == engine[key] for key in ("model", "batch", "box_edge"))]
    slices = "" if engine["model"].endswith("3D") else f", {engine['batch']} slice{'s' * (engine['batch'] > 1)} a call"
    what, box = titles.get(engine["model"], engine["model"]) + slices, f"{100 * engine['box_area']:.0f} %"
    times, goal = engine["times_faster_than_dense"], _FASTER.get((engine["model"], engine["batch"]))
    if goal:
        yield [what, box, f"{goal} times faster than dense", f"{times:.2f}", _said(times >= goal)]
    for ways, name in ((("cut to the box", "cut to the box, norms folded"), "crop"), (("window at the box, dense",), "crop with context")):
        took = [row["ms"] for row in same if row["way"] in ways]
        if took:
            ratio = engine["ms"] / min(took)
            yield [what, box, f"within 20 % of the {name}", f"{ratio:.2f} times as long", _said(ratio <= _CROP)]


def _said(met: bool) -> str:
    return "yes" if met else "no"
