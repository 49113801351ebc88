"""`NoveltyRegression`: scores the samples of a test and compares them with its baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from novelty_metric.comparison.compare import Mismatch, context_mismatches
from novelty_metric.errors import InputError, NoveltyMetricError
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.testing import baseline
from novelty_metric.testing.assessment import CALIBRATE, Status, assess, broken_floors
from novelty_metric.testing.checks import NoveltyCheck
from novelty_metric.testing.record import FAILED, Outcome, Record
from novelty_metric.testing.text import empty_text, failure_text, version_line
from novelty_metric.testing.tolerance import Tolerance

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.testing.options import NoveltyOptions
    from novelty_metric.testing.scoring import Metrics


@dataclasses.dataclass(eq=False)
class NoveltyRegression:
    """The fixture `novelty_regression`: call it with a report, or without arguments.

    Attributes
    ----------
    check : NoveltyCheck
        The settings of the test, from its marker or its YAML file.
    records : list of Record
        What was found so far.
    """

    check: NoveltyCheck
    _: dataclasses.KW_ONLY
    nodeid: str
    name: str
    options: NoveltyOptions
    metrics: Metrics
    root: Path
    records: list[Record] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._store = baseline.BaselineStore(self.options.baseline)
        self._used: set[str] = set()

    def __call__(
        self,
        report: NoveltyReport | None = None,
        *,
        name: str | None = None,
        allow_empty: bool | None = None,
    ) -> NoveltyReport:
        """Check a report: the limits of the test, then its baseline.

        Parameters
        ----------
        report : NoveltyReport, optional
            Default: the samples of the test are scored.
        name : str, optional
            Tells several checks of one test apart.
        allow_empty : bool, optional
            Let the check pass where no crystal is eligible; default: as the marker says.

        Returns
        -------
        NoveltyReport

        Raises
        ------
        pytest.fail.Exception
            If a limit is not kept, the novelty regressed, nothing is eligible, there is no baseline
            yet, or the baseline is of another measurement.
        """
        __tracebackhide__ = True
        key = self.name if name is None else f"{self.name}.{name}"
        if key in self._used:
            stop(
                "novelty: checked twice with one name; distinguish the checks with name= (was "
                f"{name})"
            )
        self._used.add(key)
        try:
            check = self.check
            if report is not None:
                seconds = sum(report.context.seconds.values())
            elif check.samples is None:
                raise InputError("the marker has no samples=; call novelty_regression(report)")
            else:
                from novelty_metric.testing.scoring import score

                report, seconds = score(self.metric(), check)
            if allow_empty is not None:
                check = dataclasses.replace(check, allow_empty=allow_empty)
            record, text = self._hold(report, check, key, seconds)
        except NoveltyMetricError as error:
            stop(f"novelty: {error}")
        if name is not None:
            record.model += f" ({name})"
        self.records.append(record)
        if record.outcome in FAILED:
            stop(text)
        return report

    def metric(self) -> SubstitutionNovelty:
        """The metric with the settings of the test.

        Raises
        ------
        InputError
            If a setting can't be used.
        """
        return self.metrics.metric(self.check)

    def prepare(self) -> None:
        """Find errors of the setup before minutes are spent on scoring.

        Raises
        ------
        InputError
            If samples or reference are missing, or the baseline is of another reference or
            protocol.
        """
        samples = self.check.samples
        if samples is not None and not samples.exists():
            raise InputError(f"samples={samples}: no such file or folder")
        settings = self.metrics.settings(self.check)
        metric = self.metric()  # refuses what it does not know
        if self.check.min_ratio is not None and metric.calibration is None:
            raise InputError(
                f"min_ratio needs the novelty of real crystals, and the reference "
                f"{settings['reference']} is not calibrated for these settings; {CALIBRATE}"
            )
        before = None if self.options.update else self._store.read(self.name)
        from novelty_metric.reference import open_reference

        reference = open_reference(settings["reference"])
        if before is None:
            return
        context = before.context
        now = dataclasses.replace(
            context,
            protocol=settings["protocol"],
            reference_name=reference.name,
            crystals_hash=reference.crystals_hash,
            scope=settings.get("scope", "eligible"),
            relax_samples=settings.get("relax_samples", True),
        )
        # Potential and hull are taken as they were: they are known after the run, and held then.
        found = context_mismatches(context, now)
        if found:
            raise InputError(self._mismatch(self.name, found))

    def finish(self) -> None:
        """Make the check of a test that made none itself.

        Raises
        ------
        pytest.fail.Exception
            As calling this object does; or if there is nothing to check.
        """
        if self.records or self._used:
            return
        if self.check.samples is not None:
            self()
        elif self.check.has_floor:
            stop(
                "novelty: nothing was checked, though the test has limits; give its marker "
                "samples=, or call novelty_regression(report)"
            )

    def _hold(
        self, report: NoveltyReport, check: NoveltyCheck, key: str, seconds: float
    ) -> tuple[Record, str]:
        record = Record.of(
            report,
            nodeid=self.nodeid,
            name=key,
            model=check.model,
            outcome=Outcome.PASSED.value,
            seconds=seconds,
            baseline_path=self._shown(key),
        )
        floors = broken_floors(check, report)
        before = None if self.options.update else self._store.read(key)
        assessment = None
        if before is not None:
            found = context_mismatches(before.context, report.context)
            if found:
                record.outcome = Outcome.MISMATCH.value
                return record, f"novelty: {self._mismatch(key, found)}"
            assessment = assess(before, report, self._tolerances())
            record.take(assessment)
            if assessment.comparison.versions:
                record.notes.append(version_line(assessment.comparison.versions))
        regressed = assessment is not None and assessment.regressed
        if floors:
            record.outcome = Outcome.BELOW_FLOOR.value
        elif not (report.n_eligible or regressed or check.allow_empty):
            record.outcome = Outcome.EMPTY.value
            return record, empty_text(record, report)
        elif assessment is not None:
            record.outcome = (Outcome.REGRESSED if regressed else Outcome.PASSED).value
        else:
            update = self.options.update
            record.outcome = (Outcome.UPDATED if update else Outcome.NEW_BASELINE).value
            record.new_baseline = baseline.to_json(report, self.check.model)
        record.notes += [
            f"{watched['share']} is worse than tolerated, but within sampling noise"
            for watched in record.watched
            if watched["status"] == Status.WITHIN_NOISE
        ]
        comparison = None if assessment is None else assessment.comparison
        return record, failure_text(record, floors, comparison=comparison)

    def _tolerances(self) -> tuple[Tolerance, ...]:
        if self.options.fail_given or self.check.fail is None:
            return self.options.fail
        return self.check.fail

    def _shown(self, key: str) -> str:
        return self._store.where(key).removeprefix(f"{self.root}/")

    def _mismatch(self, key: str, found: Iterable[Mismatch]) -> str:
        lines = "".join(f"\n  {mismatch}" for mismatch in found)
        return (
            f"the baseline {self._shown(key)} is of another measurement, so nothing is "
            f"compared:{lines}\nRestore the old settings, or accept the new result with "
            "--novelty-update."
        )


def stop(text: str) -> NoReturn:
    """Fail the test with this text alone."""
    __tracebackhide__ = True
    raise pytest.fail.Exception(text, pytrace=False) from None
