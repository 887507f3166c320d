"""U-Net with an overview: MONAI's numbers without it; where tokens stay, features are told what it knows, and only there is it computed."""

import torch
from monai.networks.nets import DynUNet

from prato.models.overview_network import OVERVIEW_PLAN
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.runtime.flops import count_flops
from tests.prato.models.test_overview_network import SMALL, build

STACK = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
BOX = PromptBatch.of(BoxPrompt, [[((40, 40), (70, 80))]] * 2, STACK.shape[2:])


@torch.no_grad()
def test_without_pruning_it_is_monai_s_u_net():
    network, filters = build("overview_unet"), list(SMALL["overview_unet"]["filters"])
    reference = DynUNet(2, 3, 4, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, filters=filters, norm_name="batch").eval()
    state = {name: value for name, value in reference.state_dict().items() if not name.startswith("skip_layers.")}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and all(name.split(".")[0] in ("overview", "heart_relevance", "context", "guidance", "along") for name in missing)
    torch.testing.assert_close(network.segment(STACK, BOX, None).logits, reference(STACK), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_box_and_the_overview_are_heard_once_they_have_learned_to_speak():
    network = build("overview_unet")
    other = PromptBatch.of(BoxPrompt, [[((8, 16), (70, 80))]] * 2, STACK.shape[2:])
    plain = network.segment(STACK, BOX, None).logits
    assert torch.equal(plain, network.segment(STACK, other, None).logits)
    torch.nn.init.normal_(network.guidance[-1].weight)
    assert not torch.allclose(network.segment(STACK, BOX, None).logits, network.segment(STACK, other, None).logits)
    torch.nn.init.zeros_(network.guidance[-1].weight)
    torch.nn.init.normal_(network.context.weight)
    assert not torch.allclose(network.segment(STACK, BOX, None).logits, plain)


@torch.no_grad()
def test_features_that_are_not_held_are_computed_again_with_the_same_logits(monkeypatch):
    network, encoded = build("overview_unet"), []
    whole = network.segment(STACK, BOX, None).logits
    network.input_block.register_forward_hook(lambda _, given, found: encoded.append(len(given[0])))
    monkeypatch.setattr("prato.models.overview_network.CPU_PIXELS", 96 * 128)
    monkeypatch.setattr("prato.models.overview_unet._KEPT_PARTS", 1)
    torch.testing.assert_close(network.segment(STACK, BOX, None).logits, whole, atol=1e-5, rtol=0)
    assert encoded == [1, 1, 1]  # the second of two once more


@torch.no_grad()
def test_a_region_costs_its_share_of_the_convolutions(monkeypatch):
    network = build("overview_unet")
    plan = OVERVIEW_PLAN
    embedding = network.encode_image(STACK, plan)
    whole = count_flops(lambda: network.predict(STACK, embedding, BOX, None))[1]
    monkeypatch.setattr(network.heart_relevance, "forward", lambda tokens, box, has_box: centred(tokens))
    pruned, cost = count_flops(lambda: network.predict(STACK, embedding, BOX, plan))
    share = float(pruned.stages[0].alive.float().mean())
    assert 0.5 < share < 1.0 and 0.9 * share < cost / whole < 1.1 * share


def centred(tokens):
    """Relevance that is high at the tokens of a square alone."""
    logits = torch.full(tokens.shape[:-1], -9.0)
    logits[:, :, :12, 2:14] = 9.0
    return logits
