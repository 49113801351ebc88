"""A deadline of the metric: unfinished crystals are undecided, never unmatched."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from salts import salt
from static_relaxer import StaticRelaxer

from novelty_metric import NoveltyReport, Reference, SubstitutionNovelty, Verdict
from novelty_metric.relaxation.base import Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.scoring import pipeline, step_clock
from novelty_metric.scoring.case import Case
from novelty_metric.search.duplicates import EqualTest
from novelty_metric.search.engine import ParentSearch

COPY = salt(5.64, "Na", "Cl")
SWAP = salt(6.29, "K", "Cl")
"""The unrelaxed parent confirms it."""
FAR = salt(4.21, "Mg", "O")
"""The unrelaxed parent refutes it."""
INVALID = salt(5.2, "Mg", "Cl")
REFERENCE = Reference.from_structures([COPY], ids=["salt"], name="one")


class Clock:
    """`time.monotonic` that a test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(step_clock, "time", made)
    return made


def slow(clock: Clock) -> StaticRelaxer:
    """A relaxer that takes a second per crystal and does not change it."""

    def end(task: RelaxTask, found: Relaxation) -> Relaxation:
        clock.now += 1
        return found

    return StaticRelaxer("slow", end=end)


def metric_with(clock: Clock, **options: Any) -> SubstitutionNovelty:
    return SubstitutionNovelty(REFERENCE, "paper", relaxer=slow(clock), hull="none", **options)


def verdicts(report: NoveltyReport) -> list[str | None]:
    return [None if row.verdict is None else row.verdict.value for row in report.results]


CRYSTALS = [SWAP, FAR, COPY, INVALID, SWAP, FAR]


def test_short_deadline_allows_only_steps_without_relaxation(
    clock: Clock,
) -> None:
    metric = metric_with(clock)
    metric.update(CRYSTALS)
    report = metric.compute(deadline=1.0)
    assert verdicts(report) == ["undecided", "undecided", "duplicate", None, *2 * ["undecided"]]
    assert report.left_out["out_of_time"] == 4 and report.left_out["smact_invalid"] == 1
    assert report.n_eligible == 1


STEPS = [
    (Case, "check"),
    (Case, "reduce"),
    (pipeline, "smact_valid"),
    (ParentSearch, "duplicate"),
    (ParentSearch, "parents"),
    (EqualTest, "rms"),
]


@pytest.mark.parametrize(("owner", "name"), STEPS)
def test_deadline_is_exceeded_at_most_twofold(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """One step at a time takes a second per crystal."""
    step = getattr(owner, name)

    def slow(*args: Any, **options: Any) -> Any:
        clock.now += 1
        return step(*args, **options)

    metric = SubstitutionNovelty(REFERENCE, "paper", relaxer=None, hull="none", scope="all")
    metric.prepare()
    crystals = [FAR, COPY, SWAP] * 10
    want = verdicts(metric(crystals))
    monkeypatch.setattr(owner, name, slow)
    metric.update(crystals)
    report = metric.compute(deadline=8.0)
    assert 8 <= clock.now <= 11
    assert len(report.results) == 30
    assert any(row.error == "the time ran out" for row in report.results) or owner is EqualTest
    for found, expected in zip(verdicts(report), want, strict=True):
        assert found in (expected, "undecided")
    metric.compute()
    assert verdicts(metric.report()) == want


def test_nothing_is_done_after_the_deadline(clock: Clock) -> None:
    metric = metric_with(clock)
    metric.update(CRYSTALS)
    report = metric.compute(deadline=0.0)
    assert verdicts(report) == 6 * ["undecided"]
    assert report.n_eligible == 0 and report.novelty is None and report.novel_yield == 0
    assert report.left_out["out_of_time"] == 6
    assert report.novelty_bounds is not None
    assert (report.novelty_bounds.low, report.novelty_bounds.high) == (0, 1)
    assert report.results[0].error == "the time ran out"
    assert report.context.warnings == ("the time ran out before 6 of 6 crystals were finished",)
    assert report.scalars()["novelty/n_out_of_time"] == 6
    assert report.scalars()["novelty/decided"] == 0


def test_next_compute_continues_unfinished_cases(clock: Clock) -> None:
    metric = metric_with(clock)
    metric.update(CRYSTALS)
    metric.compute(deadline=3.0)
    whole = metric.compute()
    plain = metric_with(clock)(CRYSTALS)
    assert verdicts(whole) == verdicts(plain)
    found = ["substituted", "unmatched"]
    assert verdicts(plain) == [*found, "duplicate", None, *found]
    assert whole.context.warnings == () and whole.left_out["out_of_time"] == 0


@given(
    deadline=st.floats(0, 20), at_once=st.integers(1, 6), scope=st.sampled_from(["eligible", "all"])
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_deadline_changes_no_verdict_and_bounds_hold(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, deadline: float, at_once: int, scope: str
) -> None:
    monkeypatch.setattr(pipeline, "_AT_ONCE", at_once)
    clock.now = 0.0
    whole = metric_with(clock, scope=scope)(CRYSTALS)
    clock.now = 0.0
    metric = metric_with(clock, scope=scope)
    metric.update(CRYSTALS)
    cut = metric.compute(deadline=deadline)
    for early, late in zip(cut.results, whole.results, strict=True):
        if early.eligible is None:
            assert early.verdict in (Verdict.UNDECIDED, Verdict.DUPLICATE)
        else:
            assert early.verdict in (late.verdict, Verdict.UNDECIDED)
    assert clock.now <= max(deadline, 0) + 2  # the result that came too late, in both stages
    assert cut.counts["unmatched"] <= whole.counts["unmatched"]
    assert whole.novelty is not None and cut.novelty_bounds is not None
    assert cut.novelty_bounds.low <= whole.novelty <= cut.novelty_bounds.high
    assert cut.novel_yield_bounds.low <= whole.novel_yield <= cut.novel_yield_bounds.high
    assert sum(cut.left_out.values()) + cut.n_eligible == len(CRYSTALS)


def test_report_after_a_deadline_can_be_loaded(clock: Clock, tmp_path: Path) -> None:
    metric = metric_with(clock)
    metric.update(CRYSTALS)
    report = metric.compute(deadline=2.0)
    assert report.left_out["out_of_time"]
    assert NoveltyReport.load(report.save(tmp_path)) == report


def test_exhaustive_leaves_an_unknown_kind_empty(clock: Clock) -> None:
    metric = metric_with(clock, exhaustive=True)
    two = Reference.from_structures([COPY, salt(5.34, "K", "F")], ids=["a", "b"], name="two")
    metric = SubstitutionNovelty(two, "paper", relaxer=slow(clock), hull="none", exhaustive=True)
    metric.update([salt(5.6, "Rb", "F")])
    clock.now = 0.0
    (row,) = metric.compute(deadline=2.0).results
    assert row.verdict is Verdict.SUBSTITUTED and row.kind is None
    (row,) = metric.compute().results
    assert row.kind is not None


def test_states_of_two_processes_can_be_merged(clock: Clock) -> None:
    first, second = metric_with(clock), metric_with(clock)
    first.update([SWAP, FAR], ["0", "1"])
    second.update([SWAP, COPY], ["2", "3"])
    first.compute()
    second.compute()
    together = metric_with(clock)
    for part in (first, second):
        together.merge(part.state())
    done = clock.now
    report = together.report()
    assert clock.now == done  # nothing was scored again
    assert verdicts(report) == ["substituted", "unmatched", "substituted", "duplicate"]
    assert [row.duplicate_group for row in report.results] == [0, 1, 0, 2]


def test_deadline_stops_chgnet_between_two_steps(
    tmp_path: Path, chgnet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a relaxation too; finished relaxations are cached."""
    cache = RelaxationCache(tmp_path / "cache.sqlite")
    relaxer = PotentialRelaxer(chgnet, cache=cache)
    endless = RelaxSettings(fmax=1e-9, max_steps=100_000, optimizer="fire")
    shaken = SWAP.copy()
    shaken.perturb(0.3, seed=1)
    list(relaxer.energies([SWAP]))
    ticks = itertools.count()  # one second per step
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr("novelty_metric.relaxation.relaxer.time", clock)
    queue = deque([RelaxTask(0, shaken)])
    assert list(relaxer.relax(queue, endless, deadline=3.0)) == []
    assert next(ticks) == 4
    easy = dataclasses.replace(endless, fmax=5.0)
    assert len(list(relaxer.relax(deque([RelaxTask(1, SWAP)]), easy))) == 1
    assert len(cache) == 1
