"""The leaderboard as a Markdown page, as CSV and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from html import escape
from math import inf
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

Value = Callable[[Section, Entry], Any]


def _limits(name: str, of: Callable[[Entry], Interval | Ratio | None]) -> dict[str, Value]:
    """Columns of a value and its limits; None where they are not known or infinite."""

    def part(end: str) -> Value:
        return lambda _, one: None if (v := getattr(of(one), end, inf)) == inf else v

    return {name: part("value"), f"{name}_low": part("low"), f"{name}_high": part("high")}


def _real(name: str) -> Callable[[Entry], Any]:
    """A value of the comparison with real crystals; None without a calibration."""
    return lambda one: getattr(one.report.beside_real_crystals, name, None)


def _prototypes(name: str) -> Value:
    return lambda _, one: (
        getattr(one.report.new_prototypes, name) if one.report.new_prototypes.known else None
    )


def _count(verdict: Verdict) -> Value:
    return lambda _, one: one.report.counts[verdict.value]


def _of_system(system: str, name: str) -> Value:
    """The novelty or the number of the eligible crystals of a crystal system."""

    def value(_: Section, one: Entry) -> Any:
        group = one.report.breakdown("crystal_system").get(system)
        if group is None:
            return 0 if name == "n" else None
        return group.n if name == "n" else group.novelty.value

    return value


_VALUES: dict[str, Value] = {
    "section": lambda section, _: section.id,
    "demonstration": lambda section, _: section.demonstration,
    "selected": lambda section, _: section.selected,
    "rank": lambda _, one: one.rank,
    "name": lambda _, one: one.name,
    "null_model": lambda _, one: one.submission.null_model,
    "model": lambda _, one: one.submission.model,
    "version": lambda _, one: one.submission.version,
    "training_set": lambda _, one: one.submission.training_set.name,
    "scored_against": lambda _, one: one.report.context.reference_name,
    "crystals_hash": lambda _, one: one.report.context.crystals_hash,
    "protocol": lambda _, one: one.report.context.protocol_text,
    "hull": lambda _, one: str(one.report.context.hull.get("name", "none")),
    "generated": lambda _, one: one.submission.samples.generated,
    "scored": lambda _, one: len(one.report.results),
    "common_number": lambda section, one: None if one.novel_yield is None else section.common,
    **_limits("novel_yield", lambda one: one.novel_yield),
    "eligible": lambda _, one: one.report.n_eligible,
    **{verdict.value: _count(verdict) for verdict in Verdict},
    **_limits("novelty", lambda one: one.report.novelty_interval),
    "novelty_least": lambda _, one: getattr(one.report.novelty_bounds, "low", None),
    "novelty_greatest": lambda _, one: getattr(one.report.novelty_bounds, "high", None),
    "base_rate": lambda _, one: getattr(_real("base_rate")(one), "value", None),
    "sensitivity": lambda _, one: getattr(_real("sensitivity")(one), "value", None),
    **_limits("novelty_ratio", _real("novelty_ratio")),
    **_limits("observed_expected", lambda one: observed_expected(one.report.beside_real_crystals)),
    "copying_z": lambda _, one: _real("copying_z")(one),
    "valid_converged": _prototypes("known"),
    "new_prototypes": _prototypes("new"),
    "new_prototypes_metastable": _prototypes("metastable"),
    **_limits("new_prototype_share", lambda one: one.report.new_prototypes.share),
    **{f"novelty_{name}": _of_system(name, "novelty") for name in CRYSTAL_SYSTEMS},
    **{f"eligible_{name}": _of_system(name, "n") for name in CRYSTAL_SYSTEMS},
}
"""How a column of the row of a model follows from it; shares from 0 to 1, None if unknown."""
COLUMNS = tuple(_VALUES)


def values_of(section: Section, entry: Entry) -> dict[str, Any]:
    """The row of a model, by column."""
    return {name: value(section, entry) for name, value in _VALUES.items()}


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
