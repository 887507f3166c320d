"""The tables of docs/measured/cines.md: a request's time, what phases could share, steadiness, ED and ES, corrections carried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from prato.data.structures import STRUCTURES
from prato.evaluation.ejection_fraction import ejection_errors, summarise
from scripts.common.markdown import fill_page, grid
from scripts.common.paths import DOCS, RESULTS
from scripts.common.results import Row, read_rows

_GENERATED = "phantom"
#: Hearts by what the CSV files call them.
_HEARTS = {_GENERATED: "generated", "real": "real", "cine": "ACDC's patient 090", "ED and ES": "real, ED and ES alone"}
#: Phases by which ED or ES may be off and still count as found.
_NEAR = 1


def main() -> None:
    """Fill the page."""
    smooth = read_rows(RESULTS / "smooth_in_time.csv")
    blocks = {"request": request_table(read_rows(RESULTS / "cine_request.csv")), "smooth": smooth_table(smooth)}
    blocks["shared"] = shared_table(read_rows(RESULTS / "shared_overview.csv"))
    blocks["found"] = found_table(read_rows(RESULTS / "ed_es.csv"), smooth)
    blocks["propagation"] = propagation_table(read_rows(RESULTS / "propagation.csv"))
    fill_page(DOCS / "measured" / "cines.md", blocks)


def request_table(rows: list[Row]) -> str:
    """By model and request: time, what of it is the network, and memory where that was measured."""
    lines = []
    for row in rows:
        size = f"{row['phases']} x {row['slices']}"
        shares = [_percent(row[name]) if name in row else "-" for name in ("share_of_many", "network_share_of_many")]
        whole = [f"{row[name]:,.0f}" if name in row else "-" for name in ("ms", "others_ms", "above_idle_mib")]
        lines.append([row["model"], row.get("hearts", "generated"), row["request"], size, *whole[:2], *shares, whole[2]])
    head = [
        "model",
        "hearts",
        "request",
        "phases x slices",
        "ms",
        "of which not the network",
        "relative to one request per phase",
        "network alone, relative to that",
    ]
    return grid([*head, "MiB above idle"], lines)


def shared_table(rows: list[Row]) -> str:
    """By model, box and what is the other phase's: Dice at ED, where the LV is larger, and at ES, and errors of the ejection fraction."""
    diastole: dict[str, Row] = {}
    for row in rows:
        if row["patient"] not in diastole or _expert_lv(row) > _expert_lv(diastole[row["patient"]]):
            diastole[row["patient"]] = row
    lines = []
    for model, box, way in dict.fromkeys((row["model"], row["box"], row["way"]) for row in rows):
        group = [row for row in rows if (row["model"], row["box"], row["way"]) == (model, box, way)]
        of_ed = [row for row in group if row["study"] == diastole[row["patient"]]["study"]]
        of_es = [row for row in group if row["study"] != diastole[row["patient"]]["study"]]
        dice = [f"{fmean(row['dice'][name] for row in phase for name in STRUCTURES):.4f}" for phase in (of_ed, of_es)]
        rv = f"{fmean(row['dice']['RV cavity'] for row in of_es):.4f}"
        errors = [f"{summarise(ejection_errors(group, name))['mae']:.1f}" for name in ("LV cavity", "RV cavity")]
        lines.append([model, box, way, *dice, rv, *errors])
    head = ["model", "box", "reused from the other phase", "DSC at ED", "at ES", "RV at ES", "LV EF: mean absolute error, points", "RV EF"]
    return grid(head, sorted(lines, key=lambda line: (line[0], line[1])))


def _expert_lv(row: Row) -> float:
    return float(row["volumes_ml"]["LV cavity"]["expert"])


def smooth_table(rows: list[Row]) -> str:
    """By way and kind of heart: what changes from phase to phase and back, and what that costs; changes are from no smoothing."""
    lines = []
    for kind in (_GENERATED, "real"):
        cines = [row for row in rows if row["kind"] == kind]
        plain = {row["cine"]: row for row in cines if row["way"] == "none"}
        for way in dict.fromkeys(row["way"] for row in cines):
            of_way = [row for row in cines if row["way"] == way]
            known = [(row, plain[row["cine"]]) for row in of_way if "dice" in row]
            minima = sum(n > 1 for row in of_way for n in row["minima"].values())
            cells = [_HEARTS[kind], way, _mean(of_way, lambda row: row["changed_back"], ".1f")]
            cells += [_mean(of_way, lambda row, side=side: row["flicker"][side], ".1f") for side in ("lv", "rv")]  # type: ignore[misc]
            cells.append(f"{minima} of {2 * len(of_way)}")
            cells.append(_change(known, lambda row: row["dice"]["mean"], "+.4f", min))
            cells.append(_change(known, lambda row: row["dice"]["es"], "+.4f", min))
            lines.append([*cells, _change(known, lambda row: row["ef_error"]["lv"], "+.1f", max)])
    head = [
        "hearts",
        "way",
        "% of voxels that change and change back",
        "LV flicker, %",
        "RV flicker, %",
        "curves with more than one minimum",
    ]
    return grid([*head, "DSC: mean, worst", "DSC at ES: mean, worst", "LV EF error, points: mean, worst"], lines)


def found_table(rows: list[Row], smooth: list[Row]) -> str:
    """How far ED and ES are from the truth, by how unsteady the masks are."""
    groups = [
        (f"generated, contours moved by {moved:g} mm", [row for row in rows if row["moved_mm"] == moved])
        for moved in sorted({row["moved_mm"] for row in rows})
    ]
    for kind in (_GENERATED, "real"):
        of_kind = [row for row in smooth if row["kind"] == kind and row["way"] == "none"]
        groups.append((f"the default network's masks, {_HEARTS[kind]} hearts", of_kind))
    lines = []
    for about, of_group in groups:
        off = {name: [abs(row["off"][name]) for row in of_group] for name in ("ed", "es")}
        near = [f"{sum(n <= _NEAR for n in values)} of {len(values)}" for values in off.values()]
        lines.append([about, *near, *(str(max(values)) for values in off.values())])
    return grid(["masks", "ED within one phase", "ES within one phase", "ED off at most", "ES off at most"], lines)


def propagation_table(rows: list[Row]) -> str:
    """By kind of heart, corrected phases and way, where others follow: voxels left to correct in them, of those left where none follow."""
    lines = []
    for kind, keys in sorted({(row["kind"], row["keys"]) for row in rows}, key=lambda key: ([*_HEARTS].index(key[0]), key[1])):
        group = [row for row in rows if (row["kind"], row["keys"]) == (kind, keys)]
        plain = {row["cine"]: row for row in group if row["way"] == "none"}
        for way in dict.fromkeys(row["way"] for row in group if row["way"] != "none"):
            of_way = [row for row in group if row["way"] == way]
            left = sum(row["left"]["mean"] for row in of_way) / sum(plain[row["cine"]]["left"]["mean"] for row in of_way)
            worse = sum(row["left"]["mean"] > plain[row["cine"]]["left"]["mean"] for row in of_way)
            gain = fmean(row["dice"]["mean"] - plain[row["cine"]]["dice"]["mean"] for row in of_way)
            took = [row["seconds"] for row in of_way if row["seconds"]]
            cells = [_HEARTS[kind], keys, way, f"{worse} of {len(of_way)}", _percent(left), f"{gain:+.3f}"]
            lines.append([*cells, f"{fmean(took):.1f}" if took else "-"])
    return grid(["hearts", "corrected", "way", "cines with more left to correct", "voxels left", "change of DSC", "seconds"], lines)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _mean(rows: Sequence[Row], value: Callable[[Row], float], form: str) -> str:
    return format(fmean(map(value, rows)), form)


def _change(pairs: Sequence[tuple[Row, Row]], value: Callable[[Row], float], form: str, worst: Callable[[list[float]], float]) -> str:
    """Of pairs with and without smoothing: the mean and the worst difference."""
    found = [value(one) - value(other) for one, other in pairs]
    return ", ".join(format(round(each, 6) + 0.0, form) for each in (fmean(found), worst(found)))
