"""The crystals of CIF text: one per data block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from novelty_metric.samples.base import Sample
from novelty_metric.samples.crystals import UnreadableCrystal, crystal_from_cif
from novelty_metric.samples.source import MAX_MEMBER_BYTES


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


def cif_samples(lines: Iterable[str], stem: str, source: str) -> Iterator[Sample]:
    """A sample per data block: ``stem`` is the id of a lone block, else ``stem-0``, ``stem-1``…

    Parameters
    ----------
    lines : iterable of str
        Lines of the file, with their ends.
    stem : str
        Name of the file without its suffix.
    source : str
        Where the text stands; of several blocks, each adds its position.
    """
    blocks = data_blocks(lines)
    block = next(blocks, "")
    following = next(blocks, _END)
    alone = following is _END
    position = 0
    while True:
        sample_id = stem if alone else f"{stem}-{position}"
        place = source if alone else f"{source}:block {position}"
        yield cif_sample(block, sample_id, place)
        if isinstance(following, _End):
            return
        block, following = following, next(blocks, _END)
        position += 1


def cif_sample(text: str | None, sample_id: str, source: str) -> Sample:
    """The sample of one data block; None stands for text that is too long."""
    if text is None:
        limit = f"{MAX_MEMBER_BYTES / 1e6:.0f} MB"
        return Sample(sample_id, None, f"more than {limit} of text in one crystal", source)
    if not text.strip():
        return Sample(sample_id, None, "empty", source)
    try:
        return Sample(sample_id, crystal_from_cif(text), None, source)
    except UnreadableCrystal as error:
        return Sample(sample_id, None, str(error), source)


class _End:
    """Marks the end, where None is a value."""


_END = _End()
