import os
import subprocess
import sys

import pytest
import torch

from prato.runtime.precision import autocast, is_bfloat16_fast


def test_products_are_in_bfloat16_where_the_device_is_fast_at_it_and_only_meanwhile():
    cpu = torch.device("cpu")
    a = torch.ones(4, 4)
    with autocast(cpu):
        assert (a @ a).dtype == (torch.bfloat16 if is_bfloat16_fast(cpu) else torch.float32)
    assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(("known", "used", "fast"), [(True, True, True), (False, True, False), (True, False, False)])
def test_a_cpu_is_fast_at_it_where_it_has_the_instructions_and_onednn_uses_them(monkeypatch, known, used, fast):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: known)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: used)
    assert is_bfloat16_fast(torch.device("cpu")) is fast
    assert is_bfloat16_fast(torch.device("cuda")) is True
    assert is_bfloat16_fast(torch.device("mps")) is False


@pytest.mark.slow
def test_where_onednn_is_kept_from_its_instructions_networks_compute_in_float32(model_files):
    """As on a CPU with AVX2 alone: a network with folded norms segments there."""
    run = (
        "import sys, numpy as np, torch; from prato.data.nifti import Volume; from prato.inference.predictor import Predictor;"
        "from prato.runtime.precision import is_bfloat16_fast; predictor = Predictor.from_files(sys.argv[1]);"
        "predictor.set_image(Volume(np.random.default_rng(0).random((64, 64, 3), np.float32), np.diag([2.0, 2.0, 10.0, 1.0])));"
        "print(is_bfloat16_fast(torch.device('cpu')), predictor.predict().mask.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", run, str(model_files["overview_unet"])],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[-2] == "False (64, 64, 3)", done.stderr
