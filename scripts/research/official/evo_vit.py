"""Evo-ViT beside YifanXu74/Evo-ViT."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scripts.common.results import Row
from scripts.research.official.beside import BATCH, DIM, EDGE, HEADS, definitions, load_mlp, row_of_choice, small_host


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """Class attention after the fourth block, what is chosen by it, and what is chosen four blocks later."""
    path = folder / "deit" / "evo_deit.py"
    names = ("easy_gather", "Mlp", "QKAttention", "VAttention", "MlpBlock", "PatchEmbed", "EvoVisionTransformer")
    official = definitions(path, names, {"trunc_normal_": nn.init.trunc_normal_, "to_2tuple": lambda n: (n, n)})
    host, tokens, inputs = small_host("evo_vit")
    bias, norm = host.vit.blocks[0].attn.qkv.bias is not None, partial(nn.LayerNorm, eps=1e-5)
    theirs = official["EvoVisionTransformer"](EDGE, 16, 3, 1, DIM, 12, HEADS, 2.0, bias, norm_layer=norm).eval()
    theirs.patch_embed = nn.Identity()  # tokens are given
    theirs.pos_embed.zero_()
    theirs.cls_token.copy_(host.method.class_token)
    for n, block in enumerate(host.vit.blocks):
        for own, other in ((theirs.qks[n].qk, slice(0, 2 * DIM)), (theirs.vs[n].v, slice(2 * DIM, None))):
            own.weight.copy_(block.attn.qkv.weight[other])
            if bias:
                own.bias.copy_(block.attn.qkv.bias[other])
        theirs.norms[n].load_state_dict(block.norm1.state_dict())
        theirs.projs[n].load_state_dict(block.attn.out_proj.state_dict())
        load_mlp(theirs.blocks[n], block)
    with _Sorted() as record:
        theirs.forward_features(tokens.clone())
    stages = host.method.encode(host.vit, tokens, inputs).stages
    (values, order), (_, later) = record.found
    half = tokens.shape[1] // 2
    scores = torch.zeros_like(values).scatter(1, order, values)
    first = order[:, :half]
    second = order.gather(1, later)[:, :half]
    chosen = [stage.alive.nonzero()[:, 1].view(BATCH, -1) for stage in (stages[0], stages[4])]
    because = "there the choice is made twice and no representative token runs along; here, as in the paper, both for every block"
    return [
        row_of_choice(
            path, "class attention after block 4", (stages[0].relevance - scores).abs().amax(), (chosen[0], first), tokens.shape[1]
        ),
        row_of_choice(path, "tokens chosen after block 8", None, (chosen[1], second), tokens.shape[1], because),
    ]


class _Sorted(TorchFunctionMode):
    """Remembers what ``torch.sort`` gave while the block lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.sort:
            self.found.append((result[0].clone(), result[1].clone()))
        return result
