"""POSCARs are read as pymatgen and ASE read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.samples import detect_format, read_samples

CRYSTAL = Structure(
    Lattice.from_parameters(4.1, 5.2, 6.3, 80, 95, 103),
    ["Na", "Cl", "Na", "O"],
    [[0.0, 0.1, 0.2], [0.5, 0.4, 0.3], [0.7, 0.8, 0.9], [0.25, 0.6, 0.1]],
)


def written(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def lines(symbols: Sequence[str] = ("Na O",), title: str = "any title") -> list[str]:
    """A crystal with all that VASP allows: a negative scale, selective dynamics, velocities."""
    cell = ["1.0 0.0 0.0", "0.1 1.0 0.0", ".0 0.2 1.5e0"]
    sites = ["0.0 0.1 0.2 T T F", "0.5 0.4 0.3 T T T", "0.25 0.6 0.1 F F F"]
    velocities = ["", "0.0 0.0 0.0", "0.0 0.0 0.0", "0.1 0.0 0.0"]
    return [title, "-120.0", *cell, *symbols, "2 1", "Selective", "Direct", *sites, *velocities]


@pytest.mark.parametrize("writer", ["pymatgen", "ASE"])
def test_written_poscars_are_read_with_the_names_of_their_files(
    writer: str, tmp_path: Path
) -> None:
    paths = [tmp_path / folder / "POSCAR" for folder in ("run 1", "run 2")]
    for path in paths:
        path.parent.mkdir()
        if writer == "ASE":
            CRYSTAL.to_ase_atoms().write(path, format="vasp")
        else:
            CRYSTAL.to(filename=str(path), fmt="poscar")
        assert detect_format(path) == "poscar"
    first, second = read_samples(paths)
    assert (first.id, second.id) == ("run 1/POSCAR", "run 2/POSCAR")
    for sample in (first, second):
        assert sample.structure is not None
        assert sample.structure.matches(CRYSTAL, ltol=1e-6, stol=1e-6, angle_tol=1e-4, scale=False)


@pytest.mark.parametrize("title", ["any title", "", "8", "a, b"])
def test_scale_velocities_and_selective_dynamics_are_read_as_by_ase(
    title: str, tmp_path: Path
) -> None:
    from ase.io.vasp import read_vasp

    path = written(tmp_path / "gen.vasp", lines(title=title))
    (sample,) = read_samples(path)
    expected = read_vasp(str(path))
    assert sample.id == "gen" and sample.structure is not None, sample.error
    assert sample.structure.volume == pytest.approx(expected.get_volume()) == pytest.approx(120)
    assert sample.structure.lattice.matrix == pytest.approx(expected.cell.array)
    assert [site.specie.symbol for site in sample.structure] == ["Na", "Na", "O"]
    assert sample.structure.cart_coords == pytest.approx(expected.positions)


def test_poscar_without_symbols_is_refused_and_not_guessed(tmp_path: Path) -> None:
    (sample,) = read_samples(written(tmp_path / "POSCAR", lines(symbols=(), title="Na2 O")))
    assert sample.structure is None and "no line with the symbols" in str(sample.error)


def test_cut_poscar_is_an_unreadable_crystal(tmp_path: Path) -> None:
    (sample,) = read_samples(written(tmp_path / "POSCAR", lines()[:10]))
    assert sample.structure is None and sample.error
