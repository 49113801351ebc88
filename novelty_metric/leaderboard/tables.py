"""The leaderboard as a Markdown page, as CSV and as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from novelty_metric.comparison.ratios import observed_expected
from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.figures.page import render
from novelty_metric.leaderboard.board import Entry, Section
from novelty_metric.leaderboard.submission import plain
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.ratios import Ratio
from novelty_metric.support.statistics import Interval
from novelty_metric.support.text import csv_text as table_as_csv
from novelty_metric.support.text import percent_interval
from novelty_metric.verdict import Verdict

_LIMITS = {"": "value", "_low": "low", "_high": "high"}
"""Ends of the names of the columns of an interval."""
COLUMNS = (
    "section",
    "demonstration",
    "selected",
    "rank",
    "name",
    "null_model",
    "model",
    "version",
    "training_set",
    "scored_against",
    "crystals_hash",
    "protocol",
    "hull",
    "generated",
    "scored",
    "common_number",
    *(f"novel_yield{end}" for end in _LIMITS),
    "eligible",
    *(verdict.value for verdict in Verdict),
    *(f"novelty{end}" for end in _LIMITS),
    "novelty_least",
    "novelty_greatest",
    "base_rate",
    "sensitivity",
    *(f"{name}{end}" for name in ("novelty_ratio", "observed_expected") for end in _LIMITS),
    "copying_z",
    "valid_converged",
    "new_prototypes",
    "new_prototypes_metastable",
    *(f"new_prototype_share{end}" for end in _LIMITS),
    *(f"novelty_{system}" for system in CRYSTAL_SYSTEMS),
    *(f"eligible_{system}" for system in CRYSTAL_SYSTEMS),
)
"""Columns of the CSV: a row per model; shares from 0 to 1, empty if unknown."""


def values_of(section: Section, entry: Entry) -> dict[str, Any]:
    """The row of a model, by column."""
    submission, report = entry.submission, entry.report
    bounds, beside = report.novelty_bounds, report.beside_real_crystals
    prototypes = report.new_prototypes
    ratio = None if beside is None else beside.novelty_ratio
    sensitivity = None if beside is None else beside.sensitivity
    groups = report.breakdown("crystal_system")
    return {
        "section": section.id,
        "demonstration": section.demonstration,
        "selected": section.selected,
        "rank": entry.rank,
        "name": entry.name,
        "null_model": submission.null_model,
        "model": submission.model,
        "version": submission.version,
        "training_set": submission.training_set.name,
        "scored_against": report.context.reference_name,
        "crystals_hash": report.context.crystals_hash,
        "protocol": report.context.protocol_text,
        "hull": str(report.context.hull.get("name", "none")),
        "generated": submission.samples.generated,
        "scored": len(report.results),
        "common_number": None if entry.novel_yield is None else section.common,
        **_with_limits("novel_yield", entry.novel_yield),
        "eligible": report.n_eligible,
        **report.counts,
        **_with_limits("novelty", report.novelty_interval),
        "novelty_least": None if bounds is None else bounds.low,
        "novelty_greatest": None if bounds is None else bounds.high,
        "base_rate": None if beside is None else beside.base_rate.value,
        "sensitivity": None if sensitivity is None else sensitivity.value,
        **_with_limits("novelty_ratio", ratio),
        **_with_limits("observed_expected", observed_expected(beside)),
        "copying_z": None if beside is None else beside.copying_z,
        "valid_converged": prototypes.known or None,
        "new_prototypes": prototypes.new if prototypes.known else None,
        "new_prototypes_metastable": prototypes.metastable if prototypes.known else None,
        **_with_limits("new_prototype_share", prototypes.share),
        **{
            f"novelty_{system}": groups[system].novelty.value if system in groups else None
            for system in CRYSTAL_SYSTEMS
        },
        **{
            f"eligible_{system}": groups[system].n if system in groups else 0
            for system in CRYSTAL_SYSTEMS
        },
    }


def _with_limits(name: str, found: Interval | Ratio | None) -> dict[str, float | None]:
    """Value and limits, by column; None where they are not known or infinite."""
    values = {f"{name}{end}": getattr(found, part, None) for end, part in _LIMITS.items()}
    return {k: None if v is None or not math.isfinite(v) else v for k, v in values.items()}


def csv_text(sections: Sequence[Section]) -> str:
    """A row per model. Text that a spreadsheet would take for a formula gets a ``'`` before it."""
    rows = [values_of(section, entry) for section in sections for entry in section.entries]
    cells = ({name: _cell(value) for name, value in row.items()} for row in rows)
    return table_as_csv(COLUMNS, cells)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return value


def json_text(sections: Sequence[Section]) -> str:
    """All values of the tables, and the statements of each submission."""
    content = {
        "schema_version": 1,
        "sections": [
            {
                "id": section.id,
                "demonstration": section.demonstration,
                "selected": section.selected,
                "common_number": section.common,
                "models": [
                    {
                        **values_of(section, entry),
                        "better": list(entry.better),
                        "unranked": entry.unranked,
                        "submission": plain(entry.submission),
                    }
                    for entry in section.entries
                ],
            }
            for section in sections
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def markdown(sections: Sequence[Section], caveat: str = "") -> str:
    """The content of ``README.md``; `caveat` describes the demonstrations."""
    return render(
        "leaderboard.md.jinja",
        sections=sections,
        caveat=caveat,
        verdicts=list(Verdict),
        systems=CRYSTAL_SYSTEMS,
        text=_text,
        share=lambda share: percent_interval(share, 0, dash="–", none="–"),
        beside_texts=beside_texts,
        metastable_text=metastable_text,
        real_crystals_text=real_crystals_text,
    )


def real_crystals_text(section: Section) -> str:
    """Base rate of real crystals, and misses of the method; empty without a calibration."""
    calibration = section.of.context.calibration
    if calibration is None or calibration.base_rate is None:
        return ""
    n = calibration.count(Verdict.UNMATCHED.value)[1]
    rate = percent_interval(calibration.base_rate, unit=" %")
    text = f"Real crystals left out of the reference: {rate} unmatched, n = {n}."
    found = calibration.sensitivity
    if found is None or found.share is None:
        return text
    share = percent_interval(found.share, 0, unit=" %")
    return (
        f"{text} The method finds {found.hits} of {found.total} known substitutions ({share}); "
        "what it misses counts as unmatched, among real crystals too."
    )


def beside_texts(report: NoveltyReport) -> list[str]:
    """Novelty ratio, observed / expected and copying z; a dash for a missing value."""
    beside = report.beside_real_crystals
    z = None if beside is None else beside.copying_z
    ratios = (None if beside is None else beside.novelty_ratio, observed_expected(beside))
    texts = ["–" if ratio is None else ratio.text for ratio in ratios]
    return [*texts, "–" if z is None else f"{round(z, 1) + 0.0:.1f}"]  # never -0.0


def metastable_text(report: NoveltyReport) -> str:
    """Metastable new prototypes of all new prototypes, such as ``12 of 81``."""
    found = report.new_prototypes
    return (
        "–" if found.metastable is None or not found.known else f"{found.metastable} of {found.new}"
    )


def _text(text: str) -> str:
    """Text of a submission, escaped for Markdown."""
    escaped = re.sub(r"([\\`*_{}\[\]()#|!~])", r"\\\1", " ".join(text.split()))
    return escape(escaped, quote=False)
