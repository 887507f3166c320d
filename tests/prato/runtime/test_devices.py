"""Devices by name, on whatever machine the tests run."""

import pytest
import torch

from prato.runtime.devices import find_device


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
