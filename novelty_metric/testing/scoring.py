"""The metrics of a test session: one for each set of settings, shared by the tests."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.metric import SubstitutionNovelty
from novelty_metric.protocol import Protocol
from novelty_metric.report.context import protocol_changes
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.quiet import libraries_quiet
from novelty_metric.testing.checks import NoveltyCheck
from novelty_metric.testing.options import NoveltyOptions


class QuietMetric(SubstitutionNovelty):
    """The metric, with the warnings of libraries suppressed."""

    def compute(self, *, deadline: float | None = None) -> NoveltyReport:
        """The same as `SubstitutionNovelty.compute`."""
        with libraries_quiet():
            return super().compute(deadline=deadline)


class Metrics:
    """The metrics of a session, by their settings.

    `workers` is the number of relaxation processes of a check that gives none; None: one per core.
    """

    def __init__(self, options: NoveltyOptions, workers: int | None) -> None:
        self._options = options
        self._workers = workers
        self._made: dict[str, QuietMetric] = {}

    def settings(self, check: NoveltyCheck) -> dict[str, Any]:
        """Settings of the metric of a check.

        Raises
        ------
        InputError
            If no reference is named, or the protocol is unknown.
        """
        options = self._options
        reference = check.reference or options.reference
        if reference is None:
            raise InputError(
                "no reference is named; give reference=, or set novelty_reference in the ini file"
            )
        protocol = protocol_of(check.protocol or options.protocol or "fast")
        names = ("relaxer", "hull", "scope", "device", "relax_samples", "exhaustive", "max_sites")
        given: dict[str, Any] = {name: getattr(check, name) for name in names}
        given |= {name: given[name] or getattr(options, name) for name in ("relaxer", "hull")}
        return {
            "reference": reference,
            "protocol": protocol,
            "workers": check.workers or self._workers,
            **{name: value for name, value in given.items() if value is not None},
        }

    def metric(self, check: NoveltyCheck) -> SubstitutionNovelty:
        """The metric of a check, without samples.

        Raises
        ------
        InputError
            If a setting can't be used.
        """
        settings = self.settings(check)
        key = repr(sorted(settings.items()))
        if key not in self._made:
            self._made[key] = QuietMetric(**settings)
        metric = self._made[key]
        metric.reset()
        return metric

    def close(self) -> None:
        """Stop worker processes and close caches."""
        for metric in self._made.values():
            metric.close()
        self._made.clear()


def protocol_of(given: Any) -> Protocol:
    """The protocol from a name, or from a mapping with a ``name`` and changed settings.

    Raises
    ------
    InputError
        If the name or a setting is unknown.
    """
    if isinstance(given, str):
        return Protocol.named(given)
    changes = {name: value for name, value in given.items() if name != "name"}
    known = [field.name for field in dataclasses.fields(Protocol) if field.name != "name"]
    for name in changes:
        if name not in known:
            raise InputError(f"no protocol setting named {name!r}; known: {', '.join(known)}")
    try:
        protocol = dataclasses.replace(Protocol.named(given["name"]), **changes)
    except TypeError as error:
        raise InputError(f"protocol: {error}") from error
    base, words = protocol_changes(protocol)
    return dataclasses.replace(protocol, name=f"{base} (modified: {words})" if words else base)


def score(metric: SubstitutionNovelty, check: NoveltyCheck) -> tuple[NoveltyReport, float]:
    """Score the samples of a check; also returns the time (s).

    Raises
    ------
    InputError
        If the samples, the reference or the potential can't be used.
    """
    from novelty_metric.samples import read_samples

    assert check.samples is not None
    started = time.perf_counter()
    metric.reset()
    with libraries_quiet():
        metric.update_samples(
            read_samples(check.samples, format=check.format, column=check.column, limit=check.limit)
        )
    report = metric.compute()
    metric.reset()
    return report, time.perf_counter() - started
