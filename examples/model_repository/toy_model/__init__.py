"""A toy generative model of ionic crystals: it chooses prototype, ions and cell, and perturbs them.

python -m toy_model 24 release/toy-1.0.extxyz
"""

from __future__ import annotations

import random

from pymatgen.core import Lattice, Structure

WEIGHTS = {
    "rocksalt": 0.25,
    "caesium chloride": 0.15,
    "fluorite": 0.15,
    "perovskite": 0.15,
    "layered": 0.30,
}
"""How often the model draws each prototype."""

# Ionic radii (Å): Shannon, Acta Cryst. A 32, 751 (1976), six neighbours.
ALKALI = {"Na": 1.02, "K": 1.38, "Rb": 1.52, "Cs": 1.67}
EARTH = {"Ca": 1.00, "Sr": 1.18, "Ba": 1.35}
THIRD = {"Al": 0.535, "Ga": 0.62, "Sc": 0.745, "In": 0.80}
FOURTH = {"Ti": 0.605, "Sn": 0.69, "Hf": 0.71, "Zr": 0.72}
HALIDE = {"F": 1.33, "Cl": 1.81, "Br": 1.96}
CHALCOGENIDE = {"O": 1.40, "S": 1.84}


def sample(n: int, seed: int = 0) -> list[Structure]:
    """Draw crystals; the same seed gives the same crystals."""
    rng = random.Random(seed)
    names = list(WEIGHTS)
    return [
        _shaken(_prototype(name, rng), rng)
        for name in rng.choices(names, [WEIGHTS[name] for name in names], k=n)
    ]


def _ion(radii: dict[str, float], rng: random.Random) -> tuple[str, float]:
    name = rng.choice(sorted(radii))
    return name, radii[name]


def _prototype(name: str, rng: random.Random) -> Structure:
    if name == "perovskite":
        (a, _), (b, small) = _ion(EARTH, rng), _ion(FOURTH, rng)
        cell = Lattice.cubic(2 * (small + CHALCOGENIDE["O"]))
        faces = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
        return Structure(cell, [b, a, *"OOO"], [[0.5] * 3, [0] * 3, *faces])
    if name == "layered":
        (a, large), (b, small) = _ion(ALKALI, rng), _ion(THIRD, rng)
        bond = small + HALIDE["F"]
        height = 2 * (bond + 0.8 * large)
        top = bond / height
        sites = [[0.5] * 3, [0] * 3, [0.5, 0, 0], [0, 0.5, 0], [0, 0, top], [0, 0, -top]]
        return Structure(Lattice.tetragonal(2 * bond, height), [a, b, *"FFFF"], sites)
    if name == "fluorite":
        (a, cation), (x, anion) = _ion(EARTH, rng), _ion(HALIDE, rng)
        cell = _face_centred(4 / 3**0.5 * (cation + anion))
        return Structure(cell, [a, x, x], [[0] * 3, [0.25] * 3, [0.75] * 3])
    radii = rng.choice([(ALKALI, HALIDE), (EARTH, CHALCOGENIDE)])
    (a, cation), (x, anion) = (_ion(ions, rng) for ions in radii)
    if name == "caesium chloride":
        cell = Lattice.cubic(2 / 3**0.5 * (cation + anion))
    else:
        cell = _face_centred(2 * (cation + anion))
    return Structure(cell, [a, x], [[0] * 3, [0.5] * 3])


def _face_centred(a: float) -> Lattice:
    """Primitive cell of a face-centred cubic lattice."""
    return Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])


def _shaken(structure: Structure, rng: random.Random) -> Structure:
    structure.perturb(0.05, seed=rng.randrange(2**31))
    structure.apply_strain([rng.uniform(-0.02, 0.02) for _ in range(3)])
    return structure
