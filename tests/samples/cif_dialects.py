"""The same crystals in the dialects of CIF that people and programs write.

The hand-written files start from spglib: the crystal in any of its 530 settings, with the
operations of that setting. gemmi only provides the name of the setting.
"""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import gemmi
import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

SYMPREC = 0.01


@dataclass(frozen=True)
class Setting:
    """A crystal in one setting of its space group.

    Attributes
    ----------
    structure : Structure
        All atoms of the cell: what reading should give.
    rows : list of int
        Sites of which the others are images.
    rotations, translations : int, (n, 3, 3); float, (n, 3)
    kind : spglib.SpaceGroupType
    entry : gemmi.SpaceGroup
        The same setting.
    """

    structure: Structure
    rows: list[int]
    rotations: NDArray[np.intc]
    translations: NDArray[np.float64]
    kind: Any
    entry: Any


@cache
def _entries() -> dict[str, Any]:
    return {entry.hall: entry for entry in gemmi.spacegroup_table()}


@cache
def _settings_of(number: int) -> list[int]:
    kinds = {hall: spglib.get_spacegroup_type(hall) for hall in range(1, 531)}
    return [h for h, k in kinds.items() if k.number == number and k.hall_symbol in _entries()]


def settings(crystal: Structure, rng: random.Random, most: int) -> Iterator[Setting]:
    """Yield the crystal in random settings of its space group, the standard setting first."""
    cell = (crystal.lattice.matrix, crystal.frac_coords, crystal.atomic_numbers)
    found = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    if found is None:
        return
    first, *others = _settings_of(found.number)
    for hall in [first, *rng.sample(others, min(most - 1, len(others)))]:
        data = spglib.get_symmetry_dataset(cell, symprec=SYMPREC, hall_number=hall)
        if data is None:
            continue
        lattice = Lattice.from_parameters(*Lattice(data.std_lattice).parameters)
        numbers = [Element.from_Z(int(number)) for number in data.std_types]
        structure = Structure(lattice, numbers, data.std_positions % 1)
        database = spglib.get_symmetry_from_database(hall)
        rotations, translations = database["rotations"], database["translations"]
        rows = _independent(structure, rotations, translations)
        kind = spglib.get_spacegroup_type(hall)
        if rows is not None:
            yield Setting(
                structure, rows, rotations, translations, kind, _entries()[kind.hall_symbol]
            )


def _independent(
    structure: Structure, rotations: NDArray[np.intc], translations: NDArray[np.float64]
) -> list[int] | None:
    """One site of each orbit, or None if the coordinates do not have the symmetry within 2e-5."""
    coords, numbers = structure.frac_coords, np.array(structure.atomic_numbers)
    left = set(range(len(coords)))
    rows = []
    for row in range(len(coords)):
        if row not in left:
            continue
        rows.append(row)
        for image in rotations @ coords[row] + translations:
            apart = coords - image
            near = np.abs(apart - np.rint(apart)).max(1)
            at = int(near.argmin())
            if near[at] > 2e-5 or numbers[at] != numbers[row]:
                return None
            left.discard(at)
    return rows


# Files written by hand


@dataclass(frozen=True)
class Style:
    """How a file is written, chosen at random."""

    symmetry: str
    tags: str
    line_end: str
    mark: bool
    angles: bool
    elements: str
    formula: str
    errors: bool
    digits: int

    @classmethod
    def random(cls, rng: random.Random, symmetry: str) -> Style:
        return cls(
            symmetry=symmetry,
            tags=rng.choice(["core", "core", "dotted", "upper"]),
            line_end=rng.choice(["\n", "\n", "\r\n", "\r"]),
            mark=rng.random() < 0.2,
            angles=rng.random() < 0.5,
            elements=rng.choice(["type", "type", "ion", "label", "upper type"]),
            formula=rng.choice(["none", "unit", "unit and Z", "cell and Z", "cell"]),
            errors=rng.random() < 0.2,
            digits=rng.choice([4, 5, 7, 10]),
        )


SYMMETRIES = (
    "hall",
    "extended",
    "full",
    "short",
    "number",
    "code",
    "operations",
    "new operations",
    "operations alone",
    "schoenflies",
)

DOTTED = {
    "_cell_": "_cell.",
    "_atom_site_": "_atom_site.",
    "_symmetry_equiv_pos_": "_symmetry_equiv.pos_",
    "_space_group_symop_": "_space_group_symop.",
    "_space_group_": "_space_group.",
    "_symmetry_": "_symmetry.",
    "_chemical_formula_": "_chemical_formula.",
}


def write(setting: Setting, style: Style, rng: random.Random) -> str:
    """The text of a CIF."""
    tag = _tag_writer(style.tags)
    lines = ["#\\#CIF_1.1" if rng.random() < 0.5 else "# written by hand", ""]
    lines.append(f"{'DATA_' if style.tags == 'upper' else 'data_'}made")
    if rng.random() < 0.3:
        lines += [tag("_publ_section_comment"), ";", "data_ of a drawing", "loop_", "; "]
    lattice = setting.structure.lattice
    for axis, length in zip("abc", lattice.abc, strict=True):
        lines.append(f"{tag(f'_cell_length_{axis}')} {length:.6f}{'(2)' if style.errors else ''}")
    for name, angle in zip(("alpha", "beta", "gamma"), lattice.angles, strict=True):
        if style.angles or abs(angle - 90) > 1e-4:
            lines.append(f"{tag(f'_cell_angle_{name}')}\t{angle:.6f}")
    lines += _symmetry_lines(setting, style, tag, rng)
    lines += _formula_lines(setting.structure, style, tag)
    lines += _site_lines(setting, style, tag)
    text = style.line_end.join([*lines, "# end", ""])
    return ("\ufeff" if style.mark else "") + text


def _tag_writer(style: str) -> Callable[[str], str]:
    def tag(name: str) -> str:
        if style == "upper":
            return name.upper()
        if style == "dotted":
            for start, other in DOTTED.items():
                if name.startswith(start):
                    return other + name[len(start) :]
        return name

    return tag


def _symmetry_lines(
    setting: Setting, style: Style, tag: Callable[[str], str], rng: random.Random
) -> list[str]:
    kind, entry = setting.kind, setting.entry
    name = rng.choice(
        [
            "_symmetry_space_group_name_H-M",
            "_space_group_name_H-M_alt",
            "_space_group_name_H-M_full",
        ]
    )
    number = rng.choice(["_symmetry_Int_Tables_number", "_space_group_IT_number"])
    hall = rng.choice(["_symmetry_space_group_name_Hall", "_space_group_name_Hall"])
    lines = {
        "hall": [f"{tag(hall)} {_quoted(kind.hall_symbol)}"],
        "extended": [f"{tag(name)} '{_spelled(entry.xhm(), rng)}'"],
        "full": [
            f"{tag(name)} '{kind.international_full.replace('_', '')}{_suffix(entry)}'",
        ],
        "short": [f"{tag(name)} '{entry.hm}'"],
        "number": [f"{tag(number)} {kind.number}"],
        "code": [
            f"{tag('_space_group_IT_number')} {kind.number}",
            f"{tag('_space_group_IT_coordinate_system_code')} {kind.choice or 'abc'}",
        ],
        "schoenflies": [f"{tag('_space_group_name_Schoenflies')} {kind.schoenflies}"],
    }
    if style.symmetry in lines:
        return lines[style.symmetry]
    new = style.symmetry == "new operations"
    names = [] if style.symmetry == "operations alone" else [f"{tag(name)} '{entry.hm}'"]
    listed = [
        f"'{_triplet(r, t)}'" for r, t in zip(setting.rotations, setting.translations, strict=True)
    ]
    rng.shuffle(listed)
    operation = "_space_group_symop_operation_xyz" if new else "_symmetry_equiv_pos_as_xyz"
    if rng.random() < 0.5:
        identifier = "_space_group_symop_id" if new else "_symmetry_equiv_pos_site_id"
        numbered = [f"{at} {text}" for at, text in enumerate(listed, 1)]
        return [*names, _loop(style), tag(identifier), tag(operation), *numbered]
    return [*names, _loop(style), tag(operation), *listed]


def _quoted(text: str) -> str:
    return f"'{text}'" if '"' in text else f'"{text}"'


def _suffix(entry: Any) -> str:
    extension = str(entry.ext).strip("\x00 ")
    return f":{extension}" if extension else ""


def _spelled(symbol: str, rng: random.Random) -> str:
    """The symbol, unchanged, without blanks, with a blank before its colon, or in lower case."""
    return rng.choice([symbol, symbol.replace(" ", ""), symbol.replace(":", " :"), symbol.lower()])


def _triplet(rotation: NDArray[np.intc], translation: NDArray[np.float64]) -> str:
    parts = []
    for row, shift in zip(rotation, translation, strict=True):
        text = "".join(
            ("+" if value > 0 else "-") + axis
            for value, axis in zip(row, "xyz", strict=True)
            if value
        )
        above = round(float(shift) * 24) % 24
        fraction = f"+{above}/24" if above else ""
        for low in (2, 3, 4, 6, 8):
            if above and above * low % 24 == 0:
                fraction = f"+{above * low // 24}/{low}"
                break
        parts.append(text.lstrip("+") + fraction)
    return ", ".join(parts)


def _loop(style: Style) -> str:
    return "LOOP_" if style.tags == "upper" else "loop_"


def _formula_lines(structure: Structure, style: Style, tag: Callable[[str], str]) -> list[str]:
    composition = structure.composition
    unit, n_units = composition.get_integer_formula_and_factor()
    del unit
    counts = {str(el): round(amount / n_units) for el, amount in composition.items()}
    if style.formula.startswith("cell"):
        counts = {symbol: round(count * n_units) for symbol, count in counts.items()}
    lines = []
    if style.formula != "none":
        text = " ".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in counts.items())
        lines.append(f"{tag('_chemical_formula_sum')} '{text}'")
    if style.formula.endswith("Z"):
        lines.append(f"{tag('_cell_formula_units_Z')} {round(n_units)}")
    return lines


def _site_lines(setting: Setting, style: Style, tag: Callable[[str], str]) -> list[str]:
    columns = ["_atom_site_label"]
    if style.elements != "label":
        columns.append("_atom_site_type_symbol")
    columns += [f"_atom_site_fract_{axis}" for axis in "xyz"]
    lines = [_loop(style), *map(tag, columns)]
    for at, row in enumerate(setting.rows):
        site = setting.structure[row]
        symbol = site.specie.symbol
        written = {
            "type": symbol,
            "ion": f"{symbol}{at % 4 + 1}{'+-'[at % 2]}",
            "label": "",
            "upper type": symbol.upper(),
        }[style.elements]
        end = "(3)" if style.errors else ""
        coords = " ".join(f"{value:.{style.digits}f}{end}" for value in site.frac_coords)
        lines.append(f"{symbol}{at + 1} {written} {coords}")
    return lines


# Files written by programs


def by_programs(crystal: Structure) -> Iterator[tuple[str, str, Structure]]:
    """Yield the name of the program, its text, and the crystal in it."""
    yield "pymatgen", str(CifWriter(crystal)), crystal
    refined = SpacegroupAnalyzer(crystal, symprec=SYMPREC).get_refined_structure()
    yield "pymatgen symmetrised", str(CifWriter(crystal, symprec=SYMPREC)), refined
    yield "ase", _by_ase(crystal), crystal
    yield "gemmi", _by_gemmi(crystal), crystal


def _by_ase(crystal: Structure) -> str:
    from ase.io import write as ase_write

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ase_write(file, AseAtomsAdaptor.get_atoms(crystal), format="cif")
    return file.getvalue().decode()


def _by_gemmi(crystal: Structure) -> str:
    made = gemmi.SmallStructure()
    made.name = "made"
    made.cell = gemmi.UnitCell(*crystal.lattice.parameters)
    made.spacegroup_hm = "P 1"
    for at, site in enumerate(crystal):
        one = gemmi.SmallStructure.Site()
        one.label = f"{site.specie.symbol}{at + 1}"
        one.type_symbol = site.specie.symbol
        one.element = gemmi.Element(site.specie.symbol)
        one.fract = gemmi.Fractional(*site.frac_coords)
        one.occ = 1.0
        made.add_site(one)
    return str(made.make_cif_block().as_string())
