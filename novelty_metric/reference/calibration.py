"""What real crystals of a reference score, each against the reference without itself.

A calibration belongs to a reference, a protocol, a potential and a hull. It is kept beside the
store, in ``<store>.<key>.calibration.json``; packaged references carry theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError, StoreError
from novelty_metric.reference.energies import beside_store, writable
from novelty_metric.support.folders import write_atomically
from novelty_metric.support.statistics import Interval, wilson

if TYPE_CHECKING:
    from novelty_metric.reference.store import Reference
    from novelty_metric.verdict import CrystalResult

SUFFIX = ".calibration.json"
_FORMAT = "novelty-metric calibration"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class LeftOutCrystal:
    """One crystal of the reference, scored against the others.

    Attributes
    ----------
    index : int
        Its position in the reference.
    crystal_system : str or None
    eligible : bool
    verdict : str or None
    cost : float or None
        Of its nearest parent; None where it has none.
    """

    index: int
    crystal_system: str | None
    eligible: bool
    verdict: str | None
    cost: float | None


@dataclass(frozen=True)
class Calibration:
    """Verdicts of real crystals that were left out of the reference one at a time.

    Attributes
    ----------
    key : str
        Hash of all that decides the verdicts: see `calibration_key`.
    seed : int
        Of the draw.
    crystals : tuple of LeftOutCrystal
        In the order in which they were drawn.
    """

    key: str
    seed: int
    crystals: tuple[LeftOutCrystal, ...]

    @property
    def n_drawn(self) -> int:
        """Crystals that were drawn, eligible or not."""
        return len(self.crystals)

    def counts(self, verdict: str) -> dict[str, tuple[int, int]]:
        """Eligible crystals of a verdict, and all eligible ones, by crystal system."""
        eligible = (one for one in self.crystals if one.eligible and one.crystal_system is not None)
        return count_by_system(eligible, verdict)

    def count(self, verdict: str) -> tuple[int, int]:
        """Eligible crystals of a verdict, and all eligible ones."""
        eligible = [crystal for crystal in self.crystals if crystal.eligible]
        return sum(crystal.verdict == verdict for crystal in eligible), len(eligible)

    @property
    def base_rate(self) -> Interval | None:
        """Share of unmatched among the eligible, with its 95 % interval; None without any."""
        return wilson(*self.count("unmatched"))

    def to_dict(self) -> dict[str, Any]:
        """As plain values, which `from_dict` reads."""
        names = [field.name for field in fields(LeftOutCrystal)]
        return {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "key": self.key,
            "seed": self.seed,
            "columns": names,
            "crystals": [list(asdict(crystal).values()) for crystal in self.crystals],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """From `to_dict`.

        Raises
        ------
        StoreError
            If the content is not of that form, or of a newer version.
        """
        try:
            if content["format"] != _FORMAT:
                raise StoreError("not a calibration")
            if content["format_version"] > _FORMAT_VERSION:
                raise StoreError("written by a newer novelty-metric; upgrade, or calibrate again")
            names = content["columns"]
            crystals = tuple(
                LeftOutCrystal(**dict(zip(names, row, strict=True))) for row in content["crystals"]
            )
            return cls(str(content["key"]), int(content["seed"]), crystals)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"damaged ({type(error).__name__}: {error})") from error


def count_by_system(
    crystals: Iterable[LeftOutCrystal | CrystalResult], verdict: str
) -> dict[str, tuple[int, int]]:
    """Crystals of a verdict, and all, by crystal system; those without one under ``""``."""
    found: dict[str, tuple[int, int]] = {}
    for crystal in crystals:
        system = crystal.crystal_system or ""
        hits, total = found.get(system, (0, 0))
        found[system] = hits + (crystal.verdict == verdict), total + 1
    return found


def calibration_key(settings: Mapping[str, Any]) -> str:
    """Hash of the plain values that decide a verdict: reference, protocol, potential, hull."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def calibration_files(reference: Reference, key: str) -> list[Path]:
    """Where the calibration is looked for, in this order."""
    return beside_store(reference, f".{key[:12]}{SUFFIX}")


def find_calibration(reference: Reference, key: str) -> Calibration | None:
    """The calibration of that key, if there is one.

    Raises
    ------
    StoreError
        If its file is damaged.
    """
    for path in calibration_files(reference, key):
        if path.exists():
            found = load_calibration(path)
            if found.key == key:
                return found
    return None


def load_calibration(path: Path) -> Calibration:
    """Read a file of `save_calibration`.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    try:
        return Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: can't be read ({error}); delete it") from error
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error


def save_calibration(reference: Reference, calibration: Calibration) -> Path:
    """Write it beside the store, or in the cache folder where that can't be written.

    Raises
    ------
    InputError
        If neither can be written.
    """
    path = writable(calibration_files(reference, calibration.key))
    text = json.dumps(calibration.to_dict(), ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror or error})") from error
    return path
