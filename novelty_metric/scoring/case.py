"""One sample in the pipeline: its results so far, its verdict (`Case.decide`), and its row."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from novelty_metric import crystal
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.errors import CrystalError
from novelty_metric.relaxation.base import Ended, Relaxation
from novelty_metric.samples.base import Sample
from novelty_metric.search.compiled import TooMuchToCompareError
from novelty_metric.search.displacement import rms_displacement
from novelty_metric.verdict import (
    CrystalResult,
    DuplicateMatch,
    Kind,
    Parent,
    Route,
    TriedParent,
    Verdict,
    rests_on_elements,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import Reference
    from novelty_metric.scoring.sample_energies import SampleEnergies
    from novelty_metric.search.engine import ParentsResult
    from novelty_metric.search.matching import Matching


NEAR_ENERGY = 0.05
"""A relaxed parent less than this above the crystal (eV/atom) may be at a saddle point above it."""

BELOW = 0.02
"""A relaxed parent further below the crystal (eV/atom) cannot lead to it: energies only fall."""


@dataclass(frozen=True)
class Substituted:
    """A parent with exchanged elements that waits for its relaxation.

    `positions` are those of the parents it stands for: both routes may name the same one. One that
    came to rest and did not match waits once more where that may have been a saddle: `rest` is what
    became of it.
    """

    structure: Structure
    positions: tuple[int, ...]
    rest: Relaxation | None = None


@dataclass(frozen=True, slots=True)
class SecondVerdict:
    """The verdict of a crystal with a second potential.

    `parent_id` is the reference crystal that it names, and `error` the reason why it is undecided.
    """

    verdict: Verdict
    parent_id: str | None
    error: str | None
    out_of_time: bool


@dataclass(eq=False)
class Case:
    """One sample and its results so far. Compared by identity.

    Attributes
    ----------
    sample : Sample
    leave_out : int or None
        Position of a reference crystal that counts as absent, for a crystal of the reference.
    unknown_to_hull : bool
        The crystals of its composition count as absent from the hull, for a real crystal.
    cleaned, reduced : Structure or None
        As it came in, checked, its sites in `crystal.in_site_order`; and relaxed, primitive and
        Niggli-reduced.
    symmetry : Symmetry or None
        Of the reduced cell.
    error : str or None
        Why the sample can't be scored.
    shortest_distance : float or None
        Between two sites as it came in (Å).
    relaxation : Relaxation or None
    relaxation_rmsd : float or None
        Of the crystal from its relaxed self; None where they do not match, or that is not known.
    converged : bool or None
        Also True for a sample taken as already relaxed; None if nothing was relaxed.
    energy_per_atom, given_energy, e_above_hull : float or None
        The potential's, the sample's own, and the distance from the hull (eV/atom).
    n_competing, decomposition
        What the hull is made of there, as in `CrystalResult`.
    not_eligible_because : str or None
        None for an eligible crystal.
    duplicate : DuplicateMatch or None
    matching_index : int or None
        Position of the reference crystal that plain matching accepts.
    matching_tested : bool
        The search for one came to its end.
    matching_error : str or None
        Why it did not.
    new_prototype : bool or None
        No reference crystal has its prototype; None where its symmetry is not known.
    searched : bool
        Parents were searched.
    found : ParentsResult or None
        What that search gave.
    unfinished : tuple of str
        Why the search could have missed a parent.
    tried : list of TriedParent
        The candidates, with what became of each.
    waiting : deque of Substituted
        Relaxations not yet asked for, cheap parents first.
    relaxed_parents : dict
        Last geometry of each candidate that was relaxed, by its position in `tried`.
    at_rest : list of Substituted
        Those that came to rest and did not match.
    out_of_time : bool
        A deadline came before one of its steps was done.
    second : SecondVerdict or None
        With a second potential, for an eligible crystal.
    n_relaxations : int
    seconds : float
        Work done on this sample.
    """

    sample: Sample
    leave_out: int | None = None
    unknown_to_hull: bool = False
    cleaned: Structure | None = None
    reduced: Structure | None = None
    symmetry: crystal.Symmetry | None = None
    error: str | None = None
    shortest_distance: float | None = None
    smact_valid: bool | None = None
    relaxation: Relaxation | None = None
    relaxation_rmsd: float | None = None
    energy_per_atom: float | None = None
    given_energy: float | None = None
    converged: bool | None = None
    e_above_hull: float | None = None
    n_competing: int | None = None
    decomposition: Mapping[str, float] | None = None
    eligible: bool | None = None
    not_eligible_because: str | None = None
    duplicate: DuplicateMatch | None = None
    matching_index: int | None = None
    matching_tested: bool = False
    matching_error: str | None = None
    new_prototype: bool | None = None
    searched: bool = False
    found: ParentsResult | None = None
    unfinished: tuple[str, ...] = ()
    tried: list[TriedParent] = field(default_factory=list)
    waiting: deque[Substituted] = field(default_factory=deque)
    relaxed_parents: dict[int, CrystalRecord] = field(default_factory=dict)
    at_rest: list[Substituted] = field(default_factory=list)
    out_of_time: bool = False
    second: SecondVerdict | None = None
    n_relaxations: int = 0
    seconds: float = 0.0

    @property
    def as_read(self) -> Structure | None:
        """The unchanged crystal if it is a pymatgen structure, else `cleaned`."""
        given = self.sample.structure
        return given if hasattr(given, "frac_coords") else self.cleaned

    @property
    def is_open(self) -> bool:
        """True if a deadline left work that can be continued."""
        return self.out_of_time or (self.second is not None and self.second.out_of_time)

    @property
    def confirmed(self) -> bool:
        """True if a relaxed parent matched."""
        return any(tried.confirmed for tried in self.tried)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Add the time of the `with` block to `seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def check(self, max_sites: int | None) -> None:
        """Fill `cleaned`, or `error`."""
        if self.sample.structure is None:
            self.error = self.sample.error or "the crystal could not be read"
            return
        try:
            cleaned = crystal.clean(self.sample.structure, max_sites=max_sites)
            self.cleaned = crystal.in_site_order(cleaned)
            self.shortest_distance = crystal.shortest_distance(self.cleaned)
        except CrystalError as error:
            self.error = str(error)
        except Exception as error:  # a foreign object may break anywhere; it stays one row
            self.error = f"the crystal can't be used ({_message(error)})"

    def take_relaxation(self, result: Relaxation) -> None:
        """Take the result of the sample's relaxation."""
        result = failed_if_collapsed(result)
        self.relaxation = result
        self.converged = result.converged
        self.energy_per_atom = result.energy_after
        self.n_relaxations += 1
        self.seconds += result.seconds

    def symmetrised(self, protocol: Protocol) -> Structure | None:
        """The crystal of higher symmetry close to the relaxed one, if there is one."""
        if not self.converged or self.reduced is None or self.symmetry is None:
            return None
        with self.clock():
            return crystal.symmetrised(
                self.reduced,
                self.symmetry,
                widest=protocol.symmetrise,
                angle_tolerance=protocol.symmetry_angle_tolerance,
            )

    def take_symmetric(self, result: Relaxation, rise: float, protocol: Protocol) -> None:
        """Replace the crystal by that of higher symmetry, unless its energy (eV/atom) is higher."""
        result, before = failed_if_collapsed(result), self.relaxation
        assert before is not None
        self.seconds += result.seconds
        if result.error is not None or not result.converged or result.energy_after is None:
            return
        if before.energy_after is None or result.energy_after > before.energy_after + rise:
            return
        self.relaxation = dataclasses.replace(
            before,
            structure=result.structure,
            energy_after=result.energy_after,
            steps=before.steps + result.steps + 1,
        )
        self.energy_per_atom = result.energy_after
        self.reduced = self.symmetry = None
        with self.clock():
            self.reduce(protocol)

    def take_descent(self, result: Relaxation) -> bool:
        """True if the crystal was at a saddle point and has left it.

        Then all that followed from its geometry is forgotten.
        """
        result, rest = failed_if_collapsed(result), self.relaxation
        assert rest is not None
        self.seconds += result.seconds
        moved = bool(result.saddle) and result.converged and result.structure is not None
        if not moved:
            self.relaxation = dataclasses.replace(rest, saddle=result.saddle)
            return False
        self.relaxation = dataclasses.replace(result, steps=rest.steps + result.steps + 1)
        self.energy_per_atom = result.energy_after
        self.reduced = self.symmetry = self.duplicate = self.found = self.relaxation_rmsd = None
        self.unfinished, self.tried, self.at_rest, self.relaxed_parents = (), [], [], {}
        return True

    def take_given_energy(self, energies: SampleEnergies) -> float | None:
        """The energy given with the sample (eV/atom), which counts as relaxed."""
        assert self.cleaned is not None
        self.converged = True
        if self.sample.energy is not None:
            self.given_energy = energies.per_atom(self.sample.energy, len(self.cleaned))
        return self.given_energy

    def reduce(self, protocol: Protocol) -> None:
        """Fill `reduced` and `symmetry`, or `error`.

        A relaxation that failed leaves the input geometry, which is not eligible.
        """
        assert self.cleaned is not None
        geometry = self.cleaned
        if self.relaxation is not None and relaxation_failure(self.relaxation) is None:
            assert self.relaxation.structure is not None
            geometry = self.relaxation.structure
        try:
            self.reduced = crystal.reduce(geometry)
        except CrystalError as error:
            self.error = str(error)
            return
        self.symmetry = crystal.symmetry(
            self.reduced,
            symprec=protocol.symprec,
            angle_tolerance=protocol.symmetry_angle_tolerance,
        )

    def leave_itself_out(self, reference: Reference) -> None:
        """Treat the reference crystal with its id as absent; an error if it is another crystal."""
        from novelty_metric.reference.store import composition_key

        assert self.cleaned is not None
        try:
            index = reference.position(self.sample.id)
        except KeyError:
            self.error = "leave_one_out=true: the reference contains no crystal with this id"
            return
        if composition_key(self.cleaned.atomic_numbers) != reference.composition_key(index):
            self.error = (
                "leave_one_out=true: the reference crystal with this id is a different crystal"
            )
            return
        self.leave_out, self.unknown_to_hull = index, True

    def measure_relaxation(self) -> None:
        """Fill `relaxation_rmsd`, if the sample was relaxed and it is not known."""
        relaxed = None if self.relaxation is None else self.relaxation.structure
        if relaxed is None or self.cleaned is None or self.relaxation_rmsd is not None:
            return
        with contextlib.suppress(Exception):  # too much to compare, or the matcher breaks
            self.relaxation_rmsd = rms_displacement(self.cleaned, relaxed)

    @property
    def relaxation_energy(self) -> float | None:
        """Energy of the relaxed crystal minus that of the generated one (eV/atom)."""
        found = self.relaxation
        if found is None or found.energy_before is None or found.energy_after is None:
            return None
        return found.energy_after - found.energy_before

    def normalised(self, *, with_symmetry: bool) -> Case:
        """The same sample in its state after the relaxation or the reduction.

        Parameters
        ----------
        with_symmetry : bool
            Keep the reduced cell and its symmetry.
        """
        return Case(
            self.sample,
            leave_out=self.leave_out,
            cleaned=self.cleaned,
            shortest_distance=self.shortest_distance,
            reduced=self.reduced if with_symmetry else None,
            symmetry=self.symmetry if with_symmetry else None,
            error=self.error,
            relaxation=self.relaxation,
            relaxation_rmsd=self.relaxation_rmsd,
            energy_per_atom=self.energy_per_atom,
            converged=self.converged,
            n_relaxations=int(self.relaxation is not None),
        )

    def substitute_parents(self, reference: Reference) -> None:
        """Fill `waiting`, in `Parent.order`.

        Equal parents of the two routes, atom map included, share one relaxation.
        """
        from novelty_metric.scoring.substitution import substitute

        parents = [tried.parent for tried in self.tried]
        positions: dict[tuple[Any, ...], list[int]] = {}
        for at in sorted(range(len(parents)), key=lambda at: parents[at].order):
            parent = parents[at]
            key = (parent.index, parent.supercell, parent.elements)
            positions.setdefault(key, []).append(at)
        self.waiting = deque(
            Substituted(
                substitute(reference.structure(parents[at[0]].index), parents[at[0]]), tuple(at)
            )
            for at in positions.values()
        )

    def wait_for_descents(self) -> None:
        """Put the parents that may be at a saddle point above the crystal back into `waiting`.

        Those of the lattice-and-sites route, which matched as they stood; and of the others those
        that rest near the energy of the crystal.
        """
        for parent in self.at_rest:
            assert parent.rest is not None and parent.rest.energy_after is not None
            assert self.energy_per_atom is not None
            above = parent.rest.energy_after - self.energy_per_atom
            routes = {self.tried[position].parent.route for position in parent.positions}
            if above > -BELOW and (above < NEAR_ENERGY or Route.LATTICE_SITES in routes):
                self.waiting.append(parent)

    def confirm(
        self,
        positions: tuple[int, ...],
        result: Relaxation,
        matching: Matching,
        *,
        before: Structure | None = None,
        rest: Relaxation | None = None,
    ) -> None:
        """Compare the relaxed parent with the crystal.

        A parent that used up its steps is tested from its last geometry. A relaxation that failed
        confirms nothing and refutes nothing. `rest` is where the same parent had come to rest
        before it was looked at once more.
        """
        assert self.reduced is not None
        rms: float | None = None
        volume_ratio: float | None = None
        error = relaxation_failure(result)
        if error is None:
            assert result.structure is not None
            self.relaxed_parents.update(
                dict.fromkeys(positions, CrystalRecord.of(result.structure))
            )
            if before is not None:
                volume_ratio = result.structure.volume / before.volume
            try:
                rms = matching.confirm_rms(crystal.reduce(result.structure), self.reduced)
            except (CrystalError, TooMuchToCompareError) as failure:
                error = str(failure)
            except Exception as failure:  # the matcher may break on an odd cell; it stays one row
                error = f"the match failed ({_message(failure)})"
            if before is not None and error is None and rms is None and result.converged:
                self.at_rest.append(Substituted(before, positions, rest=result))
        for position in positions:
            self.tried[position] = dataclasses.replace(
                self.tried[position],
                relaxed=True,
                converged=result.converged,
                confirmed=None if error is not None else rms is not None,
                confirm_rms=rms,
                steps=result.steps + (0 if rest is None else rest.steps + 1),
                ended_early=result.ended,
                energy_per_atom=result.energy_after,
                volume_ratio=volume_ratio,
                error=error,
            )

    def decide(self) -> tuple[Verdict | None, str | None]:
        """The verdict, with the reason if it is undecided or missing.

        Unmatched needs every candidate relaxed, converged and refuted, and a finished search.
        """
        if self.duplicate is not None:
            return Verdict.DUPLICATE, None
        if not self.searched and not (self.out_of_time and self.not_eligible_because is None):
            return None, f"not eligible: {self.not_eligible_because}"
        if self.confirmed:
            return Verdict.SUBSTITUTED, None
        reasons = ["the time ran out"] if self.out_of_time else []
        reasons += self.unfinished
        reasons += [
            f"{_name(tried.parent)}: {tried.error or 'relaxation did not converge'}"
            for tried in self.tried
            if tried.relaxed and not _refuted(tried)
        ]
        not_relaxed = sum(not tried.relaxed for tried in self.tried)
        if not_relaxed:
            reasons.append(f"{not_relaxed} candidate parents not relaxed")
        if not reasons:
            return Verdict.UNMATCHED, None
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return Verdict.UNDECIDED, reasons[0] + more

    def as_second(self) -> SecondVerdict:
        """The second verdict from this case, scored with the second potential and without a hull.

        A crystal that has not come to rest with that potential is undecided.
        """
        verdict, reason = self.decide()
        if verdict is None or not self.eligible:
            verdict, reason = Verdict.UNDECIDED, self.error or self.not_eligible_because
            reason = reason or "the time ran out"
        parent_id = None
        if verdict == Verdict.DUPLICATE and self.duplicate is not None:
            parent_id = self.duplicate.parent_id
        elif verdict == Verdict.SUBSTITUTED and (shown := self._shown_parent()) is not None:
            parent_id = shown.parent.parent_id
        return SecondVerdict(verdict, parent_id, reason, self.out_of_time)

    def result(
        self,
        protocol: Protocol,
        *,
        group: int | None,
        matching_group: int | None = None,
        exhaustive: bool,
        reference: Reference | None = None,
    ) -> CrystalResult:
        """The row of the sample.

        Parameters
        ----------
        group, matching_group : int or None
            Its groups of equal samples, by the duplicate test and by plain matching.
        exhaustive : bool
            Every parent was relaxed, so `kind` is known.
        reference : Reference, optional
            The one that was searched, for the crystal of the parent.
        """
        common = self._sample_fields() | {
            "duplicate_group": group,
            "matching_group": matching_group,
            "structures": self._records(reference),
        }
        if self.error is not None:
            return CrystalResult(**common, error=self.error)
        common |= self._screening_fields(protocol)
        verdict, reason = self.decide()
        matching = self.matching_index
        common |= {
            "verdict": verdict,
            "error": reason,
            "novel_by_matching": matching is None if self.matching_tested else None,
            "matching_id": None
            if matching is None or reference is None
            else reference.ids[matching],
            "matching_error": self.matching_error,
        }
        if self.duplicate is not None:
            return CrystalResult(**common, **self._duplicate_fields(self.duplicate))
        if not self.searched:
            return CrystalResult(**common)
        return CrystalResult(
            **common,
            **self._parent_fields(),
            kind=self._kind() if exhaustive and not self.out_of_time else None,
            n_parents=len(self.tried),
            parents=tuple(self.tried),
        )

    def _sample_fields(self) -> dict[str, Any]:
        """Fields of the row about the sample itself."""
        cleaned = self.cleaned
        return {
            "id": self.sample.id,
            "source": self.sample.source or None,
            "readable": self.sample.structure is not None,
            "formula": cleaned.composition.reduced_formula if cleaned is not None else None,
            "n_sites": len(cleaned) if cleaned is not None else None,
            "shortest_distance": self.shortest_distance,
            "volume_per_atom": cleaned.volume / len(cleaned) if cleaned is not None else None,
            "seconds": self.seconds,
            "n_relaxations": self.n_relaxations,
        }

    def _screening_fields(self, protocol: Protocol) -> dict[str, Any]:
        """Fields of the row about symmetry, relaxation, eligibility and the second potential."""
        return {
            "space_group": self.symmetry.space_group if self.symmetry else None,
            "crystal_system": self.symmetry.crystal_system if self.symmetry else None,
            "new_prototype": self.new_prototype,
            "smact_valid": self.smact_valid,
            "converged": self.converged,
            "saddle": None if self.relaxation is None else self.relaxation.saddle,
            "energy_below": None if self.relaxation is None else self.relaxation.energy_below,
            "energy_per_atom": self.energy_per_atom,
            "relaxation_energy": self.relaxation_energy,
            "relaxation_rmsd": self.relaxation_rmsd,
            "e_above_hull": self.e_above_hull,
            "given_energy": self.given_energy,
            "n_competing": self.n_competing,
            "decomposition": self.decomposition,
            "energy_suspect": self._is_suspect(protocol),
            "eligible": self.eligible,
            "verdict_second": None if self.second is None else self.second.verdict,
            "parent_id_second": None if self.second is None else self.second.parent_id,
            "error_second": None if self.second is None else self.second.error,
        }

    @staticmethod
    def _duplicate_fields(found: DuplicateMatch) -> dict[str, Any]:
        """Fields of the row about the reference crystal that the sample duplicates."""
        return {
            "parent_id": found.parent_id,
            "match_rms": found.match_rms,
            "sample_cells": found.sample_cells,
            "parent_cells": found.parent_cells,
            "cost": 0.0,
            "share_exchanged": 0.0,
        }

    def _parent_fields(self) -> dict[str, Any]:
        """Fields of the row about its parent, if there is one."""
        shown = self._shown_parent()
        if shown is None:
            return {}
        parent = shown.parent
        return {
            "parent_id": parent.parent_id,
            "element_map": parent.element_map,
            "cost": parent.cost,
            "match_rms": parent.match_rms,
            "confirm_rms": shown.confirm_rms,
            "share_exchanged": parent.share_exchanged,
            "route": parent.route if shown.confirmed else None,
        }

    def _is_suspect(self, protocol: Protocol) -> bool | None:
        """True if its energy is implausibly far below that of known compounds.

        Far below the elements alone a compound may well lie.
        """
        if self.e_above_hull is None:
            return None
        return self.e_above_hull < protocol.suspect and not rests_on_elements(self.decomposition)

    def _records(self, reference: Reference | None) -> CrystalRecords | None:
        """The crystals to store."""
        if self.cleaned is None:
            return None
        index = parent_relaxed = None
        if self.duplicate is not None:
            index = self.duplicate.index
        elif (shown := self._shown_parent()) is not None:
            index = shown.parent.index
            parent_relaxed = self.relaxed_parents.get(self.tried.index(shown))
        return CrystalRecords(
            generated=CrystalRecord.of(self.cleaned),
            relaxed=None if self.reduced is None else CrystalRecord.of(self.reduced),
            parent=None
            if index is None or reference is None
            else CrystalRecord.of(reference.structure(index)),
            parent_relaxed=parent_relaxed,
        )

    def _shown_parent(self) -> TriedParent | None:
        """The cheapest confirmed parent, else the cheapest parent."""
        among = [tried for tried in self.tried if tried.confirmed] or self.tried
        return min(among, key=lambda tried: tried.parent.order, default=None)

    def _kind(self) -> Kind | None:
        routes = {tried.parent.route for tried in self.tried if tried.confirmed}
        if len(routes) == len(Route):
            return Kind.BOTH
        return Kind(routes.pop().value) if routes else None


def is_same_crystal(sample: Sample, record: CrystalRecord | None, max_sites: int | None) -> bool:
    """True if a sample is exactly the crystal that a row stores as generated."""
    case = Case(sample)
    case.check(max_sites)
    return case.cleaned is not None and CrystalRecord.of(case.cleaned) == record


def failed_if_collapsed(relaxation: Relaxation) -> Relaxation:
    """The relaxation; it counts as failed if two atoms are implausibly close.

    The energy of the potential has no meaning there.
    """
    if relaxation.structure is None:
        return relaxation
    shortest = crystal.shortest_distance(relaxation.structure)
    if shortest >= crystal.SHORTEST_VALID_DISTANCE:
        return relaxation
    error = f"the potential puts two atoms {shortest:.2f} Å apart"
    return dataclasses.replace(relaxation, converged=False, energy_after=None, error=error)


def relaxation_failure(relaxation: Relaxation) -> str | None:
    """The reason why a relaxation has no usable geometry; None if it has one."""
    if relaxation.error is None and relaxation.structure is None:
        return "the relaxer gave no structure"
    return relaxation.error


def _refuted(tried: TriedParent) -> bool:
    """True if the relaxation is complete and did not lead to the crystal."""
    complete = tried.converged is True or tried.ended_early == Ended.REFUSED
    return tried.error is None and complete and tried.confirmed is False


def _name(parent: Parent) -> str:
    return f"parent {parent.parent_id} ({parent.route} {parent.rank})"


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {crystal.first_line(error)}"
