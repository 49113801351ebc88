"""The results of a reader: an `Entry` per crystal of the file, and the `Sample` made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from novelty_metric.samples.source import one_line

if TYPE_CHECKING:
    from pymatgen.core import Structure

LONGEST_REASON = 300
"""Maximum length of the reason why a crystal could not be read (characters)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One crystal of a sample file.

    Attributes
    ----------
    id : str
        Stable and unique within a run.
    structure : Structure or None
        None if the crystal could not be read.
    error : str or None
        The reason why it could not be read, in one line.
    source : str
        File and position, such as ``samples.zip:gen_3.cif`` or ``samples.csv:row 12``.
    energy : float or None
        The given energy of the crystal (eV); None if there is none, or none was requested.
    """

    id: str
    structure: Structure | None
    error: str | None = None
    source: str = ""
    energy: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A crystal of a file, found but not yet parsed; entries that are not drawn cost almost
    nothing.

    Attributes
    ----------
    id : str or None
        As the file has it; None for the name of the file and the position in it.
    place : str
        Position in the file, such as ``row 12`` or ``gen_3.cif``; empty where it is the file.
    parse : callable
        Gives the crystal. What it raises is the reason why the crystal can't be read.
    energy : float or None
        As in `Sample`.
    """

    id: str | None
    place: str
    parse: Callable[[], Structure]
    energy: float | None = None

    @classmethod
    def unreadable(cls, id: str | None, place: str, reason: str) -> Entry:
        """An entry that is not a crystal, with the reason."""

        def refuse() -> NoReturn:
            raise ValueError(reason)

        return cls(id, place, refuse)

    def sample(self, sample_id: str, source: str) -> Sample:
        """Parse the crystal. If it cannot be read, return a sample with the reason."""
        try:
            return Sample(sample_id, self.parse(), None, source, self.energy)
        except Exception as error:  # a model's text and numbers may break any parser in any way
            return Sample(sample_id, None, one_line(error, LONGEST_REASON), source)
