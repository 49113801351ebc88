"""`SubstitutionNovelty`: the one class that strings the steps of the method together."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from novelty_metric.crystal import first_line
from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.errors import InputError
from novelty_metric.protocol import SCOPES, Protocol
from novelty_metric.relaxation.base import (
    Relaxation,
    Relaxer,
    RelaxSettings,
    RelaxTask,
    Watch,
)
from novelty_metric.samples.base import Sample
from novelty_metric.samples.energies import finite_energy
from novelty_metric.scoring.case import Case, relaxation_failure
from novelty_metric.scoring.sample_energies import SampleEnergies, odd_energies
from novelty_metric.screening.composition import (
    load_oxidation_states,
    oxidation_states_name,
    smact_valid,
)
from novelty_metric.search.compiled import LONGEST_SEARCH
from novelty_metric.support.cores import usable_cores
from novelty_metric.support.progress import ProgressCallback, no_progress
from novelty_metric.verdict import CrystalResult, TriedParent

if TYPE_CHECKING:
    from novelty_metric.reference import Reference
    from novelty_metric.relaxation.cache import RelaxationCache
    from novelty_metric.relaxation.potentials import Potential
    from novelty_metric.report.context import RunContext
    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.screening.hull import Hull, HullSource
    from novelty_metric.search.duplicates import SampleGroups
    from novelty_metric.search.engine import ParentSearch, ParentsResult

HULLS = ("auto", "mp_20", "reference", "matbench_discovery", "mp", "none")
"""Hulls that can be chosen by name."""

MAX_SITES = 300
"""Largest crystal that is scored unless the caller asks for more: one step of it takes seconds."""

_OPEN, _PREPARE = "open", "prepare search"

_AT_ONCE = 16
"""Crystals that are taken to their end together where there is a deadline."""

_GRACE = 0.25
"""Share of the time until a deadline for which steps without relaxation may go on beyond it."""


@dataclass(frozen=True, slots=True)
class MetricState:
    """What a metric holds, for the metric of another process to take over."""

    identity: Mapping[str, Any]
    samples: tuple[Sample, ...]
    cases: Mapping[str, Case]
    seconds: Mapping[str, float]


def _to_nobody(cases: Iterable[Case]) -> None:
    """Nobody waits for single cases."""


class SubstitutionNovelty:
    """Which generated crystals are copies of the reference, or copies with elements exchanged.

    Parameters
    ----------
    reference : str, path or Reference
        A prepared reference, the file of one, or a name (``"aflow"`` is packaged).
    protocol : str or Protocol
        ``"paper"``, ``"fast"``, or settings of your own.
    relaxer : str, Potential, Relaxer or None
        ``"chgnet"``, one of `novelty_metric.relaxation.potentials`, an object with the interface of
        `novelty_metric.relaxation.Relaxer`, or None (also ``"none"``) for the search alone: what
        would need a relaxation is then undecided.
    hull : str, path, Hull or HullSource
        ``"auto"``: what fits the relaxer's energies best, see
        `novelty_metric.screening.formation_hull.auto_hull`; ``"mp_20"``: the packaged formation
        energies of MP-20; ``"reference"``: the hull of the reference's own crystals, with the
        relaxer's energies;
        ``"matbench_discovery"``: that of the Materials Project, as the package of this name
        downloads it; ``"mp"``: as you fetched it, see
        `novelty_metric.screening.materials_project.MaterialsProjectHull`; such a file, or one of
        computed entries of your own, see `novelty_metric.screening.entries.EntriesHull`; an object
        with the interface of `novelty_metric.screening.hull.Hull`; or ``"none"``: eligibility
        leaves out metastability.
    scope : str
        ``"eligible"``: parents are searched for eligible crystals only; ``"all"``.
    exhaustive : bool
        Relax every parent, also after one is confirmed; fills `kind`.
    relax_samples : bool
        False takes the samples as already relaxed.
    energies_per, energies_scale : str, optional
        What the energies are that `update` is given: ``"atom"`` or ``"cell"``; and
        ``"corrected"`` or ``"uncorrected"`` total energies with the Materials Project's settings,
        or ``"formation"`` energies. Distances from the hull are then those of these energies, and
        not of the potential's. They are those of the crystals as given, so that `relax_samples`
        has to be False.
    workers : int or None
        Worker processes for the relaxations, and threads for the search; 1 works in this process,
        None takes one per core, or one process where a GPU relaxes. More than one process needs
        the usual guard of a script, ``if __name__ == "__main__":``.
    device : str, optional
        Device of the potential, such as ``"cpu"`` or ``"cuda"``.
    max_sites : int or None
        Samples with more sites get an error row.
    smact_oxidation_states : str, path or None
        Oxidation states for the test of charge neutrality: one of SMACT's sets (``"icsd24"``,
        ``"icsd16"``, ``"smact14"``, ``"pymatgen_sp"``, ``"wiki"``), a file in SMACT's format, or
        None for the default of `smact.screening.smact_validity`.
    cache : bool, path or None
        Where finished relaxations are kept: the user's cache folder, a file, or nowhere.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Attributes
    ----------
    higher_is_better : bool
        True: more novelty is better.

    Notes
    -----
    ``novelty = unmatched / eligible``, and ``novel_yield`` = unique, eligible, unmatched crystals
    per generated crystal. The method is that of Negishi and Walsh, arXiv 2606.23166. Matching is
    not symmetric in its arguments: the generated crystal is the first structure in the duplicate
    test and in the search, the relaxed parent is the first at the confirmation.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from novelty_metric import SubstitutionNovelty
    >>> salt = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... )
    >>> metric = SubstitutionNovelty(reference="aflow", relaxer=None, hull="none")
    >>> report = metric([salt])
    >>> report.results[0].verdict.value
    'duplicate'
    """

    higher_is_better = True

    def __init__(
        self,
        reference: str | Path | Reference = "aflow",
        protocol: str | Protocol = "fast",
        *,
        relaxer: str | Potential | Relaxer | None = "chgnet",
        hull: str | Path | Hull | HullSource = "auto",
        scope: str = "eligible",
        exhaustive: bool = False,
        relax_samples: bool = True,
        energies_per: str | None = None,
        energies_scale: str | None = None,
        workers: int | None = 1,
        device: str | None = None,
        max_sites: int | None = MAX_SITES,
        smact_oxidation_states: str | Path | None = None,
        cache: bool | str | Path | None = True,
        progress: ProgressCallback | None = None,
    ) -> None:
        if scope not in SCOPES:
            raise InputError(f"scope is {scope!r}; known: {', '.join(SCOPES)}")
        if isinstance(relaxer, str) and relaxer not in ("chgnet", "none"):
            raise InputError(f"no relaxer named {relaxer!r}; known: chgnet, none")
        if isinstance(hull, (str, Path)) and hull not in HULLS and not Path(hull).is_file():
            raise InputError(
                f"no hull named {str(hull)!r}; known: {', '.join(HULLS)}, or a file of entries"
            )
        if workers is not None and workers < 1:
            raise InputError(f"workers is {workers}; it must be at least 1")
        self.sample_energies = SampleEnergies.asked(energies_per, energies_scale)
        if self.sample_energies is not None:
            _check_energies(hull, relax_samples=relax_samples)
        self.protocol = Protocol.named(protocol) if isinstance(protocol, str) else protocol
        self.scope = scope
        self.exhaustive = exhaustive
        self.relax_samples = relax_samples
        self.max_sites = max_sites
        self.smact_oxidation_states = smact_oxidation_states
        self._oxidation_states_name = oxidation_states_name(smact_oxidation_states)
        self._reference_given = reference
        self._relaxer_given = None if relaxer == "none" else relaxer
        self._hull_given = hull
        self._workers = workers
        self._device = device
        self._cache_given = cache
        self._progress = progress or no_progress
        self._opened: _Opened | None = None
        self._samples: list[Sample] = []
        self._cases: dict[str, Case] = {}
        self._begun: dict[str, Case] = {}
        self._parents_protocol = self.protocol
        self._seconds: dict[str, float] = defaultdict(float)
        self._until: float | None = None

    # -- what a caller uses ------------------------------------------------------------------

    @property
    def device(self) -> str | None:
        """Device that was asked for; None: what the machine has."""
        return self._device or getattr(self._relaxer_given, "device", None)

    def update(
        self,
        structures: Iterable[Any],
        ids: Sequence[str] | None = None,
        energies: Sequence[float | None] | None = None,
    ) -> None:
        """Add generated crystals; they are scored by `compute`.

        Parameters
        ----------
        structures : iterable of pymatgen Structure or ASE Atoms
        ids : sequence of str, optional
            Default: their position among all that was added, from 0.
        energies : sequence of float or None, optional
            The crystals' own (eV), for a metric with `energies_per` and `energies_scale`; None, or
            what is not finite, for a crystal without one, which is then not eligible.

        Raises
        ------
        InputError
            If the numbers of ids, energies and structures differ, an id was used before, or the
            metric was not told what the energies are; then nothing is added.
        """
        if hasattr(structures, "lattice") or hasattr(structures, "get_scaled_positions"):
            raise InputError("a single crystal was given; give a list of them")
        structures = list(structures)
        if ids is not None and len(ids) != len(structures):
            raise InputError(f"{len(ids)} ids were given for {len(structures)} structures")
        if energies is None:
            energies = [None] * len(structures)
        elif self.sample_energies is None:
            raise InputError(
                "energies were given, but not what they are; make the metric with energies_per= "
                "and energies_scale="
            )
        if len(energies) != len(structures):
            raise InputError(
                f"{len(energies)} energies were given for {len(structures)} structures"
            )
        start = len(self._samples)
        names = ids if ids is not None else range(start, start + len(structures))
        self.update_samples(
            Sample(str(name), structure, None, f"structure {start + at}", finite_energy(energy))
            for at, (name, structure, energy) in enumerate(
                zip(names, structures, energies, strict=True)
            )
        )

    def update_samples(self, samples: Iterable[Sample]) -> None:
        """Add what a reader gives; see `novelty_metric.samples.read_samples`.

        Raises
        ------
        InputError
            If an id was used before; then none of these samples is added.
        """
        used = {sample.id for sample in self._samples}
        new: list[Sample] = []
        for sample in samples:
            if sample.id in used:
                raise InputError(f"the id {sample.id!r} is used by two samples; ids must differ")
            used.add(sample.id)
            new.append(sample)
        self._samples += new

    def compute(self, *, deadline: float | None = None) -> NoveltyReport:
        """Score what was added and not yet scored, and report on everything.

        Parameters
        ----------
        deadline : float, optional
            When relaxations and searches end, on the clock of `time.monotonic`. Checks, reduction,
            chemistry, the duplicate test and the grouping of equal samples, some milliseconds a
            crystal, may go on for a quarter of the time beyond it. What is not finished then is
            undecided, never unmatched, and the next `compute` takes it up again. Crystals are taken
            to their end a few at a time, in order. Opening is not interrupted; `prepare` can do it
            beforehand.

        Raises
        ------
        InputError
            If the reference, the relaxer or the hull can't be used.
        """
        opened = self._open()
        now = time.monotonic()
        until = None if deadline is None else deadline + _GRACE * max(0.0, deadline - now)
        with self._ending(until):
            self._compute(opened, deadline)
            return self._report(opened)

    def _compute(self, opened: _Opened, deadline: float | None) -> None:
        waiting = [
            self._begun.get(sample.id) or Case(sample)
            for sample in self._samples
            if not self._is_scored(sample)
        ]
        self._begun.clear()
        for case in self._each("check", waiting):
            if case.cleaned is None:
                case.check(self.max_sites)
        usable = [case for case in waiting if case.cleaned is not None and case.error is None]
        at_once = _AT_ONCE if deadline is not None else max(1, len(usable))
        for start in range(0, max(1, len(usable)), at_once):
            self._score(usable[start : start + at_once], opened, deadline)
        self._cases.update((case.sample.id, case) for case in waiting)

    def score_each(
        self, samples: Iterable[Sample], tell: Callable[[Sample, CrystalResult], None]
    ) -> None:
        """Score these samples and forget them; each row is told as soon as nothing can change it.

        For runs of any length: a few hundred at a time fill the batches of a relaxer. What was
        added with `update` is left alone.

        Parameters
        ----------
        samples : iterable of Sample
        tell : callable
            Takes each sample with its row, in no certain order. `duplicate_group` and
            `matching_group` are None: equal samples are found once all are there, see `group_rows`.

        Raises
        ------
        InputError
            If the reference, the relaxer or the hull can't be used.
        """
        cases = self.begin(samples)
        self.search(cases)
        self.end(cases, tell)

    def begin(self, samples: Iterable[Sample]) -> list[Case]:
        """Steps 1 to 5 of `score_each`: relaxations of the samples, chemistry, energies."""
        opened = self._open()
        cases = [Case(sample) for sample in samples]
        for case in self._each("check", cases):
            case.check(self.max_sites)
        usable = [case for case in cases if case.error is None]
        self._normalise(usable, opened, None)
        self._screen(usable, opened)
        return cases

    def search(self, cases: Iterable[Case]) -> None:
        """Steps 6 to 10, which need no potential: duplicates and candidate parents."""
        opened = self._open()
        usable = [case for case in cases if case.error is None]
        self._find_duplicates(usable, opened)
        self._find_parents(usable, opened, None)

    def end(self, cases: Iterable[Case], tell: Callable[[Sample, CrystalResult], None]) -> None:
        """Steps 11 and 12: relaxations of the parents, and a row for each sample."""
        from novelty_metric.report.plain_values import plain_row

        opened = self._open()
        waiting = dict.fromkeys(cases)

        def final(some: Iterable[Case]) -> None:
            for case in [case for case in some if case in waiting]:
                del waiting[case]
                row = case.result(
                    self.protocol,
                    group=None,
                    exhaustive=self.exhaustive,
                    reference=opened.reference,
                )
                tell(case.sample, plain_row(row))

        final([case for case in waiting if case.error is not None or not case.tried])
        if opened.relaxer is not None:
            self._relax_parents(list(waiting), opened, None, final)
        final(list(waiting))

    def is_crystal(self, sample: Sample, record: CrystalRecord | None) -> bool:
        """Whether a sample is the crystal that a row holds as generated, to the last digit."""
        case = Case(sample)
        case.check(self.max_sites)
        return case.cleaned is not None and CrystalRecord.of(case.cleaned) == record

    def group_rows(self, rows: Sequence[CrystalResult]) -> SampleGroups:
        """The groups of equal crystals that rows belong to.

        Raises
        ------
        ValueError
            If a row holds no reduced crystal.
        """
        structures = []
        for row in rows:
            if row.structures is None or row.structures.relaxed is None:
                raise ValueError(f"the row {row.id!r} holds no reduced crystal")
            structures.append(row.structures.relaxed.to_structure())
        with self._timed("group equal samples"):
            return self._open().search.group_equal(structures)

    def context(
        self, *, seconds: Mapping[str, float] | None = None, warnings: Iterable[str] = ()
    ) -> RunContext:
        """What a report says of a run but its crystals.

        Parameters
        ----------
        seconds : mapping, optional
            Time per step; default that of this metric.
        """
        from novelty_metric.report.context import RunContext
        from novelty_metric.support.versions import installed_versions, this_machine

        opened = self._open()
        return RunContext(
            protocol=self.protocol,
            potential=opened.relaxer.info if opened.relaxer is not None else None,
            hull=self._described(opened.hull),
            reference_name=opened.reference.name,
            reference_size=len(opened.reference),
            crystals_hash=opened.reference.crystals_hash,
            store_hash=opened.reference.store_hash,
            scope=self.scope,
            exhaustive=self.exhaustive,
            relax_samples=self.relax_samples,
            smact_oxidation_states=self._oxidation_states_name,
            versions=installed_versions(),
            machine=this_machine(getattr(opened.relaxer, "device_name", None)),
            seconds=dict(self._seconds if seconds is None else seconds),
            warnings=tuple(warnings),
        )

    def _described(self, hull: Hull | None) -> dict[str, Any]:
        """The hull for a report, with whose energies are held against it if not the potential's."""
        described = {"name": "none"} if hull is None else dict(hull.describe())
        if self.sample_energies is not None:
            described["sample_energies"] = self.sample_energies.label
        return described

    def take_seconds(self) -> dict[str, float]:
        """Time per step since the last call, in order (s)."""
        taken = dict(self._seconds)
        self._seconds.clear()
        return taken

    @property
    def reference(self) -> Reference:
        """The reference, opened now if it was not before."""
        return self._open().reference

    @property
    def progress(self) -> ProgressCallback:
        """Whom a long run tells where it stands."""
        return self._progress

    @progress.setter
    def progress(self, told: ProgressCallback) -> None:
        self._progress = told

    def report(self, *, deadline: float | None = None) -> NoveltyReport:
        """The report on what is scored; scores nothing.

        Parameters
        ----------
        deadline : float, optional
            On the clock of `time.monotonic`: later, crystals that may be equal count as equal.
        """
        with self._ending(deadline):
            return self._report(self._open())

    def prepare(self) -> None:
        """Open the reference, the potential and the hull now rather than at the first `compute`.

        Raises
        ------
        InputError
            If one of them can't be used.
        """
        opened = self._open()
        with self._timed(_PREPARE):
            self._progress(_PREPARE, 0, 1)
            opened.search.prepare()
            self._progress(_PREPARE, 1, 1)

    def reset(self) -> None:
        """Forget every sample; what was opened stays open."""
        self._samples.clear()
        self._cases.clear()
        self._begun.clear()
        self._seconds.clear()

    def merge(self, other: SubstitutionNovelty) -> None:
        """Take over the samples of another metric of the same settings, scored or not.

        Ids that both use get the suffix ``~2``, ``~3`` and so on here.

        Raises
        ------
        InputError
            If the settings differ, or the reference does.
        """
        self.merge_state(other.state())

    def state(self) -> MetricState:
        """What was added and scored, to be sent to the metric of another process."""
        return MetricState(
            self._identity(), tuple(self._samples), dict(self._cases), dict(self._seconds)
        )

    def merge_state(self, other: MetricState) -> None:
        """`merge` with a metric of another process.

        Raises
        ------
        InputError
            If the settings differ, or the reference does.
        """
        theirs = other.identity
        for name, value in self._identity().items():
            if theirs[name] != value:
                raise InputError(
                    f"metrics with different {name} can't be merged: {value!r} and {theirs[name]!r}"
                )
        used = {sample.id for sample in self._samples}
        for sample in other.samples:
            name, count = sample.id, 1
            while name in used:
                count += 1
                name = f"{sample.id}~{count}"
            used.add(name)
            renamed = dataclasses.replace(sample, id=name)
            self._samples.append(renamed)
            if sample.id in other.cases:
                self._cases[name] = dataclasses.replace(other.cases[sample.id], sample=renamed)
        for step, seconds in other.seconds.items():
            self._seconds[step] += seconds

    def for_worker(self) -> SubstitutionNovelty:
        """One of the same settings, not open and without samples, that starts no processes."""
        other = copy.copy(self)
        other._samples, other._cases, other._begun = [], {}, {}
        other._seconds = defaultdict(float)
        other._workers = 1
        return other

    def search_only(self) -> SubstitutionNovelty:
        """A metric that relaxes nothing, on the same reference and otherwise of the same settings.

        It has none of the samples.
        """
        return SubstitutionNovelty(
            self._open().reference,
            self.protocol,
            relaxer=None,
            hull="none",
            scope=self.scope,
            exhaustive=self.exhaustive,
            relax_samples=self.relax_samples,
            workers=self._workers,
            max_sites=self.max_sites,
            smact_oxidation_states=self.smact_oxidation_states,
            progress=self._progress,
        )

    def __call__(
        self,
        structures: Iterable[Any],
        ids: Sequence[str] | None = None,
        energies: Sequence[float | None] | None = None,
    ) -> NoveltyReport:
        """Score these crystals alone, and leave what was added before as it is."""
        kept = self._samples, self._cases, self._seconds
        self._samples, self._cases, self._seconds = [], {}, defaultdict(float)
        try:
            self.update(structures, ids, energies)
            return self.compute()
        finally:
            self._samples, self._cases, self._seconds = kept

    def variant(
        self,
        protocol: Protocol,
        *,
        parents: Protocol | None = None,
        reference: Reference | None = None,
        relaxer: str | Potential | Relaxer | None = None,
    ) -> SubstitutionNovelty:
        """A metric with another protocol over the same samples, to see what a setting does.

        Unless it has a relaxer of its own, it shares the relaxer and the hull of this one, which
        must stay open, and takes over what was computed here and the other protocol leaves alone:
        relaxed samples, their symmetry, and the parents that were found.

        Parameters
        ----------
        protocol : Protocol
        parents : Protocol, optional
            Parents are searched by its tolerances and `k`, and `protocol` serves the duplicate test
            and the confirmation alone.
        reference : Reference, optional
            The same crystals prepared otherwise.
        relaxer : str, Potential or Relaxer, optional
            Another potential; close the variant to give back what it holds.
        """
        other = self._beside(protocol, reference, relaxer)
        other._samples = list(self._samples)
        other._parents_protocol = protocol if parents is None else parents
        if relaxer is not None or other._settings != self._settings:
            return other
        symmetry_kept = _symmetry_settings(protocol) == _symmetry_settings(self.protocol)
        for name, case in self._cases.items():
            begun = case.normalised(with_symmetry=symmetry_kept)
            if case.found is not None:
                begun.found = _still_found(
                    case.found, self._parents_protocol, other._parents_protocol
                )
            other._begun[name] = begun
        return other

    @property
    def relaxes(self) -> bool:
        """Whether there is a relaxer."""
        return self._relaxer_given is not None

    def over(self, reference: Reference) -> SubstitutionNovelty:
        """A metric of the same settings over another reference.

        It borrows the relaxer and the hull of this one, which has to outlive it.
        """
        return self._beside(self.protocol, reference)

    def _beside(
        self,
        protocol: Protocol,
        reference: Reference | None,
        relaxer: str | Potential | Relaxer | None = None,
    ) -> SubstitutionNovelty:
        """A metric without samples that shares what is open here, but for what is given."""
        opened = self._open()
        shared = relaxer is None
        hull = "none" if opened.hull is None else opened.hull
        own = self.sample_energies
        return SubstitutionNovelty(
            opened.reference if reference is None else reference,
            protocol,
            relaxer=opened.relaxer if shared else relaxer,
            hull=hull if shared else self._hull_given,
            device=self._device,
            cache=self._cache_given,
            scope=self.scope,
            exhaustive=self.exhaustive,
            relax_samples=self.relax_samples,
            energies_per=None if own is None else own.per,
            energies_scale=None if own is None else own.scale,
            workers=self._workers,
            max_sites=self.max_sites,
            smact_oxidation_states=self.smact_oxidation_states,
            progress=self._progress,
        )

    def close(self) -> None:
        """Stop worker processes and close the cache."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> SubstitutionNovelty:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens what it needs itself, and has nobody to tell its progress.
        return {**self.__dict__, "_opened": None, "_progress": no_progress}

    # -- the steps ---------------------------------------------------------------------------

    def _is_scored(self, sample: Sample) -> bool:
        return sample.id in self._cases and not self._cases[sample.id].out_of_time

    def _score(self, cases: list[Case], opened: _Opened, deadline: float | None) -> None:
        """Steps 1 to 12."""
        self._normalise(cases, opened, deadline)
        self._screen(cases, opened)
        usable = [case for case in cases if case.error is None and case.reduced is not None]
        self._find_duplicates(usable, opened)
        self._find_parents(usable, opened, deadline)
        self._relax_parents(usable, opened, deadline)

    def _normalise(self, cases: list[Case], opened: _Opened, deadline: float | None) -> None:
        """Steps 2 and 4: relax, reduce, symmetry."""
        as_given = [case for case in cases if case.converged is None]
        if opened.relaxer is not None and self.relax_samples:
            self._relax_samples(as_given, opened.relaxer, deadline)
        elif opened.relaxer is not None:
            self._take_energies(as_given, opened.relaxer)
        for case in self._each("reduce", [case for case in cases if case.reduced is None]):
            case.reduce(self.protocol)

    def _relax_samples(self, cases: list[Case], relaxer: Relaxer, deadline: float | None) -> None:
        stage = "relax samples"
        queue: deque[RelaxTask] = deque()
        for case in cases:
            assert case.cleaned is not None
            queue.append(RelaxTask(case, case.cleaned))
        with self._timed(stage):
            self._progress(stage, 0, len(cases))
            results = self._relaxed(relaxer, queue, deadline)
            for done, (task, result) in enumerate(results, start=1):
                assert isinstance(task.key, Case)
                case = task.key
                case.relaxation = result
                case.converged = result.converged
                case.energy_per_atom = result.energy_after
                case.n_relaxations += 1
                case.seconds += result.seconds
                self._progress(stage, done, len(cases))
        if deadline is not None:
            for case in cases:
                case.out_of_time = case.relaxation is None

    def _relaxed(
        self, relaxer: Relaxer, queue: deque[RelaxTask], deadline: float | None
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        """What is relaxed before the deadline."""
        if deadline is None:
            yield from relaxer.relax(queue, self._settings)
            return
        if time.monotonic() >= deadline:
            return
        # One that knows of no deadline is left after the first result that comes too late.
        knows = "deadline" in inspect.signature(relaxer.relax).parameters
        limit = {"deadline": deadline} if knows else {}
        for found in relaxer.relax(queue, self._settings, **limit):
            yield found
            if time.monotonic() >= deadline:
                return

    def _take_energies(self, cases: list[Case], relaxer: Relaxer) -> None:
        """Samples that come relaxed: only their energy is needed."""
        stage = "energies of samples"
        structures = [case.cleaned for case in cases if case.cleaned is not None]
        with self._timed(stage):
            energies = relaxer.energies(structures)
            for done, (case, energy) in enumerate(zip(cases, energies, strict=True), start=1):
                case.converged = math.isfinite(energy)
                case.energy_per_atom = energy if math.isfinite(energy) else None
                self._progress(stage, done, len(cases))

    def _screen(self, cases: list[Case], opened: _Opened) -> None:
        """Steps 1, 3 and 5: chemistry, energy above hull, eligibility."""
        from novelty_metric.screening.hull import hull_distance

        oxidation_states = load_oxidation_states(self.smact_oxidation_states)
        for case in self._each("screen", cases):
            assert case.cleaned is not None
            composition = case.cleaned.composition
            case.smact_valid = smact_valid(composition, oxidation_states)
            energy = case.energy_per_atom
            if self.sample_energies is not None:
                energy = case.take_given_energy(self.sample_energies)
            if opened.hull is not None and energy is not None:
                try:
                    found = hull_distance(
                        opened.hull, composition, energy, case.reduced or case.cleaned
                    )
                except RuntimeError:  # a solver that gave up: no hull
                    found = None
                if found is not None:
                    case.e_above_hull = found.e_above_hull
                    case.n_competing = found.n_competing
                    case.decomposition = found.decomposition
            case.not_eligible_because = self._not_eligible(case, opened)
            case.eligible = case.not_eligible_because is None
            if case.eligible and case.out_of_time:
                case.eligible = None

    def _not_eligible(self, case: Case, opened: _Opened) -> str | None:
        if not case.smact_valid:
            return "composition refused by SMACT"
        own = self.sample_energies
        if (opened.relaxer is None and own is None) or case.out_of_time:
            return None
        failure = relaxation_failure(case.relaxation) if case.relaxation is not None else None
        if failure is not None:
            return f"relaxation failed: {failure}"
        if not case.converged:
            return (
                "relaxation did not converge"
                if self.relax_samples
                else "the potential gives no energy"
            )
        if opened.hull is None:
            return None
        if own is not None and case.given_energy is None:
            return "no energy given"
        if case.e_above_hull is None:
            return "no hull for its elements"
        if case.e_above_hull > self.protocol.metastable:
            return f"{case.e_above_hull:.3f} eV/atom above the hull"
        return None

    def _find_duplicates(self, cases: list[Case], opened: _Opened) -> None:
        """Step 6, for every crystal; and the search for an equal one by plain matching."""
        for case in self._each("find duplicates", cases):
            assert case.reduced is not None
            try:
                case.duplicate = opened.search.duplicate(case.reduced)
            except Exception as error:  # the matcher may break on an odd cell; it stays one row
                case.unfinished += (f"the duplicate test failed ({first_line(error)})",)
            try:
                case.matching_index = opened.search.plain_match(case.reduced, case.duplicate)
                case.matching_tested = True
            except Exception as error:  # as above
                case.matching_error = f"plain matching failed ({first_line(error)})"

    def _find_parents(self, cases: list[Case], opened: _Opened, deadline: float | None) -> None:
        """Steps 7 to 10, for the crystals in scope that are not duplicates."""
        wanted = [
            case
            for case in cases
            if case.duplicate is None and (case.eligible is not False or self.scope == "all")
        ]
        if any(case.found is None for case in wanted):
            opened.parent_search.prepare()

        def search(case: Case) -> None:
            assert case.reduced is not None
            case.searched = True
            if deadline is not None and time.monotonic() >= deadline:
                case.out_of_time = True
            if case.out_of_time:
                return
            effort = 1.0
            if deadline is not None:
                effort = min(1.0, (deadline - time.monotonic()) / LONGEST_SEARCH)
            with case.clock():
                try:
                    found = case.found or opened.parent_search.parents(
                        case.reduced, case.symmetry, effort=effort
                    )
                except Exception as error:  # as above
                    case.unfinished += (f"the search failed ({first_line(error)})",)
                    return
            if found.unfinished and effort < 1:
                case.out_of_time = True
                return
            case.found = found
            case.unfinished += found.unfinished
            case.tried = [TriedParent(parent=parent) for parent in found.parents]

        stage = "search parents"
        threads = self._workers or usable_cores()
        with self._timed(stage), ThreadPoolExecutor(threads) as pool:
            try:
                for done, _ in enumerate(pool.map(search, wanted), start=1):
                    self._progress(stage, done, len(wanted))
            finally:
                pool.shutdown(cancel_futures=True)

    def _relax_parents(
        self,
        cases: list[Case],
        opened: _Opened,
        deadline: float | None,
        final: Callable[[Iterable[Case]], None] = _to_nobody,
    ) -> None:
        """Steps 11 and 12: substitute, relax once, confirm.

        `final` is told of cases that nothing will change any more.
        """
        if opened.relaxer is None:
            return
        stage = "relax parents"
        with self._timed(stage):
            for case in cases:
                case.substitute_parents(opened.reference)
            total = sum(len(case.waiting) for case in cases)
            queue: deque[RelaxTask] = deque()
            for case in cases:
                if case.waiting:
                    self._enqueue(case, queue)
            self._progress(stage, 0, total)
            results = self._relaxed(opened.relaxer, queue, deadline)
            for done, (task, result) in enumerate(results, start=1):
                assert isinstance(task.key, _Candidate)
                case = task.key.case
                case.n_relaxations += 1
                case.seconds += result.seconds
                with case.clock():
                    case.confirm(
                        task.key.positions,
                        result,
                        opened.search.matching,
                        before=task.structure,
                    )
                if case.confirmed and not self.exhaustive:
                    total -= len(case.waiting)
                    case.waiting.clear()
                elif case.waiting and not self.exhaustive:
                    self._enqueue(case, queue)
                if self._is_settled(case):
                    final([case])
                self._progress(stage, done, total)
        if deadline is not None:
            for case in cases:
                case.out_of_time = case.out_of_time or not self._is_settled(case)

    def _is_settled(self, case: Case) -> bool:
        """Whether no relaxation of a parent is left to be made."""
        if case.confirmed and not self.exhaustive:
            return True
        return all(tried.relaxed for tried in case.tried)

    def _enqueue(self, case: Case, queue: deque[RelaxTask]) -> None:
        """Put the next parent on the queue, or all of them where all are wanted."""
        while case.waiting:
            job = case.waiting.popleft()
            watch = self._watch(case)
            queue.append(RelaxTask(_Candidate(case, job.positions), job.structure, watch))
            if not self.exhaustive:
                return

    def _watch(self, case: Case) -> Watch | None:
        """What ends the relaxations of its parents early, if the protocol wants that.

        Needs a crystal that is at its minimum, with its energy.
        """
        wanted = self.protocol.accept_early > 0 or self.protocol.refuse_early > 0
        if not wanted or case.reduced is None or not case.converged:
            return None
        if case.energy_per_atom is None:
            return None
        from novelty_metric.scoring.early_stopping import EarlyEnd

        return EarlyEnd(case.reduced, case.energy_per_atom, self.protocol)

    # -- the report --------------------------------------------------------------------------

    def _report(self, opened: _Opened) -> NoveltyReport:
        from novelty_metric.report.novelty_report import NoveltyReport
        from novelty_metric.samples.plausibility import implausible
        from novelty_metric.search.duplicates import warnings_of

        ordered = [self._cases[sample.id] for sample in self._samples if sample.id in self._cases]
        grouped = [case for case in ordered if case.error is None and case.reduced is not None]
        with self._timed("group equal samples"):
            groups = opened.search.group_equal(
                [case.reduced for case in grouped if case.reduced is not None], self._too_late
            )
        both = zip(groups.duplicates.number, groups.matching.number, strict=True)
        groups_of = {case.sample.id: own for case, own in zip(grouped, both, strict=True)}
        results = [
            case.result(
                self.protocol,
                group=group,
                matching_group=matching_group,
                exhaustive=self.exhaustive,
                reference=opened.reference,
            )
            for case in ordered
            for group, matching_group in (groups_of.get(case.sample.id, (None, None)),)
        ]
        warnings = (
            *implausible((case.as_read, case.error) for case in ordered),
            *(odd_energies(results) if self.sample_energies is not None else ()),
            *_late(ordered),
            *warnings_of(groups.duplicates.given_up, groups.matching.given_up),
        )
        return NoveltyReport.from_results(results, self.context(warnings=warnings))

    def _identity(self) -> dict[str, Any]:
        """What two metrics must share to be merged."""
        from novelty_metric.reference import Reference, open_reference

        given = self._reference_given
        if self._opened is not None:
            reference = self._opened.reference
        else:
            reference = given if isinstance(given, Reference) else open_reference(given)
        relaxer, hull = self._relaxer_given, self._hull_given
        return {
            "protocol": self.protocol,
            "scope": self.scope,
            "exhaustive": self.exhaustive,
            "relax_samples": self.relax_samples,
            "energies": self.sample_energies,
            "max_sites": self.max_sites,
            "smact_oxidation_states": self._oxidation_states_name,
            # Objects are told apart by what they are, so that those of two processes may be equal.
            "relaxer": getattr(relaxer, "info", relaxer),
            "hull": hull.describe() if hasattr(hull, "describe") else hull,
            "reference": reference.store_hash,
        }

    @property
    def _settings(self) -> RelaxSettings:
        return RelaxSettings(
            fmax=self.protocol.fmax,
            max_steps=self.protocol.max_steps,
            optimizer=self.protocol.optimizer,
        )

    def _each(self, stage: str, cases: list[Case]) -> Iterator[Case]:
        """The cases one by one, timed, with progress; those that a deadline leaves are marked."""
        with self._timed(stage):
            for done, case in enumerate(cases, start=1):
                if self._too_late():
                    case.out_of_time = True
                    continue
                with case.clock():
                    yield case
                self._progress(stage, done, len(cases))

    @contextmanager
    def _ending(self, until: float | None) -> Iterator[None]:
        """Steps that look at the clock between crystals end then."""
        self._until = until
        try:
            yield
        finally:
            self._until = None

    def _too_late(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step] += time.perf_counter() - started

    def _open(self) -> _Opened:
        if self._opened is None:
            with self._timed(_OPEN):
                self._progress(_OPEN, 0, 1)
                self._opened = _Opened.from_given(self)
                self._progress(_OPEN, 1, 1)
        return self._opened


def _late(cases: Sequence[Case]) -> Iterator[str]:
    """What a report says where a deadline left work undone."""
    left = sum(case.out_of_time for case in cases)
    if left:
        yield f"the time ran out before {left} of {len(cases)} crystals were done with"


@dataclass(frozen=True)
class _Candidate:
    """Key of a parent's relaxation: whose it is, and which candidates it serves."""

    case: Case
    positions: tuple[int, ...]


class _Opened:
    """What a metric opens on first use."""

    def __init__(
        self,
        reference: Reference,
        search: ParentSearch,
        parent_search: ParentSearch,
        relaxer: Relaxer | None,
        hull: Hull | None,
        *,
        owns_relaxer: bool,
        cache: RelaxationCache | None,
    ) -> None:
        self.reference = reference
        self.search = search
        self.parent_search = parent_search
        self.relaxer = relaxer
        self.hull = hull
        self._owns_relaxer = owns_relaxer
        self._cache = cache

    @classmethod
    def from_given(cls, metric: SubstitutionNovelty) -> _Opened:
        from novelty_metric.reference import Reference, open_reference
        from novelty_metric.search.engine import ParentSearch

        given = metric._reference_given
        reference = given if isinstance(given, Reference) else open_reference(given)
        reference.require(metric.protocol)
        search = parent_search = ParentSearch(reference, metric.protocol)
        if metric._parents_protocol != metric.protocol:
            parent_search = ParentSearch(reference, metric._parents_protocol)
        cache: RelaxationCache | None = None
        relaxer_given = metric._relaxer_given
        # A name, or a potential: how it is run is decided here.
        owns_relaxer = isinstance(relaxer_given, str) or hasattr(relaxer_given, "evaluator")
        relaxer: Relaxer | None = None
        if owns_relaxer:
            cache = _relaxation_cache(metric._cache_given)
            relaxer = _potential_relaxer(relaxer_given, metric, cache)
        elif relaxer_given is not None:
            relaxer = cast("Relaxer", relaxer_given)
        return cls(
            reference,
            search,
            parent_search,
            relaxer,
            _hull(metric, reference, relaxer),
            owns_relaxer=owns_relaxer,
            cache=cache,
        )

    def close(self) -> None:
        if self._owns_relaxer and self.relaxer is not None:
            self.relaxer.close()
        if self._cache is not None:
            self._cache.close()


def _symmetry_settings(protocol: Protocol) -> tuple[float, float]:
    return protocol.symprec, protocol.symmetry_angle_tolerance


def _still_found(found: ParentsResult, before: Protocol, now: Protocol) -> ParentsResult | None:
    """The parents that a search by another protocol would find; None if that isn't known."""
    if dataclasses.replace(before, name="", k=1) != dataclasses.replace(now, name="", k=1):
        return None
    if now.k == before.k:
        return found
    # With fewer parents wanted, a search may finish that could not before.
    if now.k > before.k or found.unfinished:
        return None
    kept = tuple(parent for parent in found.parents if parent.rank <= now.k)
    return dataclasses.replace(found, parents=kept)


def _hull(
    metric: SubstitutionNovelty, reference: Reference, relaxer: Relaxer | None
) -> Hull | None:
    """The hull as given; None without one, or without a potential whose energies it would take."""
    from novelty_metric.screening.hull import SAMPLES

    given: Any = metric._hull_given
    own = metric.sample_energies
    if hasattr(given, "e_above_hull"):
        return cast("Hull", given)
    if given == "none" or (relaxer is None and own is None):
        return None
    from novelty_metric.screening.formation_hull import Mp20Hull, auto_hull, reference_hull

    if own is None and given == "auto":
        assert relaxer is not None
        return auto_hull(reference, relaxer, progress=metric._progress)
    if given == "reference":  # which was refused for the samples' own energies
        assert relaxer is not None
        return reference_hull(reference, relaxer, progress=metric._progress)
    if given in ("auto", "mp_20"):
        given = Mp20Hull()
    if given == "matbench_discovery":
        from novelty_metric.screening.matbench_discovery import MatbenchDiscoveryHull

        given = MatbenchDiscoveryHull()
    elif given == "mp" or _is_parquet(given):
        from novelty_metric.screening.materials_project import MaterialsProjectHull

        given = MaterialsProjectHull(None if given == "mp" else given)
    elif isinstance(given, (str, Path)):
        from novelty_metric.screening.entries import EntriesHull

        given = EntriesHull(given)
    source = cast("HullSource", given)
    if own is None:
        assert relaxer is not None
        return source.open(relaxer.info.name, progress=metric._progress)
    return _for_samples(source, own).open(SAMPLES, progress=metric._progress)


def _is_parquet(given: object) -> bool:
    """Whether it names a file of formation energies rather than one of entries."""
    if not isinstance(given, (str, Path)) or not Path(given).is_file():
        return False
    with Path(given).open("rb") as file:
        return file.read(4) == b"PAR1"


def _for_samples(source: HullSource, own: SampleEnergies) -> HullSource:
    """The hull for the samples' energies, where it has different ones for different scales."""
    asked = getattr(source, "energies", None)
    if asked is None:
        return source
    if asked not in ("auto", own.scale):
        raise InputError(f"hull.energies is {asked}, but energies_scale is {own.scale}")
    return cast("HullSource", dataclasses.replace(cast(Any, source), energies=own.scale))


def _check_energies(hull: object, *, relax_samples: bool) -> None:
    """Whether the samples' own energies can be used.

    Raises
    ------
    InputError
        If they can't.
    """
    if relax_samples:
        raise InputError(
            "the energies of the samples are those of the crystals as given, which relaxing "
            "changes; add relax_samples=false, or leave the energies out"
        )
    if hull == "none":
        raise InputError("the energies of the samples are held against a hull, and hull=none")
    if hull == "reference":
        raise InputError(
            "hull=reference is made of the potential's energies, and those of the samples don't "
            "compare with them; name a hull of density functional theory: hull=matbench_discovery, "
            "hull=mp, or entries of your own"
        )


def _relaxation_cache(given: bool | str | Path | None) -> RelaxationCache | None:
    if given is None or given is False:
        return None
    from novelty_metric.relaxation.cache import RelaxationCache

    return RelaxationCache() if given is True else RelaxationCache(given)


def _potential_relaxer(
    given: Any, metric: SubstitutionNovelty, cache: RelaxationCache | None
) -> Relaxer:
    from novelty_metric.relaxation.potentials import Chgnet
    from novelty_metric.relaxation.relaxer import PotentialRelaxer

    potential = Chgnet(metric._device) if isinstance(given, str) else given
    return PotentialRelaxer(potential, workers=metric._workers, cache=cache)
