"""Ids and energies stored with the samples: where they are, and their form.

Standard library only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.source import one_line

ID_NAMES = (
    "id",
    "material_id",
    "mp_id",
    "sample_id",
    "structure_id",
    "crystal_id",
    "entry_id",
    "cif_id",
    "identifier",
    "name",
)
"""Names of a column or key with ids, the preferred one first; compared by `plain_name`."""

SAMPLED_RECORDS = 64
"""Number of records searched for a named id column."""

_EXACT_INTEGERS = 2.0**53


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """A name without differences of case, spaces, hyphens, underscores and dots.

    Examples
    --------
    >>> plain_name("Material ID"), plain_name("material-id"), plain_name(" MATERIAL_ID")
    ('materialid', 'materialid', 'materialid')
    """
    return re.sub(r"[\s_.-]", "", name).casefold()


_PLAIN_ID_NAMES = [plain_name(name) for name in ID_NAMES]


def id_names_in(names: Iterable[str]) -> list[str]:
    """The names that can hold ids, in the order of `ID_NAMES`.

    Of names that differ only in what `plain_name` leaves out, the one as it is in `ID_NAMES` comes
    first, then the others in their own order.
    """
    found = [name for name in names if plain_name(name) in _PLAIN_ID_NAMES]
    return sorted(
        found, key=lambda name: (_PLAIN_ID_NAMES.index(plain_name(name)), name not in ID_NAMES)
    )


def wanted_name(names: Sequence[str], wanted: str) -> str | None:
    """The name as typed if it exists, else the only name with the same `plain_name`."""
    if wanted in names:
        return wanted
    alike = {name for name in names if plain_name(name) == plain_name(wanted)}
    return alike.pop() if len(alike) == 1 else None


def id_text(value: Any) -> str | None:
    """An id letter by letter; None if it is missing or blank.

    Text is kept as it is. A whole number is written without a point, also where missing values
    made it a float.

    Examples
    --------
    >>> [id_text(value) for value in ("00123", "4e1234", "nan", 123.0, 2**60, None, " ")]
    ['00123', '4e1234', 'nan', '123', '1152921504606846976', None, None]
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool):
        return json.dumps(value)
    if value is None or isinstance(value, Mapping | list | tuple):
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer() and abs(value) < _EXACT_INTEGERS:
            return str(int(value))
        return repr(value)
    text = str(value)
    return None if text in ("", "NaT", "NaN", "<NA>") else text


def record_id(record: Mapping[str, Any], wanted: str | None) -> str | None:
    """The id of a record: under the given name, else the first one found by `id_names_in`."""
    names = list(record)
    if wanted is None:
        candidates = id_names_in(names)
    else:
        name = wanted_name(names, wanted)
        candidates = [] if name is None else [name]
    texts = (id_text(record[name]) for name in candidates)
    return next((text for text in texts if text is not None), None)


def finite_energy(value: Any) -> float | None:
    """An energy from a file or from memory; None if it is not a finite number."""
    if isinstance(value, bool):
        return None
    try:
        energy = float(value)
    except (TypeError, ValueError):
        return None
    return energy if math.isfinite(energy) else None


def record_energy(record: Mapping[str, Any], wanted: str | None) -> float | None:
    """The energy of a record under the given name; None if no name is given."""
    name = None if wanted is None else wanted_name(list(record), wanted)
    return None if name is None else finite_energy(record[name])


def check_names(path: Path, records: Iterable[Mapping[str, Any]], **wanted: str | None) -> None:
    """Refuse a name, given by its setting, that is in none of the first records.

    Raises
    ------
    InputError
        With the names that there are.
    """
    missing = {setting: name for setting, name in wanted.items() if name is not None}
    known: dict[str, None] = {}
    for record in records:
        if not missing:
            return
        missing = {
            setting: name
            for setting, name in missing.items()
            if wanted_name(list(record), name) is None
        }
        known |= dict.fromkeys(record)
    for setting, name in missing.items():
        raise InputError(no_such_name(path, setting, name, known, "key"))


def no_such_name(path: Path, setting: str, wanted: str, known: Iterable[str], what: str) -> str:
    """Error message for a requested column or key that does not exist."""
    listed = listed_names(known)
    return f"{path}: {setting}={wanted}: there is no such {what}; the {what}s are {listed}"


def listed_names(names: Iterable[str]) -> str:
    """The names of columns or keys in one line."""
    return one_line(", ".join(name or "(unnamed)" for name in names), 300) or "(none)"
