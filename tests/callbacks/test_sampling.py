"""Sampling restores random state and modes; accepted samplers and their results."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from pymatgen.core import Lattice, Structure
from torch import nn

from novelty_metric import InputError
from novelty_metric.callbacks.sampling import draw, plain_torch, randomness_kept


def salt(numbers: Any = None) -> Structure:
    cell = Lattice([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]])
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Structure(cell, ["Na", "Cl"], sites, properties={"numbers": numbers})


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm1d(2)
        self.modes: list[bool] = []

    def sample(self, count: int) -> list[Any]:
        self.modes = [part.training for part in self.modules()]
        assert not torch.is_grad_enabled()
        numbers = torch.rand(count).tolist(), np.random.rand(), random.random()  # noqa: NPY002
        return [salt([number, *numbers[1:]]) for number in numbers[0]]


def state() -> tuple[Any, ...]:
    legacy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()


def test_random_state_and_modes_are_restored() -> None:
    model = Model().train()
    model.frozen.eval()
    modes = [part.training for part in model.modules()]
    before = state()
    draw("sample", model, 3, (0, 1, 0))
    assert state() == before
    assert not any(model.modes)
    assert [part.training for part in model.modules()] == modes


def test_random_state_and_modes_are_restored_after_a_failure() -> None:
    model = Model().train()
    before = state()

    def broken(module: nn.Module, count: int) -> list[Any]:
        torch.rand(count)
        raise RuntimeError("out of ideas")

    found = draw(broken, model, 3, (0, 1, 0))
    assert found[0] == [None] * 3
    assert found[1] == ("the sampler raised RuntimeError: out of ideas; 3 of 3 count as unreadable")
    with pytest.raises(RuntimeError, match="out of ideas"):
        draw(broken, model, 3, (0, 1, 0), fail_fast=True)
    assert state() == before
    assert model.training and model.body.training


def test_samples_depend_on_seed_epoch_and_process() -> None:
    model = Model()

    def numbers(*seed: int) -> list[float]:
        found = draw("sample", model, 4, seed)[0]
        return [item.properties["numbers"][0] for item in found]

    assert numbers(0, 1, 0) == numbers(0, 1, 0)
    assert (
        len({tuple(numbers(*seed)) for seed in [(0, 1, 0), (0, 2, 0), (0, 1, 1), (5, 1, 0)]}) == 4
    )


def crystals(count: int) -> list[Structure]:
    return [salt() for _ in range(count)]


class Plain(nn.Module):
    """A module whose sampler has a default."""

    def sample(self, n: int = 64) -> list[Structure]:
        return crystals(n)


class Object:
    """A sampler with a state."""

    def __call__(self, network: Any, *, count: int) -> list[Structure]:
        return crystals(count) if network is MODEL else []


def unwrapped(*given: Any, **named: Any) -> list[Structure]:
    model, n = given
    assert model is MODEL and not named
    return crystals(n)


def passed_on(*given: Any) -> list[Structure]:
    return crystals(*given)


def by_name(**named: Any) -> list[Structure]:
    assert named.pop("model") is MODEL
    return crystals(named.pop("n"))


def of(model: Any, n: int, temperature: float = 1.0) -> list[Structure]:
    return crystals(n) if model is MODEL and temperature < 2 else []


def with_defaults(model: Any = None, n_samples: int = 64) -> list[Structure]:
    return crystals(n_samples) if model is MODEL else []


def positional_only(x: Any, y: int, /) -> list[Structure]:
    return crystals(y) if x is MODEL else []


def keywords_only(*, n: int, model: Any) -> list[Structure]:
    return crystals(n) if model is MODEL else []


def turned(n: int, model: Any) -> list[Structure]:
    return crystals(n) if model is MODEL else []


def other_names(a: Any, b: int, steps: int = 10) -> list[Structure]:
    return crystals(b) if a is MODEL and steps == 10 else []


def handed_on(model: Any, *rest: Any) -> list[Structure]:
    return crystals(*rest) if model is MODEL else []


def named_rest(model: Any, **rest: Any) -> list[Structure]:
    return crystals(rest["n"]) if model is MODEL else []


def x_and_count(x: Any, num_samples: int = 64) -> list[Structure]:
    return crystals(num_samples) if x is MODEL else []


def in_batches(num_samples: int, batch_size: int = 8) -> list[Structure]:
    return crystals(num_samples) if batch_size == 8 else []


def own_model(model: Any, n: int) -> list[Structure]:
    return crystals(n) if model == "mine" else []


MODEL = Plain()


@pytest.mark.parametrize(
    "sample",
    [
        "sample",
        MODEL,  # a torch module, but not its `forward`
        MODEL.sample,
        crystals,
        lambda n=64: crystals(n),
        Object(),
        unwrapped,
        by_name,
        of,
        with_defaults,
        positional_only,
        keywords_only,
        turned,
        other_names,
        handed_on,
        named_rest,
        x_and_count,
        in_batches,
        functools.partial(of, temperature=0.5),
        functools.partial(of, MODEL),
        functools.partial(own_model, model="mine"),
        functools.partial(own_model, "mine"),
    ],
)
def test_accepted_samplers(sample: Any) -> None:
    found = draw(sample, MODEL, 3, (0,))
    assert found[1] is None
    assert [type(item) for item in found[0]] == [Structure] * 3


def test_sampler_without_a_model_and_in_a_wrapper() -> None:
    assert len(draw(passed_on, None, 2, (0,))[0]) == 2
    assert draw(lambda n, model=None: crystals(n), None, 2, (0,))[1] is None
    wrapped = nn.DataParallel(Plain())
    assert draw("sample", wrapped, 2, (0,))[1] is None
    # Arguments that the user fixed are kept.
    assert "gave 5 crystals" not in str(draw(functools.partial(of, n=2), MODEL, 2, (0,))[1])
    assert "gave 2 where 3 crystals were wanted" in str(
        draw(functools.partial(of, n=2), MODEL, 3, (0,))[1]
    )


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (lambda n, temperature: [], "needs 'temperature'"),
        (lambda model, n, temperature: [], "needs 'temperature'"),
        (lambda n, *, guide: [], "needs 'guide'"),
    ],
)
def test_samplers_that_cannot_be_called(sample: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        draw(sample, MODEL, 3, (0,))
    with pytest.raises(InputError, match="takes the model, but none was given"):
        draw(of, None, 3, (0,))


def interrupted(count: int) -> Iterator[Structure]:
    yield salt()
    raise ValueError("no more")


def endless(count: int) -> Iterator[Structure]:
    while True:
        yield salt()


ATOMS = Atoms("Cu", cell=[2.5, 2.5, 2.5], pbc=True)


@pytest.mark.parametrize(
    ("given", "n_crystals", "text"),
    [
        (lambda n: None, 0, "gave None where 3 crystals were wanted; 3 of 3 count as unreadable"),
        (lambda n: [], 0, "gave 0 where 3"),
        (lambda n: crystals(2), 2, "gave 2 where 3 crystals were wanted; 1 of 3 count"),
        (lambda n: crystals(5), 3, "gave 5 where 3 crystals were wanted; 0 of 3 count"),
        (endless, 3, "gave more than 3 where 3"),
        (interrupted, 1, "raised ValueError: no more; 2 of 3 count"),
        (lambda n: 1 / 0, 0, "raised ZeroDivisionError: division by zero"),
        (lambda n: "data_NaCl", 0, "gave the text 'data_NaCl' where 3"),
        (lambda n: torch.rand(3, 3), 0, r"gave Tensor of shape \(3, 3\) where 3"),
        (lambda n: np.zeros(3), 0, r"gave ndarray of shape \(3,\)"),
        (lambda n: {"a": salt()}, 0, "gave dict where 3"),
        (lambda n: 7, 0, "gave int where 3"),
        (
            lambda n: [salt(), "NaCl", {}],
            1,
            "not a crystal where 3 .*: 1 times the text 'NaCl', 1 times dict",
        ),
        (lambda n: list(torch.rand(3, 2)), 0, r"3 times Tensor of shape \(2,\)"),
        (
            lambda n: (crystals(3), {}),
            0,
            "gave 2 where 3 .* not a crystal: 1 times list, 1 times dict",
        ),
        (lambda n: salt(), 1, "gave 1 where 3"),
        (lambda n: list(salt())[:1] * 3, 0, "3 times PeriodicSite"),
        (lambda n: (salt() for _ in range(n)), 3, None),
        (lambda n: tuple(crystals(n)), 3, None),
        (lambda n: [salt(), None, ATOMS], 2, None),  # None: a failed sample
        (lambda n: np.array([ATOMS, ATOMS, None], dtype=object), 2, None),
    ],
)
def test_results_of_a_sampler_are_reported_and_counted(
    given: Any, n_crystals: int, text: str | None
) -> None:
    found = draw(given, None, 3, (0,))
    assert len(found[0]) == 3
    assert sum(item is not None for item in found[0]) == n_crystals
    if text is None:
        assert found[1] is None
        return
    assert found[1] is not None and re.search(text, found[1])
    with pytest.raises((InputError, ZeroDivisionError, ValueError)):
        draw(given, None, 3, (0,), fail_fast=True)


@pytest.mark.parametrize("single", [salt(), ATOMS])
def test_single_crystal_without_a_list(single: Any) -> None:
    found = draw(lambda n: single, None, 1, (0,))
    assert found[1] is None and found[0] == [single]


def test_error_names_the_missing_method() -> None:
    with pytest.raises(InputError, match="Model has no method 'generate'"):
        draw("generate", Model(), 3, (0,))


def test_forces_can_be_computed_during_validation() -> None:
    with torch.inference_mode(), torch.autocast("cpu"), randomness_kept():
        with plain_torch():
            x = torch.ones(3, requires_grad=True)
            y = nn.Linear(3, 1)(x)
            assert y.dtype == torch.float32
            (force,) = torch.autograd.grad(y.sum(), x)
            assert force.shape == (3,)
        assert torch.is_inference_mode_enabled() and torch.is_autocast_enabled("cpu")
