"""Sampling leaves no trace: random state, modes; and what a sampler may be and give."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from novelty_metric import InputError
from novelty_metric.callbacks.sampling import draw, plain_torch, randomness_kept


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm1d(2)
        self.modes: list[bool] = []

    def sample(self, count: int) -> list[Any]:
        self.modes = [part.training for part in self.modules()]
        assert not torch.is_grad_enabled()
        numbers = torch.rand(count).tolist(), np.random.rand(count), random.random()  # noqa: NPY002
        return [(number, *numbers[1:]) for number in numbers[0]]


def state() -> tuple[Any, ...]:
    legacy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()


def test_random_state_and_every_mode_are_as_before() -> None:
    model = Model().train()
    model.frozen.eval()
    modes = [part.training for part in model.modules()]
    before = state()
    draw("sample", model, 3, (0, 1, 0))
    assert state() == before
    assert not any(model.modes)
    assert [part.training for part in model.modules()] == modes


def test_also_where_the_sampler_fails() -> None:
    model = Model().train()
    before = state()

    def broken(module: nn.Module, count: int) -> list[Any]:
        torch.rand(count)
        raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        draw(broken, model, 3, (0, 1, 0))
    assert state() == before
    assert model.training and model.body.training


def test_the_seed_decides_and_epochs_and_processes_differ() -> None:
    model = Model()

    def numbers(*seed: int) -> list[float]:
        return [item[0] for item in draw("sample", model, 4, seed)]

    assert numbers(0, 1, 0) == numbers(0, 1, 0)
    assert (
        len({tuple(numbers(*seed)) for seed in [(0, 1, 0), (0, 2, 0), (0, 1, 1), (5, 1, 0)]}) == 4
    )


def test_what_a_sampler_may_be() -> None:
    model = Model()
    assert draw(lambda n: ["x"] * n, model, 2, (0,)) == ["x", "x"]
    assert draw(lambda module, n: [module] * n, model, 1, (0,)) == [model]
    assert draw(lambda n, steps=10: (steps for _ in range(n)), None, 2, (0,)) == [10, 10]
    assert len(draw(model.sample, model, 2, (0,))) == 2


def test_what_a_sampler_owes_is_not_forgotten() -> None:
    assert draw(lambda n: ["x"], None, 3, (0,)) == ["x", None, None]
    with pytest.raises(InputError, match="gave 4 crystals where 3 were wanted"):
        draw(lambda n: ["x"] * 4, None, 3, (0,))


def test_a_method_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="Model has no method 'generate'"):
        draw("generate", Model(), 3, (0,))


def test_forces_can_be_computed_where_lightning_validates() -> None:
    with torch.inference_mode(), torch.autocast("cpu"), randomness_kept():
        with plain_torch():
            x = torch.ones(3, requires_grad=True)
            y = nn.Linear(3, 1)(x)
            assert y.dtype == torch.float32
            (force,) = torch.autograd.grad(y.sum(), x)
            assert force.shape == (3,)
        assert torch.is_inference_mode_enabled() and torch.is_autocast_enabled("cpu")
