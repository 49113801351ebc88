"""One crystal from its text or its dictionary.

pymatgen is imported by the functions that need it.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from novelty_metric.samples.checks import UnreadableCrystal, check_cell, element
from novelty_metric.samples.cif_crystal import crystal_from_cif
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
"""Keys under which models store their crystals; the preferred one first."""

_CIF_TAG = re.compile(r"_cell[_.]length_a|_atom_site[_.]", re.IGNORECASE)

_PROMPT_LINES = 3

MAX_LITERAL = 5_000_000
"""Maximum length of a Python literal (characters). 300 sites take 0.1 million; parsing takes a
hundred times that in memory.
"""

MAX_DEPTH = 100
"""Maximum nesting of brackets in a Python literal; a structure has six levels."""


def crystal_from_value(value: Any) -> Structure:
    """The crystal of a table's cell or a JSON value: CIF, ``Structure.as_dict()``, or its text.

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
    raise UnreadableCrystal(f"type {type(value).__name__}, not a crystal")


def crystal_from_text(text: str) -> Structure:
    """The crystal of CIF text, or of the JSON or Python ``repr`` of ``Structure.as_dict()``.

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
        raise UnreadableCrystal(f"type {type(value).__name__}, not a crystal")
    return value


def _check_bounds(text: str) -> None:
    """Refuse a literal for which Python's parser would need too much memory or stack."""
    if len(text) > MAX_LITERAL:
        raise UnreadableCrystal(f"a Python literal of {len(text) / 1e6:.0f} million characters")
    depth = 0
    for bracket in re.finditer(r"[\[({\])}]", text):
        depth += 1 if bracket.group() in "[({" else -1
        if depth > MAX_DEPTH:
            raise UnreadableCrystal(f"a Python literal of more than {MAX_DEPTH} nested brackets")


def is_language_model_text(text: str) -> bool:
    """True for text in the form of Crystal-text-LLM, which begins with two lines of three numbers.

    Its own file keeps the prompt, words that end with a colon, before them.
    """
    return _without_prompt(text) is not None


def _without_prompt(text: str) -> list[str] | None:
    """The non-blank lines from the cell on; None if there is no cell."""
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
    """Crystal from lengths (Å), angles (degrees), then alternating species and fractional
    coordinates.

    Raises
    ------
    UnreadableCrystal
        If a line is missing or is not what it should be.
    """
    lines = _without_prompt(text)
    if lines is None:
        raise UnreadableCrystal(
            "the text does not begin with two lines of three numbers, the cell, followed by the "
            "atoms"
        )
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
        If no cell has these lengths and angles, or there are no sites.
    """
    from pymatgen.core import Lattice, Structure

    if not species:
        raise UnreadableCrystal("no atoms")
    check_cell(lengths, angles)
    return Structure(Lattice.from_parameters(*lengths, *angles), list(species), frac_coords)


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
        raise UnreadableCrystal("the cell contains a number that is not finite")
    if not np.linalg.det(vectors):
        raise UnreadableCrystal("the cell has no volume")
    lattice = Lattice(vectors)
    return Structure(lattice, list(species), coords, coords_are_cartesian=cartesian)


def crystal_from_dict(data: Mapping[str, Any]) -> Structure:
    """Crystal from ``Structure.as_dict()``, without site properties.

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
    """True for a pymatgen ``Structure.as_dict()``, judged by its keys."""
    if not isinstance(value, Mapping):
        return False
    sites = value.get("sites")
    return isinstance(value.get("lattice"), Mapping) and isinstance(sites, list | tuple)


def is_gene(value: Any) -> bool:
    """True for a WyckoffTransformer gene: sites by Wyckoff letter, without coordinates."""
    return (
        isinstance(value, Mapping)
        and {"group", "sites", "species"} <= value.keys()
        and "lattice" not in value
    )


def looks_like_crystal(value: Any) -> bool:
    """True if a cell or a JSON value is CIF text or a structure; only its beginning is read."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("{"):
            return "lattice" in text and "sites" in text
        return _CIF_TAG.search(text) is not None or is_language_model_text(text)
    return is_structure_dict(value)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
