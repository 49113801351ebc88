"""The commands to run after `score`, ready to type."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from novelty_metric.settings.score_settings import GENERIC
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.settings.score_settings import ScoreSettings
    from novelty_metric.terminal.screen import NextStep

_OF_CALIBRATION = ("protocol", "relaxer", "hull")
"""Settings on which a base rate depends, beside its reference."""


KEEP = "keeps all results, for explain, report and export"


def calibrate(settings: ScoreSettings, words: Sequence[str]) -> str:
    """The command that scores real crystals with the settings of a run.

    Parameters
    ----------
    words : sequence of str
        The settings as typed.
    """
    same = [word for word in words if _group(word) in _OF_CALIBRATION]
    return _command("reference calibrate", settings.reference, *same)


def next_steps(
    report: NoveltyReport, settings: ScoreSettings, words: Sequence[str]
) -> list[NextStep]:
    """The useful commands after a run, the most important first."""
    from novelty_metric.terminal.screen import NextStep

    steps = []
    given = {_group(word) for word in words}
    if settings.samples and settings.model.name == GENERIC and "reference" not in given:
        build = _command("reference build", "TRAINING_SET.csv", "out=train.arrow")
        name = settings.reference
        steps.append(NextStep(build, f"then add reference=train.arrow: {name} is only an example"))
    if report.novelty_is_bound and report.counts[Verdict.UNDECIDED]:
        others = [word for word in words if _group(word) not in ("relaxer", "out")]
        steps.append(NextStep(_command("score", *others), "relaxes parents: decides the undecided"))
    if settings.out is None:
        steps.append(NextStep(_command("score", *words, "out=run"), KEEP))
    else:
        run = f"run={settings.out}"
        crystal = _worth_a_look(report)
        if crystal is not None:
            why = f"why it is {crystal.verdict}"
            steps.append(NextStep(_command("explain", crystal.id, run), why))
        page = NextStep(_command("report", str(settings.out)), "page with crystals and pictures")
        steps.append(page)
        if report.counts[Verdict.UNMATCHED]:
            words_ = ("verdict=unmatched", "out=unmatched.zip")
            steps.append(NextStep(_command("export", run, *words_), "the new crystals as CIF"))
    if settings.detail == "short":
        steps.append(NextStep(_command("score", *words, "detail=full"), "all tables"))
    return steps


def _worth_a_look(report: NoveltyReport) -> CrystalResult | None:
    """The crystal to explain: the most stable unmatched one with a plausible energy."""
    order = (Verdict.UNMATCHED, Verdict.UNDECIDED, Verdict.SUBSTITUTED, Verdict.DUPLICATE)

    def rank(row: CrystalResult) -> tuple[int, bool, float]:
        assert row.verdict is not None  # as every eligible crystal has one
        return order.index(row.verdict), row.energy_suspect is True, row.e_above_hull or 0.0

    return min(report.eligible, key=rank, default=None)


def _group(word: str) -> str:
    return word.partition("=")[0].lstrip("+").split(".")[0]


def _command(*words: str) -> str:
    verb, *others = words
    return " ".join(["novelty-metric", verb, *map(shlex.quote, others)])
