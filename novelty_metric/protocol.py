"""Every tolerance, threshold and limit of the method, in one place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from novelty_metric.errors import InputError

Minima = Literal["keep", "check", "escape"]
MINIMA = get_args(Minima)
"""Treatment of a relaxation that may have ended at a saddle point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The settings that decide a verdict. Immutable; `dataclasses.replace` makes a variant.

    Attributes
    ----------
    name : str
        Name under which a report cites the settings.
    fmax : float
        Relaxation ends when the largest row norm of the filter's forces, cell rows included,
        is at most this (eV/Å).
    max_steps : int
        Moves allowed after the first evaluation.
    optimizer : str
        Optimiser of both relaxations: ``"lbfgs"``, as in the paper, ``"fire"``, or
        ``"bfgs_symmetric"``, which needs a third of the steps, does not run away, and relaxes the
        primitive cell in place of a conventional one or a supercell.
    accept_early : float
        A parent that matches the generated crystal at an RMS below 0.1, and is within this of its
        energy (eV/atom), counts as relaxed to it. An approximation; 0, as in the paper, for none.
    minima : str
        What is done where a relaxation may have ended on a saddle. ``"keep"``, as in the paper:
        nothing. ``"check"``: for each sample, how far below the next minimum lies is told.
        ``"escape"``: the relaxation goes on to that minimum, for samples and for those parents
        that a verdict may depend on.
    symmetrise : float
        Higher symmetry of a relaxed sample is looked for up to this distance (Å), and taken where
        the energy does not rise by it. 0, as in the paper, for none.
    metastable : float
        Largest energy above hull of an eligible crystal (eV/atom).
    suspect : float
        An energy above hull below this (eV/atom) is flagged: the potential probably fails there.
    ltol, stol, angle_tol : float
        Tolerances of pymatgen's ``StructureMatcher``: fractional length, site distance in units of
        (V/N)^(1/3), angle in degrees.
    symprec : float
        Distance tolerance of the symmetry search (Å).
    symmetry_angle_tolerance : float
        Angle tolerance of the symmetry search (degrees).
    k : int
        Cheapest parents kept per route.
    map : str
        Which atom map of a parent counts: ``"first"``, as in the paper, the first that pymatgen
        finds, or ``"best"``, the one of least cost among all matches within the tolerances, which
        does not depend on how the crystals are written down.
    max_pair_tests : int
        Most reference crystals that the lattice-and-sites route looks at for one crystal; past it
        the crystal is undecided if a parent could have been missed. 0, as in the paper, for no
        limit. It counts pairs and not seconds, so that verdicts do not depend on the machine.

    Notes
    -----
    Source of the values of `paper`: Negishi and Walsh, arXiv 2606.23166.
    """

    name: str = "paper"
    fmax: float = 0.001
    max_steps: int = 1000
    optimizer: str = "lbfgs"
    accept_early: float = 0.0
    minima: str = "keep"
    symmetrise: float = 0.0
    metastable: float = 0.1
    suspect: float = -0.2
    ltol: float = 0.2
    stol: float = 0.3
    angle_tol: float = 5.0
    symprec: float = 0.01
    symmetry_angle_tolerance: float = 5.0
    k: int = 3
    map: str = "first"
    max_pair_tests: int = 0

    def __post_init__(self) -> None:
        for field in ("fmax", "ltol", "stol", "angle_tol", "symprec", "symmetry_angle_tolerance"):
            if not getattr(self, field) > 0:
                raise InputError(
                    f"protocol.{field} is {getattr(self, field)!r}; it must be above 0"
                )
        for field in ("accept_early", "symmetrise"):
            if not getattr(self, field) >= 0:
                raise InputError(
                    f"protocol.{field} is {getattr(self, field)!r}; it must be 0 or more"
                )
        for field in ("max_steps", "k", "max_pair_tests"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < (1 if field == "k" else 0):
                raise InputError(
                    f"protocol.{field} is {value!r}; it must be a positive whole number"
                )
        if self.minima not in MINIMA:
            raise InputError(f"protocol.minima is {self.minima!r}; known: {', '.join(MINIMA)}")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(
                f"protocol.optimizer is {self.optimizer!r}; known: {', '.join(OPTIMIZERS)}"
            )
        if self.map not in MAPS:
            raise InputError(f"protocol.map is {self.map!r}; known: {', '.join(MAPS)}")

    @classmethod
    def named(cls, name: str) -> Protocol:
        """The preset with this name, ``paper`` or ``fast``.

        Raises
        ------
        InputError
            If there is no preset of that name.
        """
        try:
            return PRESETS[name]
        except KeyError:
            raise InputError(f"no protocol named {name!r}; known: {', '.join(PRESETS)}") from None

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return dataclasses.asdict(self)


Scope = Literal["eligible", "all"]
SCOPES = get_args(Scope)
"""The crystals whose parents are searched."""

OPTIMIZERS = ("lbfgs", "fire", "bfgs_symmetric")

MAPS = ("first", "best")

PRESETS: dict[str, Protocol] = {
    "paper": Protocol(),
    # The search is that of `paper`; only the relaxations differ.
    "fast": Protocol(
        name="fast",
        fmax=0.012,
        max_steps=300,
        optimizer="bfgs_symmetric",
        accept_early=0.02,
        symmetrise=0.1,
    ),
}
