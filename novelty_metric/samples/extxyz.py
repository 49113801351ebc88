"""Format ``extxyz``: extended XYZ, one frame per crystal.

Of a frame the cell, the periodicity, the elements, the positions and the id are read, as ASE reads
them, and an energy that is asked for; forces, stresses and other values of a program cannot make a
crystal unreadable. A damaged frame becomes a row with the reason, and reading continues with the
next frame.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.samples.base import Entry
from novelty_metric.samples.crystals import UnreadableCrystal, crystal_from_matrix, element
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.ids import SAMPLED_RECORDS, check_names, record_energy, record_id
from novelty_metric.samples.source import one_line, open_text

if TYPE_CHECKING:
    from pymatgen.core import Element, Structure


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The frames in order. An id in the comment line of a frame is kept letter by letter.

    A frame with a cell is a crystal even if its ``pbc`` is false in all directions, which ASE
    writes by default. A frame that is periodic in some directions only is an error.

    Raises
    ------
    InputError
        If none of the first frames has the id that was asked for.
    """
    with open_text(path) as file:
        found = ((frame, comment(frame)) for frame in frames(file))
        first = list(itertools.islice(found, SAMPLED_RECORDS))
        check_names(
            path,
            (info for _, info in first),
            id_column=options.id_column,
            energies=options.energies,
        )
        for position, (frame, info) in enumerate(itertools.chain(first, found)):
            place = f"frame {position}"
            if frame.error is None:
                own_id = record_id(info, options.id_column)
                energy = record_energy(info, options.energies)
                yield Entry(own_id, place, partial(_crystal, frame, info), energy)
            else:
                yield Entry.unreadable(None, place, frame.error)


@dataclass(slots=True)
class Frame:
    """Lines of one frame, from its atom count on; `error` if they are inconsistent."""

    lines: list[str] = field(default_factory=list)
    n_atoms: int | None = None
    error: str | None = None


_COMMENT = re.compile(r"\b(lattice|properties)\s*=", re.IGNORECASE)


def frames(lines: Iterable[str]) -> Iterator[Frame]:
    """Split the lines of a file into frames.

    A count of atoms alone on a line begins a frame wherever it stands, and so does a comment line
    with a cell: a frame with too few or too many atoms, or without its first lines, harms no other.
    """
    frame: Frame | None = None
    for line, following in itertools.pairwise(itertools.chain(lines, [""])):
        n_atoms = _n_atoms(line)
        is_count = n_atoms is not None
        if frame is not None and len(frame.lines) == 1 and frame.error is None:
            if not (is_count and _COMMENT.search(following)):
                frame.lines.append(line)  # the comment, whatever it says
                continue
            frame.error = "there is no comment line after the number of atoms"
        if is_count:
            if frame is not None:
                yield _closed(frame)
            frame = Frame([line], n_atoms)
        elif _COMMENT.search(line):
            if frame is not None:
                frame.error = frame.error or "runs into the comment line of another frame"
                yield frame
            frame = Frame(error="there is no number of atoms before the comment line")
        elif not line.strip() and (frame is None or _is_full(frame)):
            continue
        elif frame is None:
            frame = Frame(error=f"{one_line(line, 60)!r} where a number of atoms is expected")
        elif frame.error is None:
            if _is_full(frame):
                frame.error = f"more lines than its {frame.n_atoms} atoms"
            else:
                frame.lines.append(line)
    if frame is not None:
        yield _closed(frame)


_MOST_DIGITS = 18
"""Maximum length of an atom count (digits); Python refuses to parse longer numbers."""


def _n_atoms(line: str) -> int | None:
    """The atom count if it is alone on the line, else None."""
    digits = line.strip(" \t\r\n")
    return int(digits) if digits.isdecimal() and len(digits) <= _MOST_DIGITS else None


def _is_full(frame: Frame) -> bool:
    return frame.n_atoms is not None and len(frame.lines) - 2 >= frame.n_atoms


def _closed(frame: Frame) -> Frame:
    if frame.error is None and not _is_full(frame):
        n_found = max(len(frame.lines) - 2, 0)
        frame.error = f"ends after {n_found} of {frame.n_atoms} atoms"
    return frame


# The comment line

_PIECE = re.compile(
    r"""\s+ | = | [^\s=\\"'{\[]+ | (?P<escaped>\\.?)
    | "(?P<double>(?:[^"\\]|\\.)*)(?:"|\\?$)
    | '(?P<single>(?:[^'\\]|\\.)*)(?:'|\\?$)
    | \{(?P<braces>(?:[^}\\]|\\.)*)(?:\}|\\?$)
    | \[(?P<brackets>(?:[^\]\\]|\\.)*)(?:\]|\\?$)""",
    re.VERBOSE | re.DOTALL,
)
_JSON_MARK = "_JSON "
_ESCAPED = re.compile(r"\\([\\\"'{}\[\]=\s])")


def comment(frame: Frame) -> dict[str, str]:
    """The key-value pairs in the comment line of a frame, as text.

    Keys and values may stand in double or single quotes, braces or brackets; a backslash before
    one of these, an equals sign or a space takes its meaning away. A word without a value has none.
    Of two values of one key the later one counts.
    """
    if len(frame.lines) < 2:
        return {}
    info: dict[str, str] = {}
    key: str | None = None  # of a value that has not ended
    text: str | None = None
    for piece in _PIECE.finditer(frame.lines[1].strip()):
        word = piece.group()
        if word.isspace():
            if key is not None and text is not None:
                info[key] = text
                key = text = None
        elif word == "=" and key is None:
            key, text = text or "", None
        else:
            # A word after a space and without an equals sign in between begins anew.
            begins = key is None and piece.start() and piece.string[piece.start() - 1].isspace()
            quoted = piece.lastgroup is not None and piece.lastgroup != "escaped"
            inside = piece.group(piece.lastgroup) if quoted else word  # type: ignore[arg-type]
            text = ("" if begins else text or "") + _ESCAPED.sub(r"\1", inside)
    if key is not None and text is not None:
        info[key] = text
    for key, text in info.items():
        if text.startswith(_JSON_MARK):  # ASE's form for text that looks like a number
            with contextlib.suppress(ValueError, RecursionError):
                content = json.loads(text.removeprefix(_JSON_MARK))
                info[key] = content if isinstance(content, str) else text
    return info


def _value(info: Mapping[str, str], name: str) -> str | None:
    """The value of a key; upper and lower case are equal."""
    if name in info:
        return info[name]
    return next((text for key, text in info.items() if key.lower() == name.lower()), None)


# The crystal


def _crystal(frame: Frame, info: Mapping[str, str]) -> Structure:
    """The crystal of a frame."""
    if frame.n_atoms == 0:
        raise UnreadableCrystal("no atoms")
    lattice = _value(info, "Lattice")
    if lattice is None:
        raise UnreadableCrystal("no cell (Lattice= in the comment line)")
    numbers = [_number(word, "Lattice") for word in _words(lattice)]
    if len(numbers) != 9:
        raise UnreadableCrystal(
            f"Lattice contains {len(numbers)} numbers where the nine of three cell vectors are "
            "expected"
        )
    _check_periodic(_value(info, "pbc"))
    columns = _columns(_value(info, "Properties") or "species:S:1:pos:R:3")
    rows = [columns.cut(line) for line in frame.lines[2 : 2 + (frame.n_atoms or 0)]]
    return crystal_from_matrix(
        [numbers[:3], numbers[3:6], numbers[6:]],
        [kind for kind, _ in rows],
        [position for _, position in rows],
        cartesian=True,
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[^\s,]+", text)


def _number(word: str, where: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise UnreadableCrystal(
            f"{where} contains {one_line(repr(word), 40)}, which is not a number"
        ) from None


_TRUE, _FALSE = ("T", "true", "True", "TRUE"), ("F", "false", "False", "FALSE")


def _check_periodic(text: str | None) -> None:
    """Refuse a frame that is periodic in some directions only."""
    words = ["T"] if text is None else _words(text)
    if len(words) not in (1, 3):
        raise UnreadableCrystal(f"pbc is {one_line(repr(text), 40)}; it must be three of T and F")
    flags = {
        word in _TRUE if word in (*_TRUE, *_FALSE) else bool(_number(word, "pbc")) for word in words
    }
    if len(flags) > 1:
        raise UnreadableCrystal("not periodic in three directions")


_SYMBOLS = ("species", "symbols", "symbol", "element", "elements")
_NUMBERS = ("z", "numbers", "atomic_numbers")
_POSITIONS = ("pos", "positions", "position")


@dataclass(frozen=True, slots=True)
class _Columns:
    """The words to read from an atom's line: their numbers."""

    symbol: int | None  # of the element's symbol; there is this one or the next
    number: int | None  # of the atomic number
    position: int  # of the first coordinate
    width: int  # words of a line
    has_text: bool  # more text than the symbol: a space in it would move what follows

    def cut(self, line: str) -> tuple[Element, list[float]]:
        """Element and Cartesian position (Å) of an atom."""
        words = line.split()
        if len(words) < self.width or (len(words) > self.width and self.has_text):
            raise UnreadableCrystal(
                f"{one_line(repr(line.strip()), 60)} has {len(words)} words where Properties has "
                f"{self.width}"
            )
        position = words[self.position : self.position + 3]
        return self._element(words), [_number(word, "a position") for word in position]

    def _element(self, words: Sequence[str]) -> Element:
        by_symbol = by_number = None
        if self.symbol is not None:
            word = words[self.symbol]
            by_symbol = element(int(word) if _n_atoms(word) is not None else word.capitalize())
        if self.number is not None:
            number = _number(words[self.number], "a number of an element")
            by_number = element(int(number) if number.is_integer() else str(number))
            if by_symbol is not None and by_symbol.Z != by_number.Z:
                raise UnreadableCrystal(
                    f"an atom is {word} by its symbol and {by_number.symbol} by its number"
                )
        found = by_symbol or by_number
        assert found is not None  # one of the columns is there
        return found


def _columns(properties: str) -> _Columns:
    """The columns that ``Properties`` names: ``name:type:number of columns`` and so on."""
    fields = properties.strip().split(":")
    widths = fields[2::3]
    if len(fields) % 3 or not all(width.isdecimal() and len(width) < 6 for width in widths):
        raise UnreadableCrystal(f"Properties={one_line(properties, 60)} can't be read")
    starts: dict[str, tuple[int, str, int]] = {}
    at = 0
    for name, kind, width in zip(fields[::3], fields[1::3], map(int, widths), strict=True):
        if name.lower() in starts:
            raise UnreadableCrystal(f"Properties has two columns {name}")
        starts[name.lower()] = at, kind, width
        at += width

    def find(names: Sequence[str], width: int) -> int | None:
        start, _, found = next((starts[name] for name in names if name in starts), (None, "", 0))
        return start if found == width else None

    symbol, number, position = find(_SYMBOLS, 1), find(_NUMBERS, 1), find(_POSITIONS, 3)
    if position is None or (symbol is None and number is None):
        what = "three columns pos" if position is None else "column species or Z"
        raise UnreadableCrystal(f"Properties={one_line(properties, 60)} has no {what}")
    texts = [start for start, kind, _ in starts.values() if kind == "S" and start != symbol]
    return _Columns(symbol, number, position, at, bool(texts))
