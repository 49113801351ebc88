"""Adapters: any ASE calculator, MACE through mace-torch, any model of torch-sim."""

from __future__ import annotations

import pickle
import sys
from collections import deque
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from pymatgen.core import Lattice, Structure

from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.base import Geometry
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.in_flight import relax_one
from novelty_metric.relaxation.potentials import AseCalculator, Mace, TorchSim
from novelty_metric.relaxation.relaxation_run import geometry_of
from novelty_metric.relaxation.relaxer import PotentialRelaxer

NEAR = RelaxSettings(fmax=0.01, max_steps=100, optimizer="bfgs_symmetric")


def copper(seed: int = 1) -> Structure:
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.7), ["Cu"], [[0, 0, 0]])
    structure.perturb(0.05, seed=seed)
    return structure


# ASE


def test_an_ase_calculator_by_its_name_relaxes_in_workers() -> None:
    potential = AseCalculator({"_target_": "ase.calculators.emt.EMT"}, name="emt", version="1")
    relaxer = PotentialRelaxer(potential, workers=2)
    queue = deque(RelaxTask(seed, copper(seed)) for seed in range(3))
    results = {task.key: result for task, result in relaxer.relax(queue, NEAR)}
    relaxer.close()
    for seed, result in results.items():
        expected = relax_one(copper(seed), AseEvaluator(EMT()), NEAR)
        assert result.converged and result.energy_after == expected.energy_after


def test_what_an_ase_potential_is_called(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"one")
    emt: dict[str, Any] = {"_target_": "ase.calculators.emt.EMT"}
    plain = AseCalculator(emt, name="emt", version="2").info
    assert plain.key.startswith("emt-2-")
    hashes = {plain.weights_hash, AseCalculator({**emt, "asap_cutoff": True}).info.weights_hash}
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        hashes.add(AseCalculator(emt, weights=weights).info.weights_hash)
    assert len(hashes) == 4
    with pytest.raises(InputError, match="can't be read"):
        _ = AseCalculator(emt, weights=tmp_path / "none").info


@pytest.mark.parametrize(
    ("calculator", "said"),
    [({}, "_target_"), ({"_target_": "no.such.Class"}, "can't be made")],
)
def test_a_calculator_that_can_not_be_made_is_one_line(
    calculator: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        AseCalculator(calculator).evaluator()
    assert "\n" not in str(caught.value)
    relaxer = PotentialRelaxer(AseCalculator(calculator), workers=2)
    with pytest.raises(InputError, match=said):
        list(relaxer.relax(deque([RelaxTask(0, copper())]), NEAR))
    relaxer.close()


# MACE


class StandIn(LennardJones):
    """What `mace_mp` gives: an ASE calculator that holds its torch modules."""

    def __init__(self) -> None:
        super().__init__(sigma=2.3, epsilon=0.4, rc=6.0, smooth=True)
        torch.manual_seed(0)
        self.models = [torch.nn.Linear(3, 2)]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A `mace.calculators` that keeps what it was asked for."""
    asked: list[dict[str, Any]] = []

    def mace_mp(**arguments: Any) -> StandIn:
        asked.append(arguments)
        if arguments["model"] == "none":
            raise RuntimeError("Model download failed\nno local model found")
        return StandIn()

    module = ModuleType("mace.calculators")
    module.mace_mp = mace_mp  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mace", ModuleType("mace"))
    monkeypatch.setitem(sys.modules, "mace.calculators", module)
    return asked


def test_mace_is_the_paper_s_and_relaxes(stand_in: list[dict[str, Any]]) -> None:
    potential = Mace(device="cpu")
    result = relax_one(copper(), potential.evaluator(), NEAR)
    assert result.converged
    assert result.energy_after == relax_one(copper(), AseEvaluator(StandIn()), NEAR).energy_after
    assert stand_in == [{"model": "medium-mpa-0", "device": "cpu", "default_dtype": "float64"}]
    info = potential.info
    assert info.name == "mace-medium-mpa-0" and len(info.weights_hash) == 64
    assert len(stand_in) == 1
    assert pickle.loads(pickle.dumps(potential)) == potential
    assert Mace(model="/models/my.model", device="cpu").info.name == "mace-my"


def test_mace_that_can_not_be_loaded_is_one_line(stand_in: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="MACE can't load 'none'") as caught:
        Mace(model="none", device="cpu").evaluator()
    assert "\n" not in str(caught.value)


def test_without_mace_torch_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mace", None)
    monkeypatch.setitem(sys.modules, "mace.calculators", None)
    assert main(["score", "relaxer=mace", "limit=1", "cache=false", "workers=1"]) == 2
    assert 'pip install "novelty-metric[mace]"' in capsys.readouterr().err


def test_the_real_mace_from_a_file(tmp_path: Path) -> None:
    """Random weights, but mace-torch's own model, file and loading."""
    modules = pytest.importorskip("mace.modules", reason="mace-torch is not installed")
    from e3nn import o3

    torch.manual_seed(1)
    with torch.no_grad():
        model = modules.ScaleShiftMACE(
            r_max=4.0,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=1,
            interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
            interaction_cls_first=modules.interaction_classes[
                "RealAgnosticResidualInteractionBlock"
            ],
            num_interactions=2,
            num_elements=2,
            hidden_irreps=o3.Irreps("8x0e"),
            MLP_irreps=o3.Irreps("4x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.zeros(2),
            avg_num_neighbors=12.0,
            atomic_numbers=[29, 79],
            correlation=2,
            atomic_inter_scale=0.1,
            atomic_inter_shift=0.0,
        )
    torch.save(model.double(), tmp_path / "tiny.model")
    potential = Mace(model=str(tmp_path / "tiny.model"), device="cpu")
    evaluation = potential.evaluator().evaluate([geometry_of(copper())])[0]
    assert evaluation.error is None and np.isfinite(evaluation.energy)
    assert evaluation.forces.shape == (4, 3) and np.abs(evaluation.forces).max() > 0
    assert potential.info.name == "mace-tiny"


# torch-sim


class ThroughTorchSim:
    """EMT behind torch-sim's interface: reads torch-sim's own state, crystal by crystal."""

    device = torch.device("cpu")
    dtype = torch.float64

    def __call__(self, state: Any) -> dict[str, torch.Tensor]:
        energies, forces, stresses = [], [], []
        for system in range(state.n_systems):
            mine = state.system_idx == system
            geometry = Geometry(
                state.atomic_numbers[mine].numpy(),
                state.row_vector_cell[system].numpy(),
                state.positions[mine].numpy(),
            )
            found = AseEvaluator(EMT()).evaluate([geometry])[0]
            energies.append(found.energy)
            forces.append(torch.tensor(found.forces))
            stresses.append(torch.tensor(found.stress))
        return {
            "energy": torch.tensor(energies),
            "forces": torch.cat(forces),
            "stress": torch.stack(stresses),
        }


def test_a_torch_sim_model_relaxes_in_batches() -> None:
    pytest.importorskip("torch_sim", reason="torch-sim is not installed")
    here = f"{__name__}.ThroughTorchSim"
    potential = TorchSim({"_target_": here}, name="emt", sites=12)
    crystals = [copper(seed) for seed in range(5)]
    crystals[2].apply_strain([0.1, -0.05, 0.0])
    # No symmetric matrix: rows and columns must not be mixed up.
    crystals[2] = Structure(
        crystals[2].lattice.matrix + np.array([[0, 0.4, 0], [0, 0, -0.3], [0, 0, 0]]),
        crystals[2].species,
        crystals[2].frac_coords,
    )
    queue = deque(RelaxTask(seed, one) for seed, one in enumerate(crystals))
    for task, result in PotentialRelaxer(potential).relax(queue, NEAR):
        alone = relax_one(task.structure, AseEvaluator(EMT()), NEAR)
        assert result.converged and result.steps == alone.steps
        assert result.energy_after == pytest.approx(alone.energy_after, abs=1e-9)


def test_without_torch_sim_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "novelty_metric.relaxation.potentials.importlib.util",
        SimpleNamespace(find_spec=lambda name: None),
    )
    with pytest.raises(InputError, match="novelty-metric\\[torch-sim\\]"):
        TorchSim({"_target_": "some.Model"}).evaluator()
