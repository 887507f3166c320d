"""What every comparison with authors' code needs: their definitions, a small network of ours, and rows of what differs."""

from __future__ import annotations

import ast
import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.common.results import Row
from scripts.research.baselines.method import EncoderInput
from scripts.research.baselines.unetr import BaselineUNETR

#: Below it, numbers are the same but for rounding.
_SAME = 1e-5
BATCH, EDGE, DIM, HEADS, CLASSES = 2, 128, 48, 4, 4


def definitions(path: Path, names: Iterable[str], known: dict[str, Any]) -> dict[str, Any]:
    """Classes and functions ``names`` of the file at ``path``, without decorators, run with the names that are ``known`` to them.

    Raises:
        ValueError: the file does not define one of them. OSError: there is no such file.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{path.name} does not define {missing[0]}: use the version of the repository that does")
    space = {"torch": torch, "nn": nn, "F": F, "math": math, "partial": partial, "OrderedDict": OrderedDict, **known}
    for node in found.values():
        if node.name in names:
            node.decorator_list = []
            exec(compile(ast.Module([node], []), str(path), "exec"), space)
    return space


@torch.no_grad()
def small_host(method: str) -> tuple[Any, Tensor, EncoderInput]:
    """A small UNETR of the ``method`` with random weights, and tokens (B, 64, C) of noise."""
    sizes: dict[str, Any] = {
        "img_size": EDGE,
        "spatial_dims": 2,
        "feature_size": 4,
        "hidden_size": DIM,
        "mlp_dim": 2 * DIM,
        "num_heads": HEADS,
    }
    host: Any = BaselineUNETR(3, CLASSES, method, **sizes).eval()
    for block in host.vit.blocks:  # as they are drawn, weights are so small that all tokens are attended to alike
        for layer in (block.attn.qkv, block.attn.out_proj, block.mlp.linear1, block.mlp.linear2):
            layer.weight.normal_(0, 2 / DIM**0.5)
    image = torch.randn(BATCH, 3, EDGE, EDGE)
    tokens, grid = host._embed(image)
    return host, torch.randn_like(tokens), EncoderInput(image, grid, None)


def load_block(theirs: Any, block: Any) -> None:
    theirs.norm1.load_state_dict(block.norm1.state_dict())
    theirs.attn.qkv.load_state_dict(block.attn.qkv.state_dict())
    theirs.attn.proj.load_state_dict(block.attn.out_proj.state_dict())
    load_mlp(theirs, block)


def load_mlp(theirs: Any, block: Any) -> None:
    theirs.norm2.load_state_dict(block.norm2.state_dict())
    theirs.mlp.fc1.load_state_dict(block.mlp.linear1.state_dict())
    theirs.mlp.fc2.load_state_dict(block.mlp.linear2.state_dict())


def row_of_choice(
    path: Path, what: str, difference: Tensor | None, kept: tuple[Tensor, Tensor] | None = None, count: int = 0, because: str = ""
) -> Row:
    """``kept``: places (B, k), ours and theirs, of ``count`` tokens."""
    if kept is None:
        return outcome(path, what, difference, 0, 0, because)
    ours, theirs = (torch.zeros(len(places), count, dtype=torch.bool).scatter(1, places, True) for places in kept)
    return outcome(path, what, difference, int((ours != theirs).sum()), ours.numel(), because)


def outcome(path: Path, what: str, difference: Tensor | None, differ: int, of: int, because: str = "") -> Row:
    """One row: the largest difference of numbers, and in how many of ``of`` places the choice differs."""
    same = (difference is None or float(difference) < _SAME) and not differ
    row: Row = {"what": what, "outcome": "agree" if same else "differ"}
    if difference is not None:
        row["largest_difference"] = float(f"{float(difference):.3g}")
    if of:
        row |= {"choices_differ": differ, "choices": of}
    return row | {"because": because, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:12]}
