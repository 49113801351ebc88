"""`SubstitutionNovelty`, the class that connects the steps of the method."""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.report.reward import is_crystal
from novelty_metric.samples.base import Sample
from novelty_metric.samples.ids import finite_energy
from novelty_metric.scoring.case import Case
from novelty_metric.scoring.pipeline import Pipeline
from novelty_metric.scoring.resources import Resources, ResourceSpec, check_sample_energies
from novelty_metric.scoring.rules import MAX_SITES, ScoringRules
from novelty_metric.scoring.sample_energies import SampleEnergies
from novelty_metric.scoring.step_clock import StepClock
from novelty_metric.support.progress import ProgressCallback

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.reference import Reference
    from novelty_metric.reference.calibration import Calibration
    from novelty_metric.relaxation.base import Relaxer
    from novelty_metric.relaxation.potentials import Potential
    from novelty_metric.report.context import RunContext
    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.report.rediscovery import TestSet
    from novelty_metric.report.reward import Reward
    from novelty_metric.screening.hull import Hull, HullSource
    from novelty_metric.search.engine import ParentsResult
    from novelty_metric.verdict import CrystalResult

_GRACE = 0.25
"""Steps without relaxation may exceed the deadline by this fraction of the time until it."""


@dataclass(frozen=True, slots=True)
class MetricState:
    """State of a metric, to be merged into the metric of another process."""

    identity: Mapping[str, Any]
    samples: tuple[Sample, ...]
    cases: Mapping[str, Case]
    seconds: Mapping[str, float]


class SubstitutionNovelty:
    """Find the generated crystals that duplicate a reference crystal, or that substitution
    explains.

    Parameters
    ----------
    reference : str, path or Reference
        A prepared reference, the file of one, or a name (``"aflow"`` is packaged).
    protocol : str or Protocol
        ``"paper"``, ``"fast"``, or settings of your own.
    relaxer : str, Potential, Relaxer or None
        ``"chgnet"``, ``"sevennet"`` or ``"mace"``, as on the command line; a potential of
        `novelty_metric.relaxation.potentials` with settings of your own; an object with the
        interface of `novelty_metric.relaxation.Relaxer`; or None (also ``"none"``) for the search
        alone, with which crystals that need a relaxation are undecided.
    hull : str, path, Hull or HullSource
        ``"auto"``: the hull that fits the relaxer's energies best, see
        `novelty_metric.screening.formation_hull.auto_hull`; ``"mp_20"``: the packaged formation
        energies of MP-20; ``"reference"``: the hull of the reference's own crystals, with the
        relaxer's energies;
        ``"matbench_discovery"``: the Materials Project, as the package with this name downloads
        it; ``"mp"``: the Materials Project, as you fetched it, see
        `novelty_metric.screening.materials_project.MaterialsProjectHull`; such a file, or a file
        of your own computed entries, see `novelty_metric.screening.entries.EntriesHull`; an object
        with the interface of `novelty_metric.screening.hull.Hull`; or ``"none"``: metastability
        is not tested for eligibility.
    scope : str
        ``"eligible"``: parents are searched for eligible crystals only; ``"all"``.
    exhaustive : bool
        Relax every parent, even after one is confirmed; fills `kind`.
    relax_samples : bool
        False if the samples are already relaxed.
    second_potential : str, Potential or Relaxer, optional
        Another potential, named as for `relaxer`. The steps from the relaxation to the verdict are
        repeated with it for eligible crystals. `NoveltyReport.second_potential` gives the number
        of crystals that are unmatched with both. It is not used for distances from the hull.
    rediscover : str or path, optional
        Real crystals that the model did not see, such as a test set. `NoveltyReport.rediscovery`
        gives the number of them that the samples match. A column ``year`` of a table is used.
    leave_one_out : bool
        True if the samples are crystals of the reference, with the same ids. Each is scored against
        the reference without itself, and the hull without its composition.
    energies_per, energies_scale : str, optional
        The kind of the energies given to `update`: per ``"atom"`` or per ``"cell"``; and
        ``"corrected"`` or ``"uncorrected"`` total energies with the Materials Project's settings,
        or ``"formation"`` energies. They replace the potential's energies in the distances from
        the hull. They belong to the crystals as given, so `relax_samples` must be False.
    workers : int or None
        Number of worker processes for the relaxations, and of threads for the search. 1: this
        process; None: one per core, or one process if a GPU relaxes. With several processes, a
        script needs the usual guard ``if __name__ == "__main__":``.
    device : str, optional
        Device of the potential, such as ``"cpu"`` or ``"cuda"``.
    max_sites : int or None
        Samples with more sites get an error row.
    smact_oxidation_states : str, path or None
        Oxidation states for the test of charge neutrality: one of SMACT's sets (``"icsd24"``,
        ``"icsd16"``, ``"smact14"``, ``"pymatgen_sp"``, ``"wiki"``), a file in SMACT's format, or
        None for the default of `smact.screening.smact_validity`.
    cache : bool, path or None
        The cache of finished relaxations: the user's cache folder, a file, or none.
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
        leave_one_out: bool = False,
        second_potential: str | Potential | Relaxer | None = None,
        rediscover: str | Path | None = None,
        energies_per: str | None = None,
        energies_scale: str | None = None,
        workers: int | None = 1,
        device: str | None = None,
        max_sites: int | None = MAX_SITES,
        smact_oxidation_states: str | Path | None = None,
        cache: bool | str | Path | None = True,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.rules = ScoringRules(
            protocol=Protocol.named(protocol) if isinstance(protocol, str) else protocol,
            scope=scope,
            exhaustive=exhaustive,
            relax_samples=relax_samples,
            leave_one_out=leave_one_out,
            max_sites=max_sites,
            smact_oxidation_states=smact_oxidation_states,
            sample_energies=SampleEnergies.asked(energies_per, energies_scale),
        )
        self.spec = ResourceSpec(
            reference=reference,
            relaxer=relaxer,
            hull=hull,
            workers=workers,
            device=device,
            cache=cache,
            second_potential=second_potential,
        )
        if self.rules.sample_energies is not None:
            check_sample_energies(hull, relax_samples=relax_samples)
        self._clock = StepClock(progress)
        self._rediscover = None if rediscover is None else Path(rediscover).expanduser()
        self._forget()

    def _forget(self) -> None:
        """Start without open resources and without samples."""
        self._pipeline: Pipeline | None = None
        self._test_set: TestSet | None = None
        self._search: Pipeline | None = None
        self._samples: list[Sample] = []
        self._cases: dict[str, Case] = {}
        self._begun: dict[str, Case] = {}

    # -- scoring -----------------------------------------------------------------------------

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
            Default: the position among all added crystals, from 0.
        energies : sequence of float or None, optional
            Energies of the crystals (eV), for a metric with `energies_per` and `energies_scale`. A
            crystal whose energy is None or not finite is not eligible.

        Raises
        ------
        InputError
            If the numbers of ids, energies and structures differ, an id was used before, or the
            kind of the energies is not known; then nothing is added.
        """
        if is_crystal(structures):
            raise InputError("a single crystal was given; give a list of them")
        structures = list(structures)
        if energies is not None and self.rules.sample_energies is None:
            raise InputError(
                "energies were given without a unit and scale; create the metric with "
                "energies_per= and energies_scale="
            )
        for what, values in (("ids", ids), ("energies", energies)):
            if values is not None and len(values) != len(structures):
                raise InputError(
                    f"{len(values)} {what} were given for {len(structures)} structures"
                )
        energies = [None] * len(structures) if energies is None else energies
        start = len(self._samples)
        names = ids if ids is not None else range(start, start + len(structures))
        self.update_samples(
            Sample(str(name), structure, None, f"structure {start + at}", finite_energy(energy))
            for at, (name, structure, energy) in enumerate(
                zip(names, structures, energies, strict=True)
            )
        )

    def update_samples(self, samples: Iterable[Sample]) -> None:
        """Add the samples of a reader; see `novelty_metric.samples.read_samples`.

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
        """Score the samples that are not yet scored, and return the report on all.

        Parameters
        ----------
        deadline : float, optional
            The time at which relaxations and searches end, on the clock of `time.monotonic`.
            Checks, reduction, chemistry, the duplicate test and the grouping of equal samples
            (some milliseconds per crystal) can take another quarter of the time. A crystal that
            is not finished is undecided, never unmatched, and the next `compute` continues it.
            Crystals are completed a few at a time, in order. The opening of the reference, the
            potential and the hull is not interrupted; `prepare` can do it before.

        Raises
        ------
        InputError
            If the reference, the relaxer or the hull can't be used.
        """
        pipeline = self.pipeline
        waiting = [
            self._begun.get(sample.id) or Case(sample)
            for sample in self._samples
            if sample.id not in self._cases or self._cases[sample.id].is_open
        ]
        self._begun.clear()
        with self._clock.limited(deadline, grace=_GRACE):
            pipeline.run(waiting)
            self._cases.update((case.sample.id, case) for case in waiting)
            return self._report()

    def report(self, *, deadline: float | None = None) -> NoveltyReport:
        """The report on the samples scored so far; scores nothing.

        Parameters
        ----------
        deadline : float, optional
            On the clock of `time.monotonic`: later, crystals that may be equal count as equal.
        """
        with self._clock.limited(deadline):
            return self._report()

    def __call__(
        self,
        structures: Iterable[Any],
        ids: Sequence[str] | None = None,
        energies: Sequence[float | None] | None = None,
    ) -> NoveltyReport:
        """Score these crystals alone; samples added before are unchanged."""
        kept = self._samples, self._cases, self._clock.seconds
        self._samples, self._cases, self._clock.seconds = [], {}, defaultdict(float)
        try:
            self.update(structures, ids, energies)
            return self.compute()
        finally:
            self._samples, self._cases, self._clock.seconds = kept

    @overload
    def reward(self, structures: Structure) -> float: ...

    @overload
    def reward(self, structures: Iterable[Any]) -> np.ndarray: ...

    def reward(self, structures: Any) -> float | np.ndarray:
        """Graded novelty of each crystal: 0 for a copy, 1 if no reference crystal is near.

        For reinforcement and active learning. Only the search runs: no crystal is relaxed, the
        potential and the hull are not opened, and the crystals are not added to the metric::

            reward = 0                 if the crystal is a duplicate of a reference crystal
                     min(1, c / 102)   if it has candidate parents; c is the least cost of one
                     1                 if it has none

        where c is the mean modified Pettifor distance over the atoms between the crystal and the
        parent, and 102 the largest. An object that cannot be scored gets 0: it is not a crystal, it
        is disordered, it has more than `max_sites` sites, or its search reached a limit before a
        parent was found. `reward_details` gives the reason.

        Parameters
        ----------
        structures : pymatgen Structure or ASE Atoms, or an iterable of them
            The generated crystals. They are reduced but not relaxed.

        Returns
        -------
        float, or float64 (N,)
            For a single crystal, and for N of them. Finite, from 0 to 1.

        Notes
        -----
        It is `novelty_metric.report.graded.crystal_score` of the rows that ``relaxer=None`` and
        ``scope="all"`` give. It does not measure stability. An unstable crystal also has no parent,
        so combine the reward with an energy or a test of validity. This method and the metric can
        be pickled; another process opens the reference itself. With ``workers=N``, N threads
        search.

        Raises
        ------
        InputError
            If the reference can't be used.

        Examples
        --------
        >>> from pymatgen.core import Lattice, Structure
        >>> from novelty_metric import SubstitutionNovelty
        >>> metric = SubstitutionNovelty(reference="aflow")
        >>> sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
        >>> metric.reward(Structure(Lattice.cubic(4.12), ["Cs", "Cl"], sites))
        0.0
        >>> metric.reward([Structure(Lattice.cubic(4.29), ["Cs", "Br"], sites)]).round(4).tolist()
        [0.0049]
        """
        if is_crystal(structures):
            return self.reward_details([structures])[0].value
        return np.array([one.value for one in self.reward_details(structures)], dtype=np.float64)

    def reward_details(self, structures: Iterable[Any]) -> list[Reward]:
        """Graded novelty of several crystals, each with the nearest reference crystal or the
        reason.

        Raises
        ------
        InputError
            If the reference can't be used.
        """
        from novelty_metric.report.reward import rewards

        if self._search is None:
            # One parent is enough for the least cost; a potential would only be loaded.
            protocol = dataclasses.replace(self.protocol, k=1)
            rules = ScoringRules(protocol=protocol, max_sites=self.rules.max_sites)
            clock = StepClock(None)
            resources = Resources.open(self.spec.search_only, rules, clock.progress)
            self._search = Pipeline(rules, resources, clock)
        return rewards(self._search, structures)

    def prepare(self) -> None:
        """Open the reference, the potential and the hull now, not at the first `compute`.

        Raises
        ------
        InputError
            If one of them can't be used.
        """
        self.pipeline.prepare_search()

    def reset(self) -> None:
        """Remove all samples; opened resources stay open."""
        self._samples.clear()
        self._cases.clear()
        self._begun.clear()
        self._clock.seconds.clear()

    def close(self) -> None:
        """Stop worker processes and close the cache."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None
        self._search = None

    def __enter__(self) -> SubstitutionNovelty:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- what it works with ------------------------------------------------------------------

    @property
    def pipeline(self) -> Pipeline:
        """The steps, each callable alone; opens the resources if necessary."""
        if self._pipeline is None:
            step = "open"
            with self._clock.timed(step):
                self.progress(step, 0, 1)
                resources = Resources.open(self.spec, self.rules, self.progress)
                self._pipeline = Pipeline(self.rules, resources, self._clock)
                self.progress(step, 1, 1)
        return self._pipeline

    @property
    def protocol(self) -> Protocol:
        """The protocol; `rules` holds the other settings."""
        return self.rules.protocol

    @property
    def reference(self) -> Reference:
        """The reference; opens it if necessary."""
        return self.pipeline.resources.reference

    @property
    def calibration(self) -> Calibration | None:
        """The calibration: results of real reference crystals with these settings, if measured."""
        return self.context().calibration

    @property
    def device(self) -> str | None:
        """The requested device; None means the best available one."""
        return self.spec.device or getattr(self.spec.relaxer, "device", None)

    @property
    def progress(self) -> ProgressCallback:
        """The progress callback of a long run."""
        return self._clock.progress

    @progress.setter
    def progress(self, callback: ProgressCallback) -> None:
        self._clock.progress = callback

    def context(
        self, *, seconds: Mapping[str, float] | None = None, warnings: Iterable[str] = ()
    ) -> RunContext:
        """The description of a run in its report, without the crystals.

        Parameters
        ----------
        seconds : mapping, optional
            Time per step; default that of this metric.
        """
        from novelty_metric.report.of_cases import run_context

        return run_context(
            self.pipeline,
            seconds=self._clock.seconds if seconds is None else seconds,
            warnings=warnings,
        )

    # -- several metrics ---------------------------------------------------------------------

    def merge(self, other: SubstitutionNovelty | MetricState) -> None:
        """Merge the samples of another metric with the same settings, scored or not.

        Ids that occur in both get the suffix ``~2``, ``~3`` and so on.

        Parameters
        ----------
        other : SubstitutionNovelty or MetricState
            The metric, or the `state` of one in another process.

        Raises
        ------
        InputError
            If the settings differ, or the reference does.
        """
        theirs = other if isinstance(other, MetricState) else other.state()
        for name, value in self._identity().items():
            if theirs.identity[name] != value:
                raise InputError(
                    f"metrics with different {name} can't be merged: {value!r} and "
                    f"{theirs.identity[name]!r}"
                )
        used = {sample.id for sample in self._samples}
        for sample in theirs.samples:
            name, count = sample.id, 1
            while name in used:
                count += 1
                name = f"{sample.id}~{count}"
            used.add(name)
            renamed = dataclasses.replace(sample, id=name)
            self._samples.append(renamed)
            if sample.id in theirs.cases:
                self._cases[name] = dataclasses.replace(theirs.cases[sample.id], sample=renamed)
        for step, seconds in theirs.seconds.items():
            self._clock.seconds[step] += seconds

    def state(self) -> MetricState:
        """The added and scored samples, in a form for the metric of another process."""
        return MetricState(
            self._identity(), tuple(self._samples), dict(self._cases), dict(self._clock.seconds)
        )

    def search_only(self) -> SubstitutionNovelty:
        """A metric that relaxes nothing, with the same reference and the same other settings.

        It has none of the samples.
        """
        return self._beside(
            dataclasses.replace(self.rules, sample_energies=None),
            dataclasses.replace(self.spec.search_only, reference=self.reference),
        )

    def over(self, reference: Reference) -> SubstitutionNovelty:
        """A metric with the same settings and another reference, without samples.

        It uses the relaxer and the hull of this metric, which must stay open.
        """
        return self._beside(self.rules, self._borrowed(reference))

    def variant(
        self,
        protocol: Protocol,
        *,
        parents: Protocol | None = None,
        reference: Reference | None = None,
        relaxer: str | Potential | Relaxer | None = None,
    ) -> SubstitutionNovelty:
        """A metric with another protocol and the same samples, to test the effect of a setting.

        Unless it has its own relaxer, it uses the relaxer and the hull of this metric, which must
        stay open. It takes over the results that the other protocol does not change: relaxed
        samples, their symmetry, and the parents found.

        Parameters
        ----------
        protocol : Protocol
        parents : Protocol, optional
            Protocol with the tolerances and `k` for the search of parents; `protocol` is then used
            only for the duplicate test and the confirmation.
        reference : Reference, optional
            The same crystals, prepared with other settings.
        relaxer : str, Potential or Relaxer, optional
            Another potential; close the variant to free its resources.
        """
        spec = self._borrowed(self.reference if reference is None else reference)
        if relaxer is not None:
            spec = dataclasses.replace(spec, relaxer=relaxer, hull=self.spec.hull)
        rules = dataclasses.replace(self.rules, protocol=protocol, parents_protocol=parents)
        other = self._beside(rules, spec)
        other._samples = list(self._samples)
        if relaxer is None and rules.relax_settings == self.rules.relax_settings:
            other._begun = {
                name: _begun(case, self.rules, rules) for name, case in self._cases.items()
            }
        return other

    def _borrowed(self, reference: Reference) -> ResourceSpec:
        """The open resources with this reference, without the second potential."""
        opened = self.pipeline.resources
        return dataclasses.replace(
            self.spec,
            reference=reference,
            relaxer=opened.relaxer,
            hull="none" if opened.hull is None else opened.hull,
            second_potential=None,
        )

    def _beside(self, rules: ScoringRules, spec: ResourceSpec) -> SubstitutionNovelty:
        """A metric without samples, with other rules and resources."""
        other = copy.copy(self)
        other.rules, other.spec = rules, spec
        other._clock = StepClock(self.progress)
        other._forget()
        return other

    def _report(self) -> NoveltyReport:
        from novelty_metric.report.of_cases import report_of

        ordered = [self._cases[sample.id] for sample in self._samples if sample.id in self._cases]
        report = report_of(self.pipeline, ordered)
        return self.with_rediscovery(report, report.results)

    def with_rediscovery(
        self, report: NoveltyReport, rows: Iterable[CrystalResult]
    ) -> NoveltyReport:
        """The report with the rediscovered crystals, if `rediscover` names a test set.

        Parameters
        ----------
        report : NoveltyReport
        rows : iterable of CrystalResult
            Its rows with their crystals.
        """
        path = self._rediscover
        if path is None:
            return report
        from novelty_metric.report import rediscovery

        search = self.pipeline.resources.search
        if self._test_set is None:
            crystals = rediscovery.read_test_set(path)
            self._test_set = rediscovery.TestSet(path.name, crystals, search)
        found = rediscovery.rediscover(rows, self._test_set, search)
        return rediscovery.with_rediscovery(report, found)

    def _identity(self) -> dict[str, Any]:
        """Settings that two metrics must share to be merged."""
        rules, spec, hull = self.rules, self.spec, self.spec.hull
        opened = self._pipeline is not None
        reference = self.reference if opened else spec.open_reference()
        return {
            **{field.name: getattr(rules, field.name) for field in dataclasses.fields(rules)},
            "smact_oxidation_states": rules.oxidation_states_name,
            # Objects are told apart by what they are, so that those of two processes may be equal.
            "relaxer": getattr(spec.relaxer, "info", spec.relaxer),
            "second_potential": getattr(spec.second_potential, "info", spec.second_potential),
            "hull": hull.describe() if hasattr(hull, "describe") else hull,
            "reference": reference.store_hash,
        }

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens what it needs itself.
        return {**self.__dict__, "_pipeline": None, "_search": None}


def _begun(case: Case, before: ScoringRules, now: ScoringRules) -> Case:
    """The parts of a case that other rules leave unchanged."""
    begun = case.normalised(
        with_symmetry=_symmetry_settings(before.protocol) == _symmetry_settings(now.protocol)
    )
    if case.found is not None:
        begun.found = _still_found(case.found, before.search_protocol, now.search_protocol)
    return begun


def _symmetry_settings(protocol: Protocol) -> tuple[float, float]:
    return protocol.symprec, protocol.symmetry_angle_tolerance


def _still_found(found: ParentsResult, before: Protocol, now: Protocol) -> ParentsResult | None:
    """The parents that a search by another protocol would find; None if they are unknown."""
    if dataclasses.replace(before, name="", k=1) != dataclasses.replace(now, name="", k=1):
        return None
    if now.k == before.k:
        return found
    # With fewer parents wanted, a search may finish that could not before.
    if now.k > before.k or found.unfinished:
        return None
    kept = tuple(parent for parent in found.parents if parent.rank <= now.k)
    return dataclasses.replace(found, parents=kept)
