"""Scores a submission's samples again, and compares every crystal with its table."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.leaderboard.check import Checked
from novelty_metric.leaderboard.crystals import foreign_parents, same_crystal
from novelty_metric.leaderboard.submission import Selection, Submission
from novelty_metric.relaxation.potentials import POTENTIALS, make_potential, relaxer_of
from novelty_metric.samples.base import Sample
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from novelty_metric.reference import Reference
    from novelty_metric.relaxation.potentials import Potential
    from novelty_metric.report.novelty_report import NoveltyReport

ENERGY_TOLERANCE = 0.01
"""Allowed energy difference (eV/atom); relaxations on another machine end slightly differently."""

_GIVEN = ("id", "formula", "n_sites", "smact_valid")
"""Fields that do not depend on a relaxation."""

_FOUND = ("converged", "eligible", "verdict")
_ENERGIES = ("energy_per_atom", "e_above_hull")
_HULLS = {
    "mp_20": "mp_20",
    "mp_20+reference": "auto",
    "reference": "reference",
    "none": "none",
    "matbench_discovery": "matbench_discovery",
}
"""Setting ``hull=`` for the name of a hull that anyone can make."""


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """The result of scoring again."""

    compared: int
    """Crystals."""
    problems: tuple[str, ...]
    """What is another measurement, another crystal, or other than a relaxation can explain."""
    otherwise: Mapping[int, str]
    """What came out otherwise for a crystal, where a relaxation has a part in it, by its row."""
    notes: tuple[str, ...]
    """Libraries of another version, which may explain a difference."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content. `InputError` if it can't be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error})") from error


def find_samples(folder: Path, submission: Submission) -> Path:
    """The file in a folder with the content of the submission's samples.

    `InputError` if there is no such file. Its name does not matter; its content must be identical.
    """
    if not folder.is_dir():
        raise InputError(f"--samples {folder}: no such folder")
    wanted = submission.samples
    like = None
    for root, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(root, file)
            if not path.is_file():
                continue
            # Only what has the right size is worth its hash.
            if path.stat().st_size == wanted.bytes and file_sha256(path) == wanted.sha256:
                return path
            like = path if file == wanted.file else like
    changed = f"; {like} has its name, but other content" if like is not None else ""
    raise InputError(
        f"no file below {folder} has the SHA-256 {wanted.sha256[:12]}… of {wanted.file}{changed}"
    )


def reading_settings(reader: str, format: str | None, column: str | None) -> dict[str, Any]:
    """The reading settings of ``model=``, as arguments of `read_samples`.

    `InputError` if there is no such reader.
    """
    from novelty_metric.settings.compose import choices, compose_config
    from novelty_metric.settings.score_settings import ModelSettings

    if reader not in choices("model"):
        raise InputError(f"samples.reader is {reader!r}; known: {', '.join(choices('model'))}")
    from omegaconf import OmegaConf

    composed = OmegaConf.to_container(
        compose_config([f"model={reader}", "reference=aflow"]), resolve=True
    )
    assert isinstance(composed, dict)
    model = ModelSettings.from_config(composed["model"])
    return {
        "format": format or model.format,
        "column": column,
        "columns": model.columns,
        "arrays": model.arrays,
    }


def recompute(
    checked: Checked,
    samples: Path | None,
    *,
    count: int | None = None,
    seed: int = 0,
    reference: str | Path | None = None,
    workers: int | None = None,
    device: str | None = None,
) -> Recomputed:
    """Score a submission's samples again, all or `count` drawn at random, and compare.

    Crystals that the page shows are added to the drawn ones. The file of the samples is looked for
    below the folder `samples` by its SHA-256; without a folder, a null model makes its samples
    again. `reference`, `workers` and `device` are as for `SubstitutionNovelty`; the reference is by
    default the one of the submission. `InputError` if the samples, the reference, the potential or
    the hull are not at hand.
    """
    submission, scored = checked.submission, checked.submission.scored
    path = None if samples is None else find_samples(samples, submission)
    if path is None and submission.null_model is None:
        raise InputError("scoring again needs --samples DIR, the folder of the sample files")
    reference = scored.reference.name if reference is None else reference
    _same_reference(reference, submission)
    relaxer, hull = _relaxer(submission, device), _hull(submission)

    from novelty_metric.support.quiet import quiet

    with quiet() as terminal:
        from novelty_metric.leaderboard.null_models import otherwise_made
        from novelty_metric.metric import SubstitutionNovelty
        from novelty_metric.reference.named import open_reference
        from novelty_metric.terminal.progress import Progress

        crystals = open_reference(reference)
        given, made = _samples(checked, path, crystals)
        places = list(range(len(given)))
        if count is not None and count < len(given):
            drawn = random.Random(seed).sample(places, count)
            places = sorted({*drawn, *checked.crystals})
        with (
            Progress(terminal) as progress,
            SubstitutionNovelty(
                reference,
                checked.report.context.protocol,
                relaxer=relaxer,
                hull=hull,
                scope=scored.scope,
                exhaustive=scored.exhaustive,
                relax_samples=scored.relax_samples,
                max_sites=scored.max_sites,
                leave_one_out=submission.leave_one_out,
                workers=workers,
                device=device,
                progress=progress,
            ) as metric,
        ):
            metric.update_samples([given[place] for place in places])
            again = metric.compute()
    problems = [
        *(otherwise_made(given, made, str(submission.null_model)) if made is not None else ()),
        *foreign_parents(checked.crystals, checked.report.results, crystals),
    ]
    return _compared(checked, again, places, problems)


def _samples(
    checked: Checked, path: Path | None, reference: Reference
) -> tuple[list[Sample], list[Sample] | None]:
    """The samples, one for each row of the table, and those that a null model makes again."""
    from novelty_metric.leaderboard.null_models import make_samples

    source, name = checked.submission.samples, checked.submission.null_model
    settings = reading_settings(source.reader, source.format, source.column)
    given = made = None
    with tempfile.TemporaryDirectory() as folder:
        if path is not None:
            # Ids may be made of the file's name, which here can be another.
            link = Path(folder, source.file)
            link.symlink_to(path.resolve())
            given = _selected(link, settings, source.selection)
            link.unlink()
        if name is not None:
            again = make_samples(name, reference, source, Path(folder))
            made = _selected(again, settings, source.selection)
    known, n_rows = made if given is None else given, len(checked.report.results)
    assert known is not None
    if len(known) != n_rows:
        raise InputError(
            f"{path or source.file} gives {len(known)} crystals, the table of verdicts has "
            f"{n_rows} rows"
        )
    return known, made


def _compared(
    checked: Checked, again: NoveltyReport, places: Sequence[int], problems: list[str]
) -> Recomputed:
    """Compare the rows at these places with the new report."""
    from novelty_metric.comparison.compare import context_mismatches

    rows, context = checked.report.results, checked.submission.context
    mismatches = context_mismatches(context, again.context)
    problems = [*(f"not the same measurement: {one}" for one in mismatches), *problems]
    otherwise: dict[int, str] = {}
    for place, now in zip(places, again.results, strict=True):
        before, shown = rows[place], checked.crystals.get(place)
        given, found = differences(before, now)
        if shown is not None and not same_crystal(shown, now):
            found.append("the crystal shown is not the relaxed one")
        where = f"crystal {place} ({before.id})"
        if given:
            problems.append(f"{where}: {', '.join(given)}")
        elif found:
            otherwise[place] = f"{where}: {', '.join(found)}"
    if len(places) == len(rows) and not otherwise:
        groups = [[row.duplicate_group for row in each] for each in (rows, again.results)]
        if _partition(groups[0]) != _partition(groups[1]):
            problems.append("other samples are equal to one another (duplicate_group)")
    return Recomputed(
        compared=len(places),
        problems=tuple(problems),
        otherwise=otherwise,
        notes=tuple(
            f"{name} was {old}, is {again.context.versions[name]}"
            for name, old in sorted(context.versions.items())
            if again.context.versions.get(name, old) != old
        ),
    )


def _selected(path: Path, settings: Mapping[str, Any], selection: Selection) -> list[Sample]:
    """The scored crystals of the file."""
    from novelty_metric.samples import read_samples

    if selection.rule != "random":
        return list(read_samples(path, **settings, limit=selection.count, seed=selection.seed))
    every = list(read_samples(path, **settings))
    assert selection.count is not None
    count = min(selection.count, len(every))
    rows = random.Random(selection.seed).sample(range(len(every)), count)
    return [every[row] for row in sorted(rows)]


def differences(before: CrystalResult, now: CrystalResult) -> tuple[list[str], list[str]]:
    """Relevant differences between two rows of one crystal.

    First those that no relaxation has a part in; then the others, which may be due to rounding.
    """
    given = []
    if before.readable != now.readable:
        given.append(f"readable was {before.readable}, is {now.readable}")
    given += _changes(_GIVEN, before, now)
    found = _changes(_FOUND, before, now)
    if before.new_prototype is not None:
        found += _changes(["new_prototype"], before, now)
    for name in _ENERGIES:
        old, new = getattr(before, name), getattr(now, name)
        if old is None or new is None:
            found += _changes([name], before, now)
        elif abs(old - new) > ENERGY_TOLERANCE:
            found.append(f"{name} was {old:.4f}, is {new:.4f} eV/atom")
    confirmed = (Verdict.DUPLICATE, Verdict.SUBSTITUTED)
    if before.verdict == now.verdict and before.verdict in confirmed:
        found += _changes(["parent_id"], before, now)
    return given, found


def _changes(names: Iterable[str], before: CrystalResult, now: CrystalResult) -> list[str]:
    """The fields of these names that differ, with both values."""
    found = []
    for name in names:
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            shown = ["empty" if value is None else value for value in (old, new)]
            found.append(f"{name} was {shown[0]}, is {shown[1]}")
    return found


def _same_reference(reference: str | Path, submission: Submission) -> None:
    """Refuse to score against other crystals than those of the submission."""
    from novelty_metric.reference.named import open_reference

    wanted = submission.scored.reference
    try:
        manifest = open_reference(reference).manifest
    except InputError as error:
        raise InputError(f"{error}; or name its file with --reference FILE") from error
    if manifest.crystals_hash != wanted.crystals_hash:
        raise InputError(
            f"the reference {manifest.name} has the crystals {manifest.crystals_hash[:12]}…, "
            f"scored was {wanted.name} with {wanted.crystals_hash[:12]}…: not the same training set"
        )


def _relaxer(submission: Submission, device: str | None) -> str | Potential:
    potential = submission.scored.potential
    if potential is None:
        return "none"
    found = relaxer_of(potential.name)
    if found is None:
        known = ", ".join(one.name for each in POTENTIALS.values() for one in each.models)
        raise InputError(
            f"the potential {potential.name!r} has no known name ({known}); it can't be scored "
            "again here"
        )
    key, model = found
    if model == POTENTIALS[key].models[0].setting:
        return key
    return make_potential(key, model=model, device=device)


def _hull(submission: Submission) -> str:
    own = submission.scored.hull.get("sample_energies")
    if own:
        raise InputError(
            f"the distances from the hull use the samples' own {own}, which are not part of the "
            "submission; it can't be recomputed"
        )
    name = str(submission.scored.hull.get("name", "none"))
    found = _HULLS.get(name)
    if found is None:
        raise InputError(
            f"the hull {name!r} has no known name ({', '.join(_HULLS)}); it can't be scored again "
            "here"
        )
    return found


def _partition(groups: Sequence[int | None]) -> set[tuple[int, ...]]:
    members: dict[object, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(("alone", place) if group is None else group, []).append(place)
    return {tuple(places) for places in members.values()}
