"""The crystals of CIF text: one per data block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from novelty_metric.samples.base import Entry
from novelty_metric.samples.crystals import UnreadableCrystal, crystal_from_cif
from novelty_metric.samples.source import MAX_MEMBER_BYTES

if TYPE_CHECKING:
    from pymatgen.core import Structure


def data_blocks(lines: Iterable[str]) -> Iterator[str | None]:
    """Text of each data block, None for one too long to be a crystal.

    What stands before the first block is left out if it is blank, comments, or followed by a
    block; text without any block is one block.
    """
    held: list[str] = []
    size, started = 0, False
    for line in lines:
        if line.lstrip().startswith("data_"):
            if started:
                yield "".join(held) if size <= MAX_MEMBER_BYTES else None
            held, size, started = [], 0, True
        size += len(line)
        if size <= MAX_MEMBER_BYTES:
            held.append(line)
    if size > MAX_MEMBER_BYTES:
        yield None
    elif started or any(line.strip() for line in held):
        yield "".join(held)


def cif_entries(lines: Iterable[str], stem: str, place: str) -> Iterator[Entry]:
    """An entry per data block: ``stem`` is the id of a lone block, else ``stem-0``, ``stem-1``…

    Parameters
    ----------
    lines : iterable of str
        Lines of the file, with their ends.
    stem : str
        Name of the file without its suffix.
    place : str
        Where in the file the text stands; of several blocks, each adds its position.
    """
    blocks = data_blocks(lines)
    block = next(blocks, "")
    following = next(blocks, _END)
    alone = following is _END
    position = 0
    while True:
        own_id = stem if alone else f"{stem}-{position}"
        here = ":".join(filter(None, (place, "" if alone else f"block {position}")))
        yield Entry(own_id, here, partial(_crystal, block))
        if isinstance(following, _End):
            return
        block, following = following, next(blocks, _END)
        position += 1


def _crystal(text: str | None) -> Structure:
    """The crystal of one data block; None stands for text that is too long."""
    if text is None:
        limit = f"{MAX_MEMBER_BYTES / 1e6:.0f} MB"
        raise UnreadableCrystal(f"more than {limit} of text in one crystal")
    if not text.strip():
        raise UnreadableCrystal("empty")
    return crystal_from_cif(text)


class _End:
    """Marks the end, where None is a value."""


_END = _End()
