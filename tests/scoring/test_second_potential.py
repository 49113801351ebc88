"""The verdict with a second potential: for which crystals, its value, and its display."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from salts import salt
from static_relaxer import StaticRelaxer

from novelty_metric import InputError, NoveltyReport, Reference, SubstitutionNovelty, Verdict
from novelty_metric.cli import main
from novelty_metric.relaxation.base import Relaxation, RelaxTask
from novelty_metric.report.agreement import under_both
from novelty_metric.report.explanation import explain
from novelty_metric.report.files import read_structures
from novelty_metric.scoring import step_clock
from novelty_metric.scoring.case import Case
from novelty_metric.support.statistics import wilson
from novelty_metric.verdict import CrystalResult

DUPLICATE, SUBSTITUTED, UNMATCHED, UNDECIDED = Verdict


REFERENCE = Reference.from_structures([salt(5.64, "Na", "Cl")], ids=["salt"], name="one")
CRYSTALS = {
    "copy": salt(5.7, "Na", "Cl"),
    "swap": salt(6.29, "K", "Cl"),  # confirmed by its unrelaxed parent
    "far": salt(4.21, "Mg", "O"),  # refuted by its unrelaxed parent
    "refused": salt(5.2, "Mg", "Cl"),  # refused by SMACT
}


def second_potential() -> StaticRelaxer:
    """A second potential: its parents are sized so that "far" has a match and "swap" has none."""

    def end(task: RelaxTask, found: Relaxation) -> Relaxation:
        if not isinstance(task.key, Case):
            found.structure.scale_lattice(found.structure.volume * (4.21 / 5.64) ** 3)
        return found

    return StaticRelaxer("other", end=end)


def of_samples(end: Callable[[RelaxTask, Relaxation], Relaxation]) -> Any:
    """Change the results of samples; parents are converged."""
    return lambda task, found: end(task, found) if isinstance(task.key, Case) else found


def scored(second: Any, **options: Any) -> NoveltyReport:
    first = options.pop("relaxer", StaticRelaxer())
    metric = SubstitutionNovelty(
        REFERENCE, "paper", relaxer=first, second_potential=second, **{"hull": "none", **options}
    )
    return metric(CRYSTALS.values(), ids=list(CRYSTALS))


def seconds(report: NoveltyReport) -> dict[str, Verdict | None]:
    return {row.id: row.verdict_second for row in report.results}


def test_second_verdict_agrees_with_a_run_with_that_potential() -> None:
    other = second_potential()
    report = scored(other)
    alone = scored(None, relaxer=second_potential())
    assert [row.verdict for row in report.results] == [DUPLICATE, SUBSTITUTED, UNMATCHED, None]
    assert [row.verdict for row in alone.results] == [DUPLICATE, UNMATCHED, SUBSTITUTED, None]
    assert seconds(report) == {row.id: row.verdict for row in alone.results}
    assert len(other.samples) == 3  # except the one that is not eligible
    assert [row.parent_id_second for row in report.results] == ["salt", None, "salt", None]
    plain = scored(None)
    assert plain.second_potential is None and set(seconds(plain).values()) == {None}
    assert report.counts == plain.counts
    assert report.context.second_potential == other.info


class Above:
    """With the first potential, "far" is above this hull; the second potential has no hull."""

    name = "above"

    def e_above_hull(self, composition: Any, energy_per_atom: float) -> float | None:
        return 0.5 if "Mg" in composition else 0.0

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


def test_only_eligible_crystals_are_scored_again() -> None:
    other = StaticRelaxer("other")
    assert seconds(scored(other, hull=Above(), scope="all")) == {
        **{"copy": DUPLICATE, "swap": SUBSTITUTED, "far": None, "refused": None}
    }
    assert len(other.samples) == 2


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (lambda task, found: dataclasses.replace(found, converged=False), "did not converge"),
        (
            lambda task, found: Relaxation(structure=None, error="not trained on Cm"),
            "relaxation failed: not trained on Cm",
        ),
    ],
)
def test_unconverged_crystal_is_undecided(sample: Any, reason: str) -> None:
    report = scored(StaticRelaxer("other", end=of_samples(sample)))
    for row in report.eligible:
        assert row.verdict_second == UNDECIDED and reason in (row.error_second or "")
    found = report.second_potential
    assert found is not None and found.counts["undecided"] == 3
    assert (found.n_unmatched, found.n_open, found.n_eligible) == (0, 1, 3)


def test_figures_calculated_by_hand() -> None:
    pairs = [
        *[(UNMATCHED, UNMATCHED)] * 3,
        *[(UNMATCHED, UNDECIDED), (UNDECIDED, UNMATCHED), (UNDECIDED, UNDECIDED)],
        *[(UNMATCHED, SUBSTITUTED), (UNDECIDED, DUPLICATE), (DUPLICATE, UNMATCHED)],
        (DUPLICATE, DUPLICATE),
    ]
    rows = [
        CrystalResult(id=str(at), eligible=True, verdict=one, verdict_second=two)
        for at, (one, two) in enumerate(pairs)
    ]
    found = under_both(rows, "sevennet-0")
    assert (found.title, found.n_unmatched, found.n_open) == ("SevenNet-0", 3, 3)
    assert found.unmatched == wilson(3, 10)
    assert found.bounds is not None and (found.bounds.low, found.bounds.high) == (0.3, 0.6)
    assert found.counts == {"duplicate": 2, "substituted": 1, "unmatched": 5, "undecided": 2}
    assert [(g.group, g.kept, g.total) for g in found.groups[:3]] == [
        *[("all", 5, 10), ("duplicate", 1, 2), ("unmatched", 3, 5)]
    ]
    nothing = under_both([], "sevennet-0")
    assert nothing.unmatched is None and nothing.bounds is None


def test_second_verdict_in_files_and_explanation(tmp_path: Path) -> None:
    report = scored(second_potential())
    report.save(tmp_path)
    read = NoveltyReport.load(tmp_path)
    assert seconds(read) == seconds(report) and read.context == report.context
    assert read.second_potential == report.second_potential
    content = json.loads((tmp_path / "report.json").read_text())["second_potential"]
    assert content["potential"]["name"] == "other"
    assert content["unmatched_under_both"]["value"] == 0
    assert report.scalars()["novelty/unmatched_under_both"] == 0
    told = [dict(explain(read, at, read_structures(tmp_path, at)).facts) for at in range(4)]
    assert [facts["with other"] for facts in told] == [
        *["duplicate: salt", "unmatched", "substituted: salt"],
        "not scored: only eligible crystals are",
    ]


def test_page_shows_both_verdicts(tmp_path: Path) -> None:
    from novelty_metric.figures.cards import cards_of
    from novelty_metric.figures.page import environment
    from novelty_metric.figures.report_page import _facts, _figure_rows

    report = scored(second_potential())
    report.save(tmp_path)
    rows = {row.name: row for row in _figure_rows([report])}
    row = rows["unmatched under both potentials"]
    assert row.shares[0] == wilson(0, 3) and row.bounds[0] is not None
    assert ("second potential", report.context.second_potential.key, True) in _facts(report)
    template = environment().get_template("cards.html.jinja").module
    cards = cards_of(report, tmp_path, 4, run="run", prefix="")
    shown = {one.row.id: template.card(one, 0) for one in cards}
    assert "unmatched with the second potential" in shown["swap"]
    assert "second potential" not in shown["refused"]
    plain = scored(None)
    assert "unmatched under both potentials" not in {row.name for row in _figure_rows([plain])}


def test_deadline_leaves_it_undecided_and_the_next_compute_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(step_clock, "time", clock)

    def late(task: RelaxTask, found: Relaxation) -> Relaxation:
        clock.now += 10
        return found

    metric = SubstitutionNovelty(
        REFERENCE,
        "paper",
        relaxer=StaticRelaxer(),
        second_potential=StaticRelaxer("other", end=of_samples(late)),
        hull="none",
    )
    metric.update([CRYSTALS["swap"], CRYSTALS["far"]])
    report = metric.compute(deadline=5.0)
    assert [row.verdict for row in report.results] == [SUBSTITUTED, UNMATCHED]
    assert {row.verdict_second for row in report.results} == {UNDECIDED}
    assert {row.error_second for row in report.results} == {"the time ran out"}
    assert any("time ran out before 2 of 2" in line for line in report.context.warnings)
    report = metric.compute()
    assert [row.verdict_second for row in report.results] == [SUBSTITUTED, UNMATCHED]
    assert report.context.warnings == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"second_potential": "sevenet"}, "no relaxer named 'sevenet'"),
        ({"second_potential": "sevennet", "relaxer": None}, "relaxer=none"),
        ({"second_potential": StaticRelaxer()}, "is the same as relaxer=: still"),
    ],
)
def test_invalid_second_potentials(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SubstitutionNovelty(
            REFERENCE, **{"relaxer": StaticRelaxer(), "hull": "none", **options}
        ).prepare()


def test_variants_and_runs_without_relaxation_have_no_second_verdict() -> None:
    metric = SubstitutionNovelty(
        REFERENCE, relaxer=StaticRelaxer(), second_potential=StaticRelaxer("other")
    )
    assert metric.search_only().spec.second_potential is None
    assert metric.variant(metric.protocol).spec.second_potential is None


def test_sevennet_beside_chgnet_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sevenn", reason="sevenn is not installed")
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))
    REFERENCE.save(tmp_path / "one.arrow")
    samples = [{"id": name, "structure": one.as_dict()} for name, one in CRYSTALS.items()]
    (tmp_path / "samples.json").write_text(json.dumps(samples))
    arguments = [f"samples={tmp_path / 'samples.json'}", f"reference={tmp_path / 'one.arrow'}"]
    arguments += ["second_potential=sevennet", "hull=none", "workers=1", f"out={tmp_path / 'run'}"]
    assert main(["score", *arguments]) == 0
    shown = capsys.readouterr().out
    # The parent is relaxed before the comparison, so MgO matches NaCl too.
    assert "unmatched under both 0.0 %  0 of 3 (95 %: 0.0-" in shown
    assert "0 undecided by SevenNet-0" in shown
    report = NoveltyReport.load(tmp_path / "run")
    assert list(seconds(report).values()) == [DUPLICATE, SUBSTITUTED, SUBSTITUTED, None]
