"""What training processes do together, on two real ones: statistics, refusals, clocks."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn

from prato.training.distributed import ALONE, Ranks, init_ranks
from tests.app.forked import loaded_context

pytestmark = pytest.mark.slow


def normalised(norm, x, weights):
    """Output, gradients and running statistics of one call of ``norm``."""
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * weights).sum().backward()
    return {"y": y, "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad, "mean": norm.running_mean, "var": norm.running_var}


def as_one(rank, port, folder):
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    ranks, where = init_ranks("cpu")
    assert (ranks.rank, ranks.size, ranks.is_first, where.type) == (rank, 2, rank == 0, "cpu")

    torch.manual_seed(0)
    # far from zero and narrow: sums of squares would lose the variance
    x, weights = torch.randn(4, 3, 5, 5) * 1e-2 + 10, torch.randn(4, 3, 5, 5)
    whole = normalised(nn.BatchNorm2d(3), x, weights)
    network = ranks.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(3)))
    shared = normalised(network[0], x[rank::2], weights[rank::2])
    for name in ("y", "x"):
        torch.testing.assert_close(shared[name], whole[name][rank::2], rtol=1e-2, atol=1e-2)
    for name in ("mean", "var"):
        torch.testing.assert_close(shared[name], whole[name])
    ranks.all_reduce_gradients(network.parameters())
    for name in ("weight", "bias"):
        torch.testing.assert_close(shared[name], whole[name], rtol=1e-2, atol=1e-2)

    assert ranks.broadcast_from_first(float(rank + 5), where) == 5.0
    ranks.check_same_weights(network, 3)
    with pytest.raises(ValueError, match="same weights"):
        ranks.check_same_weights(network, 3 + rank)
    with pytest.raises(ValueError, match="not here"), ranks.share_errors():
        if rank == 1:
            raise OSError("not here")
    with ranks.share_errors():
        (folder / str(rank)).touch()
    ranks.close()
    assert not dist.is_initialized()


def test_two_processes_are_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    loaded_context("1")
    torch.multiprocessing.start_processes(as_one, (port, tmp_path), nprocs=2, start_method="forkserver")
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def test_a_batch_is_divided_evenly_or_refused():
    assert Ranks(1, 2).local_batch_size(8) == 4
    with pytest.raises(ValueError, match="9 slices cannot be divided evenly among 2 processes"):
        Ranks(0, 2).local_batch_size(9)


def test_alone_nothing_changes():
    network = nn.Sequential(nn.BatchNorm2d(3))
    assert type(ALONE.convert_sync_batchnorm(network)[0]) is nn.BatchNorm2d
    assert ALONE.broadcast_from_first(2.5, torch.device("cpu")) == 2.5 and ALONE.is_first
    with pytest.raises(ValueError, match="broken"), ALONE.share_errors():
        raise RuntimeError("broken")
