"""Compiled gated layers against torch in double precision, values and gradients."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.base import Evaluation, Geometry
from novelty_metric.relaxation.chgnet_batch import BatchedChgnet
from novelty_metric.relaxation.gated_layer import Gate, Pairs, Terms
from novelty_metric.relaxation.in_flight import InFlight
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxation_run import geometry_of
from tests.relaxation.test_chgnet_batch import DIMER, LONELY, prototypes

N_PAIRS, N_ENDS, N_SITES = 23, 7, 4
GATHERED = ("own", "other", "near", "far", "of_apex", "change", "weights")


def random_gate(seed: int, *, linear: bool) -> Gate:
    of = torch.Generator().manual_seed(seed)
    weights = torch.randn((2, 64, 64), generator=of) / 8
    biases = torch.randn((2, 64), generator=of)
    norms = torch.randn((4, 64), generator=of)
    return Gate(tuple(weights) if linear else None, tuple(biases), norms)


def output_and_gradients(
    gate: Gate, inputs: dict[str, Tensor], pairs: Pairs, dtype: torch.dtype, *, compiled: bool
) -> list[Tensor]:
    """Output of the gate, and gradients of a fixed linear function of it for every input."""
    taken = {name: each.to(dtype).requires_grad_() for name, each in inputs.items()}
    matrix = torch.linspace(-0.3, 0.3, 64 * 128).view(64, 128).to(dtype)
    terms = Terms(
        pairs,
        taken["own"],
        # Columns of a wider matrix, as in the network.
        torch.cat([taken["other"], taken["other"]], dim=1)[:, 128:],
        tuple(taken[name] for name in ("near", "far") if name in taken),
        taken.get("of_apex"),
        (taken["change"], matrix) if "change" in taken else None,
    )
    exact = dataclasses.replace(
        gate,
        weights=gate.weights and tuple(each.to(dtype) for each in gate.weights),
        biases=tuple(each.to(dtype) for each in gate.biases),
        norms=gate.norms.to(dtype),
    )
    passed = exact(terms, taken.get("weights"), compiled=compiled)
    mixture = torch.sin(torch.arange(passed.numel())).view(passed.shape).to(dtype)
    return [passed, *torch.autograd.grad((passed * mixture).sum(), list(taken.values()))]


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize(
    "without",
    [
        (),
        ("weights",),
        ("near", "of_apex", "change"),
        ("change", "sides"),
    ],
)
def test_compiled_layer_agrees_with_torch_in_double_precision(
    without: tuple[str, ...], linear: bool
) -> None:
    of = torch.Generator().manual_seed(len(without))
    n_near = 0 if "near" in without else 9
    shapes = {
        "own": (N_ENDS, 128),
        "other": (N_ENDS, 128),
        "near": (n_near, 128),
        "far": (N_PAIRS - n_near, 128),
        "of_apex": (N_SITES, 128),
        "change": (2 * N_PAIRS, 64),
        "weights": (2, N_PAIRS, 64) if "sides" in without else (N_PAIRS, 64),
    }
    inputs = {
        name: torch.randn(shape, generator=of)
        for name, shape in shapes.items()
        if name not in without
    }
    left, right = torch.randint(N_ENDS, (2, N_PAIRS), generator=of)
    apex = torch.randint(N_SITES, (N_PAIRS,), generator=of)
    pairs = Pairs(left, right, apex if "of_apex" in inputs else None)
    gate = random_gate(3, linear=linear)
    found = output_and_gradients(gate, inputs, pairs, torch.float32, compiled=True)
    expected = output_and_gradients(gate, inputs, pairs, torch.float64, compiled=False)
    for ours, exact in zip(found, expected, strict=True):
        scale = max(1.0, float(exact.abs().max()))
        assert float((ours - exact).abs().max()) < 3e-5 * scale


def test_sums_far_from_zero_do_not_overflow() -> None:
    pairs = Pairs(torch.tensor([0]), torch.tensor([1]))
    inputs = {
        "own": torch.linspace(-1e4, 1e4, 256).view(2, 128),
        "other": torch.zeros((2, 128)),
        "far": torch.zeros((1, 128)),
    }
    gate = random_gate(1, linear=True)
    found = output_and_gradients(gate, inputs, pairs, torch.float32, compiled=True)
    expected = output_and_gradients(gate, inputs, pairs, torch.float64, compiled=False)
    assert torch.allclose(found[0].double(), expected[0], atol=1e-4)
    assert all(bool(torch.isfinite(each).all()) for each in found)


def test_compiled_network_agrees_with_torch(chgnet: Chgnet) -> None:
    compiled = BatchedChgnet(chgnet._weights)
    geometries = [geometry_of(one) for one in [*prototypes(40), LONELY, DIMER]]
    expected = compiled.by_torch.evaluate(geometries)
    energies = compiled.evaluate(geometries, energy_only=True)
    differ = False
    for one, alone, two in zip(compiled.evaluate(geometries), energies, expected, strict=True):
        assert one.error == two.error
        if one.error is None:
            assert abs(one.energy - two.energy) < 1e-6 * len(one.forces)
            assert alone.energy == pytest.approx(one.energy, abs=1e-6 * len(one.forces))
            scale = max(1.0, float(np.abs(two.forces).max()))
            assert np.abs(one.forces - two.forces).max() < 1e-4 * scale
            assert np.abs(one.stress - two.stress).max() < 1e-5 * scale
            differ |= not np.array_equal(one.forces, two.forces)
    assert differ  # equal values would mean that both use one implementation


def test_results_do_not_depend_on_the_number_of_threads(chgnet: Chgnet) -> None:
    evaluator = BatchedChgnet(chgnet._weights)
    geometries = [geometry_of(one) for one in prototypes(60)]
    before = torch.get_num_threads()
    found = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            found.append(evaluator.evaluate(geometries))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        assert one.energy == two.energy
        assert np.array_equal(one.forces, two.forces)


@dataclasses.dataclass
class RecordingEvaluator:
    """Record which implementation is called."""

    asked: list[str] = dataclasses.field(default_factory=list)
    way: str = "compiled"
    budget: float = 10.0

    @property
    def by_torch(self) -> RecordingEvaluator:
        return dataclasses.replace(self, way="torch")

    def cost(self, geometry: Geometry) -> float:
        return 1.0

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        self.asked.append(self.way)
        return [
            Evaluation(0.0, np.zeros((len(g.numbers), 3)), np.zeros((3, 3))) for g in geometries
        ]


@pytest.mark.parametrize(
    ("optimizer", "way"), [("lbfgs", "torch"), ("fire", "torch"), ("bfgs_symmetric", "compiled")]
)
def test_single_evaluations_use_torch(optimizer: str, way: str) -> None:
    evaluator = RecordingEvaluator()
    flight = InFlight(evaluator)
    settings = RelaxSettings(fmax=0.05, max_steps=5, optimizer=optimizer)
    queue = deque(RelaxTask(at, DIMER) for at in range(2))
    while queue:
        flight.add(queue.popleft(), settings)
    while len(flight):
        list(flight.step())
    assert set(evaluator.asked) == {way}
