"""A session with novelty tests: their checks, results, and the summary.

Under xdist every worker has such a session; what it finds travels with the reports of the tests,
and only the controller writes files and prints.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from novelty_metric.errors import InputError, NoveltyMetricError
from novelty_metric.testing.checks import NoveltyCheck, marker_check, read_yaml_check
from novelty_metric.testing.declarations import is_novelty_test
from novelty_metric.testing.yaml_file import NoveltyItem

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.testing.options import NoveltyOptions
    from novelty_metric.testing.record import Record
    from novelty_metric.testing.regression import NoveltyRegression
    from novelty_metric.testing.scoring import Metrics

REPORT_SCHEMA = 1
_REGRESSION = pytest.StashKey["NoveltyRegression"]()
_ATTRIBUTE = "novelty_records"


class NoveltySession:
    """The plugin object of a session with novelty tests."""

    def __init__(self, config: pytest.Config, options: NoveltyOptions) -> None:
        self._config = config
        self._options = options
        self._is_worker = hasattr(config, "workerinput")
        self._metrics: Metrics | None = None
        # By test and name: a test that is run again counts once.
        self._records: dict[tuple[str, str], Record] = {}
        self._errors: list[str] = []

    # What the tests use

    def regression(self, item: pytest.Item) -> NoveltyRegression:
        """The check of a novelty test."""
        return item.stash[_REGRESSION]

    def metric(self, item: pytest.Item) -> SubstitutionNovelty:
        """The metric of a novelty test."""
        return self.regression(item).metric()

    def _regression(self, item: pytest.Item) -> NoveltyRegression:
        from novelty_metric.testing.baseline import baseline_name
        from novelty_metric.testing.regression import NoveltyRegression
        from novelty_metric.testing.scoring import Metrics

        if self._metrics is None:
            # Processes of processes would fight for the cores.
            self._metrics = Metrics(self._options, workers=1 if self._is_worker else None)
        nodeid = item.nodeid
        if isinstance(item, NoveltyItem):
            nodeid = nodeid.partition("::")[0]
        return NoveltyRegression(
            _check(item),
            nodeid=item.nodeid,
            name=baseline_name(nodeid),
            options=self._options,
            metrics=self._metrics,
            root=self._config.rootpath,
        )

    # The tests

    @pytest.hookimpl
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Report an error of the setup before anything is scored."""
        if not is_novelty_test(item):
            return
        try:
            # Made anew where a plugin runs a failed test again.
            item.stash[_REGRESSION] = self._regression(item)
            item.stash[_REGRESSION].prepare()
        except NoveltyMetricError as error:
            from novelty_metric.testing.regression import stop

            stop(f"novelty: {error}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Make the check of a test that did not make it itself."""
        yield
        if _REGRESSION in item.stash:
            item.stash[_REGRESSION].finish()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the result to the report, and its properties for JUnit."""
        if call.when == "call" and _REGRESSION in item.stash:
            records = item.stash[_REGRESSION].records
            for record in records:
                item.user_properties += properties(record, several=len(records) > 1)
        report = yield
        if call.when == "call" and _REGRESSION in item.stash:
            found = [record.to_dict() for record in item.stash[_REGRESSION].records]
            # As text: xdist carries no enums.
            setattr(report, _ATTRIBUTE, json.dumps(found))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the results; on the controller, those of all workers."""
        found = json.loads(getattr(report, _ATTRIBUTE, "[]"))
        if self._is_worker or not found:
            return
        from novelty_metric.testing.baseline import BaselineStore
        from novelty_metric.testing.record import Record

        store = BaselineStore(self._options.baseline)
        for values in found:
            record = Record(**values)
            content, record.new_baseline = record.new_baseline, None
            self._records[record.nodeid, record.name] = record
            if content is not None:
                try:
                    store.write(record.name, content)
                except InputError as error:
                    self._errors.append(str(error))

    # The session

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report file; fail if something could not be written."""
        if self._metrics is not None:
            self._metrics.close()
        if self._is_worker:
            return
        self._records = dict(sorted(self._records.items()))
        if self._options.report is not None and not self._config.option.collectonly:
            try:
                self._write_report()
            except OSError as error:
                self._errors.append(
                    f"{self._options.report} can't be written ({error.strerror or error})"
                )
        if self._errors and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write_report(self) -> None:
        from novelty_metric import __version__
        from novelty_metric.support.folders import write_atomically

        path = self._options.report
        assert path is not None
        checks = [record.to_dict() for record in self._records.values()]
        for values in checks:
            del values["new_baseline"]
        content = {
            "schema_version": REPORT_SCHEMA,
            "novelty_metric": __version__,
            "checks": checks,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(path, f"{text}\n".encode())

    def pytest_report_header(self) -> list[str]:
        """Reference and protocol, and the baseline of a test."""
        options = self._options
        reference = options.reference or "as each test names it"
        fail = ", ".join(map(str, options.fail))
        baseline = _shown(self._config, options.baseline)
        update = ", being updated" if options.update else ""
        return [
            f"novelty: reference {reference}, protocol {options.protocol or 'fast'}",
            f"novelty: baselines {baseline}{update}, fails on {fail} if beyond noise",
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A table for each reference and protocol."""
        if self._is_worker or not (self._records or self._errors):
            return
        from novelty_metric.testing.record import FAILED
        from novelty_metric.testing.text import summary_table

        out = terminalreporter
        out.ensure_newline()
        out.section("novelty", "=")
        groups: dict[tuple[str, str, str], list[Record]] = {}
        for record in self._records.values():
            key = record.reference, record.protocol, record.potential
            groups.setdefault(key, []).append(record)
        for number, ((reference, protocol, _), records) in enumerate(groups.items()):
            if number:
                out.write_line("")
            out.write_line(f"reference {reference}; protocol {protocol}")
            for line, outcome in summary_table(records, shutil.get_terminal_size().columns):
                if not outcome:
                    out.write_line(line, bold=True)
                else:
                    out.write_line(line, red=outcome in FAILED, green=outcome == "ok")
        notes = [(record.model, note) for record in self._records.values() for note in record.notes]
        written = [r for r in self._records.values() if r.outcome in ("new baseline", "updated")]
        if notes or written:
            out.write_line("")
        for model, note in notes:
            out.write_line(f"{model}: {note}", yellow=True)
        for record in written:
            out.write_line(f"{record.model}: baseline written to {record.baseline_path}; commit it")
        if self._options.report is not None:
            out.write_line(f"report: {_shown(self._config, self._options.report)}")
        for error in self._errors:
            out.write_line(f"novelty error: {error}", red=True)


def _check(item: pytest.Item) -> NoveltyCheck:
    if isinstance(item, NoveltyItem):
        return item.check or read_yaml_check(item.path)
    return marker_check(item)


def _shown(config: pytest.Config, path: Any) -> str:
    return str(path).removeprefix(f"{config.rootpath}/")


def properties(record: Record, *, several: bool) -> list[tuple[str, object]]:
    """Properties of a test in a JUnit file."""
    prefix = f"novelty.{record.name}." if several else "novelty."
    values: dict[str, object] = {
        "model": record.model,
        "outcome": record.outcome,
        "reference": record.reference,
        "protocol": record.protocol,
        "generated": record.generated,
        "eligible": record.eligible,
        **record.counts,
    }
    for name, share in (*record.shares.items(), ("novel_yield", record.novel_yield)):
        for suffix, value in zip(("share", "low", "high"), share, strict=True):
            values[f"{name}_{suffix}"] = f"{value:.4f}"
    for watched in record.watched:
        if watched["change"] is not None:
            for suffix, value in zip(
                ("change", "change_low", "change_high"), watched["change"], strict=True
            ):
                values[f"{watched['share']}_{suffix}"] = f"{value:+.4f}"
    return [(prefix + name, value) for name, value in values.items()]
