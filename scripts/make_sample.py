"""Make the packaged sample: crystals with known verdicts against the AFLOW prototypes.

The script writes ``novelty_metric/data/sample.zip``, with one CIF per crystal. The prefix of a name
gives the kind of crystal:

- ``copy-…``: an AFLOW prototype, perturbed, strained, rotated, or in another cell;
- ``swap-…``: a compound of the type of an AFLOW prototype, or of an ordered variant of it, with
  other elements, in its own cell;
- ``other-…``: a type without an AFLOW prototype;
- ``refused-…``: a composition that is not charge-neutral;
- ``strained-…``: far above the hull;
- ``broken-…``: a file that is not a CIF.

Run it from the root of the checkout: ``python scripts/make_sample.py``. Lattice parameters and
coordinates are rounded textbook values (Å, fractional), because only the type matters. Symbols
follow the settings of pymatgen's table, which uses origin choice 1 for ``I4_1/a``. Before the
archive is written, every crystal is read back from its CIF and compared with its table: formula,
cell, space group, and the anions around each cation.
"""

from __future__ import annotations

import zipfile
from typing import NamedTuple

import numpy as np
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from novelty_metric.reference import open_reference
from novelty_metric.samples.packaged import packaged_samples_path

TARGET = packaged_samples_path()
SEED = 20260623


class Textbook(NamedTuple):
    """A crystal described by its symmetry, and its expected properties."""

    group: str
    lengths: tuple[float, ...]
    species: list[str]
    coords: list[list[float]]
    cell: str
    shells: dict[str, tuple[int, float]]
    """Number of anions around each cation, and their mean distance (Å)."""


COPIES = {
    # AFLOW label of the prototype -> how the copy is made, and its expected cell and space group
    "AB_cF8_225_a_b": ("supercell", "Na2 Cl2", "Fm-3m"),
    "AB_cF8_216_c_a": ("perturbed", "Zn1 S1", "P1"),
    "AB2_cF12_225_a_c": ("turned", "Ca1 F2", "Fm-3m"),
    "AB_cP2_221_b_a": ("supercell", "Cs2 Cl2", "Pm-3m"),
    "A2B_tP6_136_f_a": ("perturbed", "Ti2 O4", "P1"),
    "A2B_cP6_224_b_a": ("strained", "Cu4 O2", "Pnnn"),
    "AB_hP4_186_b_b": ("turned", "Zn2 S2", "P6_3mc"),
    "A2B3_hR10_167_c_e": ("perturbed", "Al4 O6", "P1"),
    "AB2_hP3_164_a_d": ("supercell", "Cd2 I4", "P-3m1"),
    "A3B_hP4_191_bc_a": ("strained", "Li3 N1", "P2/m"),
    "A2B3_hR5_166_c_ac": ("perturbed", "Bi2 Te3", "P1"),
    "ABC_tP6_129_c_a_c": ("strained", "Pb2 Cl2 F2", "Pmmn"),
    "AB3C_cP5_221_a_c_b": ("supercell", "Ca2 Ti2 O6", "Pm-3m"),
}

SWAPS = {
    "rocksalt-MgO": Textbook(
        "Fm-3m", (4.21,), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]], "Mg4 O4", {"Mg": (6, 2.1)}
    ),
    "rocksalt-KBr": Textbook(
        "Fm-3m", (6.6,), ["K", "Br"], [[0, 0, 0], [0.5, 0.5, 0.5]], "K4 Br4", {"K": (6, 3.3)}
    ),
    "rocksalt-CaS": Textbook(
        "Fm-3m", (5.69,), ["Ca", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]], "Ca4 S4", {"Ca": (6, 2.85)}
    ),
    "sphalerite-ZnSe": Textbook(
        "F-43m",
        (5.67,),
        ["Zn", "Se"],
        [[0, 0, 0], [0.25, 0.25, 0.25]],
        "Zn4 Se4",
        {"Zn": (4, 2.46)},
    ),
    "sphalerite-GaP": Textbook(
        "F-43m", (5.45,), ["Ga", "P"], [[0, 0, 0], [0.25, 0.25, 0.25]], "Ga4 P4", {"Ga": (4, 2.36)}
    ),
    "fluorite-SrF2": Textbook(
        "Fm-3m", (5.8,), ["Sr", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]], "Sr4 F8", {"Sr": (8, 2.51)}
    ),
    "antifluorite-Na2O": Textbook(
        "Fm-3m", (5.55,), ["O", "Na"], [[0, 0, 0], [0.25, 0.25, 0.25]], "Na8 O4", {"Na": (4, 2.4)}
    ),
    "CsCl-CsBr": Textbook(
        "Pm-3m", (4.29,), ["Cs", "Br"], [[0, 0, 0], [0.5, 0.5, 0.5]], "Cs1 Br1", {"Cs": (8, 3.72)}
    ),
    "rutile-MgF2": Textbook(
        "P4_2/mnm",
        (4.62, 3.05),
        ["Mg", "F"],
        [[0, 0, 0], [0.303, 0.303, 0]],
        "Mg2 F4",
        {"Mg": (6, 1.99)},
    ),
    "rutile-SnO2": Textbook(
        "P4_2/mnm",
        (4.74, 3.19),
        ["Sn", "O"],
        [[0, 0, 0], [0.306, 0.306, 0]],
        "Sn2 O4",
        {"Sn": (6, 2.06)},
    ),
    "wurtzite-AlN": Textbook(
        "P6_3mc",
        (3.11, 4.98),
        ["Al", "N"],
        [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]],
        "Al2 N2",
        {"Al": (4, 1.89)},
    ),
    "perovskite-KMgF3": Textbook(
        "Pm-3m",
        (3.99,),
        ["K", "Mg", "F"],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]],
        "K1 Mg1 F3",
        {"K": (12, 2.82), "Mg": (6, 2.0)},
    ),
    "perovskite-BaZrO3": Textbook(
        "Pm-3m",
        (4.19,),
        ["Ba", "Zr", "O"],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]],
        "Ba1 Zr1 O3",
        {"Ba": (12, 2.96), "Zr": (6, 2.1)},
    ),
    "ordered-perovskite-Ba2MgWO6": Textbook(
        "Fm-3m",
        (8.11,),
        ["Ba", "Mg", "W", "O"],
        [[0.25, 0.25, 0.25], [0, 0, 0], [0.5, 0.5, 0.5], [0.26, 0, 0]],
        "Ba8 Mg4 W4 O24",
        {"Ba": (12, 2.87), "Mg": (6, 2.11), "W": (6, 1.95)},
    ),
    "CdI2-ZrS2": Textbook(
        "P-3m1",
        (3.66, 5.83),
        ["Zr", "S"],
        [[0, 0, 0], [1 / 3, 2 / 3, 0.25]],
        "Zr1 S2",
        {"Zr": (6, 2.57)},
    ),
    "half-Heusler-LiMgP": Textbook(
        "F-43m",
        (6.01,),
        ["Li", "Mg", "P"],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0.25, 0.25, 0.25]],
        "Li4 Mg4 P4",
        {"Li": (4, 2.6), "Mg": (4, 2.6)},
    ),
    # Scheelite: fluorite with ordered cations and shifted anions, within the tolerance of the
    # matcher.
    "ordered-fluorite-LiYF4": Textbook(
        "I4_1/a",
        (5.17, 10.74),
        ["Li", "Y", "F"],
        [[0, 0, 0], [0, 0, 0.5], [0.282, 0.1642, 0.0815]],
        "Li4 Y4 F16",
        {"Li": (4, 1.9), "Y": (8, 2.27)},
    ),
}

OTHERS = {
    "K2PtCl6-type-K2SiF6": Textbook(
        "Fm-3m",
        (8.13,),
        ["K", "Si", "F"],
        [[0.25, 0.25, 0.25], [0, 0, 0], [0.207, 0, 0]],
        "K8 Si4 F24",
        {"K": (12, 2.9), "Si": (6, 1.68)},
    ),
    "TlAlF4-type-KAlF4": Textbook(
        "P4/mmm",
        (3.66, 6.29),
        ["K", "Al", "F", "F"],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0, 0.5, 0], [0, 0, 0.28]],
        "K1 Al1 F4",
        {"K": (8, 2.93), "Al": (6, 1.81)},
    ),
    "UCl3-type-LaCl3": Textbook(
        "P6_3/m",
        (7.48, 4.37),
        ["La", "Cl"],
        [[1 / 3, 2 / 3, 0.25], [0.387, 0.302, 0.25]],
        "La2 Cl6",
        {"La": (9, 2.95)},
    ),
    "CsNiCl3-type-CsMgCl3": Textbook(
        "P6_3/mmc",
        (7.27, 6.19),
        ["Cs", "Mg", "Cl"],
        [[1 / 3, 2 / 3, 0.75], [0, 0, 0], [0.156, 0.312, 0.25]],
        "Cs2 Mg2 Cl6",
        {"Cs": (12, 3.73), "Mg": (6, 2.5)},
    ),
    "SnF4-type-SnF4": Textbook(
        "I4/mmm",
        (4.04, 7.93),
        ["Sn", "F", "F"],
        [[0, 0, 0], [0, 0.5, 0], [0, 0, 0.237]],
        "Sn2 F8",
        {"Sn": (6, 1.97)},
    ),
    "Sr2CuO3-type-Sr2CuO3": Textbook(
        "Immm",
        (3.91, 3.5, 12.69),
        ["Sr", "Cu", "O", "O"],
        [[0, 0, 0.355], [0, 0, 0], [0.5, 0, 0], [0, 0, 0.155]],
        "Sr4 Cu2 O6",
        {"Sr": (7, 2.59), "Cu": (4, 1.96)},
    ),
}

REFUSED = {
    "rocksalt-MgCl": Textbook(
        "Fm-3m", (5.1,), ["Mg", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]], "Mg4 Cl4", {"Mg": (6, 2.55)}
    ),
    "fluorite-NaF2": Textbook(
        "Fm-3m", (5.3,), ["Na", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]], "Na4 F8", {"Na": (8, 2.29)}
    ),
    "sphalerite-AlF": Textbook(
        "F-43m", (5.0,), ["Al", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]], "Al4 F4", {"Al": (4, 2.17)}
    ),
}

STRAINED = {
    "CsCl-type-BeO": Textbook(
        "Pm-3m", (2.42,), ["Be", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]], "Be1 O1", {"Be": (8, 2.1)}
    ),
}

TABLES = {"swap": SWAPS, "other": OTHERS, "refused": REFUSED, "strained": STRAINED}


def copy_name(how: str, cell: str) -> str:
    """Name of a copy."""
    return f"copy-{how}-{Composition(cell).reduced_formula}"


EXPECTED: dict[str, tuple[str, str, dict[str, tuple[int, float]]]] = {
    **{copy_name(how, cell): (cell, group, {}) for how, cell, group in COPIES.values()},
    **{
        f"{prefix}-{name}": (crystal.cell, crystal.group, crystal.shells)
        for prefix, table in TABLES.items()
        for name, crystal in table.items()
    },
}
"""Expected cell, space group and shells of each crystal, by name."""


def lattice_of(group: str, lengths: tuple[float, ...]) -> Lattice:
    """Cell of the crystal system that follows from the symbol and the number of lengths."""
    if len(lengths) == 1:
        return Lattice.cubic(lengths[0])
    if len(lengths) == 3:
        return Lattice.orthorhombic(*lengths)
    hexagonal = any(axis in group for axis in ("P6", "P-6", "P3", "P-3"))
    return Lattice.hexagonal(*lengths) if hexagonal else Lattice.tetragonal(*lengths)


def compound(crystal: Textbook) -> Structure:
    """The conventional cell of a textbook crystal."""
    return Structure.from_spacegroup(
        crystal.group,
        lattice_of(crystal.group, crystal.lengths),
        crystal.species,
        crystal.coords,
    )


def copy_of(structure: Structure, how: str, rng: np.random.Generator) -> Structure:
    """A crystal equal to `structure` within the matcher's tolerances, with another description."""
    copied = structure.copy()
    order = rng.permutation(len(copied))
    if how == "supercell":
        copied.make_supercell([2, 1, 1])
        order = rng.permutation(len(copied))
    elif how == "strained":
        copied.apply_strain([0.02, -0.015, 0.01])
    elif how == "perturbed":
        directions = rng.normal(size=(len(copied), 3))
        directions *= 0.05 / np.linalg.norm(directions, axis=1)[:, None]
        copied = Structure(
            copied.lattice,
            copied.species,
            copied.cart_coords + directions,
            coords_are_cartesian=True,
        )
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = copied.lattice.matrix @ rotation
    coords = copied.frac_coords[order] + rng.uniform(size=3)
    return Structure(matrix, [copied[i].specie for i in order], coords, to_unit_cell=True)


def check(name: str, structure: Structure) -> None:
    """Raise ValueError if the crystal differs from the tables for this name."""
    cell, group, shells = EXPECTED[name]
    formula = Composition(name.rpartition("-")[2]).reduced_formula
    found = structure.composition
    symbol = SpacegroupAnalyzer(structure).get_space_group_symbol()
    problems = []
    if found.reduced_formula != formula or found != Composition(cell):
        problems.append(f"its cell holds {found.formula}, not {cell} ({formula})")
    if symbol != group:
        problems.append(f"its space group is {symbol}, not {group}")
    for cation, (number, distance) in shells.items():
        for site in structure:
            if site.specie.symbol != cation:
                continue
            near = sorted(
                (neighbor.nn_distance, neighbor.specie.symbol)
                for neighbor in structure.get_neighbors(site, 1.12 * distance)
            )
            mean = sum(apart for apart, _ in near) / max(len(near), 1)
            anions = all(element not in shells for _, element in near)
            if len(near) != number or not anions or abs(mean - distance) > 0.02:
                around = " ".join(f"{element} {apart:.2f}" for apart, element in near)
                problems.append(f"around {cation} are {around}, not {number} at {distance}")
                break
    if problems:
        raise ValueError(f"{name}: {'; '.join(problems)}")


def crystals() -> dict[str, Structure]:
    """All crystals by name."""
    rng = np.random.default_rng(SEED)
    reference = open_reference("aflow")
    position = {label: at for at, label in enumerate(reference.ids)}
    made: dict[str, Structure] = {}
    for label, (how, cell, _) in COPIES.items():
        made[copy_name(how, cell)] = copy_of(reference.structure(position[label]), how, rng)
    for prefix, table in TABLES.items():
        for name, crystal in table.items():
            made[f"{prefix}-{name}"] = compound(crystal)
    return made


def main() -> None:
    """Write the archive."""
    texts = {name: structure.to(fmt="cif") for name, structure in crystals().items()}
    if len(texts) != len(COPIES) + sum(len(table) for table in TABLES.values()):
        raise ValueError("two crystals have one name")
    for name, text in texts.items():
        check(name, Structure.from_str(text, fmt="cif"))
    TARGET.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            write(archive, f"{name}.cif", text)
        write(archive, "broken-half-a-file.cif", "data_broken\n_cell_length_a 4.2\nloop_\n")
    print(f"{len(texts) + 1} files in {TARGET}")


def write(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Add a member with a fixed date, so that the archive is reproducible."""
    info = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, text)


if __name__ == "__main__":
    main()
