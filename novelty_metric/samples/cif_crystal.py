"""One crystal from the text of a CIF with one data block.

gemmi reads the grammar and the symmetry. The pymatgen structure has the sites, their order and
their coordinates as pymatgen's own reader gives them, where that one is right. No atom is added or
dropped in silence: what is missing, in doubt or contradicts itself is refused.

gemmi, pymatgen and spglib are imported by the functions that need them.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.samples.checks import UnreadableCrystal, check_cell, element
from novelty_metric.samples.cif_elements import (
    NULL,
    content_fault,
    formula_counts,
    hydrogen,
    site_symbol,
)
from novelty_metric.samples.cif_symmetry import (
    METRIC_TOLERANCE,
    GroupName,
    Operations,
    group_names,
    listed_operations,
    possible_settings,
)
from novelty_metric.samples.plausibility import COORDINATE_REACH
from novelty_metric.samples.source import MAX_MEMBER_BYTES, one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Composition, Lattice, Structure

MAX_WORDS = 2_000_000
"""Maximum number of words read from a CIF: 50 MB of single digits would take 2 GB of memory."""

MAX_POSITIONS = 20_000
"""Maximum number of positions (sites times operations); each takes about 50 microseconds."""

MAX_EXAMINED_SITES = 1_000
"""Maximum number of sites for symmetry and distance checks, if the file contradicts itself."""

SITE_TOLERANCE = 1e-4
"""Positions closer than this in each fractional coordinate are one; value of pymatgen's reader."""

_THIRD_TOLERANCE = 1e-4
"""A coordinate within this relative distance of 1/3 or 2/3 is a third; as in pymatgen's reader."""

_THINNEST = 0.01
"""Minimum distance between opposite faces of the cell (Å); value of pymatgen's reader."""

_SPECIAL = 0.05
"""A site and its own image closer than this (Å) are one special position, written with few digits.
"""

_CLOSE = 0.5
"""An origin that puts two atoms of one element closer than this (Å) is wrong."""

DUMMY_EDGE = 100.0
"""Edge (Å) of the cell that ADiT writes if it failed to make a crystal."""

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\([\d.]*\)?)?", re.ASCII)
_DATA_LINE = re.compile(r"^\s*data_", re.MULTILINE | re.IGNORECASE)
_PLAIN_NUMBERS = re.compile(r"[0-9.+-]*")
_FRACTION = re.compile(r"([+-]?\d{1,6})/(\d{1,6})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]|[^\x00-\x7f]")

_OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
_MAGNETIC_OPERATIONS = "_space_group_symop_magn_operation_xyz"
_MAGNETIC_NAME = re.compile(r"_space_group_magn|_magnetic_space_group")
_MAGNETIC_CENTRINGS = "_space_group_symop_magn_centering_xyz"


class _Complete(UnreadableCrystal):
    """An error whose message needs no introduction."""


def crystal_from_cif(text: str) -> Structure:
    """Make the crystal of a CIF with one data block.

    Tags of the core dictionary are known in any case, with a point or underscores, as are those of
    magnetic CIFs. Listed operations decide; without any, a Hall symbol does, then a
    Hermann–Mauguin symbol, then a number or Schoenflies' symbol, which stand for the standard
    setting. Of several settings that a name can stand for, the cell, the formula and the distances
    decide. Angles that are not given are 90 degrees, occupancies 1.

    Partial occupancies on one site make a disordered structure. Site labels and the oxidation
    states of a ``_atom_type`` loop are kept.

    Raises
    ------
    UnreadableCrystal
        With the reason in one line, if the text is not CIF; a cell parameter, a coordinate or an
        occupancy is not a number; an element can't be told; the space group is not known, or
        contradicts the operations, the cell or the atoms; the atoms contradict the formula; atoms
        coincide; hydrogen is attached that is not listed; or a bound is passed.
    """
    if len(text) > MAX_MEMBER_BYTES:
        raise UnreadableCrystal(f"more than {MAX_MEMBER_BYTES / 1e6:.0f} MB of text")
    try:
        return _structure(_Block.parse(text))
    except _Complete:
        raise
    except UnreadableCrystal as error:
        raise UnreadableCrystal(f"CIF: {error}") from error.__cause__
    except _UNEXPECTED as error:  # any text may come in, and harms no other crystal
        raise UnreadableCrystal(f"CIF: {one_line(error)}") from error


_UNEXPECTED = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def is_cif(text: str) -> bool:
    """True if the text has the grammar of CIF, and one data block."""
    from gemmi import cif

    try:
        return len(cif.read_string(_plain(text))) == 1
    except (ValueError, RuntimeError):  # an UnreadableCrystal is one
        return False


@dataclass(frozen=True, slots=True)
class _Block:
    """The items of a data block."""

    # By tag in lower case, with underscores for points; without quotes, one outside a loop.
    values: dict[str, list[str]]

    @classmethod
    def parse(cls, text: str) -> _Block:
        from gemmi import cif

        plain = _plain(text)
        try:
            document = cif.read_string(plain)
            n_blocks = len(document)
        except (ValueError, RuntimeError) as error:
            if "duplicate block name" not in str(error):
                raise _grammar_fault(error) from error
            n_blocks = len(_DATA_LINE.findall(text))
        if n_blocks != 1:
            raise _Complete(_blocks_fault(n_blocks))
        values: dict[str, list[str]] = {}
        block: Any = document[0]
        for item in block:
            if item.pair is not None:
                tag, value = item.pair
                _add(values, tag, [value])
            elif item.loop is not None and any(map(_canonical, item.loop.tags)):
                n_rows, width = item.loop.length(), item.loop.width()
                if not n_rows:
                    raise UnreadableCrystal("a loop_ without columns or values")
                if n_rows > MAX_POSITIONS:
                    tag = item.loop.tags[0]
                    raise UnreadableCrystal(f"{n_rows} values of {tag}, more than {MAX_POSITIONS}")
                words = item.loop.values
                for at, tag in enumerate(item.loop.tags):
                    _add(values, tag, words[at::width])
        return cls(values)

    def text(self, tag: str) -> str | None:
        """The value of a tag; None if it is unknown or missing."""
        values = self.values.get(tag, [""])
        if len(values) > 1:
            raise UnreadableCrystal(f"{len(values)} values of {tag} where one is expected")
        return None if values[0].strip() in NULL else values[0].strip()

    def number(self, tag: str) -> float:
        """The number of a required tag."""
        if tag not in self.values:
            raise UnreadableCrystal(f"{tag!r} is missing")
        self.text(tag)  # one value
        return _number(self.values[tag][0], tag)

    def column(self, name: str) -> list[str] | None:
        """A column of the sites; None if it is missing."""
        return self.values.get(f"_atom_site_{name}")


def _plain(text: str) -> str:
    """The text with line ends that gemmi reads; characters that CIF does not allow become ``~``.

    So they do not affect comments, and do not turn other text into numbers.
    """
    text = text.lstrip("\ufeff").rstrip("\x1a\x00 \n")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace("\x0b", " ").replace("\x0c", " ")
    text = _CONTROL.sub("~", text) + "\n"
    if len(text) > MAX_WORDS:
        gaps = np.frombuffer(text.encode("ascii"), np.uint8) <= 32
        if np.count_nonzero(gaps[1:] & ~gaps[:-1]) > MAX_WORDS:
            raise UnreadableCrystal(f"more than {MAX_WORDS / 1e6:.0f} million words")
    return text


def _grammar_fault(error: Exception) -> UnreadableCrystal:
    """The error message of gemmi, with the line: ``string:12:0(345): parse error``."""
    if "expected block header" in str(error):
        return _Complete(_blocks_fault(0))
    match = re.match(r"string:(\d+)(?::\d+\(\d+\))?:?\s*(?:in \S*:\s*)?(.*)", str(error), re.DOTALL)
    if match is None:
        return UnreadableCrystal(one_line(error))
    reason = one_line(match[2].replace(" _*", ""))
    what = "not the grammar of CIF" if reason == "parse error" else reason
    return UnreadableCrystal(f"line {match[1]}: {what}")


def _blocks_fault(n_blocks: int) -> str:
    if not n_blocks:
        return "not a CIF: there is no data_ line"
    return f"{n_blocks} data_ blocks where one crystal is expected"


@lru_cache(maxsize=4096)
def _canonical(tag: str) -> str:
    """The tag as it is looked up; empty if it is not needed."""
    name = tag.lower().replace(".", "_").rstrip("_")
    return name if name.startswith(_NEEDED) else ""


_NEEDED = (
    "_atom_site_",
    "_atom_type_",
    "_cell_",
    "_chemical_formula_sum",
    "_magnetic_space_group",
    "_space_group_",
    "_symmetry_",
)


def _add(values: dict[str, list[str]], tag: str, words: Sequence[str]) -> None:
    from gemmi import cif

    name = _canonical(tag)
    if not name:
        return
    read = [str(cif.as_string(word)) if word[0] in "'\";" else word for word in words]
    if values.setdefault(name, read) != read:
        raise UnreadableCrystal(f"{name} is given twice, with different values")


def _number(word: str, where: str) -> float:
    """A CIF number without its standard uncertainty, or a fraction such as 1/3."""
    if match := _NUMBER.fullmatch(word):
        value = float(match[1])
        if math.isfinite(value):
            return value
    if (match := _FRACTION.fullmatch(word)) and int(match[2]):
        return int(match[1]) / int(match[2])
    if word.strip() in NULL:
        raise UnreadableCrystal(f"{where} is unknown ({word!r})")
    raise UnreadableCrystal(f"{where} is {one_line(repr(word), 40)}, not a number")


# Sites


@dataclass(frozen=True, slots=True)
class _Sites:
    """The rows of the sites."""

    labels: list[str]
    species: list[tuple[str, float | None]]  # symbol, and oxidation state if the file gives one
    occupancies: list[float]
    coords: NDArray[np.float64]  # (n_rows, 3), fractional, as written

    def __len__(self) -> int:
        return len(self.labels)


def _read_sites(block: _Block, formula: frozenset[str]) -> _Sites:
    labels, types = block.column("label"), block.column("type_symbol")
    first = labels or types
    if first is None:
        if not any(tag.startswith("_cell_") for tag in block.values):
            raise UnreadableCrystal("no cell and no atoms")
        raise UnreadableCrystal("'_atom_site_label' is missing")
    n_rows = len(first)
    for tag, column in block.values.items():
        if len(column) != n_rows and _SITE_TAGS.fullmatch(tag):
            raise UnreadableCrystal(f"{len(column)} values of {tag} for {n_rows} sites")
    names = labels or [f"{symbol}{row}" for row, symbol in enumerate(first)]
    _refuse_unlisted_atoms(block, names)
    symbols = [
        site_symbol(types[row] if types else None, labels[row] if labels else None, formula)
        for row in range(n_rows)
    ]
    occupancies = [1.0] * n_rows
    if (words := block.column("occupancy")) is not None:
        occupancies = _column(words, "occupancy", names)
        if (least := min(occupancies)) <= 0:
            at = occupancies.index(least)
            raise UnreadableCrystal(f"the occupancy of {names[at]} is {least:g}")
    coords = np.empty((n_rows, 3))
    for axis, letter in enumerate("xyz"):
        if (words := block.column(f"fract_{letter}")) is None:
            if block.column("cartn_x") is not None:
                raise UnreadableCrystal(
                    "the coordinates are Cartesian (_atom_site_Cartn_x); write fractional ones"
                )
            raise UnreadableCrystal(f"'_atom_site_fract_{letter}' is missing")
        coords[:, axis] = _column(words, f"fract_{letter}", names)
    return _Sites(names, _with_oxidation(block, symbols, types), occupancies, coords)


_SITE_TAGS = re.compile(
    r"_atom_site_(label|type_symbol|fract_[xyz]|occupancy|attached_hydrogens|calc_flag"
    r"|(site_)?symmetry_multiplicity)"
)


def _column(words: Sequence[str], name: str, labels: Sequence[str]) -> list[float]:
    """The numbers in a column of the sites."""
    if _PLAIN_NUMBERS.fullmatch("".join(words)):
        try:
            values = list(map(float, words))
        except ValueError:
            pass
        else:
            if all(map(math.isfinite, values)):
                return values
    values = []
    for row, word in enumerate(words):
        try:
            values.append(_number(word, f"_atom_site_{name}"))
        except UnreadableCrystal as error:
            raise UnreadableCrystal(f"{labels[row]}: {error}") from None
    return values


def _refuse_unlisted_atoms(block: _Block, names: Sequence[str]) -> None:
    """Refuse dummy atoms, and hydrogen atoms that the file mentions but does not list."""
    for row, word in enumerate(block.column("attached_hydrogens") or ()):
        if word not in NULL and _number(word, "_atom_site_attached_hydrogens") != 0:
            raise UnreadableCrystal(f"{names[row]} has attached hydrogens, which are not listed")
    for row, word in enumerate(block.column("calc_flag") or ()):
        if word.lower() == "dum":
            raise UnreadableCrystal(f"{names[row]} is a dummy atom (_atom_site_calc_flag)")


def _with_oxidation(
    block: _Block, symbols: Sequence[str], types: Sequence[str] | None
) -> list[tuple[str, float | None]]:
    """Symbols with the oxidation states of the atom-type loop, if it has all of them."""
    kinds = block.values.get("_atom_type_symbol")
    numbers = block.values.get("_atom_type_oxidation_number")
    if kinds is None or numbers is None or len(kinds) != len(numbers):
        return [(symbol, None) for symbol in symbols]
    try:
        read = [_number(word, "_atom_type_oxidation_number") for word in numbers]
    except UnreadableCrystal:
        return [(symbol, None) for symbol in symbols]
    plain_kinds = [re.sub(r"\d?[+,\-]?$", "", kind) for kind in kinds]
    states = dict(zip([*kinds, *plain_kinds], [*read, *read], strict=True))
    plain = [states.get(symbol, 0.0) for symbol in symbols]
    if types is not None:
        plain = [states.get(kind, state) for kind, state in zip(types, plain, strict=True)]
    return list(zip(symbols, plain, strict=True))


# Cell and symmetry


def _read_lattice(block: _Block) -> Lattice:
    from pymatgen.core import Lattice

    lengths = [block.number(f"_cell_length_{axis}") for axis in "abc"]
    angles = [
        block.number(tag) if (tag := f"_cell_angle_{name}") in block.values else 90.0
        for name in ("alpha", "beta", "gamma")
    ]
    volume = check_cell(lengths, angles)
    for length, angle in zip(lengths, angles, strict=True):
        if length * volume / math.sin(math.radians(angle)) < _THINNEST:
            raise UnreadableCrystal(f"the cell is thinner than {_THINNEST} Å")
    return Lattice.from_parameters(*lengths, *angles)


def _listed(block: _Block) -> Operations | None:
    """The operations that the file lists; None if it lists none."""
    if any(re.search(r"_modulation|_wave_vector|_ssg_", tag) for tag in block.values):
        raise UnreadableCrystal("the structure is modulated")
    if magnetic := block.values.get(_MAGNETIC_OPERATIONS):
        centrings = block.values.get(_MAGNETIC_CENTRINGS, ())
        return listed_operations(tuple(magnetic), tuple(centrings))
    found = None
    for tag in _OPERATIONS:
        texts = tuple(block.values.get(tag, ()))
        if all(text.strip() in NULL for text in texts):
            continue
        operations = listed_operations(texts)
        if found is not None and len(found) != len(operations):
            raise UnreadableCrystal("two lists of symmetry operations differ")
        found = operations
    if found is None and any(map(_MAGNETIC_NAME.match, block.values)):
        raise UnreadableCrystal("a magnetic space group is named, but no operations are listed")
    return found


def _structure(block: _Block) -> Structure:
    formula = formula_counts(block.text("_chemical_formula_sum") or "") or {}
    try:
        sites = _read_sites(block, frozenset(formula))
        lattice = _read_lattice(block)
    except UnreadableCrystal:
        _refuse_dummy_cell(block)
        raise
    z = _NUMBER.fullmatch(block.text("_cell_formula_units_z") or "")
    n_units = float(z[1]) if z and float(z[1]) > 0 else None
    names = group_names(block.values)

    def assembled(operations: Operations) -> _Assembled:
        return _assemble(sites, operations, lattice.matrix, formula, n_units)

    operations = _listed(block)
    if operations is not None:
        if operations.misfit(lattice.matrix) > METRIC_TOLERANCE:
            raise UnreadableCrystal("the cell contradicts the symmetry operations that are listed")
        crystal = assembled(operations)
    elif names:
        _refuse_transform(block, names)
        crystal = _fitting(possible_settings(names, lattice.matrix), assembled, lattice)
    else:
        crystal = assembled(Operations(np.eye(3)[None], np.zeros((1, 3)), 1))
    missing = _missing_operations(operations, names)
    if crystal.fault:
        raise UnreadableCrystal(missing or crystal.fault)
    structure = crystal.structure(lattice)
    told = bool(formula) and n_units is not None
    if missing and not told and not _has_group(structure, names):
        raise UnreadableCrystal(missing)
    if len(crystal.operations) == 1 and not told:
        _refuse_multiplicities(block, len(sites))
    if len(sites) > 1 and (reach := float(np.ptp(sites.coords, axis=0).max())) > 1:
        structure.properties[COORDINATE_REACH] = reach
    return structure


def _refuse_dummy_cell(block: _Block) -> None:
    """Explain the origin of an atom with element number 0, which a CIF calls X."""
    symbols = block.column("type_symbol") or block.column("label") or ()
    if not any(re.fullmatch(r"[Xx](?![A-Za-z]).*", symbol) for symbol in symbols):
        return
    edges = [block.values.get(f"_cell_length_{axis}", [""])[0] for axis in "abc"]
    numbers = [_NUMBER.fullmatch(edge) for edge in edges]
    if all(number is not None and float(number[1]) == DUMMY_EDGE for number in numbers):
        raise _Complete(
            f"a dummy cell of {DUMMY_EDGE:.0f} Å sides with element number 0, which ADiT writes "
            "where it failed to make a crystal"
        )
    raise UnreadableCrystal("element number 0 (X) is not an element")


def _refuse_transform(block: _Block, names: Sequence[GroupName]) -> None:
    if min(name.level for name in names) == 0:
        return
    for tag, values in block.values.items():
        if tag.startswith("_space_group_transform") and (
            "".join(values[0].lower().split()) not in (*NULL, "a,b,c;0,0,0", "x,y,z")
        ):
            raise UnreadableCrystal(
                "the space group is named in another setting (_space_group_transform), and no "
                "symmetry operations are listed"
            )


def _missing_operations(operations: Operations | None, names: Sequence[GroupName]) -> str | None:
    """A message if the operations are not those of the named group, else None.

    CrystaLLM writes the name of the group and the identity alone; its postprocessing puts the
    operations in.
    """
    numbers = {name.number for name in names}
    if operations is None or not numbers or operations.number in numbers or numbers == {1}:
        return None
    if len(operations) > 1 and numbers == {None}:
        return None
    name = one_line(next(name for name in names if name.number != 1).text, 20)
    if len(operations) > 1:
        listed = "another" if operations.number is None else f"number {operations.number}"
        return f"names the space group {name}, but lists the operations of {listed}"
    return (
        f"names the space group {name} but lists no operation but the identity, so that atoms are "
        "missing; postprocess the CIFs first, as CrystaLLM does with bin/postprocess.py"
    )


def _has_group(structure: Structure, names: Sequence[GroupName]) -> bool:
    """True if the listed sites have one of the named space groups."""
    if len(structure) > MAX_EXAMINED_SITES:
        return False
    try:
        number = structure.get_space_group_info(symprec=0.1)[1]
    except Exception:  # pymatgen and spglib raise types of their own, which change by version
        return False
    return any(name.number == number for name in names)


def _refuse_multiplicities(block: _Block, n_sites: int) -> None:
    """Refuse sites of multiplicity above 1 if no operation multiplies them."""
    column = block.column("symmetry_multiplicity") or block.column("site_symmetry_multiplicity")
    numbers = [_NUMBER.fullmatch(word) for word in column or ()]
    total = sum(float(number[1]) if number else 1.0 for number in numbers)
    if total > n_sites + 0.5:
        raise UnreadableCrystal(
            f"the multiplicities of the sites give {total:g} atoms, but {n_sites} are listed, and "
            "no symmetry operation makes the others"
        )


def _fitting(
    settings: Sequence[Operations],
    assembled: Callable[[Operations], _Assembled],
    lattice: Lattice,
) -> _Assembled:
    """The crystal in the one setting that agrees with the formula and has no atoms too close."""
    if len(settings) == 1:
        return assembled(settings[0])
    crystals = [assembled(setting) for setting in settings]
    fitting = [crystal for crystal in crystals if not crystal.fault]
    if len(fitting) > 1:
        fitting = [crystal for crystal in fitting if not crystal.is_crowded(lattice)] or fitting
    if not fitting:
        return crystals[0]
    if len(fitting) > 1 and not _are_equal([crystal.structure(lattice) for crystal in fitting]):
        raise UnreadableCrystal(
            f"the space group has {len(fitting)} origins or settings, and the file does not say "
            "which: name it with its choice, such as :1 or :2, or list the symmetry operations"
        )
    return fitting[0]


def _are_equal(structures: Sequence[Structure]) -> bool:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    first, *others = structures
    if max(map(len, structures)) > MAX_EXAMINED_SITES // 10:
        return False
    matcher = StructureMatcher(0.01, 0.01, 0.1, primitive_cell=False, scale=False)
    return all(matcher.fit(first, other) for other in others)


# The structure


@dataclass(frozen=True, slots=True)
class _Assembled:
    """The positions of all atoms in the cell."""

    operations: Operations
    compositions: list[Composition]  # of each position, in the order of the structure
    positions: NDArray[np.float64]  # (n_positions, 3), fractional, in the cell
    labels: list[str]
    fault: str | None  # why this is not a crystal of the file

    def structure(self, lattice: Lattice) -> Structure:
        from pymatgen.core import Structure

        return Structure(lattice, self.compositions, self.positions, labels=self.labels)

    def is_crowded(self, lattice: Lattice) -> bool:
        """True if two positions are closer than two atoms can be."""
        if not 1 < len(self.positions) <= MAX_EXAMINED_SITES:
            return False
        distances = lattice.get_all_distances(self.positions, self.positions)
        np.fill_diagonal(distances, np.inf)
        return bool(distances.min() < _CLOSE)


def _assemble(
    sites: _Sites,
    operations: Operations,
    matrix: NDArray[np.float64],
    formula: Mapping[str, float],
    n_units: float | None,
) -> _Assembled:
    """The rows, multiplied by the operations and merged, in the order of pymatgen."""
    n_positions = len(sites) * len(operations)
    if n_positions > MAX_POSITIONS:
        raise UnreadableCrystal(
            f"{len(sites)} sites and {len(operations)} symmetry operations make {n_positions} "
            f"positions, more than {MAX_POSITIONS}"
        )
    coords = sites.coords.copy()
    for third in (1 / 3, 2 / 3):
        coords[np.abs(sites.coords / third - 1) <= _THIRD_TOLERANCE] = third
    images = coords[:, None]
    if len(operations) > 1:
        coords = _on_special_positions(coords, operations, matrix)
        images = _images(coords, operations)
    hosts = _hosts(images, coords)
    merged: dict[int, list[int]] = {}
    for row, host in enumerate(hosts):
        merged.setdefault(host, []).append(row)
    kinds = [
        _site_kind(tuple((*sites.species[row], sites.occupancies[row]) for row in rows))
        for rows in merged.values()
    ]
    fault = _coincidence(kinds, list(merged.values()), sites.labels)
    images = images[list(merged)]
    images -= np.floor(images)
    kept = [_distinct(positions) for positions in images]
    if fault is None and formula:
        atoms: dict[str, float] = {}
        for kind, here in zip(kinds, kept, strict=True):
            for symbol, amount in kind.amounts:
                atoms[symbol] = atoms.get(symbol, 0.0) + amount * len(here)
        fault = content_fault(atoms, formula, n_units)
    pairs = [(row, at) for row, here in enumerate(kept) for at in here]
    pairs = [pairs[at] for at in _order(kinds, [row for row, _ in pairs])]
    labels = [sites.labels[rows[-1]] for rows in merged.values()]
    return _Assembled(
        operations,
        [kinds[row].composition for row, _ in pairs],
        images[tuple(np.array(pairs).T)],
        [labels[row] for row, _ in pairs],
        fault,
    )


def _images(coords: NDArray[np.float64], operations: Operations) -> NDArray[np.float64]:
    """Every image of every row, ``(n_rows, n_operations, 3)``, not wrapped."""
    turned: NDArray[np.float64] = np.einsum("oij,nj->noi", operations.rotations, coords)
    return turned + operations.translations


def _on_special_positions(
    coords: NDArray[np.float64], operations: Operations, matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The coordinates; positions that miss a special position by rounding are moved onto it.

    Such a row is the mean of its images that are at most `_SPECIAL` away. Rows whose images merge
    as they are stay as they are.
    """
    apart = _images(coords, operations) - coords[:, None]
    apart -= np.rint(apart)
    here = np.linalg.norm(apart @ matrix, axis=-1) < _SPECIAL
    for row in np.flatnonzero((here & (np.abs(apart) > SITE_TOLERANCE / 2).any(-1)).any(1)):
        coords[row] += apart[row, here[row]].mean(0)
    return coords


def _hosts(images: NDArray[np.float64], coords: NDArray[np.float64]) -> list[int]:
    """For each row, the first row that shares an image with it (itself if there is no earlier one).

    The images are (n_rows, n_operations, 3).
    """
    n_rows, n_images = images.shape[:2]
    if n_rows * n_rows * n_images > _MOST_PAIRS:
        _refuse_coincidence(images, coords)
        return list(range(n_rows))
    if n_rows == 1:
        return [0]
    hosts: list[int] = []
    step = max(1, _MOST_PAIRS // (8 * n_rows * n_images))
    for start in range(0, n_rows, step):
        near = np.any(_near(images[start : start + step, :, None] - coords), axis=1)
        for row, first in enumerate(near.argmax(1).tolist(), start):
            hosts.append(hosts[first] if first < row else row)
    return hosts


_MOST_PAIRS = 4_000_000
"""Maximum number of distances between rows and images computed one by one; a tree takes more."""


def _refuse_coincidence(images: NDArray[np.float64], coords: NDArray[np.float64]) -> None:
    """Refuse rows on the same site, for too many rows to compare every pair."""
    from scipy.spatial import cKDTree

    reason = f"coincident atoms among {len(coords)} sites"
    points = coords % 1.0 % 1.0
    if len(np.unique(points, axis=0)) < len(points):  # a tree of equal points is slow
        raise UnreadableCrystal(reason)
    tree = cKDTree(points, boxsize=1.0)
    wrapped = images.reshape(-1, 3) % 1.0 % 1.0
    distances, rows = tree.query(wrapped, k=2, p=np.inf, distance_upper_bound=SITE_TOLERANCE)
    own = np.repeat(np.arange(len(coords)), images.shape[1])[:, None]
    if (np.isfinite(distances) & (rows != own)).any():
        raise UnreadableCrystal(reason)


def _distinct(images: NDArray[np.float64]) -> list[int]:
    """The images of a row, (n_operations, 3), to keep: those not equal to an earlier kept one."""
    if len(images) == 1:
        return [0]
    near = _near(images[:, None] - images)
    first = near.argmax(1)
    if (first[first] == first).all():
        return [int(at) for at in np.flatnonzero(first == np.arange(len(images)))]
    kept: list[int] = []
    for at in range(len(images)):
        if not near[at, kept].any():
            kept.append(at)
    return kept


def _near(apart: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True where a difference of fractional coordinates, ``(…, 3)``, means the same position."""
    apart -= np.rint(apart)
    np.abs(apart, out=apart)
    return np.asarray((apart < SITE_TOLERANCE).all(-1))


@dataclass(frozen=True, slots=True, eq=False)
class _SiteKind:
    """The species on a site, in pymatgen's sorting order: electronegativity, then name."""

    composition: Composition
    electronegativity: float  # NaN where an element has none
    name: str
    amounts: tuple[tuple[str, float], ...]  # atoms per element

    def __lt__(self, other: _SiteKind) -> bool:
        # With NaN neither is below the other, and the name decides.
        if self.electronegativity < other.electronegativity:
            return True
        return not self.electronegativity > other.electronegativity and self.name < other.name


@lru_cache(maxsize=4096)
def _site_kind(species: tuple[tuple[str, float | None, float], ...]) -> _SiteKind:
    from pymatgen.core import Composition, Lattice, PeriodicSite, Species

    composition = Composition()
    for symbol, state, occupancy in species:
        specie: Any = element(symbol) if state is None else Species(symbol, state)
        composition += Composition({specie: occupancy})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements without an electronegativity
        site = PeriodicSite(composition, [0, 0, 0], Lattice.cubic(1), skip_checks=True)
        return _SiteKind(
            composition,
            float(composition.average_electroneg),
            site.species_string,
            tuple((hydrogen(symbol), occupancy) for symbol, _, occupancy in species),
        )


def _coincidence(
    kinds: Sequence[_SiteKind], rows: Sequence[Sequence[int]], labels: Sequence[str]
) -> str | None:
    """A message if the occupancies of a site are wrong; None if none sums to more than 1."""
    for kind, here in zip(kinds, rows, strict=True):
        total = sum(amount for _, amount in kind.amounts)
        if total > 1 + 1e-8:
            names = one_line(", ".join(labels[row] for row in here), 60)
            if len(here) == 1:
                return f"the occupancy of {names} is {total:g}"
            return f"coincident atoms: {names} are on one site; their occupancies sum to {total:g}"
    return None


def _order(kinds: Sequence[_SiteKind], owners: Sequence[int]) -> list[int]:
    """The positions in the order of pymatgen's reader; `owners` are the rows of the positions."""
    distinct = list({id(kind): kind for kind in kinds}.values())
    keys = {(kind.electronegativity, kind.name) for kind in distinct}
    positions = list(range(len(owners)))
    clear = not any(math.isnan(kind.electronegativity) for kind in distinct)
    if not clear or len(keys) < len(distinct):
        # It sorts by composition first, which decides where the order of sites does not.
        distinct.sort(key=lambda kind: kind.composition)
        first = {id(kind): at for at, kind in enumerate(distinct)}
        positions.sort(key=lambda at: first[id(kinds[owners[at]])])
    if not clear:  # an order that is none: what comes out hangs on what went in
        return sorted(positions, key=lambda at: kinds[owners[at]])
    rank = {id(kind): at for at, kind in enumerate(sorted(distinct))}
    ranks = [rank[id(kind)] for kind in kinds]
    return sorted(positions, key=[ranks[owner] for owner in owners].__getitem__)
