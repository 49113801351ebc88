"""Text for the user: the failure of a test, and the summary at the end of a session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from novelty_metric.comparison.compare import Comparison, Mismatch
from novelty_metric.report.exclusion import ExclusionReason
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Interval
from novelty_metric.support.text import duration, percent_interval, points_interval
from novelty_metric.testing.assessment import Status
from novelty_metric.testing.record import Outcome, Record

MOST_CHANGED = 20
"""Maximum number of crystals that a failure lists; the report file has all."""

_VERDICTS = ("duplicate", "substituted", "unmatched", "undecided")
_SHORT = ("dup.", "subst.", "unm.", "undec.")


def failure_text(record: Record, floors: Sequence[str], *, comparison: Comparison | None) -> str:
    """Why a check failed, and what to do; empty for a passed check."""
    if record.outcome == Outcome.NEW_BASELINE:
        return (
            f"novelty of {record.model}: there was no baseline to compare with\n"
            f"  written from this run: {record.baseline_path}\n"
            f"  {counts_line(record)}\n"
            "Look at it, commit it, and run again."
        )
    if record.outcome not in (Outcome.REGRESSED, Outcome.BELOW_FLOOR):
        return ""
    if record.outcome == Outcome.BELOW_FLOOR:
        lines = [f"novelty of {record.model} is out of its limits"]
        lines += [f"  {line}" for line in floors]
    else:
        lines = [f"novelty of {record.model} regressed"]
    lines += watched_lines(record.watched)
    if comparison is not None:
        lines += changed_lines(comparison)
    lines.append(f"  {counts_line(record)}")
    lines += [f"  {note}" for note in record.notes]
    if not record.watched:
        lines.append("  no baseline was written")
    else:
        lines.append(f"  baseline {record.baseline_path}")
        if record.outcome == Outcome.REGRESSED:
            lines.append("If this is what you want, accept it with --novelty-update.")
    return "\n".join(lines)


def empty_text(record: Record, report: NoveltyReport) -> str:
    """Why nothing could be checked, and what to do."""
    errors: set[str] = set()
    if not report.results:
        why = "no crystal was given"
    elif not report.n_read:
        why = f"none of {report.n_generated} crystals could be read"
        errors = {result.error for result in report.results if result.error}
    else:
        reasons = [
            f"{count} {ExclusionReason(reason).label}"
            for reason, count in report.left_out.items()
            if count
        ]
        why = f"none of {report.n_generated} crystals is eligible: {', '.join(reasons)}"
    lines = [f"novelty of {record.model}: there is nothing to check, {why}"]
    lines += [f"  {error}" for error in sorted(errors)[:3]]
    lines += ["  no baseline was written", "If that is right, say so with allow_empty=True."]
    return "\n".join(lines)


def counts_line(record: Record) -> str:
    """Counts of the verdicts in one line."""
    counts = ", ".join(f"{record.counts[verdict]} {verdict}" for verdict in _VERDICTS)
    return f"{record.eligible} of {record.generated} eligible: {counts}"


def watched_lines(watched: Iterable[dict[str, Any]]) -> list[str]:
    """Three lines for each share that became worse, one line for each other share."""
    lines = []
    for share in watched:
        name, before, after = share["share"], share["before"], share["after"]
        was, now = _percent(before), _percent(after)
        if share["status"] == Status.KEPT:
            lines.append(f"  {name:<12}{now} (was {was}): not worse")
            continue
        lines.append(f"  {name:<12}now {now} of {share['after_of']}")
        lines.append(f"  {'':<12}was {was} of {share['before_of']}")
        lines += [f"  {'':<12}{line}" for line in _judgement(share)]
    return lines


def _judgement(share: dict[str, Any]) -> list[str]:
    if share["change"] is None:
        return ["nothing is eligible any more" if share["before"] else "nothing was eligible"]
    change = points_interval(_interval(share["change"]), 1, unit=" points")
    tolerance = f"the tolerance of {100 * share['allowed']:.1f} ({share['tolerance']})"
    p = share["p_value"]
    shown = f"{p:.2g}" if p >= 1e-4 else "below 0.0001"
    chance = f"sampling noise ({share['test']}, p = {shown})"
    if share["status"] == Status.WITHIN_TOLERANCE:
        return [f"{change}", f"within {tolerance}"]
    if share["status"] == Status.WITHIN_NOISE:
        return [f"{change}", f"more than {tolerance}", f"but within {chance}"]
    return [f"{change}", f"more than {tolerance}", f"and more than {chance}"]


def changed_lines(comparison: Comparison) -> list[str]:
    """The crystals whose verdict changed, and why."""
    if not comparison.n_shared:
        return ["  other crystals than in the baseline: single crystals cannot be compared"]
    changes = comparison.changes
    if not changes:
        return [f"  none of the {comparison.n_shared} crystals in common changed its verdict"]
    whose = "its" if len(changes) == 1 else "their"
    lines = [
        f"  {len(changes)} of {comparison.n_shared} crystals in common changed {whose} verdict:"
    ]
    for change in changes[:MOST_CHANGED]:
        formula = f" {change.formula}" if change.formula else ""
        lines.append(f"    {change.id}{formula}: {change.before} -> {change.after}")
        lines.append(f"      was: {change.why_before}")
        lines.append(f"      now: {change.why_after}")
    if len(changes) > MOST_CHANGED:
        lines.append(f"    and {len(changes) - MOST_CHANGED} more (--novelty-report PATH has all)")
    return lines


def version_line(versions: Iterable[Mismatch]) -> str:
    """Libraries with other versions than those of the baseline."""
    return "other versions than the baseline's: " + ", ".join(
        f"{item.what} {item.before} -> {item.after}" for item in versions
    )


# The summary


def summary_table(records: Sequence[Record], width: int) -> list[tuple[str, str]]:
    """Lines of the table with their outcome; the first line is the header, without an outcome.

    Parameters
    ----------
    width : int
        Columns of the terminal; names are shortened if they do not fit.
    """
    table = _table(records, _VERDICTS)
    if max(len(line) for line, _ in table) > width:
        table = _table(records, _SHORT)
    return table


def _table(records: Sequence[Record], verdicts: Sequence[str]) -> list[tuple[str, str]]:
    header = ["model", *verdicts, "unmatched, %", "change, points", "time", ""]
    rows = [(header, "")]
    rows += [(_cells(record), record.outcome) for record in records]
    widths = [max(len(cells[column]) for cells, _ in rows) for column in range(len(header))]
    lines = []
    for cells, outcome in rows:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:-1], strict=True)]
        lines.append((("  ".join([*padded, cells[-1]])).rstrip(), outcome))
    return lines


def _cells(record: Record) -> list[str]:
    return [
        record.model,
        *(str(record.counts[verdict]) for verdict in _VERDICTS),
        percent_interval(_interval(record.shares.get("unmatched")), 1, 0, none="-"),
        _change(record),
        duration(record.seconds),
        record.outcome,
    ]


def _change(record: Record) -> str:
    """Change of the unmatched share if it is compared, else of the first compared share."""
    if record.unchanged:
        return "none"
    known = [share for share in record.watched if share["change"] is not None]
    known.sort(key=lambda share: share["share"] != "unmatched")
    if not known:
        return "-"
    name = known[0]["share"]
    words = "" if name == "unmatched" else f"{name} "
    return words + points_interval(_interval(known[0]["change"]))


def _percent(values: Sequence[float] | None) -> str:
    return percent_interval(_interval(values), unit=" %", none="unknown")


def _interval(values: Sequence[float] | None) -> Interval | None:
    return None if values is None else Interval(*values)
