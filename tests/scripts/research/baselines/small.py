"""A small host for every method, and an input that it can learn something from."""

import torch

from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from scripts.research.baselines.unetr import BaselineUNETR

SIZES = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "norm_name": "batch"}


def host(method: str, settings=None, image: int = 64, dims: int = 2, **more) -> BaselineUNETR:
    torch.manual_seed(0)
    return BaselineUNETR(1, 4, method, settings, img_size=image, spatial_dims=dims, **SIZES, **more).eval()


def discs(count: int = 2, size: int = 64) -> tuple[torch.Tensor, torch.Tensor, PromptBatch]:
    """Images (B, 1, size, size) of three rings in noise, one to each label value, the labels, and boxes round them."""
    generator = torch.Generator().manual_seed(0)
    j, i = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    labels, boxes = [], []
    for n in range(count):
        middle, radius = size // 3 + 8 * n, size // 4
        distance = ((i - middle) ** 2 + (j - size // 2) ** 2).sqrt()
        labels.append((distance < radius).long() + (distance < radius * 0.7).long() + (distance < radius * 0.4).long())
        boxes.append([((size // 2 - radius, middle - radius), (size // 2 + radius, middle + radius))])
    label = torch.stack(labels)
    image = label.float().unsqueeze(1) + 0.1 * torch.randn(count, 1, size, size, generator=generator)
    return image, label, PromptBatch.of(BoxPrompt, boxes, (size, size))
