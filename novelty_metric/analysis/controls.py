"""Controls: crystals whose correct verdict is known, scored like any others.

An unexpected verdict is compared with pymatgen's public `StructureMatcher`, applied to the pair in
question. Where pymatgen too says what the verdict says, the *method* errs on that crystal (its
tolerances, its number of parents, its potential); where it does not, the *code* does.
"""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.analysis import control_crystals as made
from novelty_metric.analysis import planted
from novelty_metric.analysis.misses import Miss, explain_misses
from novelty_metric.analysis.planted import Planted
from novelty_metric.baselines.real import moved, strained
from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Sensitivity
from novelty_metric.relaxation.potentials import registered
from novelty_metric.samples.base import Sample
from novelty_metric.search.matching import matchers
from novelty_metric.support.statistics import Bounds, Interval, share_bounds, wilson
from novelty_metric.support.text import csv_text
from novelty_metric.verdict import CrystalResult, Route, Verdict

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.reference import Reference
    from novelty_metric.relaxation.base import Relaxer
    from novelty_metric.relaxation.potentials import Potential
    from novelty_metric.report.novelty_report import NoveltyReport

SCHEMA_VERSION = 2
JSON_FILE, CSV_FILE = "controls.json", "controls.csv"
DISTANCES = (0.05, 0.2, 0.5, 1.0)
"""Displacements of a perturbed copy's sites (Å); the last two are near and beyond the tolerance."""
STRAINS = (0.02, 0.05, 0.1, 0.25)
"""Largest strains of a strained copy; the last exceeds `ltol`, and shear can exceed `angle_tol`."""
_SENSITIVITY = "sensitivity, substituted"
SITES = (5, 10, 20)
COSTS = (2, 5, 10)
"""Limits between groups of the sensitivity; the upper limit belongs to the group."""
NEAR_RMS = 0.1
"""A match with a smaller RMS, in (V/N)^(1/3), is certainly close."""


class Control(StrEnum):
    """The controls, in order; the position determines the random numbers of a control."""

    HELD_OUT = "held_out"
    ROTATED = "rotated"
    SUPERCELL = "supercell"
    PERTURBED = "perturbed"
    STRAINED = "strained"
    RELAXED = "relaxed"
    SUBSTITUTED = "substituted"
    RANDOMISED = "randomised"


class Fault(StrEnum):
    """The cause of an unexpected verdict."""

    METHOD = "method"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlCase:
    """One crystal of a control, with its result.

    Attributes
    ----------
    control : str
        Name of its row, such as ``perturbed 0.2 A``.
    id, source_id : str
        Its own id, and that of the crystal it was made from.
    source_found : bool or None
        Whether the source is among the candidate parents; None where none were wanted.
    source_cost : float or None
        Of a substituted crystal: what its own exchange of elements costs (mean modified Pettifor
        distance).
    framework_kept : bool or None
        Of a substituted crystal: whether the confirmation matches it as planted with what it was
        before it was shaken and relaxed.
    miss : Miss or None
        What keeps a substituted crystal from being found.
    as_expected : bool or None
        None where nothing is expected (`held_out`), or the verdict is open.
    fault : Fault or None
        Set where the verdict is not the expected one.
    why : str
        What speaks for that.
    """

    control: str
    id: str
    source_id: str
    formula: str | None
    n_sites: int | None
    crystal_system: str | None
    eligible: bool | None
    energy_suspect: bool | None
    verdict: str | None
    parent_id: str | None
    cost: float | None
    match_rms: float | None
    confirm_rms: float | None
    source_found: bool | None = None
    as_expected: bool | None = None
    fault: Fault | None = None
    why: str = ""
    source_cost: float | None = None
    framework_kept: bool | None = None
    miss: Miss | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRow:
    """One figure of one control.

    Attributes
    ----------
    control : str
    measure : str
        What the share is, such as ``sensitivity, duplicate``.
    n : int
        Crystals.
    hits : int
        Those with the right answer.
    share : Interval or None
        hits / n, with its 95 % Wilson interval; undecided crystals are not hits.
    bounds : Bounds or None
        Least and greatest share, for any outcome of the undecided crystals.
    counts : mapping
        Crystals per verdict.
    not_scored : int
        Crystals without a verdict; open like the undecided.
    method, code : int
        Wrong answers of each kind of fault.
    """

    control: str
    measure: str
    n: int
    hits: int
    share: Interval | None
    bounds: Bounds | None
    counts: Mapping[str, int]
    not_scored: int
    method: int
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlsResult:
    """The result of `run_controls`.

    Attributes
    ----------
    settings : mapping
        What decides the answer, as plain values.
    rows : tuple of ControlRow
    cases : tuple of ControlCase
    reports : mapping
        The report of each scoring, by a name for its folder.
    """

    settings: Mapping[str, Any]
    rows: tuple[ControlRow, ...]
    cases: tuple[ControlCase, ...]
    reports: Mapping[str, NoveltyReport]

    @property
    def sensitivity(self) -> Sensitivity | None:
        """The sensitivity from the control `substituted`, if its crystals were relaxed."""
        for row in self.rows:
            if (row.control, row.measure) == (Control.SUBSTITUTED, _SENSITIVITY):
                return Sensitivity(row.hits, row.n)
        return None

    def save(self, folder: Path) -> Path:
        """Write ``controls.json``, ``controls.csv`` and the reports.

        Raises
        ------
        InputError
            If the folder can't be written.
        """
        from novelty_metric.support.folders import write_atomically, writing

        names = [column.name for column in dataclasses.fields(ControlCase)]
        table = csv_text(names, map(dataclasses.asdict, self.cases))
        content = {
            "schema_version": SCHEMA_VERSION,
            "settings": self.settings,
            "controls": [dataclasses.asdict(row) for row in self.rows],
            "errors": [
                dataclasses.asdict(case) for case in self.cases if case.as_expected is False
            ],
        }
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        with writing(folder, folder, hint="; name another: out=DIR"):
            write_atomically(folder / CSV_FILE, table.encode())
            for name, report in self.reports.items():
                report.save(folder / name)
            write_atomically(folder / JSON_FILE, text.encode())
        return folder


@dataclass(frozen=True, slots=True)
class _Planned:
    """A crystal of a control before it is scored."""

    row: str
    control: Control
    id: str
    source: int
    source_id: str
    structure: Structure


def run_controls(
    metric: SubstitutionNovelty,
    *,
    n: int = 20,
    seed: int = 0,
    exchange: str = planted.EXCHANGES[0],
    planted_by: str | Potential | Relaxer | None = None,
    explain: bool = True,
    only: Iterable[str] = tuple(Control),
    held_out: Sequence[Sample] | None = None,
) -> ControlsResult:
    """Make the controls, score them and judge the results.

    Parameters
    ----------
    metric : SubstitutionNovelty
        Its reference, protocol, relaxer and hull are used; it has to search every crystal
        (``scope="all"``).
    n : int
        Crystals per control, and per size of a distortion.
    seed : int
        The same seed makes the same crystals; a larger `n` adds to them.
    exchange : str
        Which null model exchanges the elements of `substituted`, one of
        `novelty_metric.analysis.planted.EXCHANGES`.
    planted_by : str, Potential or Relaxer, optional
        Potential that relaxes the crystals of `substituted` before they are scored. Default: that
        of the metric.
    explain : bool
        Score every missed crystal of `substituted` again, up to six times, to name the kind of the
        miss; that may cost more than the rest.
    only : iterable of str
        Names of `Control`.
    held_out : sequence of Sample, optional
        Real crystals to be scored against the whole reference. By default crystals of the
        reference are held out of it.

    Raises
    ------
    InputError
        If a name is unknown, or a number out of range.

    Notes
    -----
    Copies are compared as they are, without a relaxation, which would undo most of a distortion;
    `relaxed` are undistorted crystals of the reference after the potential's relaxation. Without a
    relaxer this control and `held_out` show duplicates and candidates only, and `substituted` asks
    whether the source is found. With one, the crystals of `substituted` are first relaxed by
    another optimiser, from several shaken starts: see `novelty_metric.analysis.planted`.
    """
    wanted = _wanted(only)
    if n < 1 or seed < 0:
        raise InputError(f"n={n}, seed={seed}: n must be at least 1, seed at least 0")
    if isinstance(planted_by, str):
        registered(planted_by)
    if metric.rules.scope != "all":
        raise InputError('controls score every crystal: give the metric scope="all"')
    reference = metric.reference
    relaxes = metric.spec.relaxer is not None and metric.rules.relax_samples
    plans = _plan(reference, wanted, n, seed)
    crystals: list[Planted] = []
    if Control.SUBSTITUTED in wanted:
        crystals = list(planted.exchanged_crystals(reference, n, seed, exchange))
    judge = _Judge(reference, metric.protocol)
    cases: list[ControlCase] = []
    reports: dict[str, NoveltyReport] = {}
    planter: str | None = None
    if Control.HELD_OUT in wanted:
        report = _held_out(metric, held_out, n, seed)
        reports["held_out"] = report
        cases += [
            _of_result(
                result, control=Control.HELD_OUT.value, source_id=result.id, why=result.error or ""
            )
            for result in report.results
        ]
    copies = [plan for plan in plans if plan.control in _COPIES]
    pipeline = [plan for plan in plans if plan.control not in _COPIES]
    if copies:
        with _search_only(metric) as search:
            report = _score(search, copies)
        reports["copies"] = report
        cases += [judge.copy(*pair) for pair in zip(copies, report.results, strict=True)]
    if pipeline:
        report = _score(metric, pipeline)
        reports["scored"] = report
        for plan, result in zip(pipeline, report.results, strict=True):
            judged = judge.copy if plan.control is Control.RELAXED else judge.randomised
            cases.append(judged(plan, result))
    if Control.SUBSTITUTED in wanted:
        if metric.spec.relaxer is not None:
            with _planting(metric, planted_by) as relaxer:
                planter = relaxer.info.key
                crystals = planted.relaxed(crystals, relaxer, seed)
        report, substituted = _substituted(metric, judge, crystals, explain=explain)
        reports[Control.SUBSTITUTED.value] = report
        cases += substituted
    settings = {
        "reference": reference.name,
        "crystals_hash": reference.crystals_hash,
        "protocol": _protocol_text(reports),
        "n": n,
        "seed": seed,
        "exchange": exchange,
        "planted_by": planter,
        "only": [control.value for control in wanted],
        "held_out": None if held_out is None else len(held_out),
    }
    return ControlsResult(
        settings=settings,
        rows=tuple(_rows(cases, relaxes=relaxes)),
        cases=tuple(cases),
        reports=reports,
    )


def _protocol_text(reports: Mapping[str, NoveltyReport]) -> str:
    """The protocol as text; of the relaxations, if there were any."""
    relaxing = [name for name in reports if name != "copies"] or list(reports)
    return reports[relaxing[0]].context.protocol_text


_COPIES = (Control.ROTATED, Control.SUPERCELL, Control.PERTURBED, Control.STRAINED)


def _wanted(only: Iterable[str]) -> list[Control]:
    names = set(only)
    unknown = sorted(names - set(Control))
    if unknown:
        raise InputError(f"no control named {unknown[0]!r}; known: {', '.join(Control)}")
    if not names:
        raise InputError(f"no control was named; known: {', '.join(Control)}")
    return [control for control in Control if control in names]


def _random(seed: int, control: Control, *more: int) -> np.random.Generator:
    return np.random.default_rng([seed, list(Control).index(control), *more])


# Making them


def _plan(reference: Reference, wanted: Sequence[Control], n: int, seed: int) -> list[_Planned]:
    plans: list[_Planned] = []
    for control in wanted:
        if control in (Control.HELD_OUT, Control.SUBSTITUTED):
            continue
        for row, make in _makers(reference, control):
            # The sources are the same for all sizes of a distortion.
            order = _random(seed, control).permutation(len(reference))
            for index in order[:n].tolist():
                crystal = make(index, _random(seed, control, index))
                source_id = reference.ids[index]
                name = f"{row.replace(' %', 'pc').replace(' ', '-')}-{source_id}"
                plans.append(_Planned(row, control, name, index, source_id, crystal))
    return plans


Maker = Callable[[int, np.random.Generator], "Structure"]


def _makers(reference: Reference, control: Control) -> Iterator[tuple[str, Maker]]:
    """Name of each row of a control, and the function that makes its crystal from a reference
    crystal.
    """
    crystal = reference.structure
    if control is Control.ROTATED:
        yield control.value, lambda i, rng: made.rotated(crystal(i), rng)
    elif control is Control.SUPERCELL:
        yield control.value, lambda i, rng: made.supercell(crystal(i), rng)
    elif control is Control.PERTURBED:
        for distance in DISTANCES:
            yield f"perturbed {distance:g} A", _distorted(reference, moved, distance)
    elif control is Control.STRAINED:
        for strain in STRAINS:
            yield f"strained {100 * strain:g} %", _distorted(reference, strained, strain)
    elif control is Control.RELAXED:
        yield control.value, lambda i, rng: crystal(i).copy()
    elif control is Control.RANDOMISED:
        yield control.value, lambda i, rng: made.randomised(crystal(i), rng)


def _distorted(
    reference: Reference,
    distort: Callable[[Structure, np.random.Generator, float], Structure],
    size: float,
) -> Maker:
    return lambda index, rng: distort(reference.structure(index), rng, size)


# Scoring them


def _score(metric: SubstitutionNovelty, plans: Sequence[_Planned]) -> NoveltyReport:
    return metric([plan.structure for plan in plans], [plan.id for plan in plans])


def _search_only(metric: SubstitutionNovelty) -> SubstitutionNovelty:
    from novelty_metric.metric import SubstitutionNovelty

    return SubstitutionNovelty(
        metric.reference,
        metric.protocol,
        relaxer=None,
        hull="none",
        scope="all",
        max_sites=None,
        cache=None,
        progress=metric.progress,
    )


def _held_out(
    metric: SubstitutionNovelty, given: Sequence[Sample] | None, n: int, seed: int
) -> NoveltyReport:
    reference = metric.reference
    rng = _random(seed, Control.HELD_OUT)
    if given is not None:
        chosen = [given[i] for i in rng.permutation(len(given))[:n].tolist()]
        own = metric.over(reference)
        own.update_samples(chosen)
        return own.compute()
    if n >= len(reference):
        raise InputError(
            f"n={n} of the {len(reference)} reference crystals can't be held out: none is left"
        )
    places = rng.permutation(len(reference))[:n].tolist()
    return metric.over(reference.without(places))(
        [reference.structure(i) for i in places], [reference.ids[i] for i in places]
    )


@contextmanager
def _planting(
    metric: SubstitutionNovelty, planted_by: str | Potential | Relaxer | None
) -> Iterator[Relaxer]:
    """The relaxer of planted crystals: a separate one if another potential is named."""
    from novelty_metric.metric import SubstitutionNovelty

    if planted_by is None:
        relaxer = metric.pipeline.resources.relaxer
        assert relaxer is not None
        yield relaxer
        return
    spec = metric.spec
    with SubstitutionNovelty(
        metric.reference,
        metric.protocol,
        relaxer=planted_by,
        hull="none",
        workers=spec.workers,
        device=spec.device,
        cache=spec.cache,
    ) as other:
        relaxer = other.pipeline.resources.relaxer
        if relaxer is None:
            raise InputError("planted_by=none: planted crystals need a potential")
        yield relaxer


def _substituted(
    metric: SubstitutionNovelty, judge: _Judge, crystals: Sequence[Planted], *, explain: bool
) -> tuple[NoveltyReport, list[ControlCase]]:
    """The report on planted crystals, and a case for each, including those that could not be
    planted.
    """
    structures = {one.id: one.structure or one.exchanged for one in crystals if one.error is None}
    report = metric(list(structures.values()), list(structures))
    results = {result.id: result for result in report.results}
    missed = {
        name: (structures[name], result)
        for name, result in results.items()
        if result.verdict in (Verdict.UNMATCHED, Verdict.UNDECIDED)
    }
    explain = explain and metric.spec.relaxer is not None
    misses = explain_misses(metric, missed) if explain else {}
    return report, [
        judge.substituted(one, results.get(one.id), misses.get(one.id)) for one in crystals
    ]


# Judging them


class _Judge:
    """Compares verdicts with the correct ones, and with pymatgen if they differ."""

    def __init__(self, reference: Reference, protocol: Protocol) -> None:
        self._reference = reference
        self._protocol = protocol
        self._equal, self._framework, self._confirm = matchers(protocol)

    def copy(self, plan: _Planned, result: CrystalResult) -> ControlCase:
        """A copy must be a duplicate."""
        if result.verdict == Verdict.DUPLICATE:
            return _case(plan, result, as_expected=True)
        if result.verdict is None:
            return _case(plan, result, as_expected=None)
        compared = _compared(result)
        source = self._reference.structure(plan.source)
        if self._fits(self._equal, compared, source):
            return _case(plan, result, False, Fault.CODE, "pymatgen matches it with its source")
        what = "relaxed, it" if plan.control is Control.RELAXED else "it"
        return _case(
            plan,
            result,
            False,
            Fault.METHOD,
            f"{what} is farther from its source than pymatgen's tolerances allow",
        )

    def substituted(
        self, made: Planted, result: CrystalResult | None, miss: Miss | None
    ) -> ControlCase:
        """A crystal with exchanged elements must be substituted; its source is a parent."""
        source = self._reference.structure(made.source)
        source_id = self._reference.ids[made.source]
        control, cost = Control.SUBSTITUTED.value, _exchange_cost(source, made.exchanged)
        if result is None:
            failed = CrystalResult(id=made.id, formula=made.exchanged.composition.reduced_formula)
            return _of_result(
                failed, control=control, source_id=source_id, source_cost=cost, why=made.error or ""
            )
        found = any(tried.parent.parent_id == source_id for tried in result.parents)
        fault, why = None, (result.error or "") if miss is None else miss.value
        if result.verdict == Verdict.DUPLICATE:
            fault, why = Fault.CODE, "no reference crystal has its composition"
        elif result.verdict in (Verdict.UNMATCHED, Verdict.UNDECIDED):
            if not found and self._should_be_candidate(source, cost, result):
                fault, why = Fault.CODE, "its source should have been a candidate"
            elif result.verdict == Verdict.UNMATCHED:
                fault, why = Fault.METHOD, why or "no candidate is confirmed"
        open_ = result.verdict in (None, Verdict.UNDECIDED)
        return _of_result(
            result,
            control=control,
            source_id=source_id,
            as_expected=None if open_ else result.verdict == Verdict.SUBSTITUTED,
            fault=fault,
            why=why,
            source_found=found,
            source_cost=cost,
            framework_kept=made.structure is None
            or self._fits(self._confirm, made.exchanged, made.structure, skip=False),
            miss=miss,
        )

    def _should_be_candidate(self, source: Structure, cost: float, result: CrystalResult) -> bool:
        """True if the lattice-and-sites route should have found the source."""
        kept = [
            tried.parent.cost
            for tried in result.parents
            if tried.parent.route is Route.LATTICE_SITES
        ]
        # What the exchange itself costs; a map that costs less only makes the point stronger.
        if result.error is not None or (len(kept) == self._protocol.k and cost >= max(kept)):
            return False
        return self._fits(self._framework, _compared(result), source)

    def randomised(self, plan: _Planned, result: CrystalResult) -> ControlCase:
        """A random crystal must be neither duplicate nor substituted."""
        if result.verdict in (None, Verdict.UNDECIDED):
            return _case(plan, result, None, None, result.error or "")
        if result.verdict == Verdict.UNMATCHED:
            return _case(plan, result, as_expected=True)
        compared = _compared(result)
        records = result.structures
        assert records is not None
        if result.verdict == Verdict.DUPLICATE:
            assert records.parent is not None
            agrees = self._fits(self._equal, compared, records.parent.to_structure())
            rms = result.match_rms
        else:
            assert records.parent_relaxed is not None
            relaxed = records.parent_relaxed.to_structure()
            agrees = self._fits(self._confirm, relaxed, compared, skip=False)
            rms = result.confirm_rms
        if not agrees:
            return _case(plan, result, False, Fault.CODE, "pymatgen does not match the pair")
        close = rms is not None and rms < NEAR_RMS
        how = "it relaxed into that crystal" if close else "a loose match"
        shown = "" if rms is None else f", RMS {rms:.3f}"
        return _case(plan, result, False, Fault.METHOD, f"{how}{shown}")

    @staticmethod
    def _fits(matcher: Any, first: Structure, second: Structure, *, skip: bool = True) -> bool:
        small, large = sorted((len(first), len(second)))
        if skip and large % small:  # what pymatgen's supercells can't bring together
            return False
        return bool(matcher.fit(first, second, skip_structure_reduction=skip))


def _exchange_cost(source: Structure, exchanged: Structure) -> float:
    from novelty_metric.search.pettifor import map_cost, pettifor_numbers

    return map_cost(
        pettifor_numbers(source.atomic_numbers), pettifor_numbers(exchanged.atomic_numbers)
    )


def _compared(result: CrystalResult) -> Structure:
    """The crystal that the method compared."""
    records = result.structures
    assert records is not None and records.relaxed is not None
    return records.relaxed.to_structure()


def _case(
    plan: _Planned,
    result: CrystalResult,
    as_expected: bool | None,
    fault: Fault | None = None,
    why: str = "",
) -> ControlCase:
    return _of_result(
        result,
        control=plan.row,
        source_id=plan.source_id,
        as_expected=as_expected,
        fault=fault,
        why=why or (result.error or "" if result.verdict is None else ""),
    )


def _of_result(result: CrystalResult, **known: Any) -> ControlCase:
    names = (
        *("id", "formula", "n_sites", "crystal_system", "eligible", "energy_suspect"),
        *("parent_id", "cost", "match_rms", "confirm_rms"),
    )
    return ControlCase(
        **{name: getattr(result, name) for name in names},
        verdict=None if result.verdict is None else result.verdict.value,
        **known,
    )


# Counting them

_KNOWN = (Verdict.DUPLICATE.value, Verdict.SUBSTITUTED.value)
_NOT_DUPLICATE = tuple(verdict.value for verdict in Verdict if verdict != Verdict.DUPLICATE)


def _rows(cases: Sequence[ControlCase], *, relaxes: bool) -> Iterator[ControlRow]:
    for name in dict.fromkeys(case.control for case in cases):
        group = [case for case in cases if case.control == name]
        if name == Control.HELD_OUT:
            eligible = [case for case in group if case.eligible]
            for words, some in (("all", group), ("eligible", eligible)):
                for verdict in Verdict:
                    if verdict != Verdict.UNDECIDED:
                        yield _row(name, f"{verdict.value}, of {words}", some, (verdict.value,))
            yield _row(name, "known, of eligible", eligible, _KNOWN)
        elif name == Control.SUBSTITUTED:
            yield from _substituted_rows(group, relaxes=relaxes)
        elif name == Control.RANDOMISED:
            yield _row(name, "specificity, duplicate", group, _NOT_DUPLICATE)
            yield _row(name, "specificity, known", group, (Verdict.UNMATCHED.value,))
        else:
            yield _row(name, "sensitivity, duplicate", group, (Verdict.DUPLICATE.value,))


def _substituted_rows(cases: Sequence[ControlCase], *, relaxes: bool) -> Iterator[ControlRow]:
    """Sensitivity in total and by group, and the number of crystals that could be planted."""
    name = Control.SUBSTITUTED.value
    scored = [case for case in cases if case.verdict is not None]
    found = (Verdict.SUBSTITUTED.value,)
    if relaxes and scored:
        yield _row(name, _SENSITIVITY, scored, found)
        framework_kept = [case for case in scored if case.framework_kept]
        yield _row(name, "sensitivity, framework kept", framework_kept, found)
        for label in _labels(scored):
            some = [case for case in scored if label in _groups(case)]
            yield _row(name, f"sensitivity, {label}", some, found)
        yield _counted(name, "planted", cases, len(scored), 0)
    hits = sum(case.source_found is True for case in scored)
    yield _counted(name, "source is a candidate", scored, hits, 0)
    yield _row(name, "specificity, duplicate", scored, _NOT_DUPLICATE)


def _groups(case: ControlCase) -> tuple[str, str, str]:
    """Crystal system, number of sites and cost of the exchange, as text."""
    assert case.n_sites is not None and case.source_cost is not None
    return (
        case.crystal_system or "no crystal system",
        f"{_bin(case.n_sites, SITES)} sites",
        f"cost {_bin(case.source_cost, COSTS)}",
    )


def _labels(cases: Sequence[ControlCase]) -> list[str]:
    """All groups that contain a crystal, in order."""
    orders = (
        list(CRYSTAL_SYSTEMS),
        [f"{label} sites" for label in _bin_labels(SITES)],
        [f"cost {label}" for label in _bin_labels(COSTS)],
    )
    present = {label for case in cases for label in _groups(case)}
    return [label for order in orders for label in order if label in present]


def _bin(value: float, limits: Sequence[int]) -> str:
    return _bin_labels(limits)[bisect_left(limits, value)]


def _bin_labels(limits: Sequence[int]) -> list[str]:
    """``up to 2``, ``2 to 5``, ..., ``above 10``."""
    between = [f"{low} to {high}" for low, high in pairwise(limits)]
    return [f"up to {limits[0]}", *between, f"above {limits[-1]}"]


def _row(
    control: str, measure: str, cases: Sequence[ControlCase], right: Sequence[str]
) -> ControlRow:
    hits = sum(case.verdict in right for case in cases)
    open_ = sum(
        case.verdict in (None, Verdict.UNDECIDED) and case.verdict not in right for case in cases
    )
    if Verdict.DUPLICATE.value in right and len(right) == 1:
        # A duplicate is found before anything can be left undecided.
        open_ = sum(case.verdict is None for case in cases)
    return _counted(control, measure, cases, hits, open_)


def _counted(
    control: str, measure: str, cases: Sequence[ControlCase], hits: int, open_: int
) -> ControlRow:
    counted = Counter(case.verdict for case in cases)
    faults = Counter(case.fault for case in cases)
    return ControlRow(
        control=control,
        measure=measure,
        n=len(cases),
        hits=hits,
        share=wilson(hits, len(cases)),
        bounds=share_bounds(hits, len(cases), undecided=open_),
        counts={verdict.value: counted[verdict.value] for verdict in Verdict},
        not_scored=counted[None],
        method=faults[Fault.METHOD],
        code=faults[Fault.CODE],
    )
