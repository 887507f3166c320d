"""Published ImageNet weights, read from files that the user brings: nothing is downloaded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from prato.models.segformer import SegFormer
from prato.models.transunet import TransUNet

#: How the public Mix Transformer files name things, and how this project does; in order.
_MIT_NAMES = (
    (r"^.*?encoder\.", ""),
    (r"^patch_embeddings\.(\d)\.proj\.", r"\1.embed."),
    (r"^patch_embeddings\.(\d)\.layer_norm\.", r"\1.embed_norm."),
    (r"^layer_norm\.(\d)\.", r"\1.norm."),
    (r"^block\.(\d)\.(\d+)\.", r"\1.blocks.\2."),
    (r"\.layer_norm_(\d)\.", r".norm\1."),
    (r"\.attention\.self\.(query|key|value)\.", r".\1."),
    (r"\.attention\.self\.sr\.", ".reduce."),
    (r"\.attention\.self\.layer_norm\.", ".reduce_norm."),
    (r"\.attention\.output\.dense\.", ".project."),
    (r"\.mlp\.dense1\.", ".expand."),
    (r"\.mlp\.dense2\.", ".contract."),
    (r"\.mlp\.dwconv\.dwconv\.", ".mix."),
)


class PretrainedError(ValueError):
    """A file of weights that does not fit; the message is one sentence."""


def load_mix_transformer(network: SegFormer, path: str | os.PathLike[str]) -> None:
    """Give the four stages of ``network`` the weights of a Mix Transformer in the Hugging Face layout (``mit-b0`` to ``mit-b5``).

    Args:
        path: a .safetensors file, or a .bin or .pt file of tensors.

    Raises:
        PretrainedError: the file cannot be read, or holds another size or number of channels.
    """
    path = Path(path)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        renamed = {}
        for name, value in state.items():
            if "encoder." in name:
                for pattern, own in _MIT_NAMES:
                    name = re.sub(pattern, own, name)  # noqa: PLW2901
                renamed[name] = value
        network.stages.load_state_dict(renamed)
    except Exception as error:
        raise PretrainedError(f"{path.name} does not hold the Mix Transformer of this network: give the file of the same size.") from error


def load_hybrid(network: TransUNet, path: str | os.PathLike[str]) -> None:
    """Give ``network`` the ResNet and the transformer of a published hybrid R50 + ViT (``R50+ViT-B_16.npz``).

    The position embeddings are stretched to the network's grid; those of the class token, which TransUNet lacks, are left out.

    Raises:
        PretrainedError: the file cannot be read, or holds another size or number of channels.
    """
    path = Path(path)
    own = {name: value for name, value in network.state_dict().items() if name.startswith(("resnet.", "vit."))}
    try:
        with np.load(path) as file:
            found = {name: _hybrid_tensor(file, name, value) for name, value in own.items()}
        if any(found[name].shape != value.shape for name, value in own.items()):
            raise ValueError("another shape")
        network.load_state_dict({**network.state_dict(), **found})
    except Exception as error:
        raise PretrainedError(f"{path.name} does not hold the R50 + ViT of this network: give the file of the same size.") from error


def _hybrid_tensor(file: Any, name: str, own: Tensor) -> Tensor:
    """What ``file`` has for our tensor ``name``."""
    kind = "kernel" if name.endswith("weight") and own.ndim > 1 else "scale" if name.endswith("weight") else "bias"
    if name.startswith("resnet."):
        place = name.rsplit(".", 1)[0]
        for pattern, theirs in (
            (r"^resnet\.root\.0", "conv_root"),
            (r"^resnet\.root\.1", "gn_root"),
            (r"^resnet\.stages\.(\d)\.(\d+)\.", lambda m: f"block{int(m[1]) + 1}/unit{int(m[2]) + 1}/"),
            (r"shortcut\.0$", "conv_proj"),
            (r"shortcut\.1$", "gn_proj"),
            (r"norm(\d)$", r"gn\1"),
        ):
            place = re.sub(pattern, theirs, place)
        value = torch.from_numpy(file[f"{place}/{kind}"])
        return value.permute(3, 2, 0, 1) if value.ndim == 4 and kind == "kernel" else value.flatten()
    if "position_embeddings" in name:
        value = torch.from_numpy(file["Transformer/posembed_input/pos_embedding"])[:, 1:]
        old, new = round(value.shape[1] ** 0.5), round(own.shape[1] ** 0.5)
        grid = value.transpose(1, 2).unflatten(2, (old, old))
        return F.interpolate(grid, (new, new), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    if "patch_embeddings" in name:
        value = torch.from_numpy(file[f"embedding/{kind}"])
        return value.permute(3, 2, 0, 1) if value.ndim == 4 else value
    if name.startswith("vit.norm."):
        return torch.from_numpy(file[f"Transformer/encoder_norm/{kind}"])
    number, part = re.match(r"vit\.blocks\.(\d+)\.(.+)\.(?:weight|bias)$", name).groups()  # type: ignore[union-attr]
    layer = f"Transformer/encoderblock_{number}"
    if part == "attn.qkv":  # (C, heads, C / heads) each
        parts = [torch.from_numpy(file[f"{layer}/MultiHeadDotProductAttention_1/{n}/{kind}"]) for n in ("query", "key", "value")]
        return torch.cat([p.flatten(1).T if kind == "kernel" else p.flatten() for p in parts])
    theirs = {
        "attn.out_proj": "MultiHeadDotProductAttention_1/out",
        "mlp.linear1": "MlpBlock_3/Dense_0",
        "mlp.linear2": "MlpBlock_3/Dense_1",
        "norm1": "LayerNorm_0",
        "norm2": "LayerNorm_2",
    }[part]
    value = torch.from_numpy(file[f"{layer}/{theirs}/{kind}"])
    return value.flatten(0, -2).T if kind == "kernel" else value
