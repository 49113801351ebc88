"""Symmetry of a CIF: operations as text, and the settings that a space-group name can mean.

gemmi knows the settings and reads Hall symbols; spglib tells the type of a list of operations, and
knows the full symbols and Schoenflies'. Both are imported by the functions that need them.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.samples.checks import UnreadableCrystal
from novelty_metric.samples.source import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_OPERATIONS = 576
"""Maximum number of operations read: a space group has at most 192 per cell; a magnetic cell holds
several cells.
"""

METRIC_TOLERANCE = 0.02
"""Maximum relative change of the products of the cell vectors under an operation: 1 % of a length
or 1 degree. Refined and relaxed cells stay far below it; another crystal system does not.
"""

_LONGEST = 100
"""Maximum length of an operation or a name (characters); real ones are shorter than half of it."""

_DECIMAL_TOLERANCE = 1e-3
"""A decimal translation within this of a multiple of 1/24 is that multiple."""


@dataclass(frozen=True, slots=True, eq=False)
class Operations:
    """A group of symmetry operations on fractional coordinates.

    Rotations (n_operations, 3, 3), translations (n_operations, 3), and the number of the
    space-group type; None if it is not known.
    """

    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    number: int | None

    def __len__(self) -> int:
        return len(self.rotations)

    def misfit(self, matrix: NDArray[np.float64]) -> float:
        """Relative change of the products of the cell vectors (rows, Å) under the operations."""
        if len(self) == 1:
            return 0.0
        metric = matrix @ matrix.T
        lengths = np.sqrt(np.diag(metric))
        changed = self.rotations.transpose(0, 2, 1) @ metric @ self.rotations - metric
        return float(np.abs(changed / np.outer(lengths, lengths)).max())


@dataclass(frozen=True, slots=True)
class GroupName:
    """A space group as a CIF writes it.

    `halls` are Hall symbols of the settings that it can stand for, the usual one first; none if it
    is not known. `level` is 0 for a Hall symbol, 1 for a Hermann–Mauguin symbol, 2 for what tells
    the type alone.
    """

    text: str
    halls: tuple[str, ...]
    level: int

    @property
    def number(self) -> int | None:
        """Number of the space-group type, if the name is known."""
        return of_hall(self.halls[0]).number if self.halls else None


# Operations as text

_TERM = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<number>\d+(?:\.\d*)?|\.\d+)(?:/(?P<below>\d+))?)?\*?(?P<axis>[xyz])?"
    r"(?:/(?P<under>\d+))?"
)


@lru_cache(maxsize=512)
def listed_operations(texts: tuple[str, ...], centrings: tuple[str, ...] = ()) -> Operations:
    """The group made of operations such as ``-x+1/2, y, z``.

    A fourth component, the time reversal of a magnetic group, changes no position. The centrings of
    a magnetic group are combined with each of the operations.

    Raises
    ------
    UnreadableCrystal
        If one is not an operation, there are too many, or they are not all of a group.
    """
    if len(texts) * max(len(centrings), 1) > MAX_OPERATIONS:
        raise UnreadableCrystal(f"more than {MAX_OPERATIONS} symmetry operations")
    pairs = [_operation(text) for text in texts]
    if centrings:
        shifts = [_operation(text)[1] for text in centrings]
        pairs = [(rotation, moved + shift) for shift in shifts for rotation, moved in pairs]
    pairs = [(np.eye(3), np.zeros(3)), *pairs]
    rotations = np.array([rotation for rotation, _ in pairs])
    translations = np.array([translation for _, translation in pairs])
    codes = _codes(rotations, translations)
    first = np.sort(np.unique(codes, return_index=True)[1])
    # The identity is always there, and stands where it is written.
    if (codes[1:] == codes[0]).any():
        first[0] = 1 + int(np.argmax(codes[1:] == codes[0]))
        first = np.sort(first)
    rotations, translations, codes = rotations[first], translations[first], codes[first]
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 3, 3)
    moved = np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]
    if not np.isin(_codes(products, moved.reshape(-1, 3)), codes).all():
        raise UnreadableCrystal(
            f"the {len(first)} symmetry operations are not a group: some are missing or wrong"
        )
    return Operations(rotations, translations, _type_number(rotations, translations))


def _operation(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation and translation of an operation such as ``1/2-x, y, z``."""
    parts = "".join(text[:_LONGEST].lower().split()).split(",")
    if len(parts) == 4 and parts[3] in ("+1", "-1", "1"):
        del parts[3]
    rows = [_component(part) for part in parts]
    if len(rows) == 3 and all(row is not None for row in rows):
        numbers = np.array(rows, dtype=float)
        rotation = np.rint(numbers[:, :3])
        whole = np.abs(rotation - numbers[:, :3]).max() < 1e-6 and np.abs(rotation).max() <= 2
        if whole and round(abs(float(np.linalg.det(rotation)))) == 1:
            return rotation, numbers[:, 3]
    raise UnreadableCrystal(f"{one_line(repr(text), 60)} is not a symmetry operation")


def _component(text: str) -> list[float] | None:
    """Factors of x, y and z, and the translation; None for any other text."""
    numbers = [0.0] * 4
    at = 0
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None or not (term["number"] or term["axis"]) or (at and not term["sign"]):
            return None
        at = term.end()
        value = float(term["number"] or 1)
        for below in (term["below"], term["under"]):
            if below is not None:
                value = value / int(below) if int(below) else math.nan
        if not term["axis"] and "." in term["number"]:
            near = round(value * 24) / 24
            value = near if abs(value - near) < _DECIMAL_TOLERANCE else value
        numbers["xyz".index(term["axis"]) if term["axis"] else 3] += (
            -value if term["sign"] == "-" else value
        )
    return numbers if text and all(map(math.isfinite, numbers)) else None


def _codes(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> NDArray[np.int64]:
    """A number per operation; operations that differ by a lattice translation have the same."""
    turned = np.rint(rotations).astype(np.int64).reshape(-1, 9) @ 11 ** np.arange(9)
    # A prime number of steps, a little shifted: no usual fraction is between two.
    steps = np.floor((translations + 2e-4) % 1 * 499).astype(np.int64)
    return turned * 499**3 + steps @ 499 ** np.arange(3)


def _type_number(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> int | None:
    if len(rotations) == 1:
        return 1
    import spglib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = spglib.get_spacegroup_type_from_symmetry(
                np.rint(rotations).astype(np.intc), translations
            )
    except Exception:  # spglib raises types of its own, which change by version
        return None
    return None if found is None else int(found.number)


# Names

_ICSD_CHOICE = {"s": "1", "z": "2", "h": "h", "r": "r"}
"""Letters that the ICSD appends to a symbol: first or second origin, hexagonal, rhombohedral."""

_OTHER_TAGS = re.compile(
    r"_symop_|_symmetry_equiv|_magn|_ssg|wyckoff|point_group|patterson|laue|bravais|transform"
)
"""Parts of tags about symmetry that do not name a space group."""

_SHORT_MONOCLINIC = re.compile(r"([PABCIF])\s*(2(?:_?1)?(?:/[mabcnd])?|[mabcnd])", re.IGNORECASE)


@lru_cache(maxsize=512)
def of_hall(symbol: str) -> Operations:
    """The operations of a Hall symbol.

    Raises
    ------
    UnreadableCrystal
        If it is not one.
    """
    import gemmi

    try:
        operations = list(gemmi.symops_from_hall(symbol))
    except (RuntimeError, ValueError) as error:
        raise UnreadableCrystal(f"{one_line(repr(symbol), 40)} is not a Hall symbol") from error
    rotations = np.array([operation.rot for operation in operations]) / gemmi.Op.DEN
    translations = np.array([operation.tran for operation in operations]) / gemmi.Op.DEN
    return Operations(rotations, translations, _type_number(rotations, translations))


def group_names(tags: Mapping[str, Sequence[str]]) -> list[GroupName]:
    """All names of a space group among the items of a CIF, by tag as `cif_crystal` writes tags."""
    code = "".join(_text(tags, "_space_group_it_coordinate_system_code").lower().split())
    return [
        GroupName(text, _halls(text[:_LONGEST], level, code), level - 1)
        for tag in tags
        if (level := _level(tag)) and (text := _text(tags, tag))
    ]


def _text(tags: Mapping[str, Sequence[str]], tag: str) -> str:
    values = [value.strip() for value in tags.get(tag, ())]
    return next((value for value in values if value not in ("", ".", "?")), "")


@lru_cache(maxsize=4096)
def _level(tag: str) -> int:
    """1 for a tag with a Hall symbol, 2 for Hermann–Mauguin, 3 for the type, 0 for other tags."""
    if not tag.startswith(("_symmetry_", "_space_group_")) or _OTHER_TAGS.search(tag):
        return 0
    if "hall" in tag:
        return 1
    if "number" in tag or "schoenflies" in tag or "h-m_ref" in tag:
        return 3
    return 2 if "name" in tag or "h-m" in tag.replace("h_m", "h-m") else 0


@lru_cache(maxsize=1024)
def _halls(text: str, level: int, code: str) -> tuple[str, ...]:
    if level == 1:
        symbol = " ".join(text.replace("_", " ").split())
        try:
            of_hall(symbol)
        except UnreadableCrystal:
            return _halls_of_symbol(text, code)  # writers mistake the one for the other
        return (symbol,)
    number = re.fullmatch(r"\s*(\d{1,3})(?:\.0*)?\s*", text)
    if number:
        return _halls_of_number(int(number[1]), code)
    type_number = _schoenflies().get(re.sub(r"[\s^_.]", "", text).lower()) if level == 3 else None
    if type_number is None and level == 3 and code and (entries := _entries(_spaced(text))):
        type_number = entries[0].number  # the symbol of the reference setting, and the code of ours
    if type_number is not None:
        return _halls_of_number(type_number, code)
    return _halls_of_symbol(text, code)


def _halls_of_number(number: int, code: str) -> tuple[str, ...]:
    import gemmi

    if not 1 <= number <= 230:
        return ()
    if code:  # settings that the Tables do not list stand behind those that they do
        halls = [e.hall for e in _table() if e.number == number and _has_code(e, code)]
        return tuple(halls[:1])
    symbol = gemmi.get_spacegroup_reference_setting(number).hm
    return tuple(entry.hall for entry in _table() if (entry.number, entry.hm) == (number, symbol))


def _has_code(entry: Any, code: str) -> bool:
    """True if a setting has a code of the International Tables, such as ``b1`` or ``2abc``."""
    code = re.sub(r"^([12]?)abc$", r"\1", code)
    if entry.qualifier in ("a", "b", "c"):  # groups without a choice of cell
        code = code.removesuffix("1")
    return code == _extension(entry) + str(entry.qualifier)


def _extension(entry: Any) -> str:
    """Choice of origin or axes: 1, 2, h or r."""
    return str(entry.ext).strip("\x00 ").lower()


def _halls_of_symbol(text: str, code: str) -> tuple[str, ...]:
    """Settings of a Hermann–Mauguin symbol: short, full or extended, with or without a suffix."""
    symbol, _, suffix = text.partition(":")
    symbol = _spaced(symbol)
    entries = _entries(symbol)
    last = symbol[-1:].lower()
    if not suffix and last in _ICSD_CHOICE and len(symbol) > 3:
        cut = _entries(symbol[:-1].strip())
        if not entries or symbol[-2:-1] == " ":
            entries, suffix = cut or entries, _ICSD_CHOICE[last] if cut else ""
    suffix = "".join(suffix.lower().split())
    suffix = _ICSD_CHOICE.get(suffix, suffix) or code
    if suffix:
        entries = [e for e in entries if _extension(e) == suffix or _has_code(e, suffix)]
    return tuple(dict.fromkeys(entry.hall for entry in entries))


def _entries(symbol: str) -> list[Any]:
    """Entries of gemmi's table with this symbol; for a short monoclinic symbol, all unique axes."""
    import gemmi

    found = gemmi.find_spacegroup_by_name(symbol) if symbol else None
    symbols = {found.hm} if found is not None else set(_full_symbols().get(_compact(symbol), ()))
    entries = [entry for entry in _table() if entry.hm in symbols]
    if short := _SHORT_MONOCLINIC.fullmatch(symbol):
        lattice, axis = short.groups()
        for pattern in (f"{lattice} 1 1 {axis}", f"{lattice} {axis} 1 1"):
            other = gemmi.find_spacegroup_by_name(pattern)
            if other is not None and other.hall not in [entry.hall for entry in entries]:
                entries.append(other)
    return entries


@cache
def _table() -> list[Any]:
    import gemmi

    return list(gemmi.spacegroup_table())


def _spaced(symbol: str) -> str:
    return " ".join(symbol.replace("_", "").split())


def _compact(symbol: str) -> str:
    return "".join(symbol.split()).lower()


@cache
def _spglib_types() -> list[Any]:
    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [spglib.get_spacegroup_type(hall_number) for hall_number in range(1, 531)]


@cache
def _full_symbols() -> dict[str, tuple[str, ...]]:
    """Symbols of gemmi's table, by full symbols such as ``F 4/m -3 2/m``."""
    by_hall = {entry.hall: entry.hm for entry in _table()}
    known: dict[str, tuple[str, ...]] = {}
    for kind in _spglib_types():
        symbol = by_hall.get(kind.hall_symbol)
        if symbol is not None:
            full = _compact(kind.international_full.replace("_", ""))
            known[full] = tuple(dict.fromkeys((*known.get(full, ()), symbol)))
    return known


@cache
def _schoenflies() -> dict[str, int]:
    return {k.schoenflies.replace("^", "").lower(): int(k.number) for k in _spglib_types()}


def possible_settings(names: Iterable[GroupName], matrix: NDArray[np.float64]) -> list[Operations]:
    """The settings that agree with all names and the cell (rows, Å); the usual one first.

    Raises
    ------
    UnreadableCrystal
        If a name is not known, two contradict each other, or the cell contradicts them.
    """
    names = sorted(names, key=lambda name: name.level)
    exact = [name for name in names if name.level == names[0].level]
    for name in exact:
        if not name.halls:
            raise UnreadableCrystal(
                f"the space group {one_line(repr(name.text), 40)} is not known, and no symmetry "
                "operations are listed"
            )
    first, *others = exact
    halls = [hall for hall in first.halls if all(hall in name.halls for name in others)]
    numbers = {name.number for name in names if name.halls}
    if not halls or len({of_hall(hall).number for hall in halls} | numbers) > 1:
        names_in_conflict = " and ".join(
            dict.fromkeys(one_line(repr(name.text), 40) for name in names)
        )
        raise UnreadableCrystal(f"the space groups {names_in_conflict} contradict each other")
    settings = [of_hall(hall) for hall in halls]
    misfits = [setting.misfit(matrix) for setting in settings]
    fitting = [s for s, misfit in zip(settings, misfits, strict=True) if misfit <= METRIC_TOLERANCE]
    if not fitting:
        raise UnreadableCrystal(
            f"the cell contradicts the space group {one_line(repr(first.text), 40)}"
        )
    if _SHORT_MONOCLINIC.fullmatch(_spaced(first.text)):  # the unique axis that fits, b if several
        closest = np.array(misfits) > max(min(misfits), 1e-3)
        return [settings[int(np.argmin(closest))]]
    return fitting
