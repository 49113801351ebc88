"""Energies of the reference: computed once, resumed, and refused for other crystals."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.cli import main
from novelty_metric.errors import StoreError
from novelty_metric.reference import Reference, energies, open_reference, reference_energies
from novelty_metric.reference.energies import energy_files, load_energies, save_energies
from novelty_metric.relaxation.base import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.relaxer import PotentialRelaxer


class RecordingRelaxer:
    """Energy is minus the volume per atom; fails on xenon, stops after `lives` crystals."""

    def __init__(self, version: str = "1", lives: float = math.inf) -> None:
        self.info = PotentialInfo(name="toy", version=version, weights_hash="0123456789abcdef")
        self.lives = lives
        self.seen: list[str] = []
        self.sizes: list[int] = []

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        for structure in structures:
            if len(self.seen) >= self.lives:
                raise KeyboardInterrupt
            self.seen.append(structure.formula)
            self.sizes.append(len(structure))
            yield math.nan if "Xe" in structure.formula else -structure.volume / len(structure)

    def relax(
        self, queue: deque[RelaxTask], settings: RelaxSettings
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        raise AssertionError("the energies of the reference need no relaxation")

    def close(self) -> None:
        pass


def made_of(symbol: str, a: float) -> Structure:
    return Structure(Lattice.cubic(a), [symbol], [[0, 0, 0]])


def salt(a: float) -> Structure:
    return Structure(Lattice.cubic(a), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(folder))
    return folder


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    structures = [salt(4.1), made_of("Xe", 4.0), made_of("Cs", 5.0), salt(4.3), made_of("Cl", 3.0)]
    path = tmp_path / "set.arrow"
    Reference.from_structures(structures, list("abcde"), name="set").save(path)
    return Reference.open(path)


EXPECTED = [-(4.1**3) / 2, math.nan, -(5.0**3), -(4.3**3) / 2, -(3.0**3)]


def test_values_are_in_the_order_of_the_reference(reference: Reference) -> None:
    relaxer = RecordingRelaxer()
    calls: list[tuple[int, int | None]] = []
    result = reference_energies(reference, relaxer, progress=lambda *call: calls.append(call))
    np.testing.assert_allclose(result, EXPECTED, rtol=1e-12)
    assert relaxer.sizes == sorted(relaxer.sizes)
    assert calls == [(done, 5) for done in range(6)]
    with pytest.raises(ValueError, match="read-only"):
        result[0] = 0


def test_energies_are_computed_once(reference: Reference, tmp_path: Path) -> None:
    first = reference_energies(reference, RecordingRelaxer())
    path = tmp_path / "set.toy-1-0123456789ab.energies.parquet"
    assert path.exists()
    assert not list(tmp_path.glob("*.part"))
    nobody = RecordingRelaxer(lives=0)
    np.testing.assert_array_equal(reference_energies(reference, nobody), first)
    assert nobody.seen == []


def test_interrupted_computation_is_resumed(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        reference_energies(reference, RecordingRelaxer(lives=3))
    assert not list(tmp_path.glob("*.parquet"))
    relaxer = RecordingRelaxer()
    calls: list[tuple[int, int | None]] = []
    result = reference_energies(reference, relaxer, progress=lambda *call: calls.append(call))
    assert len(relaxer.seen) == 2
    assert calls[0] == (3, 5)
    np.testing.assert_allclose(result, EXPECTED, rtol=1e-12)


def test_results_are_saved_during_the_computation(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process loses at most the results since the last save."""
    monkeypatch.setattr(energies, "SAVE_EVERY", -1.0)
    kept: list[int] = []

    def look(done: int, total: int | None) -> None:
        partial = list(tmp_path.glob("*.energies.parquet.part"))
        if partial:
            kept.append(int(energies.load_energies(partial[0], reference, info)[1].sum()))

    relaxer = RecordingRelaxer()
    info = relaxer.info
    reference_energies(reference, relaxer, progress=look)
    assert kept == [1, 2, 3, 4]


def test_energies_of_other_crystals_are_refused(reference: Reference, tmp_path: Path) -> None:
    reference_energies(reference, RecordingRelaxer())
    assert reference.path is not None
    Reference.from_structures([salt(4.2)] * 5, list("abcde"), name="set").save(reference.path)
    other = Reference.open(reference.path)
    with pytest.raises(StoreError, match="made for other crystals than 'set'; delete it"):
        reference_energies(other, RecordingRelaxer())


def test_energies_of_another_potential_are_not_used(reference: Reference) -> None:
    reference_energies(reference, RecordingRelaxer())
    newer = RecordingRelaxer(version="2")
    reference_energies(reference, newer)
    assert len(newer.seen) == 5
    ours = energy_files(reference, RecordingRelaxer().info)[0]
    ours.rename(energy_files(reference, RecordingRelaxer(version="3").info)[0])
    with pytest.raises(StoreError, match="made with another potential than toy-3"):
        reference_energies(reference, RecordingRelaxer(version="3"))


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "foreign", "missing"])
def test_damaged_files_are_refused(reference: Reference, damage: str) -> None:
    import pandas as pd

    relaxer = RecordingRelaxer()
    reference_energies(reference, relaxer)
    path = energy_files(reference, relaxer.info)[0]
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("id,energy\n")
    elif damage == "foreign":
        pd.DataFrame({"id": ["a"], "energy_per_atom": [1.0]}).to_parquet(path)
    else:
        done = np.array([True, True, False, True, True])
        save_energies(path, reference, relaxer.info, np.zeros(5), done)
    with pytest.raises(StoreError) as error:
        reference_energies(reference, relaxer)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_reference_without_a_file_uses_the_cache(reference: Reference, cache: Path) -> None:
    loose = Reference.from_structures(list(reference), list("abcde"), name="loose/one")
    first = reference_energies(loose, RecordingRelaxer())
    kept = list((cache / "references").glob("*.energies.parquet"))
    assert len(kept) == 1 and kept[0].name.startswith(f"loose_one-{loose.crystals_hash[:12]}.")
    nobody = RecordingRelaxer(lives=0)
    np.testing.assert_array_equal(reference_energies(loose, nobody), first)


def test_directory_can_be_chosen(reference: Reference, tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "here"
    reference_energies(reference, RecordingRelaxer(), directory=folder)
    assert [path.name for path in folder.iterdir()] == ["set.toy-1-0123456789ab.energies.parquet"]
    assert not cache.exists()


def test_folder_that_cannot_be_written(
    reference: Reference, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energies.os, "access", lambda *_: False)
    reference_energies(reference, RecordingRelaxer())
    assert len(list((cache / "references").iterdir())) == 1
    nobody = RecordingRelaxer(lives=0)
    reference_energies(reference, nobody)


def test_package_is_never_written_to(cache: Path) -> None:
    aflow = open_reference("aflow")
    assert aflow.path is not None
    before = sorted(aflow.path.parent.iterdir())
    reference_energies(aflow, RecordingRelaxer())
    assert sorted(aflow.path.parent.iterdir()) == before
    assert len(list((cache / "references").iterdir())) == 1


def test_selected_energies(reference: Reference) -> None:
    """Computed energies are kept, and the next call continues from there."""
    first = RecordingRelaxer()
    wanted = np.array([False, True, True, False, False])
    calls: list[tuple[int, int | None]] = []
    some = reference_energies(
        reference, first, wanted=wanted, progress=lambda *call: calls.append(call)
    )
    np.testing.assert_allclose(some, np.where(wanted, EXPECTED, math.nan), rtol=1e-12)
    assert len(first.seen) == 2 and calls == [(0, 2), (1, 2), (2, 2)]
    again = RecordingRelaxer()
    reference_energies(reference, again, wanted=wanted)
    assert again.seen == []
    rest = RecordingRelaxer()
    np.testing.assert_allclose(reference_energies(reference, rest), EXPECTED, rtol=1e-12)
    assert len(rest.seen) == 3
    done = RecordingRelaxer()
    np.testing.assert_allclose(
        reference_energies(reference, done, wanted=wanted), EXPECTED, rtol=1e-12
    )
    assert done.seen == []


def test_build_computes_the_energies_for_the_hull(
    chgnet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    salt.to(str(tmp_path / "salt.cif"))
    store = tmp_path / "salt.arrow"
    arguments = ["reference", "build", str(tmp_path / "salt.cif"), f"out={store}"]
    assert main([*arguments, "relaxer=chgnet", "hull=reference"]) == 0
    assert "energies that the hull needs are computed with CHGNet" in capsys.readouterr().out
    reference = Reference.open(store)
    (path, _) = energy_files(reference, chgnet.info)
    energies, done = load_energies(path, reference, chgnet.info)
    assert done.all()
    expected = next(PotentialRelaxer(chgnet).energies([reference.structure(0)]))
    assert energies[0] == pytest.approx(expected, abs=1e-6)
