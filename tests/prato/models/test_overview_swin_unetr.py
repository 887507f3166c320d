"""Swin UNETR with an overview: MONAI's numbers without it."""

import pytest
import torch
from monai.networks.nets import SwinUNETR

from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from tests.prato.models.test_overview_network import SMALL, build


@pytest.mark.slow
@torch.no_grad()
def test_without_pruning_it_is_monai_s_swin_unetr():
    stack = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    network, reference = build("overview_swin_unetr"), SwinUNETR(**SMALL["overview_swin_unetr"]).eval()
    missing, unexpected = network.load_state_dict(reference.state_dict(), strict=False)
    assert not unexpected and all(not name.startswith(("swinViT", "encoder", "decoder", "out")) for name in missing)
    box = PromptBatch.of(BoxPrompt, [[((40, 40), (90, 100))]] * 2, stack.shape[2:])
    torch.testing.assert_close(network.segment(stack, box, None).logits, reference(stack), atol=1e-5, rtol=0)
