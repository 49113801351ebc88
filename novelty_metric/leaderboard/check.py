"""Checks of a submission that need no scoring."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.leaderboard.calibrations import FOLDER as CALIBRATIONS
from novelty_metric.leaderboard.calibrations import file_of, read_calibration
from novelty_metric.leaderboard.crystals import FOLDER as CRYSTALS
from novelty_metric.leaderboard.crystals import MAX_BYTES as MAX_CRYSTALS_BYTES
from novelty_metric.leaderboard.crystals import ShownCrystal, read_crystals
from novelty_metric.leaderboard.files import MAX_TABLE_BYTES, read_inside, verdict_rows
from novelty_metric.leaderboard.submission import (
    FOLDER,
    MAX_BYTES,
    SLUG,
    Counts,
    CrystalsFile,
    Submission,
    VerdictFile,
    parse,
    plain,
)
from novelty_metric.report.novelty_report import NoveltyReport

MAX_SUBMISSIONS = 1000


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A valid submission, with the content of its files."""

    name: str
    """Of its files."""
    submission: Submission
    report: NoveltyReport
    crystals: Mapping[int, ShownCrystal] = field(default_factory=dict)
    """The unmatched crystals that it shows, by their rows."""


def check_folder(
    folder: Path, names: tuple[str, ...] = ()
) -> tuple[tuple[Checked, ...], tuple[str, ...]]:
    """Check the submissions of a folder, or the named ones.

    Returns the valid ones, by name, and a line for each thing that is wrong. `InputError` if there
    is no such folder or submission.
    """
    inside = folder / FOLDER
    if not inside.is_dir():
        raise InputError(f"{folder} is not a leaderboard: it has no folder {FOLDER}/")
    files = sorted(path.name for path in inside.iterdir() if not path.name.startswith("."))
    if len(files) > MAX_SUBMISSIONS:
        raise InputError(
            f"{inside} contains {len(files)} files; at most {MAX_SUBMISSIONS} are read"
        )
    for name in names:
        if f"{name}.yaml" not in files:
            raise InputError(f"no submission is named {name!r} in {inside}")
    found: list[Checked] = []
    problems: list[str] = []
    for file in files:
        if names and file.removesuffix(".yaml") not in names:
            continue
        if not re.fullmatch(rf"{SLUG}\.yaml", file):
            problems.append(f"{FOLDER}/{file}: submissions are named NAME.yaml, in small letters")
            continue
        try:
            found.append(check_one(folder, file.removesuffix(".yaml")))
        except InputError as error:
            problems.append(f"{FOLDER}/{file}: {error}")
    if not names:
        problems += _of_one_name(found)
        if not problems:
            problems += _named_by_none(folder, found)
    return tuple(found), tuple(problems)


def check_one(folder: Path, name: str) -> Checked:
    """Check a submission with its files: schema, hashes, and counts that follow from its verdicts.

    Raises
    ------
    InputError
        In one line, for the first thing that is wrong.
    """
    content = read_inside(folder, f"{FOLDER}/{name}.yaml", most=MAX_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("it is not UTF-8 text") from error
    submission = parse(text)
    table = submission.verdicts
    data = _own_file(folder, table, f"verdicts/{name}.parquet", MAX_TABLE_BYTES)
    try:
        rows = verdict_rows(data, table.unreadable)
    except InputError as error:
        raise InputError(f"{table.file}: {error}") from error
    report = submission.report(rows, read_calibration(folder, submission.context))
    _counts_follow(submission.counts, Counts.follow(report))
    if any(row >= len(rows) for row in table.unreadable):
        raise InputError(f"verdicts.unreadable names rows that {table.file} does not have")
    shown: Mapping[int, ShownCrystal] = {}
    if submission.crystals is not None:
        own = f"{CRYSTALS}/{name}.json"
        data = _own_file(folder, submission.crystals, own, MAX_CRYSTALS_BYTES)
        try:
            shown = read_crystals(data, report)
        except InputError as error:
            raise InputError(f"{own}: {error}") from error
    return Checked(name=name, submission=submission, report=report, crystals=shown)


def _own_file(folder: Path, pinning: VerdictFile | CrystalsFile, own: str, most: int) -> bytes:
    """The content of a file of a submission, which has its name and the pinned SHA-256."""
    if pinning.file != own:
        raise InputError(f"it names the file {pinning.file}; expected is {own}")
    content = read_inside(folder, own, most=most)
    found = hashlib.sha256(content).hexdigest()
    if found != pinning.sha256:
        raise InputError(
            f"{own} was changed: its SHA-256 is {found[:12]}…, the submission says "
            f"{pinning.sha256[:12]}…"
        )
    return content


def _counts_follow(given: Counts, follow: Counts) -> None:
    for item in fields(Counts):
        ours, theirs = plain(getattr(follow, item.name)), plain(getattr(given, item.name))
        name = f"counts.{item.name}"
        if isinstance(ours, dict) and isinstance(theirs, dict) and ours != theirs:
            key = next(key for key in ours if ours[key] != theirs[key])
            name, ours, theirs = f"{name}.{key}", ours[key], theirs[key]
        if ours != theirs:
            raise InputError(
                f"{name} is {theirs}, but the table of verdicts has {ours}; `leaderboard add` "
                "writes the counts"
            )


def _of_one_name(found: list[Checked]) -> Iterator[str]:
    """Check that the name of a training set means the same crystals everywhere."""
    first: dict[str, Checked] = {}
    for one in found:
        trained = one.submission.training_set
        if trained.crystals_hash is None:
            continue
        before = first.setdefault(trained.name, one)
        if before.submission.training_set.crystals_hash != trained.crystals_hash:
            yield (
                f"{FOLDER}/{one.name}.yaml: training_set.crystals_hash of {trained.name} is not "
                f"that of {before.name}: two sets under one name"
            )


def _named_by_none(folder: Path, found: list[Checked]) -> Iterator[str]:
    named = {one.submission.verdicts.file for one in found}
    named |= {one.submission.crystals.file for one in found if one.submission.crystals}
    inside = [path for place in ("verdicts", CRYSTALS) for path in (folder / place).rglob("*")]
    for path in sorted(inside):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in named and path.name != ".gitkeep":
            yield f"{name}: no submission names this file; remove it"
    settings = {file_of(one.submission.context) for one in found}
    for path in sorted((folder / CALIBRATIONS).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in settings:
            yield f"{name}: no submission is measured with these settings; remove it"
