"""What was aimed at in accuracy beside speed, and what scripts/research/token_study.py measured: rows of the first table of
docs/speed.md."""

from __future__ import annotations

from typing import Any

#: The engine's share of kept tokens, in %, and the most DSC that it may lose to the dense network with a tight box.
_KEPT, _LOSS = 25, 0.005
_ENGINE, _CROP = ("engine", _KEPT), ("cut to the box", 100)


def token_goal_rows(title: str, seeds: list[dict[str, Any]]) -> list[list[str]]:
    """Rows "what, box, goal, measured, met" of one network's results, one for each seed; a goal is met where every seed meets it."""
    dice = [{(row["way"], row["keep"], row["box"]): row["dice"] for row in result["rows"]} for result in seeds]

    def row(what: str, box: str, goal: str, own: tuple[str, int], other: tuple[str, int], least: float) -> list[str]:
        pairs = [(found[(*own, box)], found[(*other, box)]) for found in dice]
        measured = "; ".join(f"{a:.3f} against {b:.3f}" for a, b in pairs)
        return [f"{title}, {what}", box, goal, measured, "yes" if all(a - b > least for a, b in pairs) else "no"]

    engine = f"engine, {_KEPT} % kept"
    relevant = (("relevance, dropped", _KEPT), ("random tokens", _KEPT))
    return [
        row(engine, "tight", f"DSC at most {_LOSS} below dense", _ENGINE, ("dense", 100), -_LOSS),
        *(row(engine, box, "DSC above the crop's", _ENGINE, _CROP, 0.0) for box in ("oversized", "partial", "misleading")),
        row(f"relevance on whole slices, {_KEPT} % kept", "tight", "DSC above random tokens'", *relevant, 0.0),
    ]
