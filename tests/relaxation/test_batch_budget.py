"""Size of a batch for the memory of the device."""

from __future__ import annotations

import pytest
import torch

from novelty_metric.relaxation.bond_gradients import batch_budget

GB = 10**9


@pytest.mark.parametrize(("free", "budget"), [(2 * GB, 10_000), (100 * GB, 300_000)])
def test_gpu_batch_uses_half_of_free_memory_up_to_a_maximum(
    free: int, budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 141 * GB))
    sizes = {"on_cpu": 3000, "on_gpu": 300_000, "bytes_per_cost": 100_000}
    assert batch_budget(torch.device("cuda"), **sizes) == budget
    assert batch_budget(torch.device("cpu"), **sizes) == 3000
