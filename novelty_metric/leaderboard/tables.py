"""The leaderboard as a Markdown page, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.leaderboard.board import Entry, Section
from novelty_metric.leaderboard.submission import plain
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.prototypes import NewPrototypes
from novelty_metric.report.real_crystals import BesideRealCrystals
from novelty_metric.support.ratios import Ratio
from novelty_metric.support.statistics import Interval
from novelty_metric.support.text import percent_interval
from novelty_metric.verdict import Verdict

_LIMITS = ("", "_low", "_high")
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
    "novel_yield",
    "novel_yield_low",
    "novel_yield_high",
    "eligible",
    *(verdict.value for verdict in Verdict),
    "novelty",
    "novelty_low",
    "novelty_high",
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
"""Of the CSV: a row a model; shares from 0 to 1, empty where nothing can be said."""


def values_of(section: Section, entry: Entry) -> dict[str, Any]:
    """The row of a model, by column."""
    submission, report = entry.submission, entry.report
    interval, bounds = report.novelty_interval, report.novelty_bounds
    groups = report.breakdown("crystal_system")
    found = entry.novel_yield
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
        "common_number": None if found is None else section.common,
        "novel_yield": None if found is None else found.value,
        "novel_yield_low": None if found is None else found.low,
        "novel_yield_high": None if found is None else found.high,
        "eligible": report.n_eligible,
        **report.counts,
        "novelty": None if interval is None else interval.value,
        "novelty_low": None if interval is None else interval.low,
        "novelty_high": None if interval is None else interval.high,
        "novelty_least": None if bounds is None else bounds.low,
        "novelty_greatest": None if bounds is None else bounds.high,
        **_beside_values(report.beside_real_crystals),
        **_prototype_values(report.new_prototypes),
        **{
            f"novelty_{system}": groups[system].novelty.value if system in groups else None
            for system in CRYSTAL_SYSTEMS
        },
        **{
            f"eligible_{system}": groups[system].n if system in groups else 0
            for system in CRYSTAL_SYSTEMS
        },
    }


def _beside_values(beside: BesideRealCrystals | None) -> dict[str, float | None]:
    ratio, expected = ratios_of(beside)
    values: dict[str, float | None] = {
        "base_rate": None if beside is None else beside.base_rate.value,
        "sensitivity": None
        if beside is None or beside.sensitivity is None
        else beside.sensitivity.value,
    }
    for name, found in (("novelty_ratio", ratio), ("observed_expected", expected)):
        limits = (None,) * 3 if found is None else (found.value, found.low, found.high)
        for end, value in zip(_LIMITS, limits, strict=True):
            finite = value is not None and math.isfinite(value)
            values[f"{name}{end}"] = value if finite else None
    return values | {"copying_z": None if beside is None else beside.copying_z}


def _prototype_values(found: NewPrototypes) -> dict[str, float | None]:
    share = found.share
    return {
        "valid_converged": found.known if share else None,
        "new_prototypes": found.new if share else None,
        "new_prototypes_metastable": found.metastable if share else None,
        "new_prototype_share": share.value if share else None,
        "new_prototype_share_low": share.low if share else None,
        "new_prototype_share_high": share.high if share else None,
    }


def ratios_of(beside: BesideRealCrystals | None) -> tuple[Ratio | None, Ratio | None]:
    """Novelty ratio, and observed / expected; None without a calibration."""
    if beside is None:
        return None, None
    expected = beside.standardised
    return beside.novelty_ratio, None if expected is None else expected.ratio


def csv_text(sections: Sequence[Section]) -> str:
    """A row a model. Text that a spreadsheet would take for a formula gets a ``'`` before it."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for section in sections:
        for entry in section.entries:
            values = values_of(section, entry)
            writer.writerow({name: _cell(value) for name, value in values.items()})
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return value


def json_text(sections: Sequence[Section]) -> str:
    """All that the tables hold, and each submission's own words."""
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


HEAD = """\
# Leaderboard

Which generative models of crystals discover new materials? A crystal counts as new if it is valid
and metastable, if it is not a training crystal, and if it is not a training crystal after its
elements are exchanged and the result is relaxed once. Models are ranked by their *novel yield*: the
number of distinct new crystals per generated crystal. [index.html](index.html) is this table with
charts, and a page for each model with some unmatched crystals. [CSV](leaderboard.csv) and
[JSON](leaderboard.json) are for programs. [CONTRIBUTING.md](CONTRIBUTING.md) explains how to submit
a model.

No figure is entered by hand: `novelty-metric leaderboard build` makes this page from the
[submissions](submissions), and `novelty-metric leaderboard check --samples DIR --recompute` scores
the submitted samples again.
"""

TAIL = """\
## How to read the tables

- **Novel yield**: the number of distinct new crystals per generated crystal. It falls if more
  crystals are drawn, so all models of a section have the same number of generated crystals. The
  interval covers sampling noise only (95 %).
- **Rank**: 1 + the number of models whose yield is significantly higher (Newcombe's 95 % interval
  of the difference, for each pair). Models without a significant difference share a rank.
- **Novelty ratio**: share of unmatched crystals, divided by that of real crystals, each scored
  against the reference without itself (the files in `calibrations`). **Observed / expected**:
  unmatched crystals, divided by the number that real crystals of the same crystal systems would
  give. **Copying z**: below −3 the model lies nearer to its training set than real crystals do.
  A dash: there is no calibration.
- **New prototypes**: SMACT-valid, converged crystals. No reference crystal has their space group
  and occupied Wyckoff positions; elements are ignored
  ([definition](../docs/analyses.md#new-prototypes)). **Metastable of these**: the eligible ones.
- **Null models** need no training, only the reference ([list](../docs/null_models.md)). They are
  ranked as models, and every model has to beat them. `held out` are real crystals.
- **Not ranked**: models for which the number of generated crystals is not known, and crystals that
  were selected before they were published.
- **Duplicate, substituted, unmatched, undecided**: per cent of the eligible crystals, with 95 %
  Wilson intervals. The calculations of an undecided crystal did not finish; it never counts as new.
- **Crystals** (`crystals/NAME.json`): the unmatched crystals of lowest energy above the hull, equal
  ones once, beside their nearest parents of the reference. Crystals of the Materials Project are CC
  BY 4.0.
- **Sections**: a section holds models that were scored against the same training set, with the same
  protocol, potential and hull. Models of different sections are not ranked against each other.
"""


def markdown(sections: Sequence[Section], caveat: str = "") -> str:
    """The content of ``README.md``; `caveat` describes the demonstrations."""
    ranked = [section for section in sections if section.ranked]
    shown = [section for section in sections if is_demonstration(section)]
    selected = [section for section in sections if section.selected is not None]
    parts = [HEAD, "## Ranked\n"]
    if not ranked:
        parts.append(
            "Empty. A model is ranked only if it was scored against its own training set and its "
            "samples are publicly available.\n"
        )
    for section in ranked:
        parts += _section(section)
    if shown:
        parts += ["## Demonstration\n", *([f"{_text(caveat)}\n"] if caveat else [])]
        for section in shown:
            parts += _section(section)
    if selected:
        parts.append("## Selected before they were published\n")
        for section in selected:
            parts += _section(section)
    parts.append(TAIL)
    return "\n".join(parts)


def is_demonstration(section: Section) -> bool:
    """Whether it is shown among the demonstrations."""
    return section.demonstration and section.selected is None


def _section(section: Section) -> list[str]:
    context = section.of.context
    lines = [
        f"### Against {_text(context.reference_name)} "
        f"({context.reference_size:,} crystals), {_text(context.protocol_text)}\n",
        f"Crystals `{context.crystals_hash[:12]}`; hull {_text(section.hull)}; "
        f"eligible: {_text(context.eligibility)}."
        + ("" if section.common is None else f" Yields at {section.common:,} {_drawn(section)}.")
        + "\n",
    ]
    real = real_crystals_text(section)
    if real:
        lines.append(f"{real}\n")
    if section.selected is not None:
        lines.append(f"**Selected:** {_text(section.selected)} These rows are not ranked.\n")
    head = ["model", "yield, %", "scored", "eligible", *(v.value for v in Verdict)]
    head += ["novelty ratio", "observed / expected", "copying z"]
    head += ["new prototypes, %", "metastable of these"]
    if section.ranked:
        head.insert(0, "rank")
    rows = []
    for entry in section.entries:
        report = entry.report
        shares = [report.fractions.get(verdict.value) for verdict in Verdict]
        row = [
            f"[{_text(entry.submission.model)}](submissions/{entry.name}.yaml)",
            _percent(entry.novel_yield),
            str(len(report.results)),
            str(report.n_eligible),
            *map(_percent, shares),
            *beside_texts(report),
            _percent(report.new_prototypes.share),
            metastable_text(report),
        ]
        if section.ranked:
            row.insert(0, "–" if entry.rank is None else str(entry.rank))
        rows.append(row)
    lines.append(_table(head, rows))
    lines.append("Unmatched of the eligible, by crystal system:\n")
    rows = []
    for entry in section.entries:
        groups = entry.report.breakdown("crystal_system")
        rows.append(
            [
                _text(entry.submission.model),
                *(
                    f"{groups[system].counts['unmatched']} of {groups[system].n}"
                    if system in groups
                    else "–"
                    for system in CRYSTAL_SYSTEMS
                ),
            ]
        )
    lines.append(_table(["model", *CRYSTAL_SYSTEMS], rows))
    left = [
        f"{_text(entry.submission.model)} ({entry.unranked})"
        for entry in section.entries
        if entry.unranked is not None and section.ranked
    ]
    if left:
        lines.append(f"Not ranked: {', '.join(left)}.\n")
    return lines


def real_crystals_text(section: Section) -> str:
    """Base rate of real crystals, and what the method misses; empty without a calibration."""
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
    """Novelty ratio, observed / expected and copying z, a dash where there is none."""
    beside = report.beside_real_crystals
    z = None if beside is None else beside.copying_z
    texts = ["–" if ratio is None else ratio.text for ratio in ratios_of(beside)]
    return [*texts, "–" if z is None else f"{round(z, 1) + 0.0:.1f}"]  # never -0.0


def metastable_text(report: NoveltyReport) -> str:
    """How many of the new prototypes are metastable, such as ``12 of 81``."""
    found = report.new_prototypes
    return (
        "–" if found.metastable is None or not found.known else f"{found.metastable} of {found.new}"
    )


def _drawn(section: Section) -> str:
    return "generated crystals" if section.ranked else "scored crystals"


def _percent(share: Interval | None) -> str:
    return percent_interval(share, 0, dash="–", none="–")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _text(text: str) -> str:
    """Text of a submission that Markdown shows as it is."""
    escaped = re.sub(r"([\\`*_{}\[\]()#|!~])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
