"""The submissions in sections; a section contains only comparable submissions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.leaderboard.check import Checked, check_folder
from novelty_metric.leaderboard.ranking import novel_groups, rarefied_yield, significantly_better
from novelty_metric.leaderboard.submission import Submission
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class Entry(Checked):
    """One model in a section."""

    rank: int | None = None
    """1 + the models that are significantly better; None where it is not ranked."""
    better: tuple[str, ...] = ()
    """Their names."""
    unranked: str | None = None
    """Why there is no rank."""
    novel_yield: Interval | None = None
    """At the section's common number."""

    @property
    def is_null_model(self) -> bool:
        """True for a generator that needs no training."""
        return self.submission.null_model is not None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Models that were measured in the same way."""

    id: str
    """The same for the same measure."""
    demonstration: bool
    """Not against what the models were trained on: shown, never ranked."""
    selected: str | None
    """How the crystals were selected before they were published; then they are never ranked."""
    entries: tuple[Entry, ...]
    """Best rank first, then yield, then name."""
    common: int | None
    """Generated crystals at which yields are compared: the least that a model has."""
    null_models: tuple[Entry, ...] = ()
    """Null models that were measured alike, in this section or another."""

    @property
    def ranked(self) -> bool:
        """True if its models are ranked."""
        return not self.demonstration and self.selected is None

    @property
    def is_demonstration(self) -> bool:
        """True if it is shown among the demonstrations."""
        return self.demonstration and self.selected is None

    @property
    def of(self) -> NoveltyReport:
        """A report with the settings that the whole section shares."""
        return self.entries[0].report

    @property
    def hull(self) -> str:
        """The hull as text."""
        hull = self.of.context.hull
        name = str(hull.get("name", "none"))
        return "of the reference itself" if name == "reference" else name


def measure(submission: Submission) -> dict[str, Any]:
    """The settings that must be equal for two submissions in one section."""
    scored, context, selected = submission.scored, submission.context, submission.selected
    return {
        **({} if selected is None else {"selected": selected}),
        "demonstration": submission.demonstration,
        "crystals_hash": scored.reference.crystals_hash,
        "protocol": {key: value for key, value in scored.protocol.items() if key != "name"},
        "potential": context.potential and context.potential.key,
        "hull": context.compared_hull,
        "relax_samples": scored.relax_samples,
    }


def read_board(folder: Path) -> tuple[Section, ...]:
    """The sections of a folder's submissions.

    `InputError` if one of them does not pass the check.
    """
    found, problems = check_folder(folder)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}; `novelty-metric leaderboard check` shows all")
    return sections(found)


def sections(found: Sequence[Checked]) -> tuple[Section, ...]:
    """Sorting key: ranked sections, then demonstrations, then selected crystals; largest first."""
    groups: dict[str, list[Checked]] = {}
    for one in sorted(found, key=lambda one: one.name):
        text = json.dumps(measure(one.submission), sort_keys=True)
        groups.setdefault(hashlib.sha256(text.encode()).hexdigest()[:12], []).append(one)
    made = [_section(key, members) for key, members in groups.items()]
    made = [replace(section, null_models=_null_models(section, made)) for section in made]

    def place(section: Section) -> tuple[bool, bool, int, str]:
        selected = section.selected is not None
        return (selected, section.demonstration, -len(section.entries), section.id)

    return tuple(sorted(made, key=place))


def _null_models(section: Section, every: Sequence[Section]) -> tuple[Entry, ...]:
    """Null models of the sections measured in the same way, ranked or not."""

    def alike(other: Section) -> dict[str, Any]:
        return {**measure(other.entries[0].submission), "demonstration": None, "selected": None}

    return tuple(
        entry
        for other in every
        if alike(other) == alike(section)
        for entry in other.entries
        if entry.is_null_model
    )


def _section(key: str, members: Sequence[Checked]) -> Section:
    alike = members[0].submission
    section = Section(
        id=key, demonstration=alike.demonstration, selected=alike.selected, entries=(), common=None
    )
    totals: dict[str, int] = {}
    for one in members:
        # What is not ranked is shown per scored crystal, which nobody takes for a rank.
        given = one.submission.n_generated if section.ranked else one.submission.counts.rows
        if given is not None:
            totals[one.name] = given
    common = min(totals.values(), default=None)
    yields = {
        one.name: rarefied_yield(novel_groups(one.report), totals[one.name], common)
        for one in members
        if common is not None and one.name in totals
    }
    better: Mapping[str, tuple[str, ...]] = {}
    if section.ranked:
        better = significantly_better(
            {name: (found.value, totals[name]) for name, found in yields.items()}
        )
    entries = [
        Entry(
            **vars(one),
            rank=1 + len(better[one.name]) if one.name in better else None,
            better=better.get(one.name, ()),
            unranked=_unranked(one.submission),
            novel_yield=yields.get(one.name),
        )
        for one in members
    ]

    def place(entry: Entry) -> tuple[float, float, str]:
        share = -1.0 if entry.novel_yield is None else entry.novel_yield.value
        return (float("inf") if entry.rank is None else entry.rank, -share, entry.name)

    return replace(section, entries=tuple(sorted(entries, key=place)), common=common)


def _unranked(submission: Submission) -> str | None:
    if submission.selected is not None:
        return "selected before they were published"
    if submission.demonstration:
        return "demonstration: not scored against its training set"
    if submission.samples.generated is None:
        return "the number of generated crystals is not known"
    if submission.n_generated is None:
        return "a part of a filtered file does not give the number of generated crystals"
    return None
