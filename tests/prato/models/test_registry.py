"""A network is registered once, by its name, with its preset."""

import pytest
import torch
from torch import Tensor, nn

from prato.inference.cuda_graphs import CudaGraphRunner
from prato.models.base import EncoderOutput, ImageEmbedding, PrunableNetwork
from prato.models.checkpoint import ModelSpec, model_preset
from prato.models.registry import build_model, list_models, list_presets, model_class, preset_fields, register_model
from prato.prompts.base import register_prompt
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.prompts.points import PointsPrompt
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.relevance import Relevance
from prato.runtime.region import Region


def test_the_networks_are_found_by_their_names():
    assert {"segformer", "swin_unetr", "transunet", "unetr"} <= set(list_models())
    assert {"swin_unetr", "unetr"} <= {*list_presets()}
    for name in ("overview_swin_unetr", "overview_unet", "click_refiner"):  # offered to nobody who wants a network for boxes
        assert name not in list_presets() and preset_fields(name)["centre"] != "box"
    for name in list_presets():
        spec = model_preset(name)
        assert spec.is_promptable and spec.network == name
        assert {*map(str, spec.pruning_plan().prune_after)} <= {*spec.build().relevance}


def test_what_is_not_registered_is_refused_and_no_name_is_given_twice():
    with pytest.raises(ValueError, match=r"use one of .*swin_unetr"):
        build_model("no_such_network")
    with pytest.raises(ValueError, match=r"transunet has no preset: use one of .*swin_unetr, "):
        model_preset("transunet")
    with pytest.raises(ValueError, match="Two networks are registered as 'unetr'"):
        register_model("unetr", {"centre": "clicks"})(nn.Identity)
    assert "unetr" in list_presets() and model_class("unetr").__name__ == "PratoUNETR"  # as it was
    with pytest.raises(ValueError, match="Two kinds of prompts are registered as 'roi'"):
        register_prompt("roi")(PointsPrompt)
    assert PointsPrompt.name != "roi"


def test_a_network_that_lacks_a_method_is_not_registered():
    undecoded = type("Undecoded", (TwoConvolutions,), {"decode": PrunableNetwork.decode})
    with pytest.raises(TypeError, match="The network 'undecoded' lacks decode: write"):
        register_model("undecoded")(undecoded)
    assert "undecoded" not in list_models()


@register_model("two_convolutions")
class TwoConvolutions(PrunableNetwork):
    """A network that encodes nothing before it sees a prompt, and whose shapes depend on what is kept."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(in_channels, 8, 4, 4), nn.ConvTranspose2d(8, out_channels, 4, 4)
        self.relevance = nn.ModuleDict({"1": Relevance(8, 2)})

    def forward_dense(self, image: Tensor) -> Tensor:
        return self.head(self.embed(image))

    def encode(self, image: Tensor, embedding: ImageEmbedding, pruning: PromptedPruning) -> EncoderOutput:
        x = self.embed(image)
        tokens, living = x.flatten(2).transpose(1, 2), pruning.start(tuple(x.shape[2:]), x.dtype)
        score = pruning.score(1, tokens, living)
        living = pruning.prune(score, living)
        pruning.record("block 1", score, living)
        kept = living.alive.to(x.dtype) if living.gate is None else living.gate
        return EncoderOutput({1: x * kept.unsqueeze(1)}, tuple(pruning.stages))

    def decode(self, image: Tensor, encoded: EncoderOutput, region: Region) -> Tensor:
        return self.head(encoded.features[1])


@pytest.mark.parametrize("training", [False, True])
def test_the_contract_is_all_that_a_network_needs(training):
    torch.manual_seed(0)
    spec = ModelSpec(network="two_convolutions", arguments={"in_channels": 3, "out_channels": 4}, window=32, pixel=1.5, plan={"after": [1]})
    network = spec.build().train(training)
    image, plan = torch.randn(2, 3, 32, 32), spec.pruning_plan()
    prompts = PromptBatch.of(BoxPrompt, [[((4.0, 4.0), (20.0, 20.0))], []], (32, 32))
    assert not network.has_embedding and not network.has_static_shapes
    embedding = network.encode_image(image, plan)
    assert embedding.nbytes == 0 and not embedding.features
    output = network.predict(image, embedding, prompts, plan)
    assert output.logits.shape == (2, 4, 32, 32) and output.kept_fraction()["block 1"].tolist() == [0.75, 1.0]
    assert torch.equal(network(image), network.forward_dense(image))
    if training:
        output.logits.square().mean().backward()
        assert network.relevance["1"].project_token.weight.grad.abs().sum() > 0
    else:
        found = CudaGraphRunner(network, torch.float32).segment(image, prompts, plan)
        assert torch.equal(found.logits, output.logits)
