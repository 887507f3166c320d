import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.inference.native_grid import interpolation_matrix, read_at_voxels
from prato.runtime.region import Region
from prato.runtime.region_decode import RegionFeatures


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 40), st.integers(1, 60), st.data())
def test_a_part_is_interpolated_as_within_the_whole(size, count, data):
    start = data.draw(st.integers(0, size - 2))
    stop = data.draw(st.integers(start + 2, size))
    values = torch.randn(size, generator=torch.Generator().manual_seed(size))
    whole = F.interpolate(values.view(1, 1, -1), size=count, mode="linear", align_corners=False).flatten()
    matrix, inside = interpolation_matrix(count, size, start, stop)
    part, centre = matrix @ values[start:stop], (torch.arange(count) + 0.5) * size / count - 0.5
    assert torch.equal(torch.arange(count)[inside], ((centre >= start - 0.5) & (centre < stop - 0.5)).nonzero().flatten())
    # at the part's own ends its last pixel goes on, as at those of the whole
    sure = (
        ((centre >= start) & (centre <= stop - 1))[inside]
        | (start == 0) & (centre[inside] < 0)
        | (stop == size) & (centre[inside] > size - 1)
    )
    assert part[sure].tolist() == pytest.approx(whole[inside][sure].tolist(), abs=1e-4)
    assert matrix.sum(1).tolist() == pytest.approx([1.0] * len(matrix))


@pytest.mark.parametrize(("start", "stop"), [((0, 0), (64, 80)), ((8, 16), (40, 64)), ((0, 32), (64, 80))])
def test_a_region_is_read_at_the_image_s_voxels_as_within_the_whole(start, stop):
    pixels, native, padded = (50, 75), (73, 60), (64, 80)
    logits = torch.randn(2, 4, *padded, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits[:, :, : pixels[0], : pixels[1]], size=native, mode="bilinear", align_corners=False)
    region = Region(start, stop, padded)
    read, voxels = read_at_voxels(RegionFeatures(logits[(..., *region.slices)], region), pixels, native)
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # at the region's ends its last pixel goes on
    assert torch.allclose(read[inner], whole[(slice(None), slice(None), *voxels)][inner], atol=1e-4)
    for axis in (0, 1):
        first, last = (n * native[axis] / pixels[axis] for n in (start[axis], min(stop[axis], pixels[axis])))
        assert abs(voxels[axis].start - first) <= 1 and abs(voxels[axis].stop - last) <= 1
