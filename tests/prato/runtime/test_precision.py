import pytest
import torch

from prato.runtime.precision import autocast, is_bfloat16_fast


def test_products_are_in_bfloat16_where_the_device_is_fast_at_it_and_only_meanwhile():
    cpu = torch.device("cpu")
    a = torch.ones(4, 4)
    with autocast(cpu):
        assert (a @ a).dtype == (torch.bfloat16 if is_bfloat16_fast(cpu) else torch.float32)
    assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(("known", "fast"), [(True, True), (False, False)])
def test_a_cpu_is_fast_at_it_where_it_has_the_instructions(monkeypatch, known, fast):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: known)
    assert is_bfloat16_fast(torch.device("cpu")) is fast
    assert is_bfloat16_fast(torch.device("cuda")) is True
    assert is_bfloat16_fast(torch.device("mps")) is False
