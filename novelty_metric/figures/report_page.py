"""One self-contained page for a run, or for several runs side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from novelty_metric.comparison.compare import context_mismatches
from novelty_metric.comparison.pairwise import pairwise
from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.errors import InputError
from novelty_metric.figures import FIGURES, FigureSpec, Needs, Sources
from novelty_metric.figures.bars import verdict_bars
from novelty_metric.figures.cards import VERDICT_ORDER, Card, cards_of
from novelty_metric.figures.page import LARGEST_SVG, page_source, render, save_picture
from novelty_metric.figures.ratios import novelty_ratios
from novelty_metric.figures.style import COLUMN
from novelty_metric.report.breakdown import UNKNOWN, Group
from novelty_metric.report.crystal_viewer import viewer_script
from novelty_metric.report.exclusion import ExclusionReason
from novelty_metric.report.explanation import hull_label
from novelty_metric.report.graded import crystal_score
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Bounds, Estimate, Interval
from novelty_metric.support.text import percent_interval, percent_range
from novelty_metric.terminal.calibration import in_short
from novelty_metric.terminal.headline import by_chance_line
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from novelty_metric.reference import Reference

MOST_UNMATCHED = 100
"""Maximum number of unmatched crystals in the list of a run."""
MOST_CRYSTALS = 500
"""Default number of crystals with a card, over all runs; a card takes a kilobyte or two."""
MOST_RUNS_DRAWN = 6
"""Maximum number of runs for which all kinds of figures are on the page."""
MOST_SVG = 4_000_000
"""Total size of the page's vector graphics (bytes)."""
MOST_RUNS_PAIRED = 10
"""Maximum number of runs compared in pairs; more runs are each compared with the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A report with its name on the page.

    Attributes
    ----------
    name : str
    report : NoveltyReport
    folder : path or None
        Where it was saved, for the crystals; None: none are drawn.
    reference : Reference or None
        What it was scored against, for the pictures that need it.
    """

    name: str
    report: NoveltyReport
    folder: Path | None = None
    reference: Reference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A picture: its run, source, description, and files by kind.

    A wide one is made for both columns of a page.
    """

    run: str
    source: str
    wide: bool
    alt: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Figures of one kind with their description, and the reasons for missing ones."""

    key: str
    title: str
    about: str
    drawn: tuple[Drawn, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """A proportion for each run, with its bounds from unfinished work.

    `at_most` says for each run whether only the greater bound tells something.
    """

    name: str
    shares: tuple[Interval | None, ...]
    bounds: tuple[Bounds | None, ...]
    at_most: tuple[bool, ...]


def report_page(
    runs: Sequence[Run],
    *,
    n_crystals: int = MOST_CRYSTALS,
    figures: Path | None = None,
    out: Path | None = None,
) -> str:
    """The page as HTML.

    Parameters
    ----------
    runs : sequence of Run
        One run, or several runs with different names.
    n_crystals : int
        Number of crystals with a card, over all runs.
    figures : path, optional
        Folder to which the pictures are also written, as PNG and SVG for papers.
    out : path, optional
        Path of the page, so that it can link to these files.

    Raises
    ------
    InputError
        If the crystals of a run can't be read, or `figures` can't be written.
    ValueError
        If there is no run, or two have the same name.
    """
    reports = {run.name: run.report for run in runs}
    if not runs or len(reports) < len(runs):
        raise ValueError("a page needs one run or more, each with its own name")
    n_pictures = min(len(runs), MOST_RUNS_DRAWN) * len(FIGURES)
    files = _Files(figures, out, min(LARGEST_SVG, MOST_SVG // n_pictures))
    crystals = _crystals(runs, n_crystals)
    counts = "; ".join(f"{name}: {_counts(report)}" for name, report in reports.items())
    alt = f"Shares of the verdicts among the eligible crystals. {counts}"
    return render(
        "report.html.jinja",
        runs=runs,
        title=f"Novelty of {runs[0].name if len(runs) == 1 else f'{len(runs)} runs'}",
        verdicts=[verdict.value for verdict in Verdict],
        mismatches=_mismatches(runs),
        verdicts_picture=files.drawn(verdict_bars(reports), run="", key="verdicts", alt=alt)
        if len(runs) > 1
        else None,
        ratios_picture=_ratios(reports, files),
        sections=list(_sections(runs[:MOST_RUNS_DRAWN], files)),
        all_drawn=len(runs) <= MOST_RUNS_DRAWN,
        pairs=pairwise(reports, against=runs[0].name if len(runs) > MOST_RUNS_PAIRED else None),
        all_paired=len(runs) <= MOST_RUNS_PAIRED,
        systems=_systems(list(reports.values())),
        figure_rows=_figure_rows(list(reports.values())),
        left_out=[
            (reason.label, [report.left_out[reason.value] for report in reports.values()])
            for reason in ExclusionReason
            if any(report.left_out[reason.value] for report in reports.values())
        ],
        unmatched={name: _unmatched(report) for name, report in reports.items()},
        most_unmatched=MOST_UNMATCHED,
        cards=crystals,
        address={(card.run, card.row.id): card.anchor for card in crystals},
        n_read=sum(run.report.n_read for run in runs),
        verdict_order=VERDICT_ORDER,
        viewer_script=viewer_script(),
        figures_folder=figures,
        facts={name: _facts(report) for name, report in reports.items()},
        hull_label=hull_label,
        by_chance_line=by_chance_line,
        in_short=in_short,
        share_text=partial(percent_interval, dash="–", none="–"),
        estimate_text=estimate_text,
        bounds_text=partial(percent_range, dash="–", none="–"),
        p_text=p_text,
    )


# Words


def estimate_text(mean: Estimate | None, digits: int = 3) -> str:
    """A mean with its 95 % interval; a dash if there is none."""
    if mean is None:
        return "–"
    value = f"{mean.value:.{digits}f}"
    if mean.low is None or mean.high is None:
        return value
    return f"{value} [{mean.low:.{digits}f}–{mean.high:.{digits}f}]"


def p_text(value: float | None) -> str:
    """A p-value; small ones are all shown as one limit."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def _mismatches(runs: Sequence[Run]) -> list[str]:
    """Settings that differ between a run and the first run, so that their figures are not
    comparable.
    """
    first = runs[0]
    return [
        f"{mismatch.what}: {mismatch.before} for {first.name}, {mismatch.after} for {other.name}"
        for other in runs[1:]
        for mismatch in context_mismatches(first.report.context, other.report.context)
    ]


# Tables


def _figure_rows(reports: Sequence[NoveltyReport]) -> list[FigureRow]:
    """The headlines and the measures of earlier papers; rows that no run has are left out."""
    thresholds = {report.quality.stable_threshold for report in reports}
    stable = f"stable (≤ {thresholds.pop():g} eV/atom)" if len(thresholds) == 1 else "stable"
    bounds: dict[str, Callable[[NoveltyReport], Bounds | None]] = {
        "novelty, of the eligible": lambda one: one.novelty_bounds,
        "novel yield": lambda one: one.novel_yield_bounds,
        "stable, unique, novel": lambda one: one.quality.sun_bounds,
        "unmatched under both potentials": lambda one: getattr(
            one.second_potential, "bounds", None
        ),
    }
    shares: dict[str, Callable[[NoveltyReport], Interval | None]] = {
        "novelty, of the eligible": lambda one: one.novelty_interval,
        "novelty, without suspect energies": lambda one: (
            one.novelty_without_suspect if one.n_energy_suspect else None
        ),
        "novel yield": lambda one: one.novel_yield_interval,
        "valid: structure": lambda one: one.quality.structurally_valid,
        "valid: composition (SMACT)": lambda one: one.quality.smact_valid,
        "valid: both": lambda one: one.quality.valid,
        stable: lambda one: one.quality.stable,
        "unique": lambda one: one.quality.unique,
        "novel by plain matching": lambda one: one.quality.novel,
        "stable, unique, novel": lambda one: one.quality.sun,
        "the same, on the hull": lambda one: one.quality.sun_on_hull,
        "new prototypes, of the valid": lambda one: one.new_prototypes.share,
        "metastable, of the new prototypes": lambda one: one.new_prototypes.metastable_share,
        "unmatched under both potentials": lambda one: getattr(
            one.second_potential, "unmatched", None
        ),
        "crystals of the test set rediscovered": lambda one: getattr(
            one.rediscovery, "share", None
        ),
    }
    found = [
        FigureRow(
            name=name,
            shares=tuple(map(share, reports)),
            bounds=tuple(bounds[name](one) if name in bounds else None for one in reports),
            at_most=tuple(report.novelty_is_bound for report in reports),
        )
        for name, share in shares.items()
    ]
    return [row for row in found if any(share is not None for share in row.shares)]


def _systems(reports: Sequence[NoveltyReport]) -> dict[str | int, list[Group | None]]:
    """The crystal systems of all reports, with the group of each report."""
    groups = [report.breakdown("crystal_system") for report in reports]
    order = [*CRYSTAL_SYSTEMS, UNKNOWN]
    return {
        name: [found.get(name) for found in groups]
        for name in order
        if any(name in found for found in groups)
    }


def _unmatched(report: NoveltyReport) -> list[CrystalResult]:
    """The eligible unmatched crystals; the farthest from any parent first."""
    rows = [row for row in report.eligible if row.verdict is Verdict.UNMATCHED]
    return sorted(rows, key=lambda row: -(crystal_score(row) or 0.0))


def _facts(report: NoveltyReport) -> list[tuple[str, str, bool]]:
    """Settings that decided the results: name, text, and whether it is a hash."""
    context = report.context
    potential, second = context.potential, context.second_potential
    seconds = sum(context.seconds.values())
    settings = context.protocol.to_dict()
    alone = (
        f"for {report.n_no_competing_compound:,} crystals, "
        f"{report.n_stable_no_competing_compound:,} of the {report.n_stable:,} stable ones"
    )
    facts = [
        ("reference", f"{context.reference_name}, {context.reference_size:,} crystals", False),
        ("its crystals", context.crystals_hash, True),
        ("its store", context.store_hash, True),
        ("protocol", context.protocol_text, False),
        ("settings", ", ".join(f"{name}={value}" for name, value in settings.items()), False),
        ("eligible", context.eligibility, False),
        ("potential", "none" if potential is None else potential.key, True),
        ("second potential", "" if second is None else second.key, True),
        ("hull", context.hull_text, False),
        ("no competing compound known", alone if report.n_no_competing_compound else "", False),
        ("searched", f"{context.scope}{', exhaustive' if context.exhaustive else ''}", False),
        ("samples relaxed", "here" if context.relax_samples else "before", False),
        ("generated", f"{report.n_generated:,}, of which {report.n_read:,} were read", False),
        ("versions", ", ".join(f"{name} {one}" for name, one in context.versions.items()), False),
        ("time", f"{seconds:,.0f} s" if seconds else "", False),
    ]
    return [fact for fact in facts if fact[1]]


# Pictures


@dataclass(frozen=True, slots=True)
class _Files:
    """The folder beside the page to which pictures are written, if there is one."""

    folder: Path | None
    page: Path | None
    largest: int

    def drawn(self, figure: Figure, *, run: str, key: str, alt: str) -> Drawn:
        """A figure for the page, also written to the folder."""
        links = {}
        if self.folder is not None:
            name = f"{run}-{key}" if run else key
            for path in save_picture(figure, self.folder, name):
                links[path.suffix.removeprefix(".").upper()] = self._link(path)
        source, wide = page_source(figure, self.largest), figure.get_figwidth() > 1.2 * COLUMN
        return Drawn(run=run, source=source, wide=wide, alt=alt, files=links)

    def _link(self, path: Path) -> str:
        start = Path.cwd() if self.page is None else self.page.resolve().parent
        try:
            relative = os.path.relpath(path.resolve(), start)
        except ValueError:  # another drive
            return path.resolve().as_uri()
        # A name with a colon would be taken for an address of that kind.
        return "./" + quote(Path(relative).as_posix())


def _ratios(reports: Mapping[str, NoveltyReport], files: _Files) -> Drawn | None:
    """The novelty ratios of the runs, compared with real crystals, for the top of the page."""
    besides = {name: report.beside_real_crystals for name, report in reports.items()}
    if not any(besides.values()):
        return None
    texts = [
        f"{name}: {beside.novelty_ratio.text}"
        for name, beside in besides.items()
        if beside is not None and beside.novelty_ratio is not None
    ]
    alt = f"Novelty ratio to real crystals, with 95 % intervals. {'; '.join(texts)}"
    return files.drawn(novelty_ratios(reports), run="", key="novelty_ratios", alt=alt)


def _sections(runs: Sequence[Run], files: _Files) -> Iterator[Section]:
    """The figures, kind by kind."""
    sources = [(run, Sources(run.report, run.reference, folder=run.folder)) for run in runs]
    for spec in FIGURES:
        if spec.name == "novelty_ratio":  # it is at the top, for all runs together
            continue
        drawn, missing = [], []
        for run, source in sources:
            reason = _missing(spec, run)
            try:
                data = None if reason else source.of(spec)
            except InputError:
                reason = "the run was saved without its crystals"
            if reason:
                missing.append(f"{run.name}: {reason}" if len(runs) > 1 else reason)
                continue
            alt = f"{spec.title}, {run.name}: {_counts(run.report)}"
            drawn.append(files.drawn(spec.draw(data), run=run.name, key=spec.name, alt=alt))
        yield Section(
            key=spec.name,
            title=spec.title,
            about=spec.shows,
            drawn=tuple(drawn),
            missing=tuple(missing),
        )


def _missing(spec: FigureSpec, run: Run) -> str:
    """The reason why a run has no figure; empty if it can be drawn."""
    if spec.name == "kinds_of_substituted" and not run.report.breakdown("kind"):
        return "the kinds are known only for runs with exhaustive=true"
    if spec.needs is Needs.REPORT:
        return ""
    if not run.report.n_eligible:
        return "no crystal is eligible"
    if run.reference is None:
        name = run.report.context.reference_name
        return f"needs the reference ({name}): name it with reference=FILE"
    return ""


def _counts(report: NoveltyReport) -> str:
    if not report.n_eligible:
        return "none eligible"
    return ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items())


def _crystals(runs: Sequence[Run], count: int) -> list[Card]:
    """Crystals beside their parents, an equal number for each run."""
    return [
        card
        for place, run in enumerate(runs, start=1)
        if run.folder is not None
        for card in cards_of(
            run.report,
            run.folder,
            (count + len(runs) - place) // len(runs),
            run=run.name,
            prefix="crystal-" if len(runs) == 1 else f"crystal-{place}-",
        )
    ]
