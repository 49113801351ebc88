"""The packaged table of elemental energies."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

TABLE = Path(__file__).resolve().parent.parent / "data" / "mp_elemental_energies.csv"


@cache
def elemental_energies() -> Mapping[str, float]:
    """Lowest Materials Project energy of 89 elements (eV/atom), by symbol.

    GGA/GGA+U energies of the MP2020 scheme, the scale of CHGNet's energies; source and licence
    stand at the head of the file.
    """
    with TABLE.open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(line for line in handle if not line.startswith("#"))
        energies = {row["element"]: float(row["energy_per_atom_eV"]) for row in rows}
    return MappingProxyType(energies)
