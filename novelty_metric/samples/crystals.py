"""One crystal from its text or its dictionary.

pymatgen is imported by the functions that need it.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from novelty_metric.samples.plausibility import COORDINATE_REACH
from novelty_metric.samples.source import MAX_MEMBER_BYTES, one_line

if TYPE_CHECKING:
    from pymatgen.core import Element, Structure

GENE_MESSAGE = (
    "these are WyckoffTransformer genes (space group, Wyckoff sites and elements) without cell or "
    "coordinates; realise them as crystals first, for instance with DiffCSP++, and give that file"
)

STRUCTURE_KEYS = (
    "Generated CIF",
    "cif",
    "structure",
    "relxed_structure",
    "relaxed_structure",
    "gen_str",
)
"""Names that models give to their crystals, the preferred one first."""

_PROMPT_LINES = 3

MAX_LITERAL = 5_000_000
"""Longest Python literal that is read (characters): 300 sites take 0.1 million, and reading one
takes a hundred times its length in memory."""

MAX_DEPTH = 100
"""Deepest nesting of brackets in a Python literal; a structure has six levels."""

_DATA_BLOCK = re.compile(r"^\s*data_", re.MULTILINE)


DUMMY_EDGE = 100.0
"""Side (Å) of the cell that ADiT writes where it failed to make a crystal."""

_OPERATION_KEYS = (
    "_symmetry_equiv_pos_as_xyz",
    "_symmetry_equiv_pos_as_xyz_",
    "_space_group_symop_operation_xyz",
    "_space_group_symop_operation_xyz_",
)
_GROUP_KEYS = (
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_alt",
    "_symmetry_int_tables_number",
    "_space_group_it_number",
)
_FORMULA = re.compile(r"([A-Z][a-z]?)\s*(\d*\.?\d*)")


class UnreadableCrystal(ValueError):
    """A crystal that can't be read; the message becomes its row."""


def crystal_from_value(value: Any) -> Structure:
    """Crystal from a table's cell or a JSON value: CIF, ``Structure.as_dict()``, or its text.

    Raises
    ------
    UnreadableCrystal
        With the reason in one line.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return crystal_from_dict(value)
    if isinstance(value, str):
        return crystal_from_text(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise UnreadableCrystal("empty")
    raise UnreadableCrystal(f"a {type(value).__name__} and not a crystal")


def crystal_from_text(text: str) -> Structure:
    """Crystal from CIF text, or from the JSON or Python ``repr`` of ``Structure.as_dict()``.

    A ``repr`` is read as literals and never evaluated. The text form of Crystal-text-LLM is
    read as well.

    Raises
    ------
    UnreadableCrystal
        With the reason in one line.
    """
    if len(text) > MAX_MEMBER_BYTES:
        raise UnreadableCrystal(f"more than {MAX_MEMBER_BYTES / 1e6:.0f} MB of text")
    stripped = text.strip()
    if not stripped or stripped.lower() in ("nan", "none", "null"):
        raise UnreadableCrystal("empty")
    if stripped.startswith("{"):
        return crystal_from_dict(_read_literal(stripped))
    if is_language_model_text(stripped):
        return crystal_from_language_model_text(stripped)
    return crystal_from_cif(text)


def _read_literal(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        _check_bounds(text)
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
            raise UnreadableCrystal(
                f"neither JSON nor a Python literal ({one_line(error, 120)})"
            ) from error
    if not isinstance(value, Mapping):
        raise UnreadableCrystal(f"a {type(value).__name__} and not a crystal")
    return value


def _check_bounds(text: str) -> None:
    """Refuse a literal that Python's parser would need too much memory or stack for."""
    if len(text) > MAX_LITERAL:
        raise UnreadableCrystal(f"a Python literal of {len(text) / 1e6:.0f} million characters")
    depth = 0
    for bracket in re.finditer(r"[\[({\])}]", text):
        depth += 1 if bracket.group() in "[({" else -1
        if depth > MAX_DEPTH:
            raise UnreadableCrystal(f"a Python literal of more than {MAX_DEPTH} nested brackets")


def crystal_from_cif(text: str) -> Structure:
    """Crystal from a CIF with one data block, as ``Structure.from_str(text, fmt="cif")`` reads it.

    pymatgen's parser is called directly, because ``from_str`` keeps to itself why it failed.
    A site whose symbol is not an element is an error: pymatgen leaves some of them out, and reads
    others by their first letter. So is a CIF that names a space group but lists the identity as its
    only operation, unless its formula says that all atoms are there, or they have that symmetry:
    CrystaLLM writes such files, and its postprocessing puts the operations in. Partial occupancies
    and deuterium are kept.

    Raises
    ------
    UnreadableCrystal
        With pymatgen's reason in one line.
    """
    from pymatgen.io.cif import CifParser

    n_blocks = len(_DATA_BLOCK.findall(text))
    if n_blocks == 0:
        raise UnreadableCrystal("not a CIF: there is no data_ line")
    if n_blocks > 1:
        raise UnreadableCrystal(f"{n_blocks} data_ blocks where one crystal is expected")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parser = CifParser.from_str(text)
            for block in parser.as_dict().values():
                _check_symbols(block)
            structure = parser.parse_structures(primitive=False, on_error="raise")[0]
            for block in parser.as_dict().values():
                _check_operations(block, structure)
                _keep_reach(block, structure)
        except UnreadableCrystal:
            raise
        except Exception as error:  # any text may come in, and the parser checks little
            reason = str(error).split("in CIF.\n", 1)[-1].strip()
            if isinstance(error, ZeroDivisionError):
                reason = "a loop_ without columns or values"
            if isinstance(error.__cause__, KeyError):
                reason = f"{reason} is missing"
            raise UnreadableCrystal(f"CIF: {one_line(reason or error)}") from error
    return structure


def _check_symbols(block: Mapping[str, Any]) -> None:
    symbols = block.get("_atom_site_type_symbol")
    if symbols is None:
        symbols = [
            # A label is an element with anything after it, such as OW1 or H2A.
            match.group() if (match := re.match(r"[A-Z][a-z]?|[a-z]", str(label))) else label
            for label in block.get("_atom_site_label", ())
        ]
    for symbol in [symbols] if isinstance(symbols, str) else symbols:
        letters = re.match(r"[A-Za-z]*", symbol.strip()).group()  # type: ignore[union-attr]
        if not _is_element(letters.capitalize()) and " + " not in symbol:
            if letters.upper() == "X":
                raise UnreadableCrystal(_placeholder(block))
            raise UnreadableCrystal(f"CIF: {one_line(repr(symbol), 40)} is not an element")


def _placeholder(block: Mapping[str, Any]) -> str:
    """What to say of an atom with element number 0, which a CIF calls X."""
    edges = [str(block.get(f"_cell_length_{axis}", "")) for axis in "abc"]
    if all(_is_number(edge) and float(edge) == DUMMY_EDGE for edge in edges):
        return (
            f"a dummy cell of {DUMMY_EDGE:.0f} Å sides with element number 0, which ADiT writes "
            "where it failed to make a crystal"
        )
    return "CIF: element number 0 (X) is not an element"


def _has_group(structure: Structure, names: Sequence[str]) -> bool:
    """Whether the sites, as they are listed, have the space group that is named."""
    from pymatgen.symmetry.groups import sg_symbol_from_int_number

    try:
        symbol, number = structure.get_space_group_info(symprec=0.1)
    except Exception:  # pymatgen and spglib raise types of their own, which change by version
        return False
    known = {symbol, str(number), sg_symbol_from_int_number(number)}
    return any("".join(name.split()) in known for name in names)


def _keep_reach(block: Mapping[str, Any], structure: Structure) -> None:
    """Keep how far the coordinates spread: pymatgen wraps them, and with it a mistake away."""
    reach = 0.0
    for axis in "xyz":
        column = block.get(f"_atom_site_fract_{axis}", ())
        words = [column] if isinstance(column, str) else column
        values = [float(word) for word in words if _is_number(word)]
        reach = max(reach, max(values, default=0.0) - min(values, default=0.0))
    if reach > 1:
        structure.properties[COORDINATE_REACH] = reach


def _check_operations(block: Mapping[str, Any], structure: Structure) -> None:
    """Refuse a space group whose operations were left out; see `crystal_from_cif`."""
    operations = [value for key, value in block.items() if key.lower() in _OPERATION_KEYS and value]
    names = [str(value) for key, value in block.items() if key.lower() in _GROUP_KEYS]
    if not operations or all("".join(name.split()).upper() in ("P1", "1") for name in names):
        return
    listed = [operations[0]] if isinstance(operations[0], str) else list(operations[0])
    if ["".join(str(text).split()) for text in listed] != ["x,y,z"]:
        return
    formula = str(block.get("_chemical_formula_sum", ""))
    expected = sum(float(count or 1) for _, count in _FORMULA.findall(formula))
    units = str(block.get("_cell_formula_units_Z", "1"))
    n_units = float(units) if _is_number(units) else 1.0
    n_sites = structure.composition.num_atoms
    if any(abs(n_sites - count) < 0.5 for count in (expected, expected * n_units)):
        return
    if not _has_group(structure, names):
        raise UnreadableCrystal(
            f"CIF: names the space group {one_line(names[0], 20)} but lists no operation but the "
            "identity, so that atoms are missing; postprocess the CIFs first, as CrystaLLM does "
            "with bin/postprocess.py"
        )


def is_language_model_text(text: str) -> bool:
    """Whether the text has the form that Crystal-text-LLM writes: two lines of three numbers.

    Its own file keeps the prompt, words that end with a colon, before them.
    """
    return _without_prompt(text) is not None


def _without_prompt(text: str) -> list[str] | None:
    """Lines from the cell on that are not blank, or None if there is no cell."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for start in range(min(len(lines) - 1, _PROMPT_LINES + 1)):
        if all(
            len(words) == 3 and all(map(_is_number, words))
            for words in (line.split() for line in lines[start : start + 2])
        ):
            return lines[start:]
        if not lines[start].endswith(":"):
            return None
    return None


def crystal_from_language_model_text(text: str) -> Structure:
    """Crystal from lengths (Å), angles (degrees), then species and fractional coordinates in turn.

    Raises
    ------
    UnreadableCrystal
        If a line is missing or is not what it should be.
    """
    lines = _without_prompt(text)
    if lines is None:
        raise UnreadableCrystal("not two lines of three numbers, the cell, and then the atoms")
    lengths, angles = ([float(word) for word in line.split()] for line in lines[:2])
    symbols, coordinates = lines[2::2], [line.split() for line in lines[3::2]]
    if len(symbols) != len(coordinates):
        raise UnreadableCrystal("the last atom has no coordinates")
    numbers = []
    for words in coordinates:
        if len(words) != 3 or not all(_is_number(word) for word in words):
            raise UnreadableCrystal(f"{one_line(' '.join(words), 60)!r} is not three coordinates")
        numbers.append([float(word) for word in words])
    return crystal_from_parameters(lengths, angles, [element(name) for name in symbols], numbers)


def crystal_from_parameters(
    lengths: Sequence[float],
    angles: Sequence[float],
    species: Sequence[Element],
    frac_coords: Any,
) -> Structure:
    """Crystal from a, b, c (Å), α, β, γ (degrees), elements and fractional coordinates.

    Parameters
    ----------
    frac_coords : array_like
        ``(n_sites, 3)``.

    Raises
    ------
    UnreadableCrystal
        If no cell has these lengths and angles, or there are no sites. pymatgen would bend
        impossible angles into possible ones.
    """
    from pymatgen.core import Lattice, Structure

    if not species:
        raise UnreadableCrystal("no atoms")
    values = [*lengths, *angles]
    if not all(math.isfinite(value) for value in values):
        raise UnreadableCrystal(f"the cell holds a number that is not finite: {_short(values)}")
    if min(lengths) <= 0:
        raise UnreadableCrystal(f"a cell length is not above 0: {_short(lengths)}")
    cosines = [math.cos(math.radians(angle)) for angle in angles]
    volume_squared = 1 + 2 * math.prod(cosines) - sum(cosine**2 for cosine in cosines)
    if not 0 < min(angles) <= max(angles) < 180 or volume_squared <= 0:
        raise UnreadableCrystal(f"no cell has the angles {_short(angles)} (degrees)")
    return Structure(Lattice.from_parameters(*values), list(species), frac_coords)


def crystal_from_matrix(
    matrix: Sequence[Sequence[float]],
    species: Sequence[Element],
    coords: Any,
    *,
    cartesian: bool,
) -> Structure:
    """Crystal from cell vectors as rows (Å), elements and coordinates.

    Parameters
    ----------
    coords : array_like
        ``(n_sites, 3)``, fractional, or Cartesian (Å).

    Raises
    ------
    UnreadableCrystal
        If the vectors span no cell, or there are no sites.
    """
    import numpy as np
    from pymatgen.core import Lattice, Structure

    if not species:
        raise UnreadableCrystal("no atoms")
    vectors = np.array(matrix, dtype=float)
    if not np.isfinite(vectors).all():
        raise UnreadableCrystal("the cell holds a number that is not finite")
    if not np.linalg.det(vectors):
        raise UnreadableCrystal("the cell has no volume")
    lattice = Lattice(vectors)
    return Structure(lattice, list(species), coords, coords_are_cartesian=cartesian)


def _short(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def crystal_from_dict(data: Mapping[str, Any]) -> Structure:
    """Crystal from ``Structure.as_dict()``; site properties are left out.

    Read by hand: pymatgen's ``from_dict`` imports any module that the dictionary names.

    Raises
    ------
    UnreadableCrystal
        With the reason in one line.
    """
    from pymatgen.core import Lattice, Structure

    if is_gene(data):
        raise UnreadableCrystal(GENE_MESSAGE)
    if isinstance(data.get("structure"), Mapping):  # a ComputedStructureEntry
        data = data["structure"]
    if not is_structure_dict(data):
        keys = ", ".join(map(str, list(data)[:6])) or "none"
        raise UnreadableCrystal(f"not a pymatgen structure: no lattice and sites (keys: {keys})")
    cell, sites = data["lattice"], data["sites"]
    if not sites:
        raise UnreadableCrystal("no atoms")
    try:
        if not all(cell.get("pbc") or (True,)):
            raise UnreadableCrystal("not periodic in three directions")
        species = [_site_species(site["species"]) for site in sites]
        cartesian = any("abc" not in site for site in sites)
        coords = [_numbers(site["xyz" if cartesian else "abc"]) for site in sites]
        if "matrix" not in cell:
            lattice = Lattice.from_parameters(
                *(float(cell[key]) for key in ("a", "b", "c", "alpha", "beta", "gamma"))
            )
        else:
            lattice = Lattice([_numbers(row) for row in cell["matrix"]])
        return Structure(
            lattice,
            species,
            coords,
            coords_are_cartesian=cartesian,
            charge=data.get("charge") or None,
        )
    except UnreadableCrystal:
        raise
    except Exception as error:  # nothing in the dictionary is sure to be what its key says
        raise UnreadableCrystal(f"structure: {one_line(error)}") from error


def _numbers(values: Sequence[Any]) -> list[float]:
    numbers = [math.nan if value is None else float(value) for value in values]
    if len(numbers) != 3:
        raise UnreadableCrystal(f"{len(numbers)} numbers where three are expected")
    return numbers


def _site_species(species: Sequence[Mapping[str, Any]]) -> Any:
    from pymatgen.core import Composition, Species

    occupancies: dict[Any, float] = {}
    for entry in species:
        specie: Any = element(str(entry["element"]))
        if entry.get("oxidation_state") is not None:
            specie = Species(specie.symbol, entry["oxidation_state"])
        occupancies[specie] = occupancies.get(specie, 0.0) + float(entry.get("occu", 1))
    if not occupancies:
        raise UnreadableCrystal("a site without an element")
    if list(occupancies.values()) == [1.0]:
        return next(iter(occupancies))
    return Composition(occupancies)


def is_structure_dict(value: Any) -> bool:
    """Whether this is a pymatgen ``Structure.as_dict()``, by its keys."""
    if not isinstance(value, Mapping):
        return False
    sites = value.get("sites")
    return isinstance(value.get("lattice"), Mapping) and isinstance(sites, list | tuple)


def is_gene(value: Any) -> bool:
    """Whether this is a WyckoffTransformer gene: sites by Wyckoff letter, without coordinates."""
    return (
        isinstance(value, Mapping)
        and {"group", "sites", "species"} <= value.keys()
        and "lattice" not in value
    )


def looks_like_crystal(value: Any) -> bool:
    """Whether a cell or a JSON value is CIF text or a structure, without reading all of it."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("{"):
            return "lattice" in text and "sites" in text
        return "_cell_length_a" in text or "_atom_site_" in text or is_language_model_text(text)
    return is_structure_dict(value)


def element(name: str | int) -> Element:
    """Element by symbol or atomic number.

    Raises
    ------
    UnreadableCrystal
        If there is none.
    """
    try:
        return _elements()[name]
    except KeyError:
        what = f"atomic number {name}" if isinstance(name, int) else one_line(repr(name), 40)
        raise UnreadableCrystal(f"{what} is not an element") from None


def _is_element(symbol: str) -> bool:
    return symbol in _elements()


@cache
def _elements() -> dict[str | int, Element]:
    from pymatgen.core import Element

    isotopes = ("D", "T")  # of element 1, and not always members of the enumeration
    table: dict[str | int, Element] = {name: Element(name) for name in isotopes}
    for entry in Element:
        if entry.name not in isotopes:
            table[entry.symbol] = table[entry.Z] = entry
    return table


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
