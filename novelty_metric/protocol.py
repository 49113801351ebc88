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
        Name of the settings in reports.
    fmax : float
        A relaxation has converged if the largest row norm of the filter's forces, including the
        cell rows, is at most this (eV/Å).
    max_steps : int
        Maximum number of steps after the first evaluation.
    optimizer : str
        Optimiser of both relaxations: ``"lbfgs"`` (as in the paper), ``"fire"`` or
        ``"bfgs_symmetric"``. The last one needs a third of the steps, does not diverge, and
        relaxes the primitive cell instead of a conventional cell or a supercell.
    accept_early : float
        If a parent matches the generated crystal at an RMS below 0.1, and their energies differ by
        less than this (eV/atom), the parent counts as relaxed to the crystal. This is an
        approximation. 0 (as in the paper) disables it.
    refuse_after : int
        A parent that is far from the generated crystal after this number of steps, and before twice
        this number, counts as relaxed to another crystal. Far means all of these: it does not match
        with `ltol` doubled, `stol` times 7/3 and `angle_tol` tripled; the energies differ by more
        than 0.1 eV/atom; the largest force is above 0.2 eV/Å. This is an approximation. 0 (as in
        the paper) disables it.
    minima : str
        Treatment of a relaxation that may have ended at a saddle point. ``"keep"`` (as in the
        paper): none. ``"check"``: the report gives, for each sample, the energy of the saddle
        point above the next minimum. ``"escape"``: the relaxation continues to this minimum, for
        samples and for parents on which a verdict may depend.
    symmetrise : float
        A higher symmetry of a relaxed sample is searched up to this distance (Å), and used if the
        energy does not rise. 0 (as in the paper) disables it.
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
        Number of cheapest parents kept per route.
    map : str
        The atom map of a parent that counts. ``"first"`` (as in the paper): the first map that
        pymatgen finds. ``"best"``: the map of least cost among all matches within the tolerances,
        which does not depend on the setting of the crystals.
    max_pair_tests : int
        Maximum number of reference crystals that the lattice-and-sites route tests for one
        crystal. Above it, the crystal is undecided if a parent could have been missed. 0 (as in
        the paper): no limit. It counts pairs, not seconds, so verdicts do not depend on the
        machine.

    Notes
    -----
    Source of the values of `paper`: Negishi and Walsh, arXiv 2606.23166.
    """

    name: str = "paper"
    fmax: float = 0.001
    max_steps: int = 1000
    optimizer: str = "lbfgs"
    accept_early: float = 0.0
    refuse_after: int = 0
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
        positive = ("fmax", "ltol", "stol", "angle_tol", "symprec", "symmetry_angle_tolerance")
        for field in (*positive, "accept_early", "symmetrise"):
            value, limit = getattr(self, field), "above 0" if field in positive else "0 or more"
            if not (value > 0 if field in positive else value >= 0):
                raise InputError(f"protocol.{field} is {value!r}; it must be {limit}")
        for field in ("max_steps", "refuse_after", "k", "max_pair_tests"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < (1 if field == "k" else 0):
                raise InputError(
                    f"protocol.{field} is {value!r}; it must be a positive whole number"
                )
        for field, known in (("minima", MINIMA), ("optimizer", OPTIMIZERS), ("map", MAPS)):
            value = getattr(self, field)
            if value not in known:
                raise InputError(f"protocol.{field} is {value!r}; known: {', '.join(known)}")

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
        refuse_after=25,
        symmetrise=0.1,
    ),
}
