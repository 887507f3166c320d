"""Devices by name, on whatever machine the tests run."""

from functools import partial

import numpy as np
import pytest
import torch

from prato.runtime.devices import find_device, is_out_of_memory


def test_a_device_that_is_there():
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "meta", "mps", "cuda:99", "cuda:-1", "CPU", ""])
def test_no_such_device(name):
    with pytest.raises(ValueError, match=f"There is no device '{name}' here: choose cpu"):
        find_device(name)


def test_a_gpu_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"There is no device 'cuda' here: choose cpu\."):
        find_device("cuda")


def test_what_torch_and_numpy_say_when_there_is_no_memory():
    for allocate in (partial(torch.empty, 2**50), partial(np.empty, 2**55)):
        with pytest.raises((RuntimeError, MemoryError)) as failed:
            allocate()
        assert is_out_of_memory(failed.value), failed.value
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shapes differ")) and not is_out_of_memory(None)
