"""Format ``cif``: one crystal per data block.

A block is a crystal also where it holds none, such as the block of a publication: it is a row with
that reason, so that what a model failed to write is counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.samples.base import Entry
from novelty_metric.samples.checks import UnreadableCrystal
from novelty_metric.samples.cif_crystal import crystal_from_cif, is_cif
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import MAX_MEMBER_BYTES, open_text, stem

if TYPE_CHECKING:
    from pymatgen.core import Structure


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The data blocks in order, read one at a time."""
    with open_text(path) as file:
        yield from cif_entries(file, options.name or stem(path), "")


def data_blocks(lines: Iterable[str]) -> Iterator[str | None]:
    """Text of each data block; None for a block that is too long to be a crystal.

    What stands before the first block is left out if it is blank, comments, or followed by a
    block; text without any block is one block. A ``data_`` line inside a text field, between lines
    that begin with a semicolon, starts no block. Where such a field is never closed, or the text
    is not CIF, it does: one damaged block harms no other.
    """
    pieces: list[list[str]] = [[]]  # the block, cut at the data_ lines inside its text fields
    size, started, in_field = 0, False, False
    for line in lines:
        if line.lstrip()[:5].lower() == "data_":
            if not in_field:
                if started:
                    yield from _joined(pieces, size)
                pieces, size, started = [[]], 0, True
            elif size > MAX_MEMBER_BYTES:  # a field that is not closed
                yield from _separate(pieces, size)
                pieces, size, in_field = [[]], 0, False
            else:
                pieces.append([])
        if started and line.startswith(";"):
            in_field = not in_field
        size += len(line)
        if size <= MAX_MEMBER_BYTES:
            pieces[-1].append(line)
    if started or any(line.strip() for line in pieces[0]):
        yield from _separate(pieces, size) if in_field else _joined(pieces, size)


def _joined(pieces: list[list[str]], size: int) -> Iterator[str | None]:
    """One block, or several blocks if the text is not CIF."""
    whole = "".join(line for piece in pieces for line in piece)
    if size > MAX_MEMBER_BYTES or (len(pieces) > 1 and not is_cif(whole)):
        yield from _separate(pieces, size)
    else:
        yield whole


def _separate(pieces: list[list[str]], size: int) -> Iterator[str | None]:
    """Each piece as a block; if the text is too long, the last piece is None."""
    *full, last = ("".join(piece) for piece in pieces)
    yield from full
    yield last if size <= MAX_MEMBER_BYTES else None


def cif_entries(lines: Iterable[str], stem: str, place: str) -> Iterator[Entry]:
    """An entry per data block: `stem` is the id of a lone block, else ``stem-0``, ``stem-1``…

    `place` is that of the text in the file; of several blocks, each adds its position.
    """
    # Each block in a list, as None is one; before the last there is always another.
    blocks = ([block] for block in data_blocks(lines))
    block, following = next(blocks, [""]), next(blocks, None)
    alone = following is None
    for position in itertools.count():
        own_id = stem if alone else f"{stem}-{position}"
        here = ":".join(filter(None, (place, "" if alone else f"block {position}")))
        yield Entry(own_id, here, partial(_crystal, block[0]))
        if following is None:
            return
        block, following = following, next(blocks, None)


def _crystal(text: str | None) -> Structure:
    """The crystal of one data block; None means a text that is too long."""
    if text is None:
        limit = f"{MAX_MEMBER_BYTES / 1e6:.0f} MB"
        raise UnreadableCrystal(f"more than {limit} of text in one crystal")
    if not text.strip():
        raise UnreadableCrystal("empty")
    return crystal_from_cif(text)
