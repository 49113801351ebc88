"""Real crystals of a test set that a model did not see, and the number that its samples match.

Two crystals are the same by plain matching, pymatgen's ``StructureMatcher()`` with its defaults, as
for *stable, unique, novel*: the duplicate test is wider, and would count other polymorphs.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.report.rediscovered_by_chance import NullModelFound, read_null_models
from novelty_metric.support.statistics import Interval, wilson

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.search.engine import ParentSearch
    from novelty_metric.verdict import CrystalResult

YEAR = "year"
"""Column of a table with the year in which a crystal was published."""


@dataclass(frozen=True)
class TestCrystal:
    """A real crystal that a model can rediscover.

    Attributes
    ----------
    id : str
    structure : Structure or None
        Reduced; None where it could not be read.
    year : int or None
    """

    __test__ = False  # not a test of pytest

    id: str
    structure: Structure | None
    year: int | None


@dataclass(frozen=True)
class Rediscovered:
    """A crystal of the test set that some samples match."""

    id: str
    year: int | None
    samples: tuple[str, ...]


@dataclass(frozen=True)
class Rediscovery:
    """The result of `rediscover`.

    Attributes
    ----------
    name : str
        Of the file of the test set.
    total : int
        Its crystals that the reference does not hold.
    known : int
        Its crystals that the reference holds; they are not counted in `total`.
    unreadable : int
        Crystals of the file that can't be used.
    undecided : int
        Crystals of `total` that no sample matches, with a comparison that met its work limit.
    found : tuple of Rediscovered
        In the order of the file.
    years : mapping
        Crystals of `total` by year, where the file says it.
    n_samples : int
        Samples that were compared; 0 in reports of before it was kept.
    test_set : str
        Hash of the crystals of `total`; empty in reports of before it was kept.
    null_models : tuple of NullModelFound
        What null models match of the same crystals, with the same reference.
    """

    name: str
    total: int
    known: int
    unreadable: int
    undecided: int
    found: tuple[Rediscovered, ...]
    years: Mapping[int, int]
    n_samples: int = 0
    test_set: str = ""
    null_models: tuple[NullModelFound, ...] = ()

    def as_null_model(self, name: str) -> NullModelFound:
        """The matches of the samples, in the form for null models."""
        return NullModelFound(name, self.n_samples, tuple(len(one.samples) for one in self.found))

    @property
    def share(self) -> Interval | None:
        """Proportion of the crystals that are rediscovered, with its 95 % Wilson interval."""
        return wilson(len(self.found), self.total)

    def by_year(self) -> dict[int, tuple[int, int]]:
        """Number of rediscovered crystals, and of all, by year."""
        hits = Counter(one.year for one in self.found)
        return {year: (hits[year], total) for year, total in sorted(self.years.items())}

    def of_sample(self, identifier: str) -> tuple[str, ...]:
        """Ids of the crystals that a sample matches."""
        return tuple(one.id for one in self.found if identifier in one.samples)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `from_dict` reads."""
        share = self.share
        return {
            **dataclasses.asdict(self),
            "years": {str(year): total for year, total in self.years.items()},
            "share": None if share is None else dataclasses.asdict(share),
            "by_year": {str(year): list(counts) for year, counts in self.by_year().items()},
            "null_models": [
                {**dataclasses.asdict(one), "with_as_many_samples": one.expected(self.n_samples)}
                for one in self.null_models
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Rediscovery:
        """Make it from the values of `to_dict`."""
        counts = ("total", "known", "unreadable", "undecided")
        return cls(
            name=content["name"],
            **{name: content[name] for name in counts},
            found=tuple(
                Rediscovered(one["id"], one["year"], tuple(one["samples"]))
                for one in content["found"]
            ),
            years={int(year): total for year, total in content["years"].items()},
            n_samples=content.get("n_samples", 0),
            test_set=content.get("test_set", ""),
            null_models=tuple(
                NullModelFound(one["name"], one["n_samples"], tuple(one["groups"]))
                for one in content.get("null_models", ())
            ),
        )


def read_test_set(path: Path) -> list[TestCrystal]:
    """The crystals of a file in any format that `novelty_metric.read_samples` reads.

    Raises
    ------
    InputError
        If the file can't be read, or it has other rows than years.
    """
    from novelty_metric.crystal import clean, reduce
    from novelty_metric.errors import CrystalError
    from novelty_metric.samples import read_samples

    samples = list(read_samples(path))
    years = _years(path) or [None] * len(samples)
    if len(years) != len(samples):
        raise InputError(f"rediscover={path}: {len(samples)} crystals, but {len(years)} years")
    crystals = []
    for sample, year in zip(samples, years, strict=True):
        structure = None
        if sample.structure is not None:
            try:
                structure = reduce(clean(sample.structure))
            except CrystalError:
                structure = None
        crystals.append(TestCrystal(sample.id, structure, year))
    return crystals


def _years(path: Path) -> list[int | None] | None:
    """The column of years of a table; None if it has none."""
    import pandas as pd

    from novelty_metric.samples.detect import detect_format

    format_name = detect_format(path)
    if format_name == "csv":
        columns = pd.read_csv(path, usecols=lambda name: str(name).lower() == YEAR)
    elif format_name == "parquet":
        columns = pd.read_parquet(path)
        columns = columns[[name for name in columns.columns if str(name).lower() == YEAR]]
    else:
        return None
    if columns.shape[1] != 1:
        return None
    numbers = pd.to_numeric(columns.iloc[:, 0], errors="coerce")
    return [None if pd.isna(number) else int(number) for number in numbers]


class TestSet:
    """Crystals that can be rediscovered: those that the reference lacks.

    Parameters
    ----------
    name : str
        Of the file.
    crystals : sequence of TestCrystal
    search : ParentSearch
        Over the reference.
    """

    __test__ = False

    def __init__(self, name: str, crystals: Sequence[TestCrystal], search: ParentSearch) -> None:
        from novelty_metric.reference.store import composition_key

        self.name = name
        self.known = 0
        self.unreadable = sum(crystal.structure is None for crystal in crystals)
        self.crystals: list[TestCrystal] = []
        self.places: dict[Any, list[int]] = {}
        """Positions of the crystals, by composition."""
        self._search = search
        self._prepared: dict[int, Structure] = {}
        for crystal in crystals:
            if crystal.structure is None:
                continue
            if _is_known(crystal.structure, search):
                self.known += 1
                continue
            key = composition_key(crystal.structure.atomic_numbers)
            self.places.setdefault(key, []).append(len(self.crystals))
            self.crystals.append(crystal)

    @cached_property
    def digest(self) -> str:
        """Hash of the crystals and their ids, in order."""
        digest = hashlib.sha256()
        for crystal in self.crystals:
            assert crystal.structure is not None
            digest.update(repr(crystal.id).encode())
            for values in (
                crystal.structure.atomic_numbers,
                np.round(crystal.structure.lattice.matrix, 6),
                np.round(crystal.structure.frac_coords, 6),
            ):
                digest.update(np.asarray(values, dtype=np.float64).tobytes())
        return digest.hexdigest()

    def same(self, place: int, sample: Structure) -> bool | None:
        """True if a prepared sample is this crystal; None if the work limit was reached."""
        from novelty_metric.search.compiled import TooMuchToCompareError, Work

        if place not in self._prepared:
            structure = self.crystals[place].structure
            assert structure is not None
            self._prepared[place] = self._search.plain.prepare(structure)
        try:
            return self._search.plain.rms(sample, self._prepared[place], Work()) is not None
        except TooMuchToCompareError:
            return None


def rediscover(
    rows: Iterable[CrystalResult], test_set: TestSet, search: ParentSearch
) -> Rediscovery:
    """Count the crystals of a test set that the samples match.

    All samples count that were read, eligible or not, as they were compared: relaxed if the run
    relaxes.

    Parameters
    ----------
    rows : iterable of CrystalResult
        With their crystals.
    test_set : TestSet
    search : ParentSearch
        Its plain matching is used.
    """
    from novelty_metric.reference.store import composition_key

    matched: dict[int, list[str]] = {}
    open_ = set()
    n_samples = 0
    for row in rows:
        records = row.structures
        record = None if records is None else records.relaxed or records.generated
        if record is None:
            continue
        n_samples += 1
        places = test_set.places.get(composition_key(record.numbers), ())
        sample = search.plain.prepare(record.to_structure()) if places else None
        for place in places:
            assert sample is not None
            same = test_set.same(place, sample)
            if same:
                matched.setdefault(place, []).append(row.id)
            elif same is None:
                open_.add(place)
    crystals = test_set.crystals
    return Rediscovery(
        name=test_set.name,
        total=len(crystals),
        known=test_set.known,
        unreadable=test_set.unreadable,
        undecided=len(open_ - matched.keys()),
        found=tuple(
            Rediscovered(crystals[place].id, crystals[place].year, tuple(matched[place]))
            for place in sorted(matched)
        ),
        years=dict(Counter(one.year for one in crystals if one.year is not None)),
        n_samples=n_samples,
        test_set=test_set.digest,
        null_models=read_null_models(search.reference, test_set.digest),
    )


def _is_known(structure: Structure, search: ParentSearch) -> bool:
    from novelty_metric.search.compiled import TooMuchToCompareError

    try:
        return search.plain_match(structure, None) is not None
    except TooMuchToCompareError:
        return False


def with_rediscovery(report: NoveltyReport, found: Rediscovery) -> NoveltyReport:
    """The report with the crystals that its samples rediscover."""
    context = dataclasses.replace(report.context, rediscovery=found)
    return dataclasses.replace(report, context=context)
