"""Metadata of a prepared reference."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from novelty_metric.support.versions import installed_versions

FORMAT = "novelty-metric reference"
FORMAT_VERSION = 1
"""Format version; it increases if an older reader would misread the file."""


@dataclass(frozen=True, slots=True)
class SkippedCrystal:
    """A crystal of the source that could not be used, with the reason."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Identity and origin of a prepared reference.

    Attributes
    ----------
    crystals_hash : str
        SHA-256 over the crystals alone (ids, and cells, elements and coordinates as they came in);
        no setting, package version or store format enters.
    store_hash : str
        SHA-256 over the prepared arrays with the settings and the format version.
    settings : mapping
        See `preparation_settings`.
    count, read : int
        Crystals in the store, and in the source: those skipped included.
    renamed_ids : mapping
        Ids that were made unique, from the new one to the source's.
    source : tuple of str
        File names of the source.
    versions : mapping
        Versions of the packages that prepared the crystals.
    """

    name: str
    crystals_hash: str
    store_hash: str
    settings: Mapping[str, Any]
    count: int
    read: int
    skipped: tuple[SkippedCrystal, ...] = ()
    renamed_ids: Mapping[str, str] = field(default_factory=dict)
    source: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The manifest as JSON text, with the name and version of the format."""
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Make the manifest from the text of `to_json`.

        Raises
        ------
        ValueError, KeyError, TypeError
            If it is not such a text.
        """
        content = json.loads(text)
        values = {item.name: content[item.name] for item in dataclasses.fields(cls)}
        values["skipped"] = tuple(SkippedCrystal(**item) for item in values["skipped"])
        values["source"] = tuple(values["source"])
        return cls(**values)


def preparation_settings(symprec: float, angle_tolerance: float) -> dict[str, Any]:
    """Settings of the preparation: symmetry tolerances (Å, degrees) and the reduction."""
    return {
        "symprec": float(symprec),
        "angle_tolerance": float(angle_tolerance),
        "reduction": "primitive, niggli",
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that influence a prepared crystal."""
    packages = ("novelty-metric", "pymatgen", "pymatgen-core", "spglib", "numpy")
    installed = installed_versions(packages)
    return {package: installed.get(package, "unknown") for package in packages}


def unique_ids(ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Unique ids, and the changed ones as a mapping from the new id to the old.

    The first bearer of an id keeps it; later ones get ``__2``, ``__3``, … skipping what is taken.

    Examples
    --------
    >>> unique_ids(["a", "b", "a"])
    (['a', 'b', 'a__2'], {'a__2': 'a'})
    """
    taken = set(ids)
    seen: dict[str, int] = {}
    unique: list[str] = []
    renamed: dict[str, str] = {}
    for label in ids:
        if label not in seen:
            seen[label] = 1
            unique.append(label)
            continue
        candidate = label
        while candidate in taken:
            seen[label] += 1
            candidate = f"{label}__{seen[label]}"
        taken.add(candidate)
        renamed[candidate] = label
        unique.append(candidate)
    return unique, renamed
