"""Prototypes of the reference and of the samples, compared with all possible prototypes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.analysis.analyzed import analyzed_crystals
from novelty_metric.analysis.possible_prototypes import (
    MAX_SITES,
    count_by_crystal_system,
    is_possible,
    primitive_multiplicities,
    primitive_sites,
)
from novelty_metric.crystal import CRYSTAL_SYSTEMS, crystal_system, symmetry
from novelty_metric.search.wyckoff import Letters, canonical_letters

if TYPE_CHECKING:
    import pandas as pd

    from novelty_metric.reference import Reference
    from novelty_metric.report.novelty_report import NoveltyReport


_DESCRIBED = ("prototype", "space_group", "crystal_system", "n_sites")


@dataclass(frozen=True, slots=True, order=True)
class Prototype:
    """A space group with the occupied Wyckoff positions, up to the normalizer's relabellings.

    Attributes
    ----------
    space_group : int
    letters : tuple of int
        Code points, one per orbit, sorted; the lowest of all relabellings.
    """

    space_group: int
    letters: Letters

    @classmethod
    def of(cls, space_group: int, letters: Letters) -> Prototype:
        """The prototype of some orbits, independent of their labels and order."""
        return cls(space_group, canonical_letters(space_group, tuple(sorted(letters))))

    @property
    def n_sites(self) -> int:
        """Number of sites in the primitive cell."""
        return primitive_sites(self.space_group, self.letters)

    @property
    def crystal_system(self) -> str:
        """Crystal system of the space group."""
        return crystal_system(self.space_group)

    @property
    def described(self) -> tuple[str, int, str, int]:
        """The columns `_DESCRIBED` of a table."""
        return str(self), self.space_group, self.crystal_system, self.n_sites

    def __str__(self) -> str:
        """The prototype as text, such as ``225 a b``; repeated letters have a number: ``i3``."""
        counted = Counter(self.letters)
        words = (chr(x) + (str(n) if n > 1 else "") for x, n in sorted(counted.items()))
        return f"{self.space_group} {' '.join(words)}"


@dataclass(frozen=True)
class Coverage:
    """Prototypes with at most `max_sites` sites in the primitive cell, with their crystals.

    Attributes
    ----------
    max_sites : int
    reference, samples : mapping
        From prototype to number of crystals: of the reference, and of the eligible samples.
    sample_ids : mapping
        From prototype to the ids of the samples that have it.
    possible : mapping
        Possible prototypes of each crystal system, see `possible_prototypes.count_prototypes`.
    n_larger_reference, n_larger_samples : int
        Crystals with more sites.
    n_unknown_reference, n_unknown_samples : int
        Crystals whose symmetry could not be determined.
    """

    max_sites: int
    reference: Mapping[Prototype, int]
    samples: Mapping[Prototype, int]
    sample_ids: Mapping[Prototype, tuple[str, ...]]
    possible: Mapping[str, int]
    n_larger_reference: int
    n_larger_samples: int
    n_unknown_reference: int
    n_unknown_samples: int

    @property
    def found(self) -> tuple[Prototype, ...]:
        """Prototypes of the samples that the reference lacks; frequent and small ones first."""
        new = (p for p in self.samples if p not in self.reference)
        return tuple(sorted(new, key=lambda p: (-self.samples[p], p.n_sites, p)))

    def frame(self) -> pd.DataFrame:
        """A row per crystal system, and a row ``all`` with their sum.

        Columns: ``crystal_system``, then numbers of prototypes: ``possible``, ``reference``,
        ``samples``, ``both``, ``found`` (in the samples alone).
        """
        import pandas as pd

        counts: dict[str, Counter[str]] = {system: Counter() for system in CRYSTAL_SYSTEMS}
        for prototype in self.reference.keys() | self.samples.keys():
            row = counts[prototype.crystal_system]
            known, seen = prototype in self.reference, prototype in self.samples
            row.update(reference=known, samples=seen, both=known and seen, found=seen and not known)
        columns = ("reference", "samples", "both", "found")
        rows = {
            system: (self.possible[system], *(counts[system][name] for name in columns))
            for system in CRYSTAL_SYSTEMS
        }
        rows["all"] = tuple(map(sum, zip(*rows.values(), strict=True)))
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["possible", *columns])
        return frame.rename_axis("crystal_system").reset_index()

    def found_frame(self) -> pd.DataFrame:
        """A row per prototype in `found`.

        Columns: ``prototype``, ``space_group``, ``crystal_system``, ``n_sites`` (primitive cell),
        ``n_samples``, ``ids`` (of the samples, separated by spaces).
        """
        import pandas as pd

        rows = [(*p.described, self.samples[p], " ".join(self.sample_ids[p])) for p in self.found]
        return pd.DataFrame(rows, columns=[*_DESCRIBED, "n_samples", "ids"])

    def unexplored(self, count: int = 20) -> pd.DataFrame:
        """Prototypes that neither the reference nor the samples have, most promising first.

        Two prototypes of a space group are *neighbours* if one orbit, moved to another position of
        as many sites, takes one to the other: the same stoichiometry can live on both. A prototype
        that occurs nowhere is promising if it is small and many reference crystals have a neighbour
        of it. The order is by the number of reference crystals of all its neighbours, divided by
        its number of sites.

        Parameters
        ----------
        count : int
            Rows at most.

        Returns
        -------
        DataFrame
            ``prototype``, ``space_group``, ``crystal_system``, ``n_sites``, ``n_near`` (reference
            crystals of its neighbours), ``nearest`` (its most frequent neighbour), ``n_nearest``.
        """
        import pandas as pd

        near: dict[Prototype, dict[Prototype, int]] = {}
        for prototype, crystals in self.reference.items():
            for other in neighbours(prototype):
                if other not in self.reference and other not in self.samples:
                    near.setdefault(other, {})[prototype] = crystals

        def promise(prototype: Prototype) -> tuple[float, Prototype]:
            return (-sum(near[prototype].values()) / prototype.n_sites, prototype)

        rows = []
        for prototype in sorted(near, key=promise)[:count]:
            around = near[prototype]
            nearest = min(around, key=lambda known: (-around[known], known))
            n_near, n_nearest = sum(around.values()), around[nearest]
            rows.append((*prototype.described, n_near, str(nearest), n_nearest))
        return pd.DataFrame(rows, columns=[*_DESCRIBED, "n_near", "nearest", "n_nearest"])


def neighbours(prototype: Prototype) -> set[Prototype]:
    """Possible prototypes that differ in one orbit, moved to a position of as many sites."""
    group, letters = prototype.space_group, prototype.letters
    sizes = primitive_multiplicities(group)
    found = set()
    for old in set(letters):
        rest = list(letters)
        rest.remove(old)
        for new, size in sizes.items():
            if size != sizes[old] or new == old:
                continue
            moved = tuple(sorted([*rest, new]))
            if is_possible(group, moved):
                found.add(Prototype.of(group, moved))
    found.discard(prototype)
    return found


def prototype_coverage(
    report: NoveltyReport, reference: Reference, *, max_sites: int = MAX_SITES
) -> Coverage:
    """Prototypes of the reference and of the eligible samples.

    Parameters
    ----------
    report : NoveltyReport
        With its crystals: fresh, or read with ``NoveltyReport.load(folder, structures=True)``.
    reference : Reference
    max_sites : int
        Of the primitive cell, by the multiplicities of the occupied positions.

    Raises
    ------
    InputError
        If there are eligible crystals, and the report holds none.
    """
    crystals = analyzed_crystals(report)
    in_reference, larger, unknown = _counted(_prototypes_of(reference), max_sites)
    ids: dict[Prototype, list[str]] = {}
    found: list[Prototype | None] = []
    protocol = report.context.protocol
    for result, record in crystals:
        known = symmetry(
            record.to_structure(),
            symprec=protocol.symprec,
            angle_tolerance=protocol.symmetry_angle_tolerance,
        )
        prototype = None
        if known is not None:
            prototype = Prototype.of(known.space_group, known.occupied)
            ids.setdefault(prototype, []).append(result.id)
        found.append(prototype)
    in_samples, larger_samples, unknown_samples = _counted(found, max_sites)
    return Coverage(
        max_sites=max_sites,
        reference=in_reference,
        samples=in_samples,
        sample_ids={prototype: tuple(ids[prototype]) for prototype in in_samples},
        possible=count_by_crystal_system(max_sites),
        n_larger_reference=larger,
        n_larger_samples=larger_samples,
        n_unknown_reference=unknown,
        n_unknown_samples=unknown_samples,
    )


def _prototypes_of(reference: Reference) -> Iterator[Prototype | None]:
    offsets = np.asarray(reference.offsets, dtype=np.int64)
    # A site that is its own orbit's lowest stands for the orbit.
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
    firsts = np.flatnonzero(np.asarray(reference.orbits) == position)
    letters = np.asarray(reference.wyckoff_letters)[firsts].tolist()
    ends = np.searchsorted(firsts, offsets).tolist()
    for index, group in enumerate(np.asarray(reference.space_groups).tolist()):
        yield Prototype.of(group, tuple(letters[ends[index] : ends[index + 1]])) if group else None


def _counted(
    prototypes: Iterator[Prototype | None] | list[Prototype | None], max_sites: int
) -> tuple[dict[Prototype, int], int, int]:
    """Crystals of each small enough prototype; numbers of larger and of unknown ones."""
    counted = Counter(prototypes)
    unknown = counted.pop(None, 0)
    kept = {p: n for p, n in counted.items() if p is not None and p.n_sites <= max_sites}
    return kept, counted.total() - sum(kept.values()), unknown
