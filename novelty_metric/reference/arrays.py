"""Prepared crystals, concatenated in flat arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from novelty_metric.reference.manifest import FORMAT_VERSION
from novelty_metric.reference.prepare import PreparedCrystal

DIGEST_BYTES = 32

_DTYPES: dict[str, Any] = {
    "lattices": np.float64,
    "offsets": np.int64,
    "frac_coords": np.float64,
    "numbers": np.uint8,
    "space_groups": np.int16,
    "wyckoff_letters": np.uint8,
    "orbits": np.int32,
    "digests": np.uint8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CrystalArrays:
    """M prepared crystals with ΣN sites in total; the arrays are read-only.

    Shapes and units are those of `novelty_metric.reference.Reference`; `digests` are SHA-256 of
    each crystal as it came in, uint8 (M, 32).
    """

    ids: tuple[str, ...]
    lattices: np.ndarray
    offsets: np.ndarray
    frac_coords: np.ndarray
    numbers: np.ndarray
    space_groups: np.ndarray
    wyckoff_letters: np.ndarray
    orbits: np.ndarray
    digests: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            view = np.asarray(getattr(self, name), dtype=dtype).view()
            view.setflags(write=False)
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_prepared(cls, prepared: Sequence[tuple[str, PreparedCrystal]]) -> CrystalArrays:
        """Concatenate prepared crystals, each with its id."""
        crystals = [crystal for _, crystal in prepared]
        offsets = np.zeros(len(crystals) + 1, dtype=np.int64)
        np.cumsum([len(crystal.numbers) for crystal in crystals], out=offsets[1:])
        digests = np.frombuffer(b"".join(c.digest for c in crystals), dtype=np.uint8)

        def joined(parts: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
            return np.concatenate([np.zeros((0, *shape)), *parts])

        return cls(
            ids=tuple(label for label, _ in prepared),
            lattices=joined((c.lattice[None] for c in crystals), (3, 3)),
            offsets=offsets,
            frac_coords=joined((c.frac_coords for c in crystals), (3,)),
            numbers=joined((c.numbers for c in crystals), ()),
            space_groups=np.array([c.space_group for c in crystals], dtype=np.int16),
            wyckoff_letters=joined((c.wyckoff_letters for c in crystals), ()),
            orbits=joined((c.orbits for c in crystals), ()),
            digests=digests.reshape(-1, DIGEST_BYTES),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[CrystalArrays]) -> CrystalArrays:
        """Concatenate several of these."""
        starts = np.cumsum([0, *(int(part.offsets[-1]) for part in parts)])
        offsets = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
        names = [name for name in _DTYPES if name != "offsets"]
        return cls(
            ids=tuple(label for part in parts for label in part.ids),
            offsets=np.concatenate([np.zeros(1, dtype=np.int64), *offsets]),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        )

    def take(self, indices: Sequence[int]) -> CrystalArrays:
        """The crystals at these positions, in this order."""
        places = [int(index) for index in indices]
        sites = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in places]
        flat = np.concatenate([np.zeros(0, dtype=np.int64), *sites])
        per_crystal = ("lattices", "space_groups", "digests")
        per_site = ("frac_coords", "numbers", "wyckoff_letters", "orbits")
        return CrystalArrays(
            ids=tuple(self.ids[i] for i in places),
            offsets=np.cumsum([0, *(len(own) for own in sites)]),
            **{name: getattr(self, name)[places] for name in per_crystal},
            **{name: getattr(self, name)[flat] for name in per_site},
        )

    def crystals_hash(self) -> str:
        """SHA-256 (hexadecimal) over the crystals alone: ids and digests, in order."""
        total = hashlib.sha256(b"crystals 1\n")
        for identifier, digest in zip(self.ids, self.digests, strict=True):
            encoded = identifier.encode()
            total.update(len(encoded).to_bytes(8, "little"))
            total.update(encoded)
            total.update(digest.tobytes())
        return total.hexdigest()

    def store_hash(self, settings: Mapping[str, Any], crystals_hash: str) -> str:
        """SHA-256 (hexadecimal) over all arrays, the settings and the format version."""
        head = {
            "format_version": FORMAT_VERSION,
            "settings": dict(settings),
            "crystals_hash": crystals_hash,
        }
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for name in _DTYPES:
            array = getattr(self, name)
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"\n{name} {little.dtype.str} {little.shape}\n".encode())
            digest.update(little.data)
        return digest.hexdigest()

    def flaw(self) -> str | None:
        """A message about impossible values; None if there are none."""
        n_sites = np.diff(self.offsets)
        if (n_sites <= 0).any():
            return "a crystal without sites"
        if ((self.space_groups < 0) | (self.space_groups > 230)).any():
            return "a space group outside 0 to 230"
        if ((self.numbers == 0) | (self.numbers > 118)).any():
            return "an impossible atomic number"
        if ((self.orbits < 0) | (self.orbits >= np.repeat(n_sites, n_sites))).any():
            return "an orbit outside its crystal"
        if not (np.isfinite(self.lattices).all() and np.isfinite(self.frac_coords).all()):
            return "a number that is not finite"
        return None
