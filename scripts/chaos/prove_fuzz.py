"""Send a live server requests that nobody should send, to every route, and see that it neither breaks nor writes where it should not."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from hypothesis import HealthCheck, Phase, given, seed, settings
from tqdm import tqdm

from prato.phantom.frames import make_phantoms
from scripts.chaos.fuzz_requests import Fuzz, requests_for
from scripts.common.demo_client import DemoServer, ServerError, copy_app
from scripts.common.provenance import origin
from scripts.common.results import write_rows

#: A model file that is damaged meanwhile, or work that cannot be taken on now.
_ALLOWED = (503,)


def main(
    out: Annotated[Path, typer.Option(help="A new folder for the server, its studies and result.csv.")],
    number: Annotated[int, typer.Option(min=1, help="How many requests.")] = 1000,
    random_seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same requests.")] = 0,
) -> None:
    """Exit code 1 where the server failed, wrote outside of its folders, or answers otherwise afterwards."""
    if out.exists():
        typer.echo(f"{out} already exists: give a new folder.", err=True)
        raise typer.Exit(2)
    app, studies, scratch = copy_app(out / "app"), out / "studies", out / "scratch"
    scratch.mkdir()
    make_phantoms(studies, 2, random_seed)
    try:
        with DemoServer(app, studies, out / "server.log", {"TMPDIR": str(scratch)}) as server:
            before = server.infer("prato_unetr", "phantom001_ED", {})[0]
            own = (studies, app / "model", app / "logs", out / "sessions", scratch, out / "server.log")
            outside = files(out, except_for=own)
            image = (studies / "phantom001_ED.nii.gz").read_bytes()
            known = ("phantom001_ED", "prato_unetr", "final", "first")
            statuses, failures = send_fuzz(server.url, {}, number, random_seed, known, (image, b""))
            for path in ("/train/", "/batch/infer"):
                requests.delete(server.url + path, timeout=60)
            same = server.infer("prato_unetr", "phantom001_ED", {})[0] == before
            time.sleep(2)  # temporary files go after the reply
            strays = files(out, except_for=own) ^ outside
            left = [path.name for path in scratch.rglob("*") if path.suffix in (".gz", ".nii", ".nrrd", ".zip")]
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    made = {"seed": random_seed, **origin()}
    rows = [
        {
            "route": route,
            "requests": sum(counts.values()),
            "status": {str(status): counts[status] for status in sorted(counts)},
            "failures": sum(failure["route"] == route for failure in failures),
            **made,
        }
        for route, counts in sorted(statuses.items())
    ]
    write_rows(out / "result.csv", rows)
    if failures:
        write_rows(out / "failures.csv", [{**failure, **made} for failure in failures])
    total: Counter[int] = sum(statuses.values(), Counter())
    typer.echo(f"{sum(total.values())} requests to {len(statuses)} routes: {dict(sorted(total.items()))}")
    faults = [f"{len(failures)} failed", *(f"wrote {path}" for path in sorted(strays)), *(f"left {name}" for name in left)]
    if failures or strays or left or not same:
        typer.echo(f"Not well: {'; '.join(faults)}{'' if same else '; the answer has changed'}; see {out / 'result.csv'}.", err=True)
        raise typer.Exit(1)
    shutil.rmtree(app)


def send_fuzz(
    url: str, headers: Mapping[str, str], number: int, random_seed: int, known: Iterable[str], contents: Iterable[bytes]
) -> tuple[dict[str, Counter[int]], list[dict[str, Any]]]:
    """Send ``number`` requests; the statuses by route, and what was answered with a server's error or not at all."""
    statuses: dict[str, Counter[int]] = {}
    failures: list[dict[str, Any]] = []
    openapi = requests.get(f"{url}/openapi.json", headers=headers, timeout=60).json()
    bar = tqdm(total=number, unit="request")

    @seed(random_seed)
    @settings(max_examples=number, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(requests_for(openapi, known, contents))
    def send(fuzz: Fuzz) -> None:
        parts = {**fuzz.parts, "headers": {**fuzz.parts.get("headers", {}), **headers}}
        try:
            reply = requests.request(fuzz.method, url + fuzz.path, timeout=120, **parts)
            status, text = reply.status_code, reply.text[:300]
        except requests.RequestException as error:
            status, text = 0, str(error)[:300]
        statuses.setdefault(fuzz.route, Counter())[status] += 1
        if (status >= 500 and status not in _ALLOWED) or status == 0:
            failures.append({"route": fuzz.route, "path": fuzz.path, "parts": repr(fuzz.parts)[:600], "status": status, "answer": text})
        if status == 200 and fuzz.method == "POST" and fuzz.path.startswith(("/train", "/batch")):
            requests.delete(url + ("/train/" if fuzz.path.startswith("/train") else "/batch/infer"), headers=headers, timeout=60)
        bar.update()

    send()
    bar.close()
    return statuses, failures


def files(folder: Path, except_for: Iterable[Path]) -> set[str]:
    """Every file below ``folder`` but those below ``except_for``, with its size and time; the compiled ones are Python's business."""
    skipped = tuple(map(str, except_for))
    found = (path for path in folder.rglob("*") if path.is_file() and not str(path).startswith(skipped) and "__pycache__" not in path.parts)
    return {f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in found}


if __name__ == "__main__":
    typer.run(main)
