"""Results of real crystals of a reference, each scored against the reference without itself.

A calibration belongs to a reference, a protocol, a potential and a hull. It is kept beside the
store, in ``<store>.<key>.calibration.json``; packaged references carry theirs.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import StoreError
from novelty_metric.reference.energies import beside_store, writable
from novelty_metric.support.folders import write_atomically, writing
from novelty_metric.support.statistics import Change, Interval, newcombe, wilson
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from novelty_metric.reference.store import Reference
    from novelty_metric.verdict import CrystalResult

SUFFIX = ".calibration.json"
_FORMAT = "novelty-metric calibration"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class LeftOutCrystal:
    """One real crystal, scored against a reference that does not contain it.

    Attributes
    ----------
    index : int or None
        Its position in the reference; None for a crystal that is not in it.
    crystal_system : str or None
    eligible : bool
    verdict : str or None
    cost : float or None
        Of its nearest parent; None where it has none.
    id : str or None
        Of a crystal that is not in the reference.
    """

    index: int | None
    crystal_system: str | None
    eligible: bool
    verdict: str | None
    cost: float | None
    id: str | None = None

    @property
    def key(self) -> int | str | None:
        """The label that identifies it among the crystals of its draw."""
        return self.index if self.id is None else self.id

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> LeftOutCrystal:
        """Make it from the values of a file.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are not those of a crystal.
        """
        crystal = cls(**values)
        if crystal.verdict is not None:
            Verdict(crystal.verdict)
        if not isinstance(crystal.eligible, bool):
            raise TypeError(f"eligible is {crystal.eligible!r}")
        if crystal.cost is not None and not math.isfinite(crystal.cost):
            raise ValueError(f"cost is {crystal.cost!r}")
        if isinstance(crystal.key, bool) or not isinstance(crystal.key, int | str):
            raise TypeError(f"index is {crystal.index!r}")
        return crystal


class RealCrystals:
    """Counts over real crystals that were scored, in the order in which they were drawn."""

    crystals: tuple[LeftOutCrystal, ...]

    @property
    def n_drawn(self) -> int:
        """Number of crystals that were drawn, eligible or not."""
        return len(self.crystals)

    def counts(self, verdict: str) -> dict[str, tuple[int, int]]:
        """Number of eligible crystals of a verdict, and of all eligible ones, by crystal system."""
        eligible = (one for one in self.crystals if one.eligible and one.crystal_system is not None)
        return count_by_system(eligible, verdict)

    def count(self, verdict: str) -> tuple[int, int]:
        """Number of eligible crystals of a verdict, and of all eligible ones."""
        eligible = [crystal for crystal in self.crystals if crystal.eligible]
        return sum(crystal.verdict == verdict for crystal in eligible), len(eligible)

    @property
    def base_rate(self) -> Interval | None:
        """Proportion of unmatched among the eligible, with its 95 % interval; None if none is
        eligible.
        """
        return wilson(*self.count("unmatched"))


@dataclass(frozen=True)
class HeldOut(RealCrystals):
    """Verdicts of real crystals drawn from a file, scored against the whole reference."""

    name: str
    sha256: str
    seed: int
    crystals: tuple[LeftOutCrystal, ...]


@dataclass(frozen=True)
class Sensitivity:
    """Known substitutions of reference crystals, and the number that the method finds.

    They are those of the control `substituted` of ``novelty-metric controls``: what is missed here
    is missed among real and generated crystals too.
    """

    hits: int
    total: int

    @property
    def share(self) -> Interval | None:
        """Proportion found, with its 95 % interval."""
        return wilson(self.hits, self.total)


@dataclass(frozen=True)
class Calibration(RealCrystals):
    """Verdicts of real crystals that were left out of the reference one at a time.

    Attributes
    ----------
    key : str
        Hash of all that decides the verdicts: see `calibration_key`.
    seed : int
        Of the draw.
    crystals_hash : str
        Of the reference; empty in files of before it was kept.
    held_out : HeldOut or None
        A second estimate, by crystals that the reference does not hold.
    sensitivity : Sensitivity or None
        Of the method, if a control was run.
    """

    key: str
    seed: int
    crystals: tuple[LeftOutCrystal, ...]
    crystals_hash: str = ""
    held_out: HeldOut | None = None
    sensitivity: Sensitivity | None = None

    @property
    def change_to_held_out(self) -> Change | None:
        """Base rate of the held-out crystals minus that of the crystals left out one at a time."""
        if self.held_out is None:
            return None
        return newcombe(self.count("unmatched"), self.held_out.count("unmatched"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `from_dict` reads."""
        content: dict[str, Any] = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "key": self.key,
            "crystals_hash": self.crystals_hash,
            "seed": self.seed,
            **_table(self.crystals, "index"),
        }
        if self.held_out is not None:
            held_out = self.held_out
            content["held_out"] = {
                "name": held_out.name,
                "sha256": held_out.sha256,
                "seed": held_out.seed,
                **_table(held_out.crystals, "id"),
            }
        if self.sensitivity is not None:
            content["sensitivity"] = asdict(self.sensitivity)
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Make it from the values of `to_dict`.

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
            held_out, sensitivity = content.get("held_out"), content.get("sensitivity")
            return cls(
                key=str(content["key"]),
                seed=int(content["seed"]),
                crystals=_crystals(content),
                crystals_hash=str(content.get("crystals_hash", "")),
                held_out=None
                if held_out is None
                else HeldOut(
                    name=str(held_out["name"]),
                    sha256=str(held_out["sha256"]),
                    seed=int(held_out["seed"]),
                    crystals=_crystals(held_out),
                ),
                sensitivity=None
                if sensitivity is None
                else Sensitivity(int(sensitivity["hits"]), int(sensitivity["total"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"damaged ({type(error).__name__}: {error})") from error


_COLUMNS = ("crystal_system", "eligible", "verdict", "cost")


def _table(crystals: Iterable[LeftOutCrystal], label: str) -> dict[str, Any]:
    """The crystals as columns and rows; the label is ``index`` or ``id``."""
    columns = (label, *_COLUMNS)
    rows = [[getattr(crystal, column) for column in columns] for crystal in crystals]
    return {"columns": list(columns), "crystals": rows}


def _crystals(content: Mapping[str, Any]) -> tuple[LeftOutCrystal, ...]:
    """The crystals of a `_table`."""
    columns = content["columns"]
    return tuple(
        LeftOutCrystal.read({"index": None, **dict(zip(columns, row, strict=True))})
        for row in content["crystals"]
    )


def count_by_system(
    crystals: Iterable[LeftOutCrystal | CrystalResult], verdict: str
) -> dict[str, tuple[int, int]]:
    """Number of crystals of a verdict, and of all, by crystal system; ``""`` if it is unknown."""
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
    """The paths where the calibration is searched, in this order."""
    return beside_store(reference, f".{key[:12]}{SUFFIX}")


def find_calibration(reference: Reference, key: str) -> Calibration | None:
    """The calibration with this key; None if there is none.

    Raises
    ------
    StoreError
        If its file is damaged or belongs to another reference.
    """
    files = calibration_files(reference, key)
    own = writable(files)  # one that was made here comes before a packaged one
    for path in (own, *(other for other in files if other != own)):
        if path.exists():
            return load_calibration(path, reference)
    return None


def check_calibrations(reference: Reference) -> None:
    """Read all calibrations of a reference, so that a damaged one is found before hours of work.

    Raises
    ------
    StoreError
        If a file is damaged or belongs to another reference.
    """
    for pattern in beside_store(reference, f".*{SUFFIX}"):
        name = glob.escape(pattern.name.removesuffix(f".*{SUFFIX}")) + f".*{SUFFIX}"
        for path in sorted(pattern.parent.glob(name)):
            load_calibration(path, reference)


def load_calibration(path: Path, reference: Reference | None = None) -> Calibration:
    """Read a file written by `save_calibration`.

    Raises
    ------
    StoreError
        If it is damaged or, where one is given, belongs to another reference.
    """
    again = "delete it, and run `novelty-metric reference calibrate` again"
    try:
        found = Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged ({error}); {again}") from error
    except StoreError as error:
        raise StoreError(f"{path}: {error}; {again}") from error
    if not path.name.endswith(f".{found.key[:12]}{SUFFIX}"):
        raise StoreError(f"{path}: contains the calibration of other settings; {again}")
    if reference is None:
        return found
    if found.crystals_hash:
        belongs = found.crystals_hash == reference.crystals_hash
    else:
        belongs = all(crystal.index in range(len(reference)) for crystal in found.crystals)
    if not belongs:
        raise StoreError(f"{path}: made for other crystals than {reference.name!r}; {again}")
    return found


def save_calibration(reference: Reference, calibration: Calibration) -> Path:
    """Write it beside the store, or to the cache folder if that place is not writable.

    Raises
    ------
    InputError
        If neither can be written.
    """
    path = writable(calibration_files(reference, calibration.key))
    text = json.dumps(calibration.to_dict(), ensure_ascii=False)
    with writing(f"{path}:", path.parent):
        write_atomically(path, text.encode())
    return path
