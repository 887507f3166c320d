"""What is remembered, and that it is bounded by its bytes."""

import gc
import weakref

import pytest
import torch

from prato.models import swin_windows
from prato.runtime.tensor_cache import cached_tensors


@pytest.mark.parametrize("several", [False, True])
def test_what_was_asked_for_longest_ago_goes_first(several):
    made = []

    @cached_tensors(2 * 4000)
    def tensor(key, floats):
        made.append(key)
        return (torch.zeros(floats // 2), torch.zeros(floats // 2)) if several else torch.zeros(floats)

    first = tensor("a", 1000)
    tensor("b", 1000)
    assert tensor("a", 1000) is first
    tensor("c", 1000)
    assert tensor("a", 1000) is first
    assert made == ["a", "b", "c"]
    tensor("b", 1000)
    assert made == ["a", "b", "c", "b"]
    large = tensor("d", 9000)  # more than all may take
    assert tensor("d", 9000) is large
    tensor("a", 1000)
    assert made == ["a", "b", "c", "b", "d", "a"]


@pytest.mark.slow
def test_the_masks_of_large_volumes_do_not_pile_up():
    masks = []
    for n in range(1, 7):  # 16 MB and more each
        masks.append(weakref.ref(swin_windows._shift_mask((7, 14, 70 * n), (7, 7, 7), (3, 3, 3), torch.device("cpu"))))
    gc.collect()
    assert sum(mask().nbytes for mask in masks if mask() is not None) <= swin_windows._MAX_BYTES
    assert masks[0]() is None and masks[-1]() is not None
