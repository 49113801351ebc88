"""Real crystals of a test set that a model did not see, and the number that its samples match.

Two crystals are the same by plain matching, pymatgen's ``StructureMatcher()`` with its defaults, as
for *stable, unique, novel*: the duplicate test is wider, and would count other polymorphs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from novelty_metric.errors import InputError, StoreError
from novelty_metric.reference.energies import beside_store, writable
from novelty_metric.report.rows import plain
from novelty_metric.support.folders import write_atomically, writing
from novelty_metric.support.statistics import Interval, wilson

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.reference import Reference
    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.search.engine import ParentSearch
    from novelty_metric.verdict import CrystalResult

YEAR = "year"
"""Column of a table with the year in which a crystal was published."""


@dataclass(frozen=True)
class TestCrystal:
    """A real crystal that a model can rediscover."""

    __test__ = False  # not a test of pytest

    id: str
    structure: Structure | None
    """Reduced; None where it could not be read."""
    year: int | None


@dataclass(frozen=True)
class Rediscovered:
    """A crystal of the test set that some samples match."""

    id: str
    year: int | None
    samples: tuple[str, ...]


@dataclass(frozen=True)
class NullModelFound:
    """Crystals of a test set that the samples of a null model match."""

    name: str
    """Of the null model."""
    n_samples: int
    groups: tuple[int, ...]
    """For each crystal that is matched, how many samples match it."""

    def expected(self, drawn: int) -> float | None:
        """Mean number of crystals that a draw of its samples, without replacement, matches.

        None if it has fewer samples. Each crystal counts with the probability that one of its
        samples is drawn: S. H. Hurlbert, Ecology 52, 577 (1971).

        Examples
        --------
        >>> NullModelFound("ion_exchange", 4, (2, 1)).expected(4)
        2.0
        >>> NullModelFound("ion_exchange", 4, (2, 1)).expected(1)
        0.75
        """
        if drawn > self.n_samples:
            return None
        every = math.comb(self.n_samples, drawn)
        return math.fsum(
            1 - math.comb(self.n_samples - size, drawn) / every for size in self.groups
        )


@dataclass(frozen=True)
class Rediscovery:
    """The result of `rediscover`."""

    name: str
    """Of the file of the test set."""
    total: int
    """Its crystals that the reference does not hold."""
    known: int
    """Its crystals that the reference holds; they are not counted in `total`."""
    unreadable: int
    """Crystals of the file that can't be used."""
    undecided: int
    """Crystals of `total` that no sample matches, with a comparison that met its work limit."""
    found: tuple[Rediscovered, ...]
    """In the order of the file."""
    years: Mapping[int, int]
    """Crystals of `total` by year, where the file says it."""
    n_samples: int = 0
    """Samples that were compared; 0 in reports of before it was kept."""
    test_set: str = ""
    """Hash of the crystals of `total`; empty in reports of before it was kept."""
    null_models: tuple[NullModelFound, ...] = ()
    """What null models match of the same crystals, with the same reference."""

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
        return {
            **plain(self),
            "share": plain(self.share),
            "by_year": plain(self.by_year()),
            "null_models": [
                {**plain(one), "with_as_many_samples": one.expected(self.n_samples)}
                for one in self.null_models
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Rediscovery:
        """Make it from the values of `to_dict`."""
        return TypeAdapter(cls).validate_python(content)


def read_test_set(path: Path) -> list[TestCrystal]:
    """The crystals of a file in any format that `novelty_metric.read_samples` reads.

    `InputError` if the file can't be read, or it has other rows than years.
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
    """Crystals of a file that can be rediscovered: those that the reference of the search lacks."""

    __test__ = False

    def __init__(self, name: str, crystals: Sequence[TestCrystal], search: ParentSearch) -> None:
        from novelty_metric.reference.store import composition_key
        from novelty_metric.search.compiled import TooMuchToCompareError

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
            with contextlib.suppress(TooMuchToCompareError):
                if search.plain_match(crystal.structure, None) is not None:
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
    """Count the crystals of a test set that the samples match by plain matching.

    All samples count that were read, eligible or not, as they were compared: relaxed if the run
    relaxes. The rows must have their crystals.
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


def with_rediscovery(report: NoveltyReport, found: Rediscovery) -> NoveltyReport:
    """The report with the crystals that its samples rediscover."""
    context = dataclasses.replace(report.context, rediscovery=found)
    return dataclasses.replace(report, context=context)


# Null models


def _files(reference: Reference, test_set: str) -> list[Path]:
    return beside_store(reference, f".{test_set[:12]}.rediscovery.json")


def read_null_models(reference: Reference, test_set: str) -> tuple[NullModelFound, ...]:
    """The matches of null models in a test set, named by its hash; stored beside the reference.

    `StoreError` if the file beside the reference is damaged.
    """
    for path in _files(reference, test_set):
        if not path.exists():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["crystals_hash"] != reference.crystals_hash:
                continue
            return TypeAdapter(tuple[NullModelFound, ...]).validate_python(content["null_models"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{path}: damaged ({type(error).__name__}); delete it, and score the null models "
                "with rediscover= again"
            ) from error
    return ()


def keep_null_model(reference: Reference, test_set: str, found: NullModelFound) -> Path:
    """Store the matches of a null model beside the reference; replaces a smaller run of it.

    `InputError` if it can't be written.
    """
    others = {one.name: one for one in read_null_models(reference, test_set)}
    before = others.get(found.name)
    if before is None or before.n_samples <= found.n_samples:
        others[found.name] = found
    path = writable(_files(reference, test_set))
    content = {
        "crystals_hash": reference.crystals_hash,
        "null_models": [plain(others[name]) for name in sorted(others)],
    }
    with writing(f"{path}:", path.parent):
        write_atomically(path, (json.dumps(content) + "\n").encode())
    return path
