"""The authors' own code beside the baselines here: scores and kept tokens on the same weights and tokens, number by number.

    python scripts/research/official_code.py --dynamic-vit DynamicViT --evo-vit Evo-ViT --dtop Dynamic-Token-Pruning --tome ToMe

Each option names a checkout of the method's public repository; nothing of it is in this one. Of a file that imports libraries which are not
installed (timm, MMSegmentation), the definitions that matter are read and run without the rest of it.
"""

from __future__ import annotations

import ast
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scripts.common.paths import RESULTS
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.baselines.dtop import leaving
from scripts.research.baselines.dynamic_vit import masked_attention, masked_block
from scripts.research.baselines.merged_tokens import merge
from scripts.research.baselines.method import EncoderInput
from scripts.research.baselines.scorer import TokenScorer
from scripts.research.baselines.token_buffer import take, top
from scripts.research.baselines.tome import match
from scripts.research.baselines.unetr import BaselineUNETR

#: Below it, numbers are the same but for rounding.
_SAME = 1e-5
_BATCH, _EDGE, _DIM, _HEADS, _CLASSES = 2, 128, 48, 4, 4


@refuses_in_one_sentence
def main(
    dynamic_vit: Annotated[Path | None, typer.Option(help="Checkout of raoyongming/DynamicViT.")] = None,
    evo_vit: Annotated[Path | None, typer.Option(help="Checkout of YifanXu74/Evo-ViT.")] = None,
    dtop: Annotated[Path | None, typer.Option(help="Checkout of zbwxp/Dynamic-Token-Pruning.")] = None,
    tome: Annotated[Path | None, typer.Option(help="Checkout of facebookresearch/ToMe.")] = None,
    out: Annotated[Path, typer.Option(callback=checked_table, help="CSV file of the differences.")] = RESULTS / "official_code.csv",
) -> None:
    """Write the largest differences for each method whose code is given; rows of the others stay."""
    checkouts = {compare_dynamic_vit: dynamic_vit, compare_evo_vit: evo_vit, compare_dtop: dtop, compare_tome: tome}
    rows: list[Row] = []
    made = {"threads": torch.get_num_threads(), "seed": 0, **origin()}
    if not any(checkouts.values()):
        raise ValueError("Give the checkout of at least one method, such as --tome FOLDER.")
    for compare, folder in checkouts.items():
        if folder is not None:
            torch.manual_seed(0)
            with torch.no_grad():
                rows += [{"method": compare.__name__.removeprefix("compare_"), **row, **made} for row in compare(folder)]
    replace_rows(out, rows, ("method",))
    typer.echo("\n".join(f"{row['method']}: {row['what']}: {row['outcome']}" for row in rows))


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


def compare_dynamic_vit(folder: Path) -> list[Row]:
    """The scorer, what it keeps, and the attention and block in which dropped tokens are masked."""
    path = folder / "models" / "dyvit.py"
    official = definitions(path, ("Mlp", "Attention", "Block", "PredictorLG"), {})
    host, tokens, _ = _host("dynamic_vit")
    scorer = TokenScorer(_DIM, 2)
    theirs = official["PredictorLG"](_DIM)
    theirs.in_conv.load_state_dict(scorer.embed.state_dict())
    theirs.out_conv.load_state_dict(scorer.head.state_dict())
    mask = (torch.rand(tokens.shape[:2]) < 0.7).float()
    ours = scorer(tokens).log_softmax(-1)
    every = theirs(tokens, torch.ones_like(mask).unsqueeze(-1))
    masked = (scorer(tokens, mask).log_softmax(-1) - theirs(tokens, mask.unsqueeze(-1))).abs().amax()
    count = int(0.7 * tokens.shape[1])
    kept = top(ours[..., 0] - ours[..., 1], count), every[..., 0].argsort(dim=1, descending=True)[:, :count]
    block: Any = host.vit.blocks[0]
    other = official["Block"](_DIM, _HEADS, mlp_ratio=2.0, qkv_bias=block.attn.qkv.bias is not None)
    _load_block(other, block)
    attention = torch.randn(_BATCH, _HEADS, mask.shape[1], mask.shape[1])
    softmax = (masked_attention(attention, mask) - other.attn.softmax_with_policy(attention, mask.unsqueeze(-1))).abs().amax()
    gone = mask.unsqueeze(-1)
    ran = ((masked_block(block, tokens, mask) - other(tokens, policy=gone)) * gone).abs().amax()
    return [
        _row(path, "scores of all tokens", (ours - every).abs().amax(), kept, mask.shape[1]),
        _row(path, "scores with masked tokens", masked),
        _row(path, "attention with masked tokens", softmax),
        _row(path, "a block's output, of the tokens that are kept", ran),
    ]


def compare_evo_vit(folder: Path) -> list[Row]:
    """Class attention after the fourth block, what is chosen by it, and what is chosen four blocks later."""
    path = folder / "deit" / "evo_deit.py"
    names = ("easy_gather", "Mlp", "QKAttention", "VAttention", "MlpBlock", "PatchEmbed", "EvoVisionTransformer")
    official = definitions(path, names, {"trunc_normal_": nn.init.trunc_normal_, "to_2tuple": lambda n: (n, n)})
    host, tokens, inputs = _host("evo_vit")
    bias, norm = host.vit.blocks[0].attn.qkv.bias is not None, partial(nn.LayerNorm, eps=1e-5)
    theirs = official["EvoVisionTransformer"](_EDGE, 16, 3, 1, _DIM, 12, _HEADS, 2.0, bias, norm_layer=norm).eval()
    theirs.patch_embed = nn.Identity()  # tokens are given
    theirs.pos_embed.zero_()
    theirs.cls_token.copy_(host.method.class_token)
    for n, block in enumerate(host.vit.blocks):
        for own, other in ((theirs.qks[n].qk, slice(0, 2 * _DIM)), (theirs.vs[n].v, slice(2 * _DIM, None))):
            own.weight.copy_(block.attn.qkv.weight[other])
            if bias:
                own.bias.copy_(block.attn.qkv.bias[other])
        theirs.norms[n].load_state_dict(block.norm1.state_dict())
        theirs.projs[n].load_state_dict(block.attn.out_proj.state_dict())
        _load_mlp(theirs.blocks[n], block)
    with _Sorted() as record:
        theirs.forward_features(tokens.clone())
    stages = host.method.encode(host.vit, tokens, inputs).stages
    (values, order), (_, later) = record.found
    half = tokens.shape[1] // 2
    scores = torch.zeros_like(values).scatter(1, order, values)
    first = order[:, :half]
    second = order.gather(1, later)[:, :half]
    chosen = [stage.alive.nonzero()[:, 1].view(_BATCH, -1) for stage in (stages[0], stages[4])]
    because = "there the choice is made twice and no representative token runs along; here, as in the paper, both for every block"
    return [
        _row(path, "class attention after block 4", (stages[0].relevance - scores).abs().amax(), (chosen[0], first), tokens.shape[1]),
        _row(path, "tokens chosen after block 8", None, (chosen[1], second), tokens.shape[1], because),
    ]


def compare_dtop(folder: Path) -> list[Row]:
    """Which tokens leave, of the same probabilities."""
    path = folder / "mmseg_custom" / "decode_heads" / "prune_head.py"
    official = definitions(path, ("convert_true_idx", "PruneHead"), {"BaseDecodeHead": nn.Module})
    tokens = _host("dtop")[1]
    probability = (3 * torch.randn(*tokens.shape[:2], _CLASSES)).softmax(-1)
    head = official["PruneHead"].__new__(official["PruneHead"])
    nn.Module.__init__(head)
    head.thresh, head.q = 0.9, nn.Embedding(_CLASSES, _DIM)
    head.per_img_forward = lambda q, x: (None, None, probability.transpose(1, 2))
    gone = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    canvas = torch.zeros(_BATCH, _CLASSES, tokens.shape[1])
    theirs, _ = head.forward(tokens, inference=True, batch_idx=gone, canvas=canvas)
    ours = leaving(probability, torch.ones_like(theirs), 0.9, 5)
    differ = int((ours != theirs).sum())
    because = "the probabilities are given: the heads there are attention-to-mask decoders of MMSegmentation, here MLPs"
    return [_outcome(path, "tokens that leave, of the same probabilities", None, differ, ours.numel(), because)]


def compare_tome(folder: Path) -> list[Row]:
    """Merging in three blocks one after the other: every patch's value, and which patches are together."""
    path = folder / "tome" / "merge.py"
    space: dict[str, Any] = {}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
    tokens, keys = _host("tome")[1], torch.randn(3, _BATCH, 64, _DIM // _HEADS)
    ours, size = tokens, torch.ones(tokens.shape[:2])
    holder = torch.arange(tokens.shape[1]).expand(_BATCH, -1)
    theirs: Any = tokens
    their_size: Any = None
    source: Any = None
    differences, differ, back = [], 0, torch.empty(0)
    for of_block in keys:  # the keys of a token are those of the first patch in it, on both sides
        to, stay = match(_of_first(of_block, holder), 8)
        found, _ = space["bipartite_soft_matching"](_of_first(of_block, holder), 8)
        if source is not None:  # both orders of tokens: here the grid's, there merged ones last
            theirs, their_size, source = [x.gather(1, back.expand_as(x)) for x in (theirs, their_size, source)]
        source = space["merge_source"](found, theirs, source)
        theirs, their_size = space["merge_wavg"](found, theirs, their_size)
        ours, size = merge(ours, size, to, stay.shape[1])
        holder = to.gather(1, holder)
        here = F.one_hot(holder, ours.shape[1]).float()
        differ += int(((here @ here.transpose(1, 2)) != (source.transpose(1, 2) @ source)).sum())
        differences.append((take(ours, holder) - source.transpose(1, 2) @ theirs).abs().amax())
        names = source.argmax(2)  # the first patch in each of their tokens
        back = holder.gather(1, names).argsort(1).unsqueeze(-1)
    return [
        _outcome(path, "every patch's value, and which patches are together", torch.stack(differences).amax(), differ, 3 * _BATCH * 64**2)
    ]


def _of_first(keys: Tensor, holder: Tensor) -> Tensor:
    """The keys (B, n, d) of n tokens: those (B, Z, d) of the first patch that each holds."""
    count = int(holder.amax()) + 1
    first = torch.stack([(holder == token).float().argmax(1) for token in range(count)], dim=1)
    return take(keys, first)


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


def _host(method: str) -> tuple[Any, Tensor, EncoderInput]:
    """A small UNETR of the ``method`` with random weights, and tokens (B, 64, C) of noise."""
    sizes: dict[str, Any] = {
        "img_size": _EDGE,
        "spatial_dims": 2,
        "feature_size": 4,
        "hidden_size": _DIM,
        "mlp_dim": 2 * _DIM,
        "num_heads": _HEADS,
    }
    host: Any = BaselineUNETR(3, _CLASSES, method, **sizes).eval()
    for block in host.vit.blocks:  # as they are drawn, weights are so small that all tokens are attended to alike
        for layer in (block.attn.qkv, block.attn.out_proj, block.mlp.linear1, block.mlp.linear2):
            layer.weight.normal_(0, 2 / _DIM**0.5)
    image = torch.randn(_BATCH, 3, _EDGE, _EDGE)
    tokens, grid = host._embed(image)
    return host, torch.randn_like(tokens), EncoderInput(image, grid, None)


def _load_block(theirs: Any, block: Any) -> None:
    theirs.norm1.load_state_dict(block.norm1.state_dict())
    theirs.attn.qkv.load_state_dict(block.attn.qkv.state_dict())
    theirs.attn.proj.load_state_dict(block.attn.out_proj.state_dict())
    _load_mlp(theirs, block)


def _load_mlp(theirs: Any, block: Any) -> None:
    theirs.norm2.load_state_dict(block.norm2.state_dict())
    theirs.mlp.fc1.load_state_dict(block.mlp.linear1.state_dict())
    theirs.mlp.fc2.load_state_dict(block.mlp.linear2.state_dict())


def _row(
    path: Path, what: str, difference: Tensor | None, kept: tuple[Tensor, Tensor] | None = None, count: int = 0, because: str = ""
) -> Row:
    """``kept``: places (B, k), ours and theirs, of ``count`` tokens."""
    if kept is None:
        return _outcome(path, what, difference, 0, 0, because)
    ours, theirs = (torch.zeros(len(places), count, dtype=torch.bool).scatter(1, places, True) for places in kept)
    return _outcome(path, what, difference, int((ours != theirs).sum()), ours.numel(), because)


def _outcome(path: Path, what: str, difference: Tensor | None, differ: int, of: int, because: str = "") -> Row:
    """One row: the largest difference of numbers, and in how many of ``of`` places the choice differs."""
    same = (difference is None or float(difference) < _SAME) and not differ
    row: Row = {"what": what, "outcome": "agree" if same else "differ"}
    if difference is not None:
        row["largest_difference"] = float(f"{float(difference):.3g}")
    if of:
        row |= {"choices_differ": differ, "choices": of}
    return row | {"because": because, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:12]}


if __name__ == "__main__":
    typer.run(main)
