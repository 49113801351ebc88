"""Controls: crystals whose correct verdict is known, scored like any others.

An unexpected verdict is compared with pymatgen's public `StructureMatcher`, applied to the pair in
question. Where pymatgen too says what the verdict says, the *method* errs on that crystal (its
tolerances, its number of parents, its potential); where it does not, the *code* does.

Copies are not relaxed, because a relaxation undoes most of a distortion; `relaxed` are undistorted
crystals of the reference. Without a relaxer, `relaxed` and `held_out` show duplicates and
candidates only, and `substituted` asks whether the source is found. With one, the crystals of
`substituted` are first relaxed as `novelty_metric.analysis.planted` says.
"""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
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
from novelty_metric.reference.calibration import Sensitivity
from novelty_metric.relaxation.potentials import registered
from novelty_metric.samples.base import Sample
from novelty_metric.search.matching import matchers
from novelty_metric.search.pettifor import map_cost, pettifor_numbers
from novelty_metric.support.statistics import Bounds, Interval, share_bounds, wilson
from novelty_metric.support.text import csv_text
from novelty_metric.verdict import CrystalResult, Route, Verdict

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.metric import SubstitutionNovelty
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
        It has to search every crystal (``scope="all"``).
    n : int
        Crystals per control, and per size of a distortion.
    seed : int
        The same seed makes the same crystals; a larger `n` adds to them.
    exchange : str
        Null model of `substituted`, one of `novelty_metric.analysis.planted.EXCHANGES`.
    planted_by : str, Potential or Relaxer, optional
        Potential that first relaxes the crystals of `substituted`. Default: that of the metric.
    explain : bool
        Score every missed crystal of `substituted` again, up to six times, to find the reason.
    only : iterable of str
        Names of `Control`.
    held_out : sequence of Sample, optional
        Real crystals outside the reference; default: crystals of the reference, held out of it.

    Raises
    ------
    InputError
        If a name is unknown, or a number out of range.
    """
    wanted = _wanted(only)
    _check(metric, n, seed, planted_by)
    scored = _Scored(metric, n, seed)
    exchanged = scored.exchanged(exchange) if Control.SUBSTITUTED in wanted else None
    if Control.HELD_OUT in wanted:
        scored.score_held_out(held_out)
    scored.score_made("copies", [control for control in wanted if control in _COPIES])
    scored.score_made("scored", [control for control in wanted if control in _RELAXED])
    planter = None
    if exchanged is not None:
        planter = scored.score_planted(exchanged, planted_by, explain=explain)
    settings = {
        "n": n,
        "seed": seed,
        "exchange": exchange,
        "planted_by": planter,
        "only": [control.value for control in wanted],
        "held_out": None if held_out is None else len(held_out),
    }
    return scored.result(settings)


def _check(metric: SubstitutionNovelty, n: int, seed: int, planted_by: object) -> None:
    if n < 1 or seed < 0:
        raise InputError(f"n={n}, seed={seed}: n must be at least 1, seed at least 0")
    if isinstance(planted_by, str):
        registered(planted_by)
    if metric.rules.scope != "all":
        raise InputError('controls score every crystal: give the metric scope="all"')


def _wanted(only: Iterable[str]) -> list[Control]:
    names = set(only)
    unknown = sorted(names - set(Control))
    if unknown or not names:
        found = f"no control named {unknown[0]!r}" if unknown else "no control was named"
        raise InputError(f"{found}; known: {', '.join(Control)}")
    return [control for control in Control if control in names]


Maker = Callable[["Structure", np.random.Generator], "Structure"]
_COPIES: dict[Control, dict[str, Maker]] = {
    Control.ROTATED: {"rotated": made.rotated},
    Control.SUPERCELL: {"supercell": made.supercell},
    Control.PERTURBED: {
        f"perturbed {distance:g} A": partial(moved, distance=distance) for distance in DISTANCES
    },
    Control.STRAINED: {
        f"strained {100 * strain:g} %": partial(strained, size=strain) for strain in STRAINS
    },
}
"""Copies of reference crystals, which are not relaxed, by the name of their row."""
_RELAXED: dict[Control, dict[str, Maker]] = {
    Control.RELAXED: {"relaxed": lambda crystal, rng: crystal.copy()},
    Control.RANDOMISED: {"randomised": made.randomised},
}


class _Scored:
    """The controls with their verdicts, each compared with the correct one.

    pymatgen judges the verdicts that are not.
    """

    def __init__(self, metric: SubstitutionNovelty, n: int, seed: int) -> None:
        self._metric, self._n, self._seed = metric, n, seed
        self._reference = metric.reference
        self._equal, self._framework, self._confirm = matchers(metric.protocol)
        self.cases: list[ControlCase] = []
        self.reports: dict[str, NoveltyReport] = {}

    def result(self, settings: Mapping[str, Any]) -> ControlsResult:
        """What was scored so far; the protocol is that of the relaxations, if there were any."""
        relaxing = [name for name in self.reports if name != "copies"] or list(self.reports)
        own = {
            "reference": self._reference.name,
            "crystals_hash": self._reference.crystals_hash,
            "protocol": self.reports[relaxing[0]].context.protocol_text,
        }
        relaxes = self._metric.spec.relaxer is not None and self._metric.rules.relax_samples
        return ControlsResult(
            settings={**own, **settings},
            rows=tuple(_rows(self.cases, relaxes=relaxes)),
            cases=tuple(self.cases),
            reports=self.reports,
        )

    def exchanged(self, exchange: str) -> list[Planted]:
        """Crystals of the reference with exchanged elements."""
        return list(planted.exchanged_crystals(self._reference, self._n, self._seed, exchange))

    def _random(self, control: Control, *more: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, list(Control).index(control), *more])

    def score_held_out(self, given: Sequence[Sample] | None) -> None:
        """Score real crystals, given ones or those of the reference."""
        reference, rng = self._reference, self._random(Control.HELD_OUT)
        if given is not None:
            own = self._metric.over(reference)
            own.update_samples(given[i] for i in rng.permutation(len(given))[: self._n].tolist())
            report = own.compute()
        elif self._n >= len(reference):
            raise InputError(
                f"n={self._n} of the {len(reference)} reference crystals can't be held out, "
                "because no crystal would be left"
            )
        else:
            places = rng.permutation(len(reference))[: self._n].tolist()
            report = self._metric.over(reference.without(places))(
                [reference.structure(i) for i in places], [reference.ids[i] for i in places]
            )
        self.reports["held_out"] = report
        for row in report.results:
            self.cases.append(_case(row, Control.HELD_OUT.value, row.id, why=row.error or ""))

    def score_made(self, name: str, controls: Sequence[Control]) -> None:
        """Score crystals made from those of the reference; copies without a relaxation."""
        made_from: list[tuple[str, int]] = []
        crystals: dict[str, Structure] = {}
        for control in controls:
            # The sources are the same for all sizes of a distortion.
            order = self._random(control).permutation(len(self._reference))[: self._n].tolist()
            for row, make in {**_COPIES, **_RELAXED}[control].items():
                for source in order:
                    own = (
                        f"{row.replace(' %', 'pc').replace(' ', '-')}-{self._reference.ids[source]}"
                    )
                    crystals[own] = make(
                        self._reference.structure(source), self._random(control, source)
                    )
                    made_from.append((row, source))
        if not crystals:
            return
        metric = self._metric
        if name == "copies":
            metric = metric.search_only()
            metric.rules = dataclasses.replace(metric.rules, max_sites=None)
        with metric if metric is not self._metric else nullcontext():
            report = metric(list(crystals.values()), list(crystals))
        self.reports[name] = report
        for (row, source), result in zip(made_from, report.results, strict=True):
            judge = self._randomised if row == Control.RANDOMISED else self._copy
            self.cases.append(judge(row, source, result))

    def score_planted(
        self,
        crystals: Sequence[Planted],
        planted_by: str | Potential | Relaxer | None,
        *,
        explain: bool,
    ) -> str | None:
        """Score crystals with exchanged elements, first relaxed if the metric relaxes.

        Returns
        -------
        str or None
            The potential that relaxed them.
        """
        metric, planter = self._metric, None
        if metric.spec.relaxer is not None:
            with _planting(metric, planted_by) as relaxer:
                planter = relaxer.info.key
                crystals = planted.relaxed(crystals, relaxer, self._seed)
        scored = {one.id: one.structure or one.exchanged for one in crystals if one.error is None}
        report = metric(list(scored.values()), list(scored))
        results = {result.id: result for result in report.results}
        missed = {
            name: (scored[name], result)
            for name, result in results.items()
            if result.verdict in (Verdict.UNMATCHED, Verdict.UNDECIDED)
        }
        misses = explain_misses(metric, missed) if explain and planter is not None else {}
        self.reports[Control.SUBSTITUTED.value] = report
        for one in crystals:
            self.cases.append(self._substituted(one, results.get(one.id), misses.get(one.id)))
        return planter

    def _copy(self, row: str, source: int, result: CrystalResult) -> ControlCase:
        """A copy must be a duplicate."""
        case = partial(_case, result, row, self._reference.ids[source])
        if result.verdict in (Verdict.DUPLICATE, None):
            return case(None if result.verdict is None else True)
        if self._fits(self._equal, _compared(result), self._reference.structure(source)):
            return case(False, Fault.CODE, why="pymatgen matches it with its source")
        what = "relaxed, it" if row == Control.RELAXED else "it"
        why = f"{what} is farther from its source than pymatgen's tolerances allow"
        return case(False, Fault.METHOD, why=why)

    def _substituted(
        self, made: Planted, result: CrystalResult | None, miss: Miss | None
    ) -> ControlCase:
        """A crystal with exchanged elements must be substituted; its source is a parent."""
        source = self._reference.structure(made.source)
        source_id = self._reference.ids[made.source]
        control = Control.SUBSTITUTED.value
        cost = map_cost(
            pettifor_numbers(source.atomic_numbers),
            pettifor_numbers(made.exchanged.atomic_numbers),
        )
        if result is None:
            failed = CrystalResult(id=made.id, formula=made.exchanged.composition.reduced_formula)
            return _case(failed, control, source_id, why=made.error or "", source_cost=cost)
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
        return _case(
            result,
            control,
            source_id,
            None if open_ else result.verdict == Verdict.SUBSTITUTED,
            fault,
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
        full = len(kept) == self._metric.protocol.k and cost >= max(kept)
        return not (result.error is not None or full) and self._fits(
            self._framework, _compared(result), source
        )

    def _randomised(self, row: str, source: int, result: CrystalResult) -> ControlCase:
        """A random crystal must be neither duplicate nor substituted."""
        case = partial(_case, result, row, self._reference.ids[source])
        if result.verdict in (None, Verdict.UNDECIDED):
            return case(why=result.error or "")
        if result.verdict == Verdict.UNMATCHED:
            return case(True)
        compared, records = _compared(result), result.structures
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
            return case(False, Fault.CODE, why="pymatgen does not match the pair")
        close = rms is not None and rms < NEAR_RMS
        how = "it relaxed into that crystal" if close else "a loose match"
        return case(False, Fault.METHOD, why=how + ("" if rms is None else f", RMS {rms:.3f}"))

    @staticmethod
    def _fits(matcher: Any, first: Structure, second: Structure, *, skip: bool = True) -> bool:
        small, large = sorted((len(first), len(second)))
        if skip and large % small:  # what pymatgen's supercells can't bring together
            return False
        return bool(matcher.fit(first, second, skip_structure_reduction=skip))


@contextmanager
def _planting(
    metric: SubstitutionNovelty, planted_by: str | Potential | Relaxer | None
) -> Iterator[Relaxer]:
    """The relaxer of planted crystals: a separate one if another potential is named."""
    if planted_by is None:
        relaxer = metric.pipeline.resources.relaxer
        assert relaxer is not None
        yield relaxer
        return
    other = metric.search_only()
    other.spec = dataclasses.replace(other.spec, relaxer=planted_by)
    with other:
        relaxer = other.pipeline.resources.relaxer
        if relaxer is None:
            raise InputError("planted_by=none: planted crystals need a potential")
        yield relaxer


def _compared(result: CrystalResult) -> Structure:
    assert result.structures is not None and result.structures.relaxed is not None
    return result.structures.relaxed.to_structure()


def _case(
    result: CrystalResult,
    control: str,
    source_id: str,
    as_expected: bool | None = None,
    fault: Fault | None = None,
    *,
    why: str = "",
    **known: Any,
) -> ControlCase:
    names = (
        *("id", "formula", "n_sites", "crystal_system", "eligible", "energy_suspect"),
        *("parent_id", "cost", "match_rms", "confirm_rms"),
    )
    return ControlCase(
        **{name: getattr(result, name) for name in names},
        control=control,
        source_id=source_id,
        verdict=None if result.verdict is None else result.verdict.value,
        as_expected=as_expected,
        fault=fault,
        why=why or (result.error or "" if result.verdict is None else ""),
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
    sites = [f"{label} sites" for label in _bin_labels(SITES)]
    costs = [f"cost {label}" for label in _bin_labels(COSTS)]
    present = {label for case in cases for label in _groups(case)}
    return [label for label in (*CRYSTAL_SYSTEMS, *sites, *costs) if label in present]


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
