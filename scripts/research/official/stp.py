"""STP beside cvlab-stonybrook/TokenSparse-for-MedSeg."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from torch import Tensor, nn

from scripts.common.results import Row
from scripts.research.baselines.token_buffer import take, top
from scripts.research.official.beside import DIM, HEADS, definitions, load_block, outcome, row_of_choice, small_host


def compare(folder: Path) -> list[Row]:
    """Scores and what is kept, its gradient in training, and the assembly of all levels."""
    host, tokens, inputs = small_host("stp")
    networks = folder / "lib" / "networks"
    tricks = definitions(networks / "gumbel_tricks.py", ("soft_topk",), {})
    path = networks / "adavit.py"
    known = {"soft_topk": tricks["soft_topk"], "Mlp": _Mlp, "PatchEmbed": nn.Identity, "time": time, "to_3tuple": tuple}
    blocks = ("Attention", "LayerScale", "Block", "ConcatUnshuffle", "FusionNet", "build_3d_sincos_position_embedding")
    official = definitions(path, ("MlpPredictor", "VisionTransformerTokenPruningV1", *blocks), known)
    score = host.method.score["3"]
    theirs = official["MlpPredictor"](DIM)
    theirs.in_mlp.load_state_dict(score.embed.state_dict())
    theirs.out_mlp.load_state_dict(score.head.state_dict())
    prune = official["VisionTransformerTokenPruningV1"].prune_token
    settings = SimpleNamespace(args=SimpleNamespace(perturbation="none"), tp_ratio=0.5, tp_tau=host.method.tau, training=False)
    count, z = tokens.shape[1] // 2, tokens.shape[1]

    def choose(training: bool) -> tuple[Tensor, ...]:
        settings.training = training
        everywhere = torch.ones(len(tokens), 1 + z)
        # their first token is the class token, which is neither scored nor pruned
        return prune(settings, torch.cat((tokens[:, :1], tokens), 1), everywhere, theirs)

    with torch.no_grad():
        ours = nn.functional.logsigmoid(score(tokens)).squeeze(-1)
        difference = (ours - theirs(torch.cat((tokens[:, :1], tokens), 1))).abs().amax()
        kept = choose(training=False)[2][:, 1:].nonzero()[:, 1].view(-1, count)
        assembled = _assembled(official, host, tokens, inputs)
    return [
        row_of_choice(path, "scores of all tokens", difference, (top(ours, count), kept), z),
        outcome(
            path,
            "what the scorer learns from what stays and from what leaves",
            _learned(host, score, theirs, tokens, choose),
            0,
            0,
            "without Gumbel noise, which each draws for itself",
        ),
        outcome(
            path,
            "all levels assembled",
            assembled,
            0,
            0,
            "with our positions (theirs are of volumes) and our layer norm's epsilon, without a class token",
        ),
    ]


def _learned(host: Any, score: nn.Module, theirs: Any, tokens: Tensor, choose: Any) -> Tensor:
    """The largest difference between gradients of our and their scorer, relative to the largest gradient."""
    weigh, count = torch.randn_like(tokens), tokens.shape[1] // 2
    host.method.train()
    with patch("torch.rand_like", lambda x: torch.full_like(x, torch.tensor(-1.0).exp().item())):  # Gumbel noise of zero
        chosen, mask = host.method._choice(nn.functional.logsigmoid(score(tokens)).squeeze(-1), count)
    host.method.eval()
    (weigh * tokens * mask.unsqueeze(-1)).sum().backward()
    stays, leaves, policy, _ = choose(training=True)
    alive = policy[:, 1:].bool()
    rest = (~alive).nonzero()[:, 1].view(len(tokens), -1)
    ((take(weigh, chosen) * stays[:, 1:]).sum() + (take(weigh, rest) * leaves).sum()).backward()
    own, other = (
        torch.cat([torch.as_tensor(p.grad).flatten() for part in parts for p in part.parameters()])
        for parts in ((score,), (theirs.in_mlp, theirs.out_mlp))
    )
    return (own - other).abs().amax() / other.abs().amax()


def _assembled(official: dict[str, Any], host: Any, tokens: Tensor, inputs: Any) -> Tensor:
    """The largest difference between our and their assembly of tokens that no block changes, of the levels that our scorers choose."""
    method = host.method
    host.vit.blocks = nn.ModuleList(nn.Identity() for _ in host.vit.blocks)
    ours = method.encode(host.vit, tokens, inputs)
    alive = [torch.ones(tokens.shape[:2], dtype=torch.bool), *(stage.alive for stage in ours.stages)]
    policies = [before & ~after for before, after in pairwise(alive)] + [alive[-1]]
    listed = nn.ParameterList
    with patch.object(nn, "ParameterList", lambda *, parameters: listed(parameters)):  # as torch named it once
        net = official["FusionNet"]((6, 6, 6), DIM, DIM, len(policies), 1, HEADS)
    net.completion.pos_embed = nn.Parameter(build_sincos_position_embedding(list(inputs.grid), DIM, 2))
    for level, own in enumerate(method.levels):
        net.pre_linear_list[level].load_state_dict(own[1].state_dict())
        net.completion.layer_tokens[level].copy_(method.level_embedding[level])
    net.blocks[0] = official["Block"](DIM, HEADS, mlp_ratio=2.0, qkv_bias=True)
    load_block(net.blocks[0], method.assemble)
    net.out_norm.load_state_dict(method.project[0].state_dict())
    net.out_norm.eps = method.project[0].eps
    net.out_linear.load_state_dict(method.project[1].state_dict())
    levels = [own[0](take(tokens, policy.nonzero()[:, 1].view(len(tokens), -1))) for own, policy in zip(method.levels, policies)]
    return (ours.last[:, 1:] - net(levels, [policy.float() for policy in policies])).abs().amax()


class _Mlp(nn.Module):
    """As timm's, by the names of its layers."""

    def __init__(self, in_features: int, hidden_features: int, act_layer: Any, drop: float) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(in_features, hidden_features), act_layer(), nn.Linear(hidden_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))
