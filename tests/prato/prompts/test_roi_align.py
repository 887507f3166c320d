"""RoIAlign against fields and figures known beforehand."""

import pytest
import torch

from prato.prompts.roi_align import roi_align


def field(grid, weights, offset):
    """A linear field with value ``weights . position + offset`` at cell centres (t + 0.5)."""
    axes = torch.meshgrid(*(torch.arange(n) + 0.5 for n in grid), indexing="ij")
    return (sum(w * a for w, a in zip(weights, axes)) + offset)[None, None]


@pytest.mark.parametrize(
    ("grid", "weights", "box", "k"),
    [
        ((12, 9), (2.0, -1.0), ((2.0, 1.5), (9.5, 7.0)), 5),
        ((10, 10), (0.5, 3.0), ((3.2, 3.3), (4.1, 8.9)), 3),
        ((8, 9, 10), (1.0, -2.0, 0.5), ((1.0, 2.0, 3.0), (6.5, 7.0, 8.0)), 4),
    ],
)
def test_bins_of_a_linear_field_hold_its_value_at_their_centres(grid, weights, box, k):
    start, stop = (torch.tensor(c) for c in box)
    got = roi_align(field(grid, weights, 1.5), torch.stack((start, stop))[None], torch.tensor([0]), k)[0, 0]
    centres = [(start[a] + (stop[a] - start[a]) * (torch.arange(k) + 0.5) / k) for a in range(len(grid))]
    mesh = torch.meshgrid(*centres, indexing="ij")
    torch.testing.assert_close(got, sum(w * m for w, m in zip(weights, mesh)) + 1.5)


def test_two_dimensional_values_worked_out_by_hand():
    # 2 x 2 cells 0 1 / 2 3, one bin over cell (0..1, 0..1): points at 0.25 and 0.75 lie outside or inside the first cell's centre (0.5).
    # Beyond the border the edge value holds, so along an axis the sample at 0.25 reads cell 0 and the one at 0.75 a quarter of cell 1:
    # mean over both axes = 0 + 0.125 * (step along j = 1) + 0.125 * (step along i = 2) = 0.375.
    features = torch.tensor([[0.0, 1.0], [2.0, 3.0]])[None, None]
    got = roi_align(features, torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]), torch.tensor([0]), 1)
    assert got.item() == pytest.approx(0.375)
    # two bins along each axis over the whole map: points at 0.25, 0.75 | 1.25, 1.75, so bin means along j are 0.125 and 0.875
    got = roi_align(features, torch.tensor([[[0.0, 0.0], [2.0, 2.0]]]), torch.tensor([0]), 2)[0, 0]
    torch.testing.assert_close(got, torch.tensor([[0.375, 1.125], [1.875, 2.625]]))


def test_each_box_reads_its_own_sample():
    features = torch.stack((torch.zeros(3, 6, 6), torch.ones(3, 6, 6)))
    boxes = torch.tensor([[[1.0, 1.0], [4.0, 4.0]]]).repeat(3, 1, 1)
    got = roi_align(features, boxes, torch.tensor([1, 0, 1]), 2)
    assert got.shape == (3, 3, 2, 2)
    assert got.mean((1, 2, 3)).tolist() == [1.0, 0.0, 1.0]


def test_no_boxes_give_no_regions():
    assert roi_align(torch.ones(1, 3, 6, 6), torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.int64), 5).shape == (0, 3, 5, 5)
