"""Files cut short, emptied or overwritten: before the server starts, and while it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from prato.models.registry import DEFAULT_MODEL
from scripts.chaos.faults.bench import MODEL, Bench

#: How a file can be damaged: what it holds, and a source of random bytes -> what it holds then.
DAMAGES: dict[str, Callable[[bytes, Callable[[int], bytes]], bytes]] = {
    "cut short": lambda data, noise: data[: len(data) // 2],
    "garbage": lambda data, noise: noise(300),
    "empty": lambda data, noise: b"",
    "other JSON": lambda data, noise: b'[1, {"state": "asleep", "lines": []}, null]',
    "another object": lambda data, noise: b'{"version": 7, "objects": [], "records": [{}]}',
    "nested": lambda data, noise: b"[" * 100_000,
    "holes": lambda data, noise: data[:100] + noise(len(data[100:])),
}


def targets(study: str) -> dict[str, str]:
    """What is damaged, by name: a file below the bench's folder. Version 2 of the label of ``study`` was submitted."""
    model, history = "app/model", f"studies/label_history/final/{study}"
    return {
        "the list of studies": "studies/datastore_v2.json",
        "the list of trainings": f"{model}/trainings/jobs_*.json",
        "a model's history": f"{model}/versions/{MODEL}/history.json",
        "a model's replacement under way": f"{model}/versions/{MODEL}/replacing.json",
        "a training's numbers": f"{model}/{MODEL}/stats.json",
        "a training's state": f"{model}/{MODEL}/state_*.pt",
        "a model file": f"{model}/{MODEL}.safetensors",
        "the file of the model that proposes boxes": f"{model}/{DEFAULT_MODEL}.safetensors",
        "a kept model": f"{model}/versions/{MODEL}/*.safetensors",
        "a label": f"studies/labels/final/{study}.nii.gz",
        "a version of a label": f"{history}/0002.nii.gz",
        "a version's record": f"{history}/0002.json",
        "an image": f"studies/{study}.nii.gz",
        "the split of patients": "studies/training_split.json",
        "the manifest": "studies/manifest.json",
    }


def damage(place: str, bench: Bench) -> str:
    """Damage the file ``place`` in one way before the start and in two others while the server runs, use it, then bring the file back."""
    path = next(iter(sorted(bench.folder.glob(place))), bench.folder / place)
    whole = path.read_bytes() if path.exists() else None
    ways = bench.random.sample(list(DAMAGES), 3)
    _put(path, DAMAGES[ways[0]](whole or b"", bench.random.randbytes))
    bench.start()
    bench.use()
    for way in ways[1:]:
        _put(path, DAMAGES[way](whole or b"", bench.random.randbytes))
        bench.use()
    _put(path, DAMAGES[ways[0]](whole or b"", bench.random.randbytes))
    bench.train()
    if whole is None:
        path.unlink(missing_ok=True)
    else:
        _put(path, whole)
    return f"{path.relative_to(bench.folder)} was {ways[0]} at the start, then {' and '.join(ways[1:])}, then whole again"


def _put(path: Path, data: bytes) -> None:
    """Not atomically: a careless hand does not either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def all_damages(study: str) -> dict[str, Callable[[Bench], str]]:
    """Every fault of this module by its name."""
    return {f"{name} damaged": partial(damage, place) for name, place in targets(study).items()}
