"""Devices by name, on whatever machine the tests run."""

from functools import partial

import numpy as np
import pytest
import torch

from prato.runtime.devices import default_device, device_name, find_device, is_out_of_memory, synchronise


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


def test_those_who_name_no_device_are_given_the_gpu_where_there_is_one(monkeypatch):
    for is_there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)  # noqa: B023 - asked at once
        assert default_device() == name


def test_a_gpu_has_a_name_and_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {torch.device(device).index}")
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for device in (torch.device("cpu"), torch.device("cuda:1")):
        synchronise(device)
    assert (device_name("cpu"), device_name("cuda:1"), waited) == ("cpu", "GPU 1", [torch.device("cuda:1")])


def test_what_torch_and_numpy_say_when_there_is_no_memory():
    for allocate in (partial(torch.empty, 2**50), partial(np.empty, 2**55)):
        with pytest.raises((RuntimeError, MemoryError)) as failed:
            allocate()
        assert is_out_of_memory(failed.value), failed.value
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shapes differ")) and not is_out_of_memory(None)
