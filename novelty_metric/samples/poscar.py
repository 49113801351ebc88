"""Format ``poscar``: a POSCAR or CONTCAR of VASP 5 or later; one crystal per file.

Several files are given by a folder, an archive, or a pattern such as ``'samples=runs/*/CONTCAR'``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.samples.base import Entry
from novelty_metric.samples.checks import UnreadableCrystal
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import MAX_MEMBER_BYTES, open_text, stem

if TYPE_CHECKING:
    from pymatgen.core import Structure

_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?"
_HEAD = [re.compile(rf"\s*{_NUMBER}(\s+{_NUMBER}){{{n}}}(\s|$)") for n in ("0,2", "2", "2", "2")]
"""The scale and the three vectors of the cell, which follow the title."""


def is_poscar(lines: Sequence[str]) -> bool:
    """True if a scale and three vectors follow the first line, and then symbols or counts."""
    head = zip(_HEAD, lines[1:5], strict=False)
    return (
        len(lines) > 6
        and all(pattern.match(line) for pattern, line in head)
        and re.match(r"\s*([A-Z]|\d+\s)", lines[5]) is not None
    )


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The crystal of the file; its id is the name of the file."""
    with open_text(path) as file:
        text = file.read(MAX_MEMBER_BYTES + 1)
    yield Entry(options.name or stem(path), "", partial(_crystal, text))


def count(path: Path, options: ReadOptions) -> int:
    """One."""
    return 1


def _crystal(text: str) -> Structure:
    """The crystal of the text, without velocities.

    Raises
    ------
    UnreadableCrystal
        If the text is too long, is no POSCAR, or does not name the elements, as files of VASP 4.
    """
    from pymatgen.io.vasp import Poscar

    if len(text) > MAX_MEMBER_BYTES:
        raise UnreadableCrystal(f"more than {MAX_MEMBER_BYTES / 1e6:.0f} MB of text in one crystal")
    lines = text.splitlines()
    if not is_poscar(lines):
        raise UnreadableCrystal("not a POSCAR: no scale and three vectors after the first line")
    if not re.match(r"\s*[A-Z]", lines[5]):
        raise UnreadableCrystal("no line with the symbols of the elements (VASP 4); add it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Poscar.from_str(text, read_velocities=False).structure
