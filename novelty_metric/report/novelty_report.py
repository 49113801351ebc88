"""The report of a run: headline, fractions with intervals, breakdowns, and all rows."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.report.agreement import UnderBoth, under_both
from novelty_metric.report.breakdown import (
    BREAKDOWNS,
    Group,
    break_down,
    count_verdicts,
    novelty_bounds,
    verdict_shares,
)
from novelty_metric.report.context import RunContext
from novelty_metric.report.exclusion import (
    ExclusionReason,
    could_become_eligible,
    exclusion_reason,
    fixed_verdict,
)
from novelty_metric.report.graded import GradedNovelty, graded_novelty
from novelty_metric.report.quality import (
    NewPrototypes,
    Quality,
    count_unique,
    new_prototypes,
    quality,
    stable,
)
from novelty_metric.report.real_crystals import BesideRealCrystals, beside_real_crystals
from novelty_metric.report.rediscovery import Rediscovery
from novelty_metric.report.rows import plain_row
from novelty_metric.support.ratios import Ratio
from novelty_metric.support.statistics import Bounds, Estimate, Interval, wilson
from novelty_metric.support.text import Limits, percent
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from pymatgen.core import Structure

    from novelty_metric.reference import Reference


@dataclass(frozen=True, repr=False)
class NoveltyReport:
    """The results for one set of samples. Immutable; make it with `from_results`.

    The headline is ``novelty`` = unmatched / eligible. A crystal is *eligible* if the run says so
    and it has a verdict; other samples are counted, with the reason, in `left_out`, and those of
    them that could have been eligible widen `novelty_bounds`.

    Examples
    --------
    >>> from novelty_metric.protocol import Protocol
    >>> from novelty_metric.verdict import CrystalResult, Verdict
    >>> context = RunContext(
    ...     protocol=Protocol.named("paper"),
    ...     reference_name="mp_20",
    ...     reference_size=27136,
    ...     crystals_hash="",
    ...     store_hash="",
    ... )
    >>> rows = [
    ...     CrystalResult(id="a", smact_valid=True, eligible=True, verdict=Verdict.UNMATCHED),
    ...     CrystalResult(id="b", smact_valid=True, eligible=True, verdict=Verdict.DUPLICATE),
    ...     CrystalResult(id="c", smact_valid=True, converged=False, eligible=False),
    ... ]
    >>> report = NoveltyReport.from_results(rows, context)
    >>> report.novelty, report.left_out["not_converged"]
    (0.5, 1)
    >>> f"{report.novelty_bounds.low:.2f} to {report.novelty_bounds.high:.2f}"
    '0.33 to 0.67'
    """

    context: RunContext
    results: tuple[CrystalResult, ...]

    @classmethod
    def from_results(cls, results: Sequence[CrystalResult], context: RunContext) -> NoveltyReport:
        """Make the report from rows, one per sample, in input order.

        Numbers become plain Python numbers, or None if they are not finite. In texts, control
        characters and invalid UTF-8 are escaped. Nothing else is changed.

        Raises
        ------
        ValueError
            If `context.n_generated` is less than the number of rows.
        """
        rows = tuple(plain_row(result) for result in results)
        if context.n_generated is not None and context.n_generated < len(rows):
            raise ValueError(f"n_generated={context.n_generated}, but there are {len(rows)} rows")
        return cls(context=context, results=rows)

    # Sample counts

    @property
    def n_generated(self) -> int:
        """Number of crystals that the model generated."""
        given = self.context.n_generated
        return len(self.results) if given is None else given

    @property
    def n_unreadable(self) -> int:
        """Number of samples that could not be read."""
        return sum(not result.readable for result in self.results)

    @property
    def n_read(self) -> int:
        """Number of samples that could be read."""
        return len(self.results) - self.n_unreadable

    @cached_property
    def n_scored(self) -> int:
        """Number of samples with a verdict."""
        return sum(result.verdict is not None for result in self.results)

    @cached_property
    def n_not_searched(self) -> int:
        """Number of crystals that are no duplicates and, because not eligible, have no search for
        parents.

        They have no verdict; that happens with ``scope=eligible`` only.
        """
        no_answer = (ExclusionReason.UNREADABLE, ExclusionReason.FAILED)
        return sum(
            result.verdict is None and result.eligible is False and reason not in no_answer
            for result, reason in zip(self.results, self._reasons, strict=True)
        )

    @cached_property
    def eligible(self) -> tuple[CrystalResult, ...]:
        """The eligible crystals, over which the headline is computed, in input order."""
        pairs = zip(self.results, self._reasons, strict=True)
        return tuple(result for result, reason in pairs if reason is None)

    @property
    def n_eligible(self) -> int:
        """Number of eligible crystals; all have a verdict."""
        return len(self.eligible)

    @property
    def n_energy_suspect(self) -> int:
        """Number of eligible crystals whose energy above hull is implausibly low."""
        return sum(result.energy_suspect is True for result in self.eligible)

    @property
    def n_saddles(self) -> int:
        """Number of checked crystals whose relaxation ended at a saddle point."""
        return sum(result.saddle is True for result in self.results)

    @property
    def n_no_competing_compound(self) -> int:
        """Number of crystals whose energy above hull is measured from the elements alone."""
        return sum(result.no_competing_compound is True for result in self.results)

    @property
    def n_stable(self) -> int:
        """Number of crystals, eligible or not, that are converged and stable."""
        return len(self._stable)

    @property
    def n_stable_no_competing_compound(self) -> int:
        """Number of stable crystals whose energy above hull is measured from the elements alone."""
        return sum(result.no_competing_compound is True for result in self._stable)

    @cached_property
    def left_out(self) -> dict[str, int]:
        """Number of samples that are not eligible, by reason; with `n_eligible` the sum is all
        rows.

        The first reason of `ExclusionReason` that applies counts, the chemistry before an error.
        """
        counted = Counter(self._reasons)
        return {reason.value: counted[reason] for reason in ExclusionReason}

    # Verdicts

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of eligible crystals per verdict."""
        return count_verdicts(self.eligible)

    @cached_property
    def counts_all(self) -> dict[str, int]:
        """Number of samples per verdict, eligible or not."""
        return count_verdicts(self.results)

    @cached_property
    def fractions(self) -> dict[str, Interval]:
        """Proportion of each verdict among the eligible; empty if none is eligible."""
        return verdict_shares(self.counts, self.n_eligible)

    @cached_property
    def fractions_all(self) -> dict[str, Interval]:
        """Proportion of each verdict among all samples that were screened and tested for
        duplicates.

        With ``scope=eligible``, crystals without a search for parents (`n_not_searched`) are in the
        denominator but have no verdict, so the sum of the shares is less than 1. Without them,
        duplicates would look more frequent than they are.
        """
        return verdict_shares(self.counts_all, self.n_scored + self.n_not_searched)

    def __repr__(self) -> str:
        reference = self.context.reference_name
        return (
            f"<NoveltyReport: {self.headline}; {len(self.results)} samples, {self.n_eligible} "
            f"eligible, against {reference}>"
        )

    def _repr_html_(self) -> str:
        from novelty_metric.report.notebook import report_html

        return report_html(self)

    @property
    def headline(self) -> str:
        """The novelty as text, in per cent; without relaxations, its highest possible value.

        For example ``novelty 16.7 %``, or ``novelty at most 63.9 %: nothing was relaxed``.
        """
        if self.novelty is None or self.novelty_bounds is None:
            return "novelty unknown"
        if self.novelty_is_bound:
            return f"novelty at most {percent(self.novelty_bounds.high, 1)}: nothing was relaxed"
        return f"novelty {percent(self.novelty, 1)}"

    @property
    def novelty_is_bound(self) -> bool:
        """True if nothing was relaxed, as with ``relaxer=none``.

        Crystals with a candidate parent are then undecided. `novelty` is the lower bound of the
        novelty, which has little meaning; `novelty_bounds` gives the upper bound.
        """
        return self.context.potential is None

    @property
    def novelty(self) -> float | None:
        """Unmatched / eligible; None if none is eligible. See `novelty_is_bound`."""
        interval = self.novelty_interval
        return None if interval is None else interval.value

    @property
    def novelty_interval(self) -> Interval | None:
        """The headline with its 95 % interval (sampling noise only, without the undecided)."""
        return self.fractions.get(Verdict.UNMATCHED.value)

    @cached_property
    def without_suspect(self) -> NoveltyReport:
        """The report without the crystals whose energy above hull is implausibly low.

        They still count as generated.
        """
        trusted = tuple(result for result in self.results if result.energy_suspect is not True)
        context = dataclasses.replace(self.context, n_generated=self.n_generated)
        return NoveltyReport(context=context, results=trusted)

    @property
    def novelty_without_suspect(self) -> Interval | None:
        """The headline over the eligible crystals with plausible energies."""
        return self.without_suspect.novelty_interval

    @cached_property
    def novelty_bounds(self) -> Bounds | None:
        """Lowest and highest headline for any outcome of the unfinished work.

        With u unmatched, d undecided and e eligible crystals::

            low  = u / (e + m)             high = (u + d + h) / (e + h)

        where m and h count the crystals that are not eligible but could have been, and then would
        be matched (m) or unmatched (h). These are the SMACT-valid crystals that did not converge,
        have no energy above hull, or were stopped by an error or a deadline. Each counts in m and
        in h, unless it is converged and its verdict is known, which does not depend on the hull.
        SMACT-invalid and unreadable samples cannot become eligible. None if no crystal is or could
        have been eligible.
        """
        return novelty_bounds(self.counts, self._could_join)

    @cached_property
    def n_unique_unmatched(self) -> int:
        """Number of eligible unmatched crystals; a `duplicate_group` counts once."""
        return _unique([r for r in self.eligible if r.verdict == Verdict.UNMATCHED])

    @cached_property
    def novel_yield_interval(self) -> Interval:
        """Unique eligible unmatched crystals / all generated, with its 95 % interval.

        Equal samples (one `duplicate_group`) count once. Nothing generated: 0 within [0, 1].

        Notes
        -----
        The count U of distinct novel crystals among n is not binomial: of two equal crystals, one
        counts. Its variance is smaller than a binomial one, so Wilson's interval of U / n contains
        the expectation in more than 95 % of the draws. By Efron and Stein, Ann. Stat. 9, 586
        (1981), ``var(U) ≤ E[S](1 − E[S] / n)``, with S ≤ U the novel crystals that nothing else
        equals, which is at most the binomial variance ``E[U](1 − E[U] / n)`` while the yield is at
        most 1/2; for larger ones a simulation shows the same. A bootstrap would be wrong here: a
        resample repeats crystals, and finds fewer distinct ones than the sample it comes from.
        """
        return wilson(self.n_unique_unmatched, self.n_generated) or Interval(0.0, 0.0, 1.0)

    @property
    def novel_yield(self) -> float:
        """Unique eligible unmatched crystals / all generated; 0 if nothing was generated."""
        return self.novel_yield_interval.value

    @cached_property
    def novel_yield_bounds(self) -> Bounds:
        """Lowest and highest yield for any outcome of the unfinished work; see `novelty_bounds`."""
        open_or_novel = (Verdict.UNMATCHED, Verdict.UNDECIDED)
        possible = [r for r in self.eligible if r.verdict in open_or_novel]
        possible += [r for r in self._could_join if fixed_verdict(r) in (None, Verdict.UNMATCHED)]
        most = _unique(possible) / self.n_generated if self.n_generated else 0.0
        return Bounds(self.novel_yield, max(most, self.novel_yield))

    @cached_property
    def graded(self) -> GradedNovelty:
        """Distances of the eligible crystals from their nearest parents.

        A verdict changes abruptly; this measure changes continuously, and needs no relaxation of a
        parent.
        """
        return graded_novelty(self.eligible)

    @cached_property
    def beside_real_crystals(self) -> BesideRealCrystals | None:
        """The base rate and the ratios to it; None if the reference is not calibrated."""
        return beside_real_crystals(self.eligible, self.context.calibration)

    @cached_property
    def second_potential(self) -> UnderBoth | None:
        """Agreement with a second potential; None if there is none."""
        second = self.context.second_potential
        return None if second is None else under_both(self.eligible, second.name)

    @property
    def rediscovery(self) -> Rediscovery | None:
        """Crystals of a test set that the samples match; None if no test set was given."""
        return self.context.rediscovery

    @cached_property
    def quality(self) -> Quality:
        """Validity, and stable, unique and novel by plain matching."""
        return quality(
            self.results,
            n_generated=self.n_generated,
            threshold=self.context.protocol.metastable,
            has_hull=self.context.measures_hull,
        )

    @cached_property
    def new_prototypes(self) -> NewPrototypes:
        """Number of crystals whose prototype the reference lacks, and how many are metastable."""
        return new_prototypes(self.results, has_hull=self.context.measures_hull)

    def breakdown(self, by: str) -> dict[str | int, Group]:
        """The eligible crystals in groups, with the verdicts and the novelty of each.

        Parameters
        ----------
        by : str
            ``crystal_system``, ``space_group``, ``n_elements`` or ``n_sites`` (of the given cell,
            in ranges such as ``5-8``); or ``kind``, for the substituted crystals only: the routes
            with a confirmed parent (known with ``exhaustive=true`` only).

        Raises
        ------
        ValueError
            If `by` is not one of these.
        """
        if by not in BREAKDOWNS:
            raise ValueError(f"no breakdown by {by!r}; known: {', '.join(BREAKDOWNS)}")
        return break_down(self.eligible, self._could_join, by)

    def breakdown_frame(self, by: str) -> pd.DataFrame:
        """`breakdown` as a table: a row per group and verdict, in order.

        Columns: the name given as `by`, ``verdict``, ``count``, ``n`` (eligible crystals of the
        group), ``fraction``, and ``low`` and ``high``, its 95 % interval (Wilson). By crystal
        system, if the reference is calibrated, also ``real``, ``real_low``, ``real_high`` and
        ``n_real``: the same of real crystals.

        Raises
        ------
        ValueError
            If there is no such breakdown.
        """
        import pandas as pd

        rows = [
            (key, verdict, group.counts[verdict], group.n, share.value, share.low, share.high)
            for key, group in self.breakdown(by).items()
            for verdict, share in group.fractions.items()
        ]
        columns = [by, "verdict", "count", "n", "fraction", "low", "high"]
        frame = pd.DataFrame(rows, columns=columns)
        calibration = self.context.calibration
        if by != "crystal_system" or calibration is None:
            return frame
        counts = {verdict.value: calibration.counts(verdict.value) for verdict in Verdict}
        real = [
            counts[verdict].get(str(system), (0, 0))
            for system, verdict in zip(frame[by], frame["verdict"], strict=True)
        ]
        shares = [wilson(*found) or Interval(math.nan, math.nan, math.nan) for found in real]
        return frame.assign(
            real=[share.value for share in shares],
            real_low=[share.low for share in shares],
            real_high=[share.high for share in shares],
            n_real=[total for _, total in real],
        )

    @property
    def decided(self) -> float | None:
        """Completeness of the run: decided crystals / crystals to decide.

        Crystals to decide are the eligible ones, and those that a deadline stopped before their
        relaxation. Decided crystals are the eligible ones with a verdict other than ``undecided``.
        None if there are no crystals to decide.
        """
        total = self.n_eligible + self.left_out[ExclusionReason.OUT_OF_TIME.value]
        return (self.n_eligible - self.counts[Verdict.UNDECIDED.value]) / total if total else None

    def scalars(self, prefix: str = "novelty") -> dict[str, float]:
        """Finite numbers for a logger, by name; values that cannot be computed are left out.

        Parameters
        ----------
        prefix : str
            Every name starts with it and a slash.
        """
        values: dict[str, float | None] = {
            "novelty": self.novelty,
            **_ends("ci", self.novelty_interval),
            **_ends("bound", self.novelty_bounds),
            "novel_yield": self.novel_yield,
            **_ends("novel_yield_ci", self.novel_yield_interval),
            "graded": _value(self.graded.score),
            "cost_median": self.graded.cost.quantiles.get("0.5"),
            "sun": _value(self.quality.sun),
            "decided": self.decided,
            "n_samples": float(len(self.results)),
            "n_unreadable": float(self.n_unreadable),
            "n_eligible": float(self.n_eligible),
            "n_energy_suspect": float(self.n_energy_suspect),
            "n_out_of_time": float(self.left_out[ExclusionReason.OUT_OF_TIME.value]),
        }
        both, found = self.second_potential, self.rediscovery
        values |= {
            **{verdict: share.value for verdict, share in self.fractions.items()},
            **_beside_values(self.beside_real_crystals),
            "new_prototypes": _value(self.new_prototypes.share),
            "new_prototypes_metastable": _value(self.new_prototypes.metastable_share),
            "unmatched_under_both": None if both is None else _value(both.unmatched),
            "n_rediscovered": None if found is None else float(len(found.found)),
            "rediscovered": None if found is None else _value(found.share),
        }
        return {
            f"{prefix}/{name}": value
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        }

    # Tables and files

    def to_frame(self) -> pd.DataFrame:
        """A row per sample, in input order, with the columns of ``verdicts.parquet``."""
        from novelty_metric.report.files import verdicts_frame

        return verdicts_frame(self.results)

    def parents_frame(self) -> pd.DataFrame:
        """A row per candidate parent, with the columns of ``parents.parquet``."""
        from novelty_metric.report.files import parents_frame

        return parents_frame(self.results)

    def new_crystals(self) -> list[CrystalResult]:
        """Rows of the eligible unmatched crystals; lowest energy above hull first.

        Among equal crystals, only the first is listed. Crystals with a suspect energy are left out.
        Without a hull, the order is that of the samples.
        """
        found: dict[object, CrystalResult] = {}
        for place, row in enumerate(self.results):
            new = row.readable and row.eligible and row.verdict is Verdict.UNMATCHED
            if new and not row.energy_suspect:
                group = row.duplicate_group
                found.setdefault(("alone", place) if group is None else group, row)
        return sorted(
            found.values(),
            key=lambda row: math.inf if row.e_above_hull is None else row.e_above_hull,
        )

    def crystals(self, verdict: Verdict | str | None = None) -> list[Structure]:
        """The compared crystals (relaxed if the run relaxes) as pymatgen Structures.

        The ``properties`` of each are ``id``, ``verdict``, ``eligible``, ``energy`` (eV, of the
        cell), ``energy_per_atom`` and ``e_above_hull`` (eV/atom), and ``parent``; unknown values
        are None. Samples that were not relaxed, such as unreadable ones, are left out.

        Parameters
        ----------
        verdict : Verdict or str, optional
            Such as ``unmatched``; by default all crystals, including those without a verdict.
            Crystals that are not eligible can have a verdict too. ``unmatched_under_both``: with
            the second potential too.

        Raises
        ------
        InputError
            If there is no such verdict, the report was loaded without ``structures=True``, or
            ``unmatched_under_both`` is asked of a report without a second potential.
        """
        from novelty_metric.report.crystals import structures_of

        return structures_of(self, verdict)

    def view(self, identifier: str) -> Any:
        """The crystal of a sample for a notebook.

        If pymatviz is installed, this is its ``StructureWidget``, which downloads its viewer on
        first use. Otherwise, or if that fails, it is our own viewer, which downloads nothing and
        shows the crystal beside the reference crystal that its row names.

        Parameters
        ----------
        identifier : str
            Id of the sample.

        Raises
        ------
        InputError
            If there is no such sample, or the report was loaded without ``structures=True``.
        """
        from novelty_metric.report.notebook import view

        return view(self, identifier)

    def figure(self, name: str, reference: Reference | None = None) -> Figure:
        """A figure of the report, such as ``verdicts_by_crystal_system``, by matplotlib.

        Parameters
        ----------
        name : str
            A name of `novelty_metric.figures.FIGURES`.
        reference : Reference, optional
            The reference of the run, for the figures of prototypes and fingerprints.

        Raises
        ------
        InputError
            If there is no such figure, or it needs the reference or the crystals.
        """
        # The room of the pictures lies above this one, which knows it by name alone.
        figures = importlib.import_module("novelty_metric.figures")
        drawn: Figure = figures.draw_figure(self, name, reference)
        return drawn

    def save(self, folder: str | Path) -> Path:
        """Write the report to a folder, created if necessary; see `report.files`.

        Raises
        ------
        InputError
            If the folder can't be written.
        """
        from novelty_metric.report.files import save_report

        return save_report(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, *, structures: bool = False) -> NoveltyReport:
        """Read a report written by `save`; it equals the one written.

        Parameters
        ----------
        folder : path
        structures : bool
            Read the crystals too, which the analyses of prototypes and fingerprints need.

        Raises
        ------
        InputError
            If a file is missing, damaged, of another schema, or not of this report.
        """
        from novelty_metric.report.files import load_report

        return load_report(Path(folder), structures=structures)

    # What the numbers are made of

    @cached_property
    def _reasons(self) -> tuple[ExclusionReason | None, ...]:
        return tuple(exclusion_reason(result) for result in self.results)

    @cached_property
    def _stable(self) -> tuple[CrystalResult, ...]:
        limit = self.context.protocol.metastable
        return tuple(result for result in self.results if stable(result, limit) is True)

    @cached_property
    def _could_join(self) -> tuple[CrystalResult, ...]:
        return tuple(
            result
            for result, reason in zip(self.results, self._reasons, strict=True)
            if could_become_eligible(result, reason)
        )


def _value(found: Interval | Estimate | Ratio | None) -> float | None:
    return None if found is None else found.value


def _ends(name: str, interval: Limits | None) -> dict[str, float | None]:
    """The two ends of an interval or of bounds, by name."""
    return {f"{name}_{end}": getattr(interval, end, None) for end in ("low", "high")}


def _beside_values(beside: BesideRealCrystals | None) -> dict[str, float | None]:
    """The comparison with real crystals, as numbers by name."""
    if beside is None:
        return {}
    ratio, expected = beside.novelty_ratio, beside.standardised
    return {
        "base_rate": beside.base_rate.value,
        "ratio": _value(ratio),
        **_ends("ratio_ci", ratio),
        "ratio_for_systems": None if expected is None else expected.ratio.value,
        "copying_z": beside.copying_z,
    }


def _unique(results: Iterable[CrystalResult]) -> int:
    return count_unique(result.duplicate_group for result in results)
