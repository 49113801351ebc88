"""The steps from samples to verdicts; each can be called alone, and `Pipeline.run` calls all."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from novelty_metric.crystal import first_line
from novelty_metric.relaxation.base import EarlyStopping, Relaxation, Relaxer, RelaxTask
from novelty_metric.samples.base import Sample
from novelty_metric.scoring.case import Case, Substituted, relaxation_failure
from novelty_metric.scoring.resources import Resources
from novelty_metric.scoring.rules import ScoringRules
from novelty_metric.scoring.step_clock import StepClock
from novelty_metric.screening.composition import load_oxidation_states, smact_valid
from novelty_metric.search.compiled import LONGEST_SEARCH
from novelty_metric.verdict import CrystalResult, TriedParent, Verdict

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.screening.composition import OxidationStates
    from novelty_metric.search.duplicates import SampleGroups

SAME_ENERGY = 0.0005
"""Maximum energy increase (eV/atom) for a crystal of higher symmetry; `fmax` leaves the same
uncertainty.
"""

_AT_ONCE = 16
"""Number of crystals completed together if there is a deadline."""


def _ignore(case: Case) -> None:
    """The callback for a single case that does nothing."""


class Pipeline:
    """The steps of the method, with open resources.

    Parameters
    ----------
    rules : ScoringRules
    resources : Resources
    clock : StepClock
        Its deadline ends the steps; what they leave undone is marked `out_of_time`.

    Notes
    -----
    A step takes cases, fills in what it finds, and leaves out those whose answer no longer needs
    it. None raises for a fault of a single crystal: that is noted in its case.
    """

    def __init__(self, rules: ScoringRules, resources: Resources, clock: StepClock) -> None:
        self.rules = rules
        self.resources = resources
        self.clock = clock
        self._search_is_ready = False
        self._second: Pipeline | None = None
        if resources.second is not None:
            # Only crystals that are eligible come to it, and its energies decide nothing.
            asked = dataclasses.replace(
                rules, scope="eligible", exhaustive=False, sample_energies=None
            )
            self._second = Pipeline(asked, resources.second, StepClock(self._tell_of_second))

    def run(self, cases: Sequence[Case], on_settled: Callable[[Case], None] = _ignore) -> None:
        """Run all steps.

        Parameters
        ----------
        cases : sequence of Case
        on_settled : callable
            Takes each case once, as soon as nothing can change it any more.
        """
        self.check(cases)
        usable = [case for case in cases if _is_usable(case)]
        for case in cases:
            if not _is_usable(case):
                on_settled(case)
        at_once = _AT_ONCE if self.clock.deadline is not None else max(1, len(usable))
        for start in range(0, max(1, len(usable)), at_once):
            batch = usable[start : start + at_once]
            self.normalise(batch)
            self.screen(batch)
            self.search(batch)
            self.relax_parents(batch, on_settled)

    def score_each(
        self, samples: Iterable[Sample], on_result: Callable[[Sample, CrystalResult], None]
    ) -> None:
        """Score samples without storing them, for runs of any length.

        Parameters
        ----------
        samples : iterable of Sample
            A few hundred fill the batches of a relaxer.
        on_result : callable
            Takes each sample with its row, as soon as nothing can change it and in no certain
            order. `duplicate_group` and `matching_group` are None: equal samples are found once all
            are there, by `group_equal`.
        """
        cases = [Case(sample) for sample in samples]
        self.run(cases, lambda case: on_result(case.sample, self.row(case)))

    def row(
        self, case: Case, *, group: int | None = None, matching_group: int | None = None
    ) -> CrystalResult:
        """The row of a case, with its groups of equal samples."""
        return case.result(
            self.rules.protocol,
            group=group,
            matching_group=matching_group,
            exhaustive=self.rules.exhaustive,
            reference=self.resources.reference,
        )

    def group_equal(self, structures: Sequence[Structure]) -> SampleGroups:
        """The groups of equal reduced crystals, by the duplicate test and by plain matching."""
        with self.clock.timed("group equal samples"):
            return self.resources.search.group_equal(structures, self.clock.grace_passed)

    def close(self) -> None:
        """Close the resources."""
        self.resources.close()

    # -- the steps ---------------------------------------------------------------------------

    def check(self, cases: Sequence[Case]) -> None:
        """For each sample, True if it is a crystal that can be scored."""
        for case in self.clock.each("check", cases):
            if case.cleaned is None:
                case.check(self.rules.max_sites)
            if self.rules.leave_one_out and case.error is None:
                case.leave_itself_out(self.resources.reference)

    def normalise(self, cases: Iterable[Case]) -> None:
        """Relax, reduce, and find the symmetry."""
        self.resources.compile_ahead()
        cases = [case for case in cases if _is_usable(case)]
        as_given = [case for case in cases if case.converged is None]
        relaxer = self.resources.relaxer
        if relaxer is not None and self.rules.relax_samples:
            self._relax_samples(as_given, relaxer)
        elif relaxer is not None:
            self._take_energies(as_given, relaxer)
        for case in self.clock.each("reduce", [case for case in cases if case.reduced is None]):
            case.reduce(self.rules.protocol)
        if relaxer is not None and self.rules.relax_samples:
            self._symmetrise(as_given, relaxer)

    def screen(self, cases: Iterable[Case]) -> None:
        """Test chemistry, energy above hull and eligibility."""
        cases = [case for case in cases if _is_usable(case)]
        for case in self.clock.each("screen", cases):
            self._screen(case)
        highest = self.rules.protocol.metastable
        self._leave_saddles(
            [
                case
                for case in cases
                if case.converged and (case.e_above_hull or 0) > highest and self._is_in_scope(case)
            ]
        )

    def search(self, cases: Iterable[Case], *, plain_matching: bool = True) -> None:
        """Find duplicates and candidate parents, without a potential.

        Parameters
        ----------
        cases : iterable of Case
        plain_matching : bool
            As for `find_duplicates`.
        """
        cases = [case for case in cases if case.error is None and case.reduced is not None]
        if cases:
            self.prepare_search()
        # Not before: it needs the compiled search.
        relaxed = [case for case in cases if case.relaxation is not None]
        for case in self.clock.each("measure relaxations", relaxed):
            case.measure_relaxation()
        for case in cases:
            case.new_prototype = self.resources.search.is_new_prototype(
                case.symmetry, leave_out=case.leave_out
            )
        self.find_duplicates(cases, plain_matching=plain_matching)
        self.find_parents(cases)

    def prepare_search(self) -> None:
        """Compile the search and build its indices if necessary."""
        if self._search_is_ready:
            return
        step = "prepare search"
        with self.clock.timed(step):
            self.clock.progress(step, 0, 1)
            self.resources.prepare_search()
            self.clock.progress(step, 1, 1)
        self._search_is_ready = True

    def find_duplicates(self, cases: Sequence[Case], *, plain_matching: bool = True) -> None:
        """Find the duplicate of each crystal, eligible or not.

        Parameters
        ----------
        cases : sequence of Case
        plain_matching : bool
            Look for an equal crystal by plain matching too, which no verdict depends on.
        """
        search = self.resources.search
        for case in self.clock.each("find duplicates", cases):
            assert case.reduced is not None
            try:
                case.duplicate = search.duplicate(case.reduced, leave_out=case.leave_out)
            except Exception as error:  # the matcher may break on an odd cell; it stays one row
                case.unfinished += (f"the duplicate test failed ({first_line(error)})",)
            if not plain_matching:
                continue
            try:
                case.matching_index = search.plain_match(
                    case.reduced, case.duplicate, leave_out=case.leave_out
                )
                case.matching_tested = True
            except Exception as error:  # as above
                case.matching_error = f"plain matching failed ({first_line(error)})"

    def find_parents(self, cases: Sequence[Case]) -> None:
        """Find candidate parents of the crystals in scope that are not duplicates."""
        wanted = [
            case
            for case in cases
            if case.duplicate is None and (case.eligible is not False or self.rules.scope == "all")
        ]
        stage = "search parents"
        with self.clock.timed(stage), ThreadPoolExecutor(self.resources.threads) as pool:
            try:
                for done, _ in enumerate(pool.map(self._find_parents_of, wanted), start=1):
                    self.clock.progress(stage, done, len(wanted))
            finally:
                pool.shutdown(cancel_futures=True)

    def relax_parents(
        self, cases: Iterable[Case], on_settled: Callable[[Case], None] = _ignore
    ) -> None:
        """Substitute, relax once, confirm; and again with a second potential.

        Parameters
        ----------
        cases : iterable of Case
        on_settled : callable
            Takes each case once, as soon as nothing can change it any more.
        """
        if self._second is None:
            self._decide(cases, on_settled)
            return
        eligible: list[Case] = []
        self._decide(cases, lambda case: (eligible.append if case.eligible else on_settled)(case))
        self._score_again(eligible, self._second)
        for case in eligible:
            on_settled(case)

    def _decide(self, cases: Iterable[Case], on_settled: Callable[[Case], None]) -> None:
        settled: set[Case] = set()

        def settle(case: Case) -> None:
            if case not in settled and not self._is_worth_another_look(case):
                settled.add(case)
                on_settled(case)

        cases = list(cases)
        self._relax_parents(cases, settle)
        moved = self._leave_saddles([case for case in cases if case not in settled])
        if moved:
            self.search(moved)
            self._relax_parents(moved, settle)
        self._descend_parents([case for case in cases if case not in settled])
        for case in cases:
            if case not in settled:
                on_settled(case)

    @cached_property
    def _oxidation_states(self) -> OxidationStates:
        return load_oxidation_states(self.rules.smact_oxidation_states)

    # -- parts of them -----------------------------------------------------------------------

    def _score_again(self, cases: Sequence[Case], second: Pipeline) -> None:
        """Repeat all steps from the generated crystal with the second potential."""
        again = [Case(case.sample) for case in cases]
        with second.clock.limited(self.clock.deadline):
            second.run(again)
        for case, other in zip(cases, again, strict=True):
            case.second = other.as_second()
            case.seconds += other.seconds
        for step, seconds in second.clock.take_seconds().items():
            self.clock.seconds[_of_second(step)] += seconds

    def _tell_of_second(self, step: str, done: int, total: int | None) -> None:
        self.clock.progress(_of_second(step), done, total)

    def _relax_samples(self, cases: list[Case], relaxer: Relaxer) -> None:
        stage = "relax samples"
        queue: deque[RelaxTask] = deque()
        for case in cases:
            assert case.cleaned is not None
            check = self.rules.protocol.minima == "check" and self._is_in_scope(case)
            queue.append(RelaxTask(case, case.cleaned, minima="check" if check else "keep"))
        with self.clock.timed(stage):
            self.clock.progress(stage, 0, len(cases))
            for done, (task, result) in enumerate(self._relaxed(relaxer, queue), start=1):
                assert isinstance(task.key, Case)
                task.key.take_relaxation(result)
                self.clock.progress(stage, done, len(cases))
        if self.clock.deadline is not None:
            for case in cases:
                case.out_of_time = case.relaxation is None

    def _symmetrise(self, cases: list[Case], relaxer: Relaxer) -> None:
        """Give samples that nearly have a higher symmetry this symmetry, if the energy does not
        rise.
        """
        protocol, stage = self.rules.protocol, "symmetry of samples"
        if not protocol.symmetrise:
            return
        queue: deque[RelaxTask] = deque()
        with self.clock.timed(stage):
            for case in cases:
                if self.clock.deadline_passed() or not self._is_in_scope(case):
                    continue
                ideal = case.symmetrised(protocol)
                if ideal is not None:
                    queue.append(RelaxTask(case, ideal))
            waiting = len(queue)
            for done, (task, result) in enumerate(self._relaxed(relaxer, queue), start=1):
                assert isinstance(task.key, Case)
                task.key.take_symmetric(result, SAME_ENERGY, protocol)
                self.clock.progress(stage, done, waiting)

    def _is_in_scope(self, case: Case) -> bool:
        """True if the composition of a sample allows a search for its parents."""
        assert case.cleaned is not None
        return self.rules.scope == "all" or smact_valid(
            case.cleaned.composition, self._oxidation_states
        )

    def _take_energies(self, cases: list[Case], relaxer: Relaxer) -> None:
        """Energies of samples that are already relaxed."""
        stage = "energies of samples"
        structures = [case.cleaned for case in cases if case.cleaned is not None]
        with self.clock.timed(stage):
            energies = relaxer.energies(structures)
            for done, (case, energy) in enumerate(zip(cases, energies, strict=True), start=1):
                case.converged = math.isfinite(energy)
                case.energy_per_atom = energy if math.isfinite(energy) else None
                self.clock.progress(stage, done, len(cases))

    def _relaxed(
        self, relaxer: Relaxer, queue: deque[RelaxTask]
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        """The results of relaxations before the deadline."""
        deadline, settings = self.clock.deadline, self.rules.relax_settings
        if deadline is None:
            yield from relaxer.relax(queue, settings)
            return
        if self.clock.deadline_passed():
            return
        # One that knows of no deadline is left after the first result that comes too late.
        knows = "deadline" in inspect.signature(relaxer.relax).parameters
        limit = {"deadline": deadline} if knows else {}
        for found in relaxer.relax(queue, settings, **limit):
            yield found
            if self.clock.deadline_passed():
                return

    def _screen(self, case: Case) -> None:
        """Test chemistry, energy above hull and eligibility of one crystal."""
        assert case.cleaned is not None
        case.smact_valid = smact_valid(case.cleaned.composition, self._oxidation_states)
        self._measure_hull(case)
        case.not_eligible_because = self._not_eligible(case)
        case.eligible = case.not_eligible_because is None
        if case.eligible and case.out_of_time:
            case.eligible = None

    def _measure_hull(self, case: Case) -> None:
        """Fill in the energy above hull of a crystal."""
        from novelty_metric.reference.store import composition_key
        from novelty_metric.screening.hull import hull_distance, hull_without

        assert case.cleaned is not None
        hull, own = self.resources.hull, self.rules.sample_energies
        energy = case.energy_per_atom if own is None else case.take_given_energy(own)
        if hull is None or energy is None:
            return
        if case.unknown_to_hull:
            hull = hull_without(hull, composition_key(case.cleaned.atomic_numbers))
        try:
            found = hull_distance(
                hull, case.cleaned.composition, energy, case.reduced or case.cleaned
            )
        except RuntimeError:  # a solver that gave up: no hull
            return
        if found is not None:
            case.e_above_hull = found.e_above_hull
            case.n_competing = found.n_competing
            case.decomposition = found.decomposition

    def _not_eligible(self, case: Case) -> str | None:
        """The reason why a crystal is not eligible."""
        if not case.smact_valid:
            return "composition refused by SMACT"
        own = self.rules.sample_energies
        if (self.resources.relaxer is None and own is None) or case.out_of_time:
            return None
        failure = relaxation_failure(case.relaxation) if case.relaxation is not None else None
        if failure is not None:
            return f"relaxation failed: {failure}"
        if not case.converged:
            return (
                "relaxation did not converge"
                if self.rules.relax_samples
                else "the potential gives no energy"
            )
        if self.resources.hull is None:
            return None
        if own is not None and case.given_energy is None:
            return "no energy given"
        if case.e_above_hull is None:
            return "no hull for its elements"
        if case.e_above_hull > self.rules.protocol.metastable:
            return f"{case.e_above_hull:.3f} eV/atom above the hull"
        return None

    def _find_parents_of(self, case: Case) -> None:
        assert case.reduced is not None
        case.searched = True
        case.out_of_time = case.out_of_time or self.clock.deadline_passed()
        if case.out_of_time:
            return
        effort = self.clock.share_left(LONGEST_SEARCH)
        with case.clock():
            try:
                found = case.found or self.resources.parent_search.parents(
                    case.reduced, case.symmetry, effort=effort, leave_out=case.leave_out
                )
            except Exception as error:  # the matcher may break on an odd cell; it stays one row
                case.unfinished += (f"the search failed ({first_line(error)})",)
                return
        if found.unfinished and effort < 1:
            case.out_of_time = True
            return
        case.found = found
        case.unfinished += found.unfinished
        case.tried = [TriedParent(parent=parent) for parent in found.parents]

    def _relax_parents(self, cases: Sequence[Case], settle: Callable[[Case], None]) -> None:
        """Substitute and relax the candidates of each case until one is confirmed."""
        relaxer = self.resources.relaxer
        open_cases = [case for case in cases if case.error is None and case.tried]
        if relaxer is not None:
            for case in open_cases:
                case.substitute_parents(self.resources.reference)
            self._relax_waiting("relax parents", open_cases, relaxer, settle)
        for case in cases:
            settle(case)

    def _relax_waiting(
        self,
        stage: str,
        cases: Sequence[Case],
        relaxer: Relaxer,
        settle: Callable[[Case], None] = _ignore,
    ) -> None:
        """Relax and confirm the waiting parents of each case, one by one or all at once."""
        with self.clock.timed(stage):
            total = sum(len(case.waiting) for case in cases)
            left = {case: len(case.waiting) for case in cases}
            queue: deque[RelaxTask] = deque()
            for case in cases:
                self._enqueue(case, queue)
            self.clock.progress(stage, 0, total)
            for done, (task, result) in enumerate(self._relaxed(relaxer, queue), start=1):
                assert isinstance(task.key, _Candidate)
                case = task.key.case
                self._confirm(case, task, result)
                left[case] -= 1
                if case.confirmed and not self.rules.exhaustive:
                    total -= len(case.waiting)
                    case.waiting.clear()
                    left[case] = 0
                elif not self.rules.exhaustive:
                    self._enqueue(case, queue)
                if not left[case]:
                    settle(case)
                self.clock.progress(stage, done, total)
        if self.clock.deadline is not None:
            for case in cases:
                case.out_of_time = case.out_of_time or bool(left[case])

    def _confirm(self, case: Case, task: RelaxTask, result: Relaxation) -> None:
        """Compare a relaxed parent with its crystal."""
        assert isinstance(task.key, _Candidate)
        case.n_relaxations += task.key.substituted.rest is None
        case.seconds += result.seconds
        with case.clock():
            case.confirm(
                task.key.positions,
                result,
                self.resources.search.matching,
                before=task.key.substituted.structure,
                rest=task.key.substituted.rest,
            )

    def _is_worth_another_look(self, case: Case) -> bool:
        """True if the case is unmatched, and a path down from a saddle point could change this."""
        return (
            self.rules.protocol.minima == "escape"
            and self.resources.relaxer is not None
            and case.error is None
            and case.energy_per_atom is not None
            and case.decide()[0] == Verdict.UNMATCHED
        )

    def _leave_saddles(self, cases: Sequence[Case]) -> list[Case]:
        """Continue samples at saddle points to a minimum; return the ones that moved."""
        relaxer, stage = self.resources.relaxer, "saddles of samples"
        if relaxer is None or self.rules.protocol.minima != "escape":
            return []
        queue: deque[RelaxTask] = deque()
        for case in cases:
            rest = case.relaxation
            if rest is not None and rest.structure is not None and rest.saddle is None:
                queue.append(RelaxTask(case, rest.structure, minima="escape"))
        open_cases = {task.key for task in queue}
        moved = []
        with self.clock.timed(stage):
            for done, (task, result) in enumerate(self._relaxed(relaxer, queue), start=1):
                assert isinstance(task.key, Case)
                open_cases.remove(task.key)
                if task.key.take_descent(result):
                    moved.append(task.key)
                self.clock.progress(stage, done, done + len(open_cases))
        for case in cases:
            # Without an answer, only a deadline left it; it may be on a saddle.
            case.out_of_time = case.out_of_time or case in open_cases
        for case in self.clock.each("reduce", moved):
            case.reduce(self.rules.protocol)
        self._symmetrise(moved, relaxer)
        for case in self.clock.each("screen", moved):
            self._screen(case)
        return moved

    def _descend_parents(self, cases: Sequence[Case]) -> None:
        """Continue parents at saddle points to a minimum, and confirm them from there."""
        relaxer = self.resources.relaxer
        if relaxer is None or self.rules.protocol.minima != "escape":
            return
        for case in cases:
            case.wait_for_descents()
        cases = [case for case in cases if case.waiting]
        if cases:
            self._relax_waiting("saddles of parents", cases, relaxer)

    def _enqueue(self, case: Case, queue: deque[RelaxTask]) -> None:
        """Put the next parent on the queue; all parents if the run is exhaustive."""
        while case.waiting:
            parent = case.waiting.popleft()
            key, stopping = _Candidate(case, parent), self._early_stopping(case, parent)
            if parent.rest is None:
                queue.append(RelaxTask(key, parent.structure, stopping))
            else:
                assert parent.rest.structure is not None
                queue.append(RelaxTask(key, parent.rest.structure, stopping, minima="escape"))
            if not self.rules.exhaustive:
                return

    def _early_stopping(self, case: Case, parent: Substituted) -> EarlyStopping | None:
        """Early stopping for the relaxation of a parent, if the protocol asks for it.

        Needs a crystal that is at rest, with its energy.
        """
        protocol = self.rules.protocol
        wanted = protocol.accept_early > 0 or protocol.refuse_after > 0
        if not wanted or case.reduced is None or not case.converged:
            return None
        if case.energy_per_atom is None:
            return None
        from novelty_metric.scoring.early_stopping import MatchStopping

        return MatchStopping(case.reduced, case.energy_per_atom, protocol)


@dataclass(frozen=True)
class _Candidate:
    """Key of a parent's relaxation: its case and its structure."""

    case: Case
    substituted: Substituted

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of the candidates for which it is relaxed."""
        return self.substituted.positions


def _of_second(step: str) -> str:
    """Name of a step with the second potential."""
    return f"{step}, second potential"


def _is_usable(case: Case) -> bool:
    """True if a checked sample is a crystal that can be scored."""
    return case.cleaned is not None and case.error is None
