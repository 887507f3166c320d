"""TransUNet and SegFormer have the published sizes and costs, and read the published files."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from prato.models.convert_state_dict import convert_state_dict
from prato.models.pretrained import PretrainedError, load_hybrid, load_mix_transformer
from prato.models.segformer import B0, B2, SegFormer
from prato.models.transunet import TransUNet
from prato.runtime.flops import count_flops


def size_and_cost(network, image: int) -> tuple[float, float]:
    """Millions of parameters, and GFLOP for one image with a multiply-add counting as two; nothing is computed."""
    image = torch.zeros(1, 3, image, image, device="meta")
    with torch.no_grad():
        _, flop = count_flops(lambda: network.eval()(image))
    return sum(p.numel() for p in network.parameters()) / 1e6, flop


@pytest.mark.slow
@pytest.mark.parametrize(("size", "encoder", "parameters", "multiply_adds"), [(B0, 3.3, 3.8, 8.4), (B2, 24.2, 27.5, 62.4)])
def test_segformer_for_ade20k(size, encoder, parameters, multiply_adds):
    with torch.device("meta"):
        network = SegFormer(3, 150, **size)
    millions, flop = size_and_cost(network, 512)
    assert sum(p.numel() for p in network.stages.parameters()) / 1e6 == pytest.approx(encoder, abs=0.05)
    assert millions == pytest.approx(parameters, abs=0.06)
    assert flop / 2 == pytest.approx(multiply_adds, rel=0.01)


@pytest.mark.slow
def test_transunet_for_synapse():
    with torch.device("meta"):
        network = TransUNet(3, 9)
    millions, flop = size_and_cost(network, 224)
    assert millions == pytest.approx(105.28, abs=0.01)
    assert flop == pytest.approx(58.4, rel=0.01)


def test_a_mix_transformer_is_read_by_its_public_names(tmp_path):
    torch.manual_seed(0)
    small = {"widths": (8, 16, 16, 24), "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "head_width": 8}
    network = SegFormer(3, 4, **small)
    public = {}
    for name, value in network.stages.state_dict().items():
        stage, rest = name.split(".", 1)
        if rest.startswith("embed"):
            public[f"patch_embeddings.{stage}.{rest.replace('embed_norm', 'layer_norm').replace('embed.', 'proj.')}"] = value
        elif rest.startswith("norm"):
            public[f"layer_norm.{stage}.{rest.removeprefix('norm.')}"] = value
        else:
            part = rest.removeprefix("blocks.0.")
            for own, theirs in {
                "norm1": "layer_norm_1", "norm2": "layer_norm_2", "query": "attention.self.query", "key": "attention.self.key",
                "value": "attention.self.value", "reduce.": "attention.self.sr.", "reduce_norm": "attention.self.layer_norm",
                "project": "attention.output.dense", "expand": "mlp.dense1", "contract": "mlp.dense2", "mix": "mlp.dwconv.dwconv",
            }.items():  # fmt: skip
                if part.startswith(own):
                    public[f"block.{stage}.0.{part.replace(own, theirs, 1)}"] = value
    wanted = {name: torch.randn_like(value) for name, value in public.items()}
    save_file(
        {f"segformer.encoder.{n}": v for n, v in wanted.items()} | {"classifier.weight": torch.zeros(2)}, tmp_path / "mit.safetensors"
    )
    load_mix_transformer(network, tmp_path / "mit.safetensors")
    stage = network.stages[0]
    assert torch.equal(stage.blocks[0].query.weight, wanted["block.0.0.attention.self.query.weight"])
    assert torch.equal(stage.embed_norm.bias, wanted["patch_embeddings.0.layer_norm.bias"])
    assert torch.equal(stage.blocks[0].mix.weight, wanted["block.0.0.mlp.dwconv.dwconv.weight"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save({f"encoder.{name}": value for name, value in list(wanted.items())[1:]}, tmp_path / "part.bin")
    for file in ("part.bin", "absent.safetensors"):
        with pytest.raises(PretrainedError, match=f"^{file} does not hold the Mix Transformer"):
            load_mix_transformer(network, tmp_path / file)
    assert set(before) == set(network.state_dict())


def hybrid_file(width: int, hidden: int, heads: int) -> dict[str, np.ndarray]:
    """Random weights under the public names, for one unit a stage and one block; kernels lie as (height, width, in, out)."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    file = {"conv_root/kernel": random(7, 7, 3, width), "gn_root/scale": random(1, 1, 1, width), "gn_root/bias": random(1, 1, 1, width)}
    source = width
    for n, channels in enumerate((4 * width, 8 * width, 16 * width), start=1):
        unit, middle = f"block{n}/unit1", channels // 4
        shapes = {"conv1": (1, 1, source, middle), "conv2": (3, 3, middle, middle), "conv3": (1, 1, middle, channels)}
        for name, shape in {**shapes, "conv_proj": (1, 1, source, channels)}.items():
            file[f"{unit}/{name}/kernel"] = random(*shape)
            norm = f"{unit}/{name.replace('conv', 'gn')}"
            file[f"{norm}/scale"], file[f"{norm}/bias"] = random(1, 1, 1, shape[-1]), random(1, 1, 1, shape[-1])
        source = channels
    file["embedding/kernel"], file["embedding/bias"] = random(1, 1, source, hidden), random(hidden)
    file["Transformer/posembed_input/pos_embedding"] = random(1, 1 + 4, hidden)
    block, each = "Transformer/encoderblock_0", hidden // heads
    for name in ("query", "key", "value"):
        file[f"{block}/MultiHeadDotProductAttention_1/{name}/kernel"] = random(hidden, heads, each)
        file[f"{block}/MultiHeadDotProductAttention_1/{name}/bias"] = random(heads, each)
    file[f"{block}/MultiHeadDotProductAttention_1/out/kernel"] = random(heads, each, hidden)
    file[f"{block}/MultiHeadDotProductAttention_1/out/bias"] = random(hidden)
    for name, a, b in (("Dense_0", hidden, 2 * hidden), ("Dense_1", 2 * hidden, hidden)):
        file[f"{block}/MlpBlock_3/{name}/kernel"], file[f"{block}/MlpBlock_3/{name}/bias"] = random(a, b), random(b)
    for norm in (f"{block}/LayerNorm_0", f"{block}/LayerNorm_2", "Transformer/encoder_norm"):
        file[f"{norm}/scale"], file[f"{norm}/bias"] = random(hidden), random(hidden)
    return file


@torch.no_grad()
def test_the_hybrid_is_read_by_its_public_names(tmp_path):
    hidden, heads = 24, 2
    file = hybrid_file(8, hidden, heads)
    np.savez(tmp_path / "hybrid.npz", **file)
    network = TransUNet(
        3, 4, 64, hidden_size=hidden, mlp_dim=2 * hidden, num_heads=heads, num_layers=1, width=8, units=(1, 1, 1), decoder=(8, 8, 8, 4)
    ).eval()
    load_hybrid(network, tmp_path / "hybrid.npz")
    # attention as the public format defines it, written out
    x, block = torch.randn(1, 5, hidden), "Transformer/encoderblock_0/MultiHeadDotProductAttention_1"
    part = {name.removeprefix(f"{block}/"): torch.from_numpy(value) for name, value in file.items() if name.startswith(block)}
    q, k, v = (torch.einsum("bnc,chd->bhnd", x, part[f"{n}/kernel"]) + part[f"{n}/bias"][:, None] for n in ("query", "key", "value"))
    expected = torch.einsum("bhnd,hdc->bnc", F.scaled_dot_product_attention(q, k, v), part["out/kernel"]) + part["out/bias"]
    torch.testing.assert_close(network.vit.blocks[0].attn(x), expected, atol=1e-4, rtol=1e-4)
    state = network.state_dict()
    assert state["resnet.stages.1.0.conv2.weight"][3, 2, 0, 1] == file["block2/unit1/conv2/kernel"][0, 1, 2, 3]
    assert state["resnet.stages.2.0.shortcut.1.bias"].tolist() == file["block3/unit1/gn_proj/bias"].ravel().tolist()
    # 2 x 2 positions stretched to 4 x 4 keep their mean; the class token's is left out
    positions = torch.from_numpy(file["Transformer/posembed_input/pos_embedding"][:, 1:])
    torch.testing.assert_close(state["vit.patch_embedding.position_embeddings"].mean(1), positions.mean(1))
    del file["gn_root/scale"]
    np.savez(tmp_path / "part.npz", **file)
    with pytest.raises(
        PretrainedError, match=r"^part\.npz does not hold the R50 \+ ViT of this network: give the file of the same size\.$"
    ):
        load_hybrid(network, tmp_path / "part.npz")


@pytest.mark.parametrize(
    ("network", "size", "sentence"),
    [
        (lambda: SegFormer(1, 4), (96, 80), r"multiples of 32, not \(96, 80\)"),
        (lambda: TransUNet(1, 4, 64, 24, 48, 2, 1, width=8), (80, 64), r"multiples of 16 and at most \(64, 64\), not \(80, 64\)"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(network, size, sentence):
    with pytest.raises(ValueError, match=sentence):
        network()(torch.zeros(1, 1, *size))


@torch.no_grad()
@pytest.mark.parametrize("edge", [64, 80])
def test_transunet_sees_a_smaller_image_as_the_middle_of_its_own(edge):
    torch.manual_seed(0)
    shape = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "num_layers": 2, "width": 8, "units": (1, 1, 1), "decoder": (8, 8, 8, 4)}
    large, small = (TransUNet(1, 4, size, **shape).eval() for size in (128, edge))
    small.load_state_dict(convert_state_dict(large.state_dict(), small))
    image = torch.randn(1, 1, edge, edge)
    torch.testing.assert_close(large(image), small(image), atol=1e-6, rtol=0)
