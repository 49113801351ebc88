"""One relaxation with ASE: cell and positions together, with every outcome said."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from novelty_metric.crystal import first_line
from novelty_metric.relaxation.base import Relaxation, RelaxSettings

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure

VOLUME_PER_ATOM = (2.0, 1000.0)
"""A cell outside this range (Å³ per atom) has collapsed or flown apart: the relaxation ends."""

EXPLODED = 3.0
"""Energy above the start (eV/atom) at which a relaxation has exploded, if it stays there for
`EXPLODED_STEPS`. Relaxations go downhill; one that overshoots comes back within a few steps."""

EXPLODED_STEPS = 25


class _Lost(Exception):
    """The relaxation has left what the potential can describe."""


def relax_with_ase(
    structure: Structure, calculator: Calculator, settings: RelaxSettings
) -> Relaxation:
    """Relax cell and positions in ASE's Frechet cell filter.

    Parameters
    ----------
    structure : Structure
    calculator : ASE calculator with energy, forces and stress
    settings : RelaxSettings

    Returns
    -------
    Relaxation
        Whatever happens: a failure is a result with `error` and without a structure.

    Notes
    -----
    Convergence is that of ASE's optimisers, the largest row norm of the filter's forces below
    ``fmax``. After ``max_steps`` moves the last geometry is returned as not converged.
    """
    started = time.perf_counter()
    energy_before: float | None = None
    optimizer: Any = None

    def failed(reason: str, *, repeatable: bool = True) -> Relaxation:
        return Relaxation(
            structure=None,
            repeatable=repeatable,
            energy_before=energy_before,
            steps=optimizer.nsteps if optimizer is not None else 0,
            seconds=time.perf_counter() - started,
            error=reason,
        )

    try:
        from ase.filters import FrechetCellFilter
        from pymatgen.core import Lattice, Structure
        from pymatgen.io.ase import AseAtomsAdaptor

        atoms: Atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        _make_right_handed(atoms)
        atoms.calc = calculator
        n_sites = len(atoms)
        _check_volume(atoms)
        energy_before = float(atoms.get_potential_energy()) / n_sites
        if not math.isfinite(energy_before):
            return failed("the energy is not finite")
        optimizer = _optimizer(settings.optimizer)(FrechetCellFilter(atoms), logfile=None)
        converged = False
        steps_above = 0
        for at_minimum in optimizer.irun(fmax=settings.fmax, steps=settings.max_steps):
            rise = _check(atoms) - energy_before
            steps_above = steps_above + 1 if rise > EXPLODED else 0
            if steps_above == EXPLODED_STEPS:
                raise _Lost(f"the crystal exploded ({rise:.1f} eV/atom above its start)")
            converged = bool(at_minimum)
        energy_after = float(atoms.get_potential_energy()) / n_sites
        # Not ASE's adaptor: it ties the calculator to the structure, which then can't be sent.
        relaxed = Structure(
            Lattice(atoms.cell.array), structure.species, atoms.positions, coords_are_cartesian=True
        )
    except _Lost as lost:
        return failed(str(lost))
    except MemoryError:
        return failed("out of memory", repeatable=False)
    except Exception as error:  # a potential may raise anything on an odd crystal
        if "isolated atom" in str(error):  # CHGNet's word
            return failed("an atom has no neighbour within the potential's reach")
        return failed(first_line(error), repeatable=False)
    return Relaxation(
        structure=relaxed,
        energy_before=energy_before,
        energy_after=energy_after,
        converged=converged,
        steps=int(optimizer.nsteps),
        seconds=time.perf_counter() - started,
    )


def energy_with_ase(structure: Structure, calculator: Calculator) -> float:
    """Energy of a crystal as it stands (eV/atom), NaN if the potential fails on it."""
    try:
        from pymatgen.io.ase import AseAtomsAdaptor

        atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        atoms.calc = calculator
        return float(atoms.get_potential_energy()) / len(atoms)
    except Exception:  # as above; the caller counts the NaN
        return math.nan


def _check(atoms: Atoms) -> float:
    """Energy of the last evaluation (eV/atom), if energy and cell are still those of a crystal."""
    energy = float(atoms.calc.results.get("energy", math.nan)) / len(atoms)
    if not math.isfinite(energy):
        raise _Lost("the energy is not finite")
    _check_volume(atoms)
    return energy


def _check_volume(atoms: Atoms) -> None:
    volume = abs(float(atoms.get_volume())) / len(atoms)
    low, high = VOLUME_PER_ATOM
    if not math.isfinite(volume) or volume > high:
        raise _Lost(f"the cell flew apart ({volume:.0f} Å³ per atom)")
    if volume < low:
        raise _Lost(f"the cell collapsed ({volume:.2f} Å³ per atom)")


def _make_right_handed(atoms: Atoms) -> None:
    """Turn the three cell vectors around where they are left-handed; no atom moves.

    Supercells that the search finds may be left-handed. CHGNet takes the signed volume, so that
    its stress has the wrong sign there and a relaxation drives the cell uphill.
    """
    if atoms.cell.handedness < 0:
        atoms.set_cell(-atoms.cell.array, scale_atoms=False)


def _optimizer(name: str) -> Any:
    from ase.optimize import FIRE, LBFGS

    from novelty_metric.relaxation.quasi_newton import SymmetricBFGS

    return {"lbfgs": LBFGS, "fire": FIRE, "bfgs_symmetric": SymmetricBFGS}[name]
