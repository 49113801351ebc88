"""Evaluators of geometries: one at a time with ASE, or many at once."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from novelty_metric.crystal import first_line
from novelty_metric.relaxation.base import Evaluation, Geometry

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

NO_NEIGHBOR = "an atom has no neighbour within the potential's reach"


def unknown_element(geometry: Geometry, elements: Set[int]) -> str | None:
    """The reason why a potential cannot evaluate these atomic numbers; None if it can."""
    from ase.data import chemical_symbols

    for number in np.unique(geometry.numbers).tolist():
        if number not in elements:
            symbol = chemical_symbols[number] if 0 < number < len(chemical_symbols) else number
            return f"the potential was not trained on the element {symbol}"
    return None


class Evaluator(Protocol):
    """Energy, forces and stress of geometries, from one potential on one device."""

    @property
    def budget(self) -> float:
        """Maximum sum of the costs of geometries that are evaluated together."""
        ...

    def cost(self, geometry: Geometry) -> float:
        """Work and memory of a geometry, in the units of `budget`."""
        ...

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        """Evaluate geometries together, in order.

        With `energy_only`, forces and stress may be left out (empty, and zero).

        Raises
        ------
        MemoryError
            If there is no room for so many at once.
        """
        ...


class AseEvaluator:
    """An ASE calculator, which evaluates one crystal after the other.

    Parameters
    ----------
    calculator : ASE calculator with energy, forces and stress
    elements : set of int, optional
        Atomic numbers that it knows; None: it says so itself.
    """

    budget = 1.0

    def __init__(self, calculator: Calculator, elements: Set[int] | None = None) -> None:
        self._calculator = calculator
        self._elements = elements

    def cost(self, geometry: Geometry) -> float:
        """See `Evaluator`."""
        return 1.0

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        """See `Evaluator`."""
        return [self._evaluate(geometry, energy_only=energy_only) for geometry in geometries]

    def _evaluate(self, geometry: Geometry, *, energy_only: bool) -> Evaluation:
        from ase import Atoms

        unknown = None if self._elements is None else unknown_element(geometry, self._elements)
        if unknown is not None:
            return Evaluation.failed(unknown)
        try:
            atoms = Atoms(
                numbers=geometry.numbers,
                positions=geometry.positions,
                cell=geometry.cell,
                pbc=True,
                calculator=self._calculator,
            )
            if energy_only:
                energy = float(atoms.get_potential_energy())
                return Evaluation(energy, np.zeros((0, 3)), np.zeros((3, 3)))
            return Evaluation(
                energy=float(atoms.get_potential_energy()),
                forces=np.array(atoms.get_forces(), dtype=np.float64),
                stress=np.array(atoms.get_stress(voigt=False), dtype=np.float64),
            )
        except MemoryError:
            return Evaluation.failed("out of memory", repeatable=False)
        except Exception as error:  # a potential may raise anything on an odd crystal
            if "isolated atom" in str(error):  # CHGNet's word
                return Evaluation.failed(NO_NEIGHBOR)
            return Evaluation.failed(first_line(error), repeatable=False)


class TorchSimEvaluator:
    """A torch-sim model, which evaluates many crystals in one pass.

    Parameters
    ----------
    model : torch_sim.models.interface.ModelInterface
        With forces and stress.
    budget : float
        Sites that are evaluated together.
    """

    def __init__(self, model: Any, budget: float) -> None:
        self._model = model
        self.device = model.device
        self.budget = budget

    def cost(self, geometry: Geometry) -> float:
        """See `Evaluator`."""
        return float(len(geometry.numbers))

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        """See `Evaluator`."""
        import torch_sim
        from ase import Atoms

        crystals = [
            Atoms(numbers=one.numbers, positions=one.positions, cell=one.cell, pbc=True)
            for one in geometries
        ]
        state = torch_sim.initialize_state(crystals, self._model.device, self._model.dtype)
        found = {name: value.detach().cpu() for name, value in self._model(state).items()}
        sizes = [len(one.numbers) for one in geometries]
        return [
            Evaluation(
                energy=float(energy),
                forces=forces.numpy().astype(np.float64),
                stress=0.5 * (stress + stress.T).numpy().astype(np.float64),
            )
            for energy, forces, stress in zip(
                found["energy"], found["forces"].split(sizes), found["stress"], strict=True
            )
        ]
