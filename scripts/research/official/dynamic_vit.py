"""DynamicViT beside raoyongming/DynamicViT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from scripts.common.results import Row
from scripts.research.baselines.dynamic_vit import masked_attention, masked_block
from scripts.research.baselines.scorer import TokenScorer
from scripts.research.baselines.token_buffer import top
from scripts.research.official.beside import BATCH, DIM, HEADS, definitions, load_block, row_of_choice, small_host


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """The scorer, what it keeps, and the attention and block in which dropped tokens are masked."""
    path = folder / "models" / "dyvit.py"
    official = definitions(path, ("Mlp", "Attention", "Block", "PredictorLG"), {})
    host, tokens, _ = small_host("dynamic_vit")
    scorer = TokenScorer(DIM, 2)
    theirs = official["PredictorLG"](DIM)
    theirs.in_conv.load_state_dict(scorer.embed.state_dict())
    theirs.out_conv.load_state_dict(scorer.head.state_dict())
    mask = (torch.rand(tokens.shape[:2]) < 0.7).float()
    ours = scorer(tokens).log_softmax(-1)
    every = theirs(tokens, torch.ones_like(mask).unsqueeze(-1))
    masked = (scorer(tokens, mask).log_softmax(-1) - theirs(tokens, mask.unsqueeze(-1))).abs().amax()
    count = int(0.7 * tokens.shape[1])
    kept = top(ours[..., 0] - ours[..., 1], count), every[..., 0].argsort(dim=1, descending=True)[:, :count]
    block: Any = host.vit.blocks[0]
    other = official["Block"](DIM, HEADS, mlp_ratio=2.0, qkv_bias=block.attn.qkv.bias is not None)
    load_block(other, block)
    attention = torch.randn(BATCH, HEADS, mask.shape[1], mask.shape[1])
    softmax = (masked_attention(attention, mask) - other.attn.softmax_with_policy(attention, mask.unsqueeze(-1))).abs().amax()
    gone = mask.unsqueeze(-1)
    ran = ((masked_block(block, tokens, mask) - other(tokens, policy=gone)) * gone).abs().amax()
    return [
        row_of_choice(path, "scores of all tokens", (ours - every).abs().amax(), kept, mask.shape[1]),
        row_of_choice(path, "scores with masked tokens", masked),
        row_of_choice(path, "attention with masked tokens", softmax),
        row_of_choice(path, "a block's output, of the tokens that are kept", ran),
    ]
