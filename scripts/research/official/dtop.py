"""DToP beside zbwxp/Dynamic-Token-Pruning."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from scripts.common.results import Row
from scripts.research.baselines.dtop import leaving
from scripts.research.official.beside import BATCH, CLASSES, DIM, definitions, outcome, small_host


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """Which tokens leave, of the same probabilities."""
    path = folder / "mmseg_custom" / "decode_heads" / "prune_head.py"
    official = definitions(path, ("convert_true_idx", "PruneHead"), {"BaseDecodeHead": nn.Module})
    tokens = small_host("dtop")[1]
    probability = (3 * torch.randn(*tokens.shape[:2], CLASSES)).softmax(-1)
    head = official["PruneHead"].__new__(official["PruneHead"])
    nn.Module.__init__(head)
    head.thresh, head.q = 0.9, nn.Embedding(CLASSES, DIM)
    head.per_img_forward = lambda q, x: (None, None, probability.transpose(1, 2))
    gone = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    canvas = torch.zeros(BATCH, CLASSES, tokens.shape[1])
    theirs, _ = head.forward(tokens, inference=True, batch_idx=gone, canvas=canvas)
    ours = leaving(probability, torch.ones_like(theirs), 0.9, 5)
    differ = int((ours != theirs).sum())
    because = "the probabilities are given: the heads there are attention-to-mask decoders of MMSegmentation, here MLPs"
    return [outcome(path, "tokens that leave, of the same probabilities", None, differ, ours.numel(), because)]
