"""The report on the cases that a pipeline has scored, with the description of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from novelty_metric.reference.calibration import calibration_key, find_calibration
from novelty_metric.report.context import HULL_REMARKS, RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.rows import plain
from novelty_metric.samples.plausibility import implausible
from novelty_metric.scoring.sample_energies import odd_energies
from novelty_metric.search.duplicates import warnings_of
from novelty_metric.support.versions import installed_versions, this_machine

if TYPE_CHECKING:
    from novelty_metric.scoring.case import Case
    from novelty_metric.scoring.pipeline import Pipeline


def report_of(pipeline: Pipeline, cases: Sequence[Case]) -> NoveltyReport:
    """The report on these cases, in order, with the groups of equal samples."""
    comparable = {
        case: case.reduced for case in cases if case.error is None and case.reduced is not None
    }
    groups = pipeline.group_equal(list(comparable.values()))
    numbers = zip(comparable, groups.duplicates.number, groups.matching.number, strict=True)
    groups_of = {case: (group, matching) for case, group, matching in numbers}
    results = []
    for case in cases:
        group, matching_group = groups_of.get(case, (None, None))
        results.append(pipeline.row(case, group=group, matching_group=matching_group))
    warnings = list(implausible((case.as_read, case.error) for case in cases))
    if pipeline.rules.sample_energies is not None:
        warnings += odd_energies(results)
    if late := sum(case.is_open for case in cases):
        warnings.append(f"the time ran out before {late} of {len(cases)} crystals were finished")
    warnings += warnings_of(
        groups.duplicates.work_limit_reached, groups.matching.work_limit_reached
    )
    context = run_context(pipeline, seconds=pipeline.clock.seconds, warnings=warnings)
    return NoveltyReport.from_results(results, context)


def run_context(
    pipeline: Pipeline, *, seconds: Mapping[str, float], warnings: Iterable[str]
) -> RunContext:
    """The description of a run in its report, with the time per step (s), without the crystals."""
    rules, resources = pipeline.rules, pipeline.resources
    reference, relaxer = resources.reference, resources.relaxer
    second = None if resources.second is None else resources.second.relaxer
    # With the origin of the energies if they are not the potential's.
    hull = {"name": "none"} if resources.hull is None else dict(resources.hull.describe())
    if rules.sample_energies is not None:
        hull["sample_energies"] = rules.sample_energies.label
    context = RunContext(
        protocol=rules.protocol,
        potential=None if relaxer is None else relaxer.info,
        second_potential=None if second is None else second.info,
        hull=hull,
        reference_name=reference.name,
        reference_size=len(reference),
        crystals_hash=reference.crystals_hash,
        store_hash=reference.store_hash,
        scope=rules.scope,
        exhaustive=rules.exhaustive,
        relax_samples=rules.relax_samples,
        leave_one_out=rules.leave_one_out,
        smact_oxidation_states=rules.oxidation_states_name,
        versions=installed_versions(),
        machine=this_machine(getattr(relaxer, "device_name", None)),
        seconds=dict(seconds),
        warnings=tuple(warnings),
    )
    key = key_of_context(context)
    found = None if key is None else find_calibration(reference, key)
    return replace(context, calibration=found)


def key_of_context(context: RunContext) -> str | None:
    """Key of the calibration for a report; None if no calibration is possible."""
    potential, hull = context.potential, context.hull
    if potential is None or "sample_energies" in hull:
        return None
    protocol = {k: v for k, v in context.protocol.to_dict().items() if k != "name"}
    return calibration_key(
        {
            "reference": context.crystals_hash,
            "protocol": protocol,
            "potential": potential.key,
            "weights": potential.weights_hash,
            "hull": plain({k: v for k, v in hull.items() if k not in HULL_REMARKS}),
            "relax_samples": context.relax_samples,
            "smact_oxidation_states": context.smact_oxidation_states,
        }
    )
