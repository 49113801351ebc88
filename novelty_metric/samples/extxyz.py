"""Format ``extxyz``: extended XYZ, one frame per crystal, read frame by frame with ASE.

A frame that is damaged becomes a row with the reason, and reading goes on at the next one.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from novelty_metric.samples.base import Sample
from novelty_metric.samples.crystals import ID_KEYS, UnreadableCrystal, element
from novelty_metric.samples.energies import with_energy
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import one_line, open_text, stem


def read(path: Path, options: ReadOptions) -> Iterator[Sample]:
    """The frames in order. A frame's own ``id`` or ``material_id`` is kept.

    A frame with a cell is taken as a crystal even if its ``pbc`` is false in all directions, which
    is what ASE writes unless told otherwise; one that is periodic in some only is an error.
    """
    name, file_name = stem(path), path.name
    with open_text(path) as file:
        for position, frame in enumerate(frames(file)):
            source = f"{file_name}:frame {position}"
            yield _sample(frame, f"{name}-{position}", source, options.energies)


@dataclass(slots=True)
class Frame:
    """Lines of one frame, from its count of atoms on; `error` where they do not add up."""

    lines: list[str] = field(default_factory=list)
    n_atoms: int | None = None
    error: str | None = None


_COMMENT = re.compile(r"\b(lattice|properties)\s*=", re.IGNORECASE)


def frames(lines: Iterable[str]) -> Iterator[Frame]:
    """Cut the lines of a file into frames.

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
"""Of a number of atoms; what has more is none, and too long a one Python refuses to read."""


def _n_atoms(line: str) -> int | None:
    """The number of atoms that stands alone on a line, or None."""
    digits = line.strip()
    return int(digits) if digits.isdecimal() and len(digits) <= _MOST_DIGITS else None


def _is_full(frame: Frame) -> bool:
    return frame.n_atoms is not None and len(frame.lines) - 2 >= frame.n_atoms


def _closed(frame: Frame) -> Frame:
    if frame.error is None and not _is_full(frame):
        n_found = max(len(frame.lines) - 2, 0)
        frame.error = f"ends after {n_found} of {frame.n_atoms} atoms"
    return frame


def _sample(frame: Frame, sample_id: str, source: str, energies: str | None) -> Sample:
    if frame.error is not None:
        return Sample(sample_id, None, frame.error, source)
    try:
        structure, info = _crystal(frame)
    except Exception as error:  # ASE's parser checks little, so that anything may be raised
        return Sample(sample_id, None, one_line(error), source)
    for key in ID_KEYS:
        if str(info.get(key, "")).strip():
            sample_id = str(info[key]).strip()
            break
    sample = Sample(sample_id, structure, None, source)
    return sample if energies is None else with_energy(sample, info.get(energies))


def _crystal(frame: Frame) -> tuple[Any, dict[str, Any]]:
    import numpy as np
    from ase.io import read as ase_read
    from pymatgen.core import Lattice, Structure

    if frame.n_atoms == 0:
        raise UnreadableCrystal("no atoms")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = "".join(_with_hydrogen(frame.lines))
        atoms: Any = ase_read(io.StringIO(text), index=0, format="extxyz")
    cell = np.array(atoms.cell)
    if not cell.any():
        raise UnreadableCrystal("no cell (Lattice= in the comment line)")
    if atoms.pbc.any() and not atoms.pbc.all():
        raise UnreadableCrystal("not periodic in three directions")
    volume = float(np.linalg.det(cell))
    if math.isfinite(volume) and volume == 0:
        raise UnreadableCrystal("the cell has no volume")
    species = [element(int(number)) for number in atoms.numbers]
    structure = Structure(Lattice(cell), species, atoms.positions, coords_are_cartesian=True)
    # ASE takes an energy out of the comment line, and makes a calculator of it.
    results = {} if atoms.calc is None else atoms.calc.results
    return structure, {**results, **atoms.info}


_PROPERTIES = re.compile(r"\bproperties\s*=\s*\"?([^\s\"]+)", re.IGNORECASE)


def _with_hydrogen(lines: list[str]) -> Iterator[str]:
    """The lines of a frame with H for D and T, which ASE does not know."""
    column = 0
    found = _PROPERTIES.search(lines[1])
    if found is not None:
        names, _, widths = (found.group(1).lower().split(":")[start::3] for start in range(3))
        for name, width in zip(names, widths, strict=False):
            if name in ("species", "symbols", "element"):
                break
            column += int(width) if width.isdecimal() else 0
    for position, line in enumerate(lines):
        words = line.split()
        if position > 1 and len(words) > column and words[column] in ("D", "T"):
            words[column] = "H"
            line = " ".join(words) + "\n"
        yield line
