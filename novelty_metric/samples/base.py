"""What every reader gives: one `Sample` per crystal that a model wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True, slots=True)
class Sample:
    """One crystal of a sample file.

    Attributes
    ----------
    id : str
        Stable and unique within a run.
    structure : Structure or None
        None where the crystal could not be read.
    error : str or None
        Why it could not be read, in one line.
    source : str
        File and position, such as ``samples.zip:gen_3.cif`` or ``samples.csv:row 12``.
    energy : float or None
        Its own, as it was given (eV); None if it has none, or none was asked for.
    """

    id: str
    structure: Structure | None
    error: str | None = None
    source: str = ""
    energy: float | None = None
