from typing import Any

from scripts.bench.speed_goals import goal_rows, token_goal_rows


def call(way: str, ms: float, dense: float = 100.0, **more: Any) -> dict[str, Any]:
    about = {"model": "prato_unetr", "batch": 1, "box_edge": 64, "box_area": 0.1111}
    return {**about, "way": way, "ms": ms, "times_faster_than_dense": dense / ms, **more}


def benchmark(*rows: dict[str, Any], threads: int = 1) -> dict[str, Any]:
    return {"threads": threads, "rows": list(rows)}


WAYS = (
    call("dense", 100.0),
    call("cut to the box", 40.0),
    call("cut to the box, norms folded", 30.0),
    call("window at the box, dense", 35.0),
)


def test_each_goal_is_held_against_what_was_measured() -> None:
    rows = goal_rows([benchmark(*WAYS, call("engine", 38.0, tokens_dropped=0.8))], [], {"prato_unetr": "UNETR"})
    assert [row[:2] for row in rows] == [["UNETR, 1 slice a call", "11 %"]] * 3
    assert [row[3:] for row in rows] == [["2.63", "yes"], ["1.27 times as long", "no"], ["1.09 times as long", "yes"]]


def test_a_slow_engine_is_said_to_miss_its_goal() -> None:
    rows = goal_rows([benchmark(*WAYS, call("engine", 50.0, tokens_dropped=0.8))], [], {})
    assert [row[4] for row in rows] == ["no", "no", "no"]


def test_too_few_tokens_dropped_or_two_threads_have_no_goal() -> None:
    few = benchmark(*WAYS, call("engine", 38.0, tokens_dropped=0.7))
    assert goal_rows([few, benchmark(*WAYS, call("engine", 38.0, tokens_dropped=0.8), threads=2)], [], {}) == []


def request_row(ms: float, network: float, request: str = "new image") -> dict[str, Any]:
    return {"model": "a", "request": request, "ms": ms, "steps_ms": {"network": network}}


def test_a_request_must_be_quick_and_mostly_network() -> None:
    rows = [request_row(400, 300), request_row(400, 100), request_row(1200, 900), request_row(400, 300, "cine of a slice")]
    assert [row[4] for row in goal_rows([], [{"device": "x86_64", "rows": rows}], {})] == ["yes", "no", "no"]


def test_a_gpu_has_goals_of_its_own_for_volumes_and_cines() -> None:
    rows = [
        request_row(59, 20),
        request_row(61, 20, "box moved"),
        request_row(499, 100, "cine of a slice"),
        request_row(501, 100, "cine of a stack"),
    ]
    result = {"device": "Some GPU", "computed_on": "cuda", "frames": 30, "rows": rows}
    found = goal_rows([], [result], {})
    assert [row[4] for row in found] == ["yes", "no", "yes", "no"]
    assert [row[2] for row in found] == ["volume over HTTP < 60 ms"] * 2 + ["30-frame cine over HTTP < 500 ms"] * 2
    assert all("Some GPU" in row[0] for row in found)
    # cines of another length have no goal
    assert len(goal_rows([], [{**result, "frames": 4}], {})) == 2


def test_accuracy_goals_are_met_by_every_seed_or_not_at_all():
    def result(engine, dense=0.9, partial=0.6):
        rows = [("dense", 100, "tight", dense), ("engine", 25, "tight", engine), ("relevance, dropped", 25, "tight", 0.88)]
        rows += [("random tokens", 25, "tight", 0.87)]
        rows += [("engine", 25, box, value) for box, value in (("oversized", 0.9), ("partial", partial), ("misleading", 0.01))]
        rows += [("cut to the box", 100, box, value) for box, value in (("oversized", 0.8), ("partial", 0.5), ("misleading", 0.01))]
        return {"rows": [dict(zip(("way", "keep", "box", "dice"), row)) for row in rows]}

    rows = token_goal_rows("Net", [result(0.896), result(0.897)])
    assert [row[-1] for row in rows] == ["yes", "yes", "yes", "no", "yes"]  # equal is not above
    assert rows[0] == [
        "Net, engine, 25 % kept",
        "tight",
        "DSC at most 0.005 below dense",
        "0.896 against 0.900; 0.897 against 0.900",
        "yes",
    ]
    assert [row[-1] for row in token_goal_rows("Net", [result(0.896), result(0.894, partial=0.4)])] == ["no", "yes", "no", "no", "yes"]
