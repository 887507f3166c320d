"""DynamicViT and STP: the learned score, its relaxation in training, and removal in evaluation."""

import pytest
import torch
from torch import Tensor, nn

from scripts.research.baselines.dynamic_vit import masked_attention
from scripts.research.baselines.method import EncoderInput
from scripts.research.baselines.scorer import TokenScorer
from tests.scripts.research.baselines.small import discs, host


class Fixed(nn.Module):
    """A scorer whose answers are settled: noise cannot turn them."""

    def __init__(self, score: Tensor, outputs: int) -> None:
        super().__init__()
        self.score, self.outputs = score, outputs

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        score = self.score[: tokens.shape[1]].expand(len(tokens), -1)
        return torch.stack((score, -score)[: self.outputs], dim=-1)


def settled(method: str, keep: list[int], outputs: int):
    """A host whose scorers keep the first ``keep`` tokens, stage by stage."""
    network = host(method, {"keep": 0.7} if method == "dynamic_vit" else {"pruned": 0.75})
    for stage, count in zip(network.method.score, keep):
        network.method.score[stage] = Fixed(torch.where(torch.arange(16) < count, 90.0, -90.0), outputs)
    return network


@pytest.mark.parametrize(("method", "keep", "outputs"), [("dynamic_vit", [11, 7, 5], 2), ("stp", [10, 6, 4], 1)])
@torch.no_grad()
def test_the_relaxation_gives_what_removal_gives(method, keep, outputs):
    network, image = settled(method, keep, outputs), discs()[0]
    removed = network.segment(image)
    network.method.training = True
    relaxed = network.segment(image)
    for a, b, count in zip(removed.stages, relaxed.stages, keep):
        assert torch.equal(a.alive, b.alive)
        assert a.alive.sum(1).tolist() == [count, count]
    torch.testing.assert_close(relaxed.logits, removed.logits, atol=1e-4, rtol=0)
    assert not torch.allclose(removed.logits, host(method).segment(image).logits, atol=1e-3)


def test_the_keep_ratio_is_a_loss():
    network = settled("dynamic_vit", [16, 16, 4], 2).train()
    image, label, _ = discs()
    output = network.segment(image)
    # shares 1, 1, 1/4 against 0.7, 0.49, 0.343
    expected = 2 * (0.3**2 + 0.51**2 + 0.093**2) / 3
    assert output.losses["ratio"](output.logits, label).item() == pytest.approx(expected, rel=1e-5)


def test_the_teacher_is_matched_and_left_alone():
    student, teacher = host("dynamic_vit"), host("dense")
    student.load_state_dict({**student.state_dict(), **teacher.state_dict()})
    names = set(student.state_dict())
    student.method.teach(teacher.answer)
    assert set(student.state_dict()) == names
    for score in student.method.score.values():  # nothing leaves: the student is its teacher
        score.head[-1].bias.data = torch.tensor([90.0, -90.0])
    student.method.training = True
    image, label, _ = discs()
    same = student.segment(image)
    for name in ("tokens like the teacher's", "logits like the teacher's"):
        assert same.losses[name](same.logits, label).item() == pytest.approx(0, abs=1e-5)
    nn.init.normal_(teacher.out.conv.conv.weight)
    nn.init.normal_(teacher.vit.norm.bias)
    other = student.segment(image)
    sum(term(other.logits, label) for term in other.losses.values()).backward()
    for name in ("tokens like the teacher's", "logits like the teacher's"):
        assert other.losses[name](other.logits, label).item() > 1e-3
    assert all(p.grad is None for p in teacher.parameters())


def test_dynamic_vit_attention_by_hand():
    scores, mask = torch.log(torch.tensor([[[[1.0, 2.0, 4.0]] * 3]])), torch.tensor([[1.0, 0.0, 1.0]], requires_grad=True)
    weight = masked_attention(scores, mask)[0, 0]
    expected = torch.tensor([[1 / 5, 0, 4 / 5], [1 / 7, 2 / 7, 4 / 7], [1 / 5, 0, 4 / 5]])
    torch.testing.assert_close(weight, expected, atol=1e-5, rtol=0)
    weight[0, 0].backward()
    assert mask.grad[0, 1].abs() > 0  # a removed key may still ask to come back


def test_half_of_a_score_is_the_token_s_own_and_half_the_mean_of_the_living():
    torch.manual_seed(0)
    scorer = TokenScorer(8, 1)
    tokens = torch.randn(1, 4, 8)
    mask = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    masked = scorer(tokens, mask)
    torch.testing.assert_close(masked[:, [0, 1, 3]], scorer(tokens[:, [0, 1, 3]]))
    other = tokens.clone()
    other[:, 2, 0] += 1
    torch.testing.assert_close(scorer(other, mask)[:, :2], masked[:, :2])  # the dead say nothing
    other[:, 3, 0] += 1
    assert not torch.allclose(scorer(other, mask)[:, :2], masked[:, :2])


@pytest.mark.parametrize("method", ["dynamic_vit", "stp"])
def test_the_task_alone_teaches_the_scorer(method):
    network = host(method).train()
    torch.manual_seed(1)
    network.segment(discs()[0]).logits.square().mean().backward()
    for name, p in network.method.score.named_parameters():
        assert p.grad.abs().sum() > 0, name


def test_stp_feeds_one_tensor_to_every_skip_and_spares_its_share():
    network = host("stp", {"pruned": 0.9})
    image = discs()[0]
    tokens, grid = network._embed(image)
    encoded = network.method.encode(network.vit, tokens, EncoderInput(image, grid, None))
    assert all(encoded.hidden[n] is encoded.last for n in (4, 7, 10))
    assert [s.alive.sum(1).tolist() for s in encoded.stages] == [[7, 7], [3, 3], [2, 2]]  # 16 * 0.1 ** (1/3, 2/3, 1)
