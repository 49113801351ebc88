"""The registry of potentials, model files, and adapters for ASE and torch-sim."""

from __future__ import annotations

import pickle
import sys
import tomllib
from collections import deque
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure
from tiny_mace import write_tiny_mace

from novelty_metric import NoveltyReport, SubstitutionNovelty
from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.base import Geometry
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.in_flight import relax_one
from novelty_metric.relaxation.potentials import (
    ADAPTERS,
    POTENTIALS,
    AseCalculator,
    RegisteredPotential,
    SevenNet,
    TorchSim,
    make_potential,
    model_title,
    relaxer_of,
)
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.settings.compose import config_folder

NEAR = RelaxSettings(fmax=0.01, max_steps=100, optimizer="bfgs_symmetric")


def copper(seed: int = 1) -> Structure:
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.7), ["Cu"], [[0, 0, 0]])
    structure.perturb(0.05, seed=seed)
    return structure


# ASE


@pytest.mark.slow
def test_ase_calculator_relaxes_in_workers() -> None:
    potential = AseCalculator({"_target_": "ase.calculators.emt.EMT"}, name="emt", version="1")
    relaxer = PotentialRelaxer(potential, workers=2)
    queue = deque(RelaxTask(seed, copper(seed)) for seed in range(3))
    results = {task.key: result for task, result in relaxer.relax(queue, NEAR)}
    relaxer.close()
    for seed, result in results.items():
        expected = relax_one(copper(seed), AseEvaluator(EMT()), NEAR)
        assert result.converged and result.energy_after == expected.energy_after


def test_name_and_hash_of_an_ase_potential(tmp_path: Path) -> None:
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
    ("calculator", "message", "workers"),
    [({}, "_target_", 1), ({"_target_": "no.such.Class"}, "can't be made", 2)],
)
def test_invalid_calculator_is_one_clear_error(
    calculator: dict[str, Any], message: str, workers: int
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        AseCalculator(calculator).evaluator()
    assert "\n" not in str(caught.value)
    relaxer = PotentialRelaxer(AseCalculator(calculator), workers=workers)
    with pytest.raises(InputError, match=message):
        list(relaxer.relax(deque([RelaxTask(0, copper())]), NEAR))
    relaxer.close()


# The registry


def test_each_potential_has_a_config_an_extra_and_a_class() -> None:
    configs = {path.stem for path in config_folder().glob("relaxer/*.yaml")}
    assert configs == {*POTENTIALS, *ADAPTERS, "none"}
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    for key, potential in POTENTIALS.items():
        assert potential.key == key
        found = (
            pyproject["project"]["dependencies"]
            if potential.extra is None
            else pyproject["project"]["optional-dependencies"][potential.extra]
        )
        assert any(line.startswith(potential.package) for line in found)
        assert type(make_potential(key)).__name__ == potential.builder.rpartition(":")[2]


def test_names_are_unique() -> None:
    names = [
        name.lower()
        for potential in POTENTIALS.values()
        for model in potential.models
        for name in {model.name, model.title.lower(), model.setting, *model.aliases}
    ]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("name", "title", "relaxer"),
    [
        ("chgnet", "CHGNet", ("chgnet", "0.3.0")),
        ("mace-medium-mpa-0", "MACE-MPA-0", ("mace", "medium-mpa-0")),
        ("MACE_MPA_0", "MACE-MPA-0", ("mace", "medium-mpa-0")),
        ("7net-0", "SevenNet-0", ("sevennet", "7net-0")),
        ("sevennet-l3i5", "SevenNet-l3i5", ("sevennet", "7net-l3i5")),
        ("mace-file-mpa-0", "mace-file-mpa-0", None),
        ("chgnet-of-mine", "chgnet-of-mine", None),
    ],
)
def test_title_and_relaxer_of_a_name(
    name: str, title: str, relaxer: tuple[str, str] | None
) -> None:
    assert model_title(name) == title
    assert relaxer_of(name) == relaxer


MISSING = [potential for potential in POTENTIALS.values() if potential.extra is not None]


@pytest.mark.parametrize("potential", MISSING, ids=lambda potential: potential.key)
def test_error_for_a_missing_package_names_its_extra(
    potential: RegisteredPotential,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command line and Python give the same message."""
    top = potential.module.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, top, None)
    line = f"relaxer={potential.key} needs {potential.package}; install it with "
    line += f'pip install "novelty-metric[{potential.extra}]"'
    arguments = ["score", f"relaxer={potential.key}", "limit=1", "cache=false", "workers=1"]
    assert main(arguments) == 2
    assert line in capsys.readouterr().err
    metric = SubstitutionNovelty("aflow", relaxer=potential.key, cache=False)
    metric.update([copper()])
    with pytest.raises(InputError) as caught:
        metric.compute()
    assert str(caught.value) == line


@pytest.mark.parametrize("potential", MISSING, ids=lambda potential: potential.key)
def test_error_for_a_broken_package_says_so(
    potential: RegisteredPotential, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = potential.module.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, top, ModuleType(top))  # an empty module
    with pytest.raises(InputError, match=f"{potential.package} can't be imported: ") as caught:
        make_potential(potential.key, device="cpu").evaluator()
    assert "\n" not in str(caught.value)


# Model files of users


@pytest.mark.parametrize("key", ["mace", "sevennet"])
def test_user_files_are_unpickled_only_on_request(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    potential = POTENTIALS[key]
    pytest.importorskip(potential.module, reason=f"{potential.package} is not installed")
    path, mark = tmp_path / "mine(1).model", tmp_path / "mark"
    path.write_bytes(pickle.dumps(WritesOnUnpickling(str(mark))))
    with pytest.raises(InputError, match=r"is a pickle.*relaxer\.allow_pickle=true"):
        make_potential(key, model=str(path), device="cpu").evaluator()
    with pytest.raises(InputError, match=r"is neither a file nor a known model.*known: "):
        make_potential(key, model=str(tmp_path / "none"), device="cpu").evaluator()
    with pytest.raises(InputError, match="is neither a file nor a known model"):
        make_potential(key, model="https://example.org/a.model", device="cpu").evaluator()
    assert not mark.exists()
    with pytest.raises(InputError, match="can't load") as caught:
        make_potential(key, model=str(path), device="cpu", allow_pickle=True).evaluator()
    assert "\n" not in str(caught.value) and mark.exists()


class WritesOnUnpickling:
    """Create a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_published_model_is_recognised_by_its_weights(
    tmp_path: Path,
) -> None:
    pytest.importorskip("sevenn", reason="sevenn is not installed")
    from sevenn.util import pretrained_name_to_path

    published = pretrained_name_to_path("7net-0")
    for name in ("mine.pth", "sevennet-l3i5.pth"):
        copy = tmp_path / name
        copy.write_bytes(Path(published).read_bytes())
        assert SevenNet(model=str(copy), device="cpu", allow_pickle=True).info.name == "sevennet-0"
    other = torch.load(published, map_location="cpu", weights_only=False)
    other["model_state_dict"] = {
        name: tensor * 1.01 for name, tensor in other["model_state_dict"].items()
    }
    torch.save(other, copy)
    mine = SevenNet(model=str(copy), device="cpu", allow_pickle=True)
    assert mine.info.name == "sevennet-file-sevennet-l3i5"
    assert model_title(mine.info.name) == mine.info.name
    named = SevenNet(model=str(copy), device="cpu", allow_pickle=True, name="ours")
    assert named.info.name == "ours" and named.info.weights_hash == mine.info.weights_hash


def test_command_line_accepts_a_model_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mace.calculators", reason="mace-torch is not installed")
    path = write_tiny_mace(tmp_path / "tiny (1,2).model")
    arguments = [
        "score",
        "limit=2",
        f"relaxer.model={path}",
        "relaxer=mace",
        "protocol.max_steps=2",
    ]
    arguments += [
        "hull=none",
        "cache=false",
        "workers=1",
        "progress=false",
        f"out={tmp_path / 'run'}",
    ]
    assert main(arguments) == 2
    assert "relaxer.allow_pickle=true" in capsys.readouterr().err
    assert main([*arguments, "relaxer.allow_pickle=true"]) == 0
    message = NoveltyReport.load(tmp_path / "run").context.protocol_text
    assert message.endswith(", mace-file-tiny (1,2) in place of MACE-MPA-0")


# torch-sim


class TorchSimEmt:
    """EMT with torch-sim's interface; reads torch-sim's state crystal by crystal."""

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


def test_torch_sim_model_relaxes_in_batches() -> None:
    pytest.importorskip("torch_sim", reason="torch-sim is not installed")
    here = f"{__name__}.TorchSimEmt"
    potential = TorchSim({"_target_": here}, name="emt", sites=12)
    crystals = [copper(seed) for seed in range(5)]
    crystals[2].apply_strain([0.1, -0.05, 0.0])
    # An asymmetric matrix shows a confusion of rows and columns.
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


def test_error_without_torch_sim_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "novelty_metric.relaxation.adapters.importlib.util",
        SimpleNamespace(find_spec=lambda name: None),
    )
    with pytest.raises(InputError, match="novelty-metric\\[torch-sim\\]"):
        TorchSim({"_target_": "some.Model"}).evaluator()
