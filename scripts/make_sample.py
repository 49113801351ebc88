"""Make the packaged sample: crystals whose right verdict against the AFLOW prototypes is known.

Writes ``novelty_metric/data/sample.zip``, one CIF a crystal. The name of each says what it is:

- ``copy-…``: an AFLOW prototype, perturbed, strained, turned, or written in another cell;
- ``swap-…``: a compound of an AFLOW prototype's type with other elements, in its own cell;
- ``other-…``: a type that the prototypes lack;
- ``refused-…``: a composition that is not charge-neutral;
- ``strained-…``: far above the hull;
- ``broken-…``: a file that is no CIF.

Run it from the root of the checkout: ``python scripts/make_sample.py``. Lattice parameters and
coordinates are rounded textbook values (Å, fractional); what matters is the type.
"""

from __future__ import annotations

import zipfile

import numpy as np
from pymatgen.core import Lattice, Structure

from novelty_metric.reference import open_reference
from novelty_metric.samples.packaged import packaged_samples_path

TARGET = packaged_samples_path()
SEED = 20260623

COPIES = {
    # AFLOW label of the prototype -> how the copy is made
    "AB_cF8_225_a_b": "supercell",
    "AB_cF8_216_c_a": "perturbed",
    "AB2_cF12_225_a_c": "turned",
    "AB_cP2_221_b_a": "supercell",
    "A2B_tP6_136_f_a": "perturbed",
    "A2B_cP6_224_b_a": "strained",
    "AB_hP4_186_b_b": "turned",
    "A2B3_hR10_167_c_e": "perturbed",
    "AB2_hP3_164_a_d": "supercell",
    "A3B_hP4_191_bc_a": "strained",
    "A2B3_hR5_166_c_ac": "perturbed",
    "ABC_tP6_129_c_a_c": "strained",
    "AB3C_cP5_221_a_c_b": "supercell",
}

SWAPS = {
    "rocksalt-MgO": ("Fm-3m", (4.21,), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "rocksalt-KBr": ("Fm-3m", (6.60,), ["K", "Br"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "rocksalt-CaS": ("Fm-3m", (5.69,), ["Ca", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "sphalerite-ZnSe": ("F-43m", (5.67,), ["Zn", "Se"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "sphalerite-GaP": ("F-43m", (5.45,), ["Ga", "P"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "fluorite-SrF2": ("Fm-3m", (5.80,), ["Sr", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "antifluorite-Na2O": ("Fm-3m", (5.55,), ["O", "Na"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "CsCl-CsBr": ("Pm-3m", (4.29,), ["Cs", "Br"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "rutile-MgF2": (
        "P4_2/mnm",
        (4.62, 3.05),
        ["Mg", "F"],
        [[0, 0, 0], [0.303, 0.303, 0]],
    ),
    "rutile-SnO2": (
        "P4_2/mnm",
        (4.74, 3.19),
        ["Sn", "O"],
        [[0, 0, 0], [0.306, 0.306, 0]],
    ),
    "wurtzite-AlN": (
        "P6_3mc",
        (3.11, 4.98),
        ["Al", "N"],
        [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]],
    ),
    "perovskite-KMgF3": (
        "Pm-3m",
        (3.99,),
        ["K", "Mg", "F"],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]],
    ),
    "perovskite-BaZrO3": (
        "Pm-3m",
        (4.19,),
        ["Ba", "Zr", "O"],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]],
    ),
    "ordered-perovskite-Ba2MgWO6": (
        "Fm-3m",
        (8.11,),
        ["Ba", "Mg", "W", "O"],
        [[0.25, 0.25, 0.25], [0, 0, 0], [0.5, 0.5, 0.5], [0.26, 0, 0]],
    ),
    "CdI2-ZrS2": ("P-3m1", (3.66, 5.83), ["Zr", "S"], [[0, 0, 0], [1 / 3, 2 / 3, 0.25]]),
    "half-Heusler-LiMgP": (
        "F-43m",
        (6.01,),
        ["Li", "Mg", "P"],
        [[0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0, 0, 0]],
    ),
}

OTHERS = {
    "K2PtCl6-type-K2SiF6": (
        "Fm-3m",
        (8.13,),
        ["K", "Si", "F"],
        [[0.25, 0.25, 0.25], [0, 0, 0], [0.207, 0, 0]],
    ),
    "TlAlF4-type-KAlF4": (
        "P4/mmm",
        (3.66, 6.29),
        ["K", "Al", "F", "F"],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0, 0.5, 0], [0, 0, 0.28]],
    ),
    "UCl3-type-LaCl3": (
        "P6_3/m",
        (7.48, 4.37),
        ["La", "Cl"],
        [[1 / 3, 2 / 3, 0.25], [0.387, 0.302, 0.25]],
    ),
    "CsNiCl3-type-CsMgCl3": (
        "P6_3/mmc",
        (7.27, 6.19),
        ["Cs", "Mg", "Cl"],
        [[1 / 3, 2 / 3, 0.25], [0, 0, 0], [0.156, 0.312, 0.25]],
    ),
    "SnF4-type-SnF4": (
        "I4/mmm",
        (4.04, 7.93),
        ["Sn", "F", "F"],
        [[0, 0, 0], [0, 0.5, 0], [0, 0, 0.237]],
    ),
    "Sr2CuO3-type-Sr2CuO3": (
        "Immm",
        (3.91, 3.50, 12.69),
        ["Sr", "Cu", "O", "O"],
        [[0, 0, 0.355], [0, 0, 0], [0.5, 0, 0], [0, 0, 0.155]],
    ),
    "CaWO4-type-LiYF4": (
        "I4_1/a",
        (5.17, 10.74),
        ["Y", "Li", "F"],
        [[0, 0.25, 0.625], [0, 0.25, 0.125], [0.282, 0.1642, 0.0815]],
    ),
}

REFUSED = {
    "rocksalt-MgCl": ("Fm-3m", (5.1,), ["Mg", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "fluorite-NaF2": ("Fm-3m", (5.3,), ["Na", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "sphalerite-AlF": ("F-43m", (5.0,), ["Al", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
}

STRAINED = {
    "CsCl-type-BeO": ("Pm-3m", (2.42,), ["Be", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
}


def lattice_of(group: str, lengths: tuple[float, ...]) -> Lattice:
    """Cell of the crystal system that the symbol and the number of lengths imply."""
    if len(lengths) == 1:
        return Lattice.cubic(lengths[0])
    if len(lengths) == 3:
        return Lattice.orthorhombic(*lengths)
    hexagonal = any(axis in group for axis in ("P6", "P-6", "P3", "P-3"))
    return Lattice.hexagonal(*lengths) if hexagonal else Lattice.tetragonal(*lengths)


def compound(group, lengths, species, coords) -> Structure:
    """The conventional cell of a textbook crystal."""
    return Structure.from_spacegroup(group, lattice_of(group, lengths), species, coords)


def copy_of(structure: Structure, how: str, rng: np.random.Generator) -> Structure:
    """A crystal equal to `structure` within the matcher's tolerances, written differently."""
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


def main() -> None:
    """Write the archive."""
    rng = np.random.default_rng(SEED)
    reference = open_reference("aflow")
    position = {label: at for at, label in enumerate(reference.ids)}
    crystals: dict[str, Structure] = {}
    for label, how in COPIES.items():
        prototype = reference.structure(position[label])
        formula = prototype.composition.reduced_formula
        crystals[f"copy-{how}-{formula}"] = copy_of(prototype, how, rng)
    for prefix, table in (
        ("swap", SWAPS),
        ("other", OTHERS),
        ("refused", REFUSED),
        ("strained", STRAINED),
    ):
        for name, parameters in table.items():
            crystals[f"{prefix}-{name}"] = compound(*parameters)
    TARGET.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, structure in crystals.items():
            write(archive, f"{name}.cif", structure.to(fmt="cif"))
        write(archive, "broken-half-a-file.cif", "data_broken\n_cell_length_a 4.2\nloop_\n")
    print(f"{len(crystals) + 1} files in {TARGET}")


def write(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Add a member with a fixed date, so that the archive is the same each time."""
    info = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, text)


if __name__ == "__main__":
    main()
