"""PrATo with the box as a channel, too: PrATo on an image that has one."""

import pytest
import torch

from prato.models.unetr import PratoUNETR
from prato.pruning.plan import PruningPlan
from scripts.research.baselines.box_channel import with_box
from scripts.research.baselines.prato_box import PRATO_BOX, BoxChannelUNETR
from scripts.research.experiments.networks import dense_spec, model_spec
from tests.scripts.research.baselines.small import SIZES, discs
from tests.scripts.research.small import tiny


@pytest.mark.parametrize("plan", [None, PruningPlan(prune_after=(4, 7, 10), percentile=25.0)])
@torch.no_grad()
def test_the_box_is_a_channel_of_what_prato_sees(plan):
    network = BoxChannelUNETR(1, 4, img_size=64, spatial_dims=2, **SIZES).eval()
    plain = PratoUNETR(2, 4, img_size=64, spatial_dims=2, **SIZES).eval()
    plain.load_state_dict(network.state_dict(), strict=True)
    image, _, prompts = discs()
    found, expected = network.segment(image, prompts, plan), plain.segment(with_box(image, prompts), prompts, plan)
    assert torch.equal(found.logits, expected.logits)
    assert [stage.alive.tolist() for stage in found.stages] == [stage.alive.tolist() for stage in expected.stages]
    assert len(found.stages) == (0 if plan is None else 3)
    assert not torch.allclose(network.segment(image, None, plan).logits, found.logits, atol=1e-4)


def test_only_a_row_with_both_has_this_network():
    rows = [tiny("prato", sees_box) for sees_box in ("as prompt", "as prompt and channel", "in a window")]
    assert [model_spec(row).network for row in rows] == ["unetr", PRATO_BOX, "unetr"]
    assert dense_spec(rows[1]) == dense_spec(rows[0])
