"""Figures of reports; this is the room that draws.

`FIGURES` lists them, each with a title and what it shows; `draw_figures` makes all that a report,
and its reference if there is one, allow. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError, near_or_known

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from novelty_metric.reference import Reference
    from novelty_metric.report.novelty_report import NoveltyReport


class Needs(StrEnum):
    """The data that a figure needs: the only argument of its function."""

    REPORT = "report"
    COVERAGE = "coverage"
    """`novelty_metric.analysis.prototype_coverage(report, reference)`."""
    FINGERPRINTS = "fingerprints"
    """`novelty_metric.analysis.fingerprint_analysis(report, reference)`."""


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """One kind of figure.

    Attributes
    ----------
    name : str
        Of the function and of files.
    title : str
    shows : str
        What it shows, in one sentence.
    module : str
        Of `novelty_metric.figures`, where the function is.
    needs : Needs
    """

    name: str
    title: str
    shows: str
    module: str
    needs: Needs = Needs.REPORT

    def draw(self, source: Any) -> Figure:
        """The figure of a report, a `Coverage` or `Fingerprints`, according to `needs`."""
        module = importlib.import_module(f"novelty_metric.figures.{self.module}")
        figure: Figure = getattr(module, self.name)(source)
        return figure


FIGURES: tuple[FigureSpec, ...] = (
    FigureSpec(
        "novelty_ratio",
        "Beside real crystals",
        "The novelty divided by that of real crystals that the reference lacks, with its 95 % "
        "interval. At 1 the crystals are unmatched as often as real crystals. The diamond takes "
        "the crystal systems into account.",
        "ratios",
    ),
    FigureSpec(
        "verdict_flow",
        "From generated to verdict",
        "The generated crystals, divided into eligible crystals and the reasons of the others, "
        "and the verdicts of the eligible crystals with 95 % intervals.",
        "flow",
    ),
    FigureSpec(
        "verdicts_by_crystal_system",
        "Verdicts by crystal system",
        "The share of each verdict among the eligible crystals of a crystal system, with "
        "counts. Dot and line show the share of the unmatched with its 95 % interval.",
        "breakdowns",
    ),
    FigureSpec(
        "verdicts_by_space_group",
        "Verdicts by space group",
        "The same for the 15 space groups with the most eligible crystals.",
        "breakdowns",
    ),
    FigureSpec(
        "verdicts_by_n_elements",
        "Verdicts by number of elements",
        "The same by number of elements.",
        "breakdowns",
    ),
    FigureSpec(
        "verdicts_by_n_sites",
        "Verdicts by size of cell",
        "The same by number of sites in the given cell.",
        "breakdowns",
    ),
    FigureSpec(
        "kinds_of_substituted",
        "How substituted crystals were found",
        "Substituted crystals by the routes that have a confirmed parent: lattice and sites, "
        "Wyckoff positions, or both. Only runs with exhaustive=true contain this information.",
        "breakdowns",
    ),
    FigureSpec(
        "novelty_by_property",
        "Novelty against stability, size and number of elements",
        "The share of the unmatched with its 95 % interval, and above it the number of eligible "
        "crystals, by energy above hull, size of cell and number of elements.",
        "breakdowns",
    ),
    FigureSpec(
        "substitution_matrix",
        "Which element replaces which",
        "Substituted crystals by pair of elements, in the parent and in the generated crystal, "
        "in the order of the modified Pettifor numbers, so similar elements are near the "
        "diagonal.",
        "substitutions",
    ),
    FigureSpec(
        "substitution_table",
        "Replaced and replacing elements",
        "How often each element is replaced in a confirmed parent, and how often each element "
        "is the replacement.",
        "substitutions",
    ),
    FigureSpec(
        "cost_and_volume",
        "Cost and volume change by crystal system",
        "The cost of the parent in each row, and the change of volume of the confirmed parents "
        "that were relaxed to convergence. Lines are medians.",
        "substitutions",
    ),
    FigureSpec(
        "prototype_overlap",
        "Possible, known and found prototypes",
        "Numbers of prototypes (space group and occupied Wyckoff positions): possible ones, "
        "those of the reference only, of both, and of the samples only.",
        "prototypes",
        Needs.COVERAGE,
    ),
    FigureSpec(
        "prototype_coverage_by_system",
        "Prototypes by crystal system",
        "Possible prototypes of each crystal system, and those of the reference and the "
        "samples, on a logarithmic scale.",
        "prototypes",
        Needs.COVERAGE,
    ),
    FigureSpec(
        "fingerprint_map",
        "Map of fingerprints",
        "The eligible samples on the density of the reference, in the first two principal "
        "components of the reference's AMD fingerprints.",
        "fingerprints",
        Needs.FINGERPRINTS,
    ),
    FigureSpec(
        "density_by_verdict",
        "Density of the reference around the samples",
        "Cumulative shares of the distance to the tenth nearest reference crystal in "
        "fingerprint space. A curve to the left of the reference's own curve means denser "
        "regions than by chance.",
        "fingerprints",
        Needs.FINGERPRINTS,
    ),
    FigureSpec(
        "interpolation_and_memorisation",
        "Interpolation and memorisation",
        "The probability that a sample is in a denser region than a random reference crystal of "
        "its symmetry, with its 95 % interval. Unmatched crystals above one half interpolate; "
        "duplicates below it were memorised.",
        "fingerprints",
        Needs.FINGERPRINTS,
    ),
)
"""All figures of a report, in reading order."""


def draw_figures(
    report: NoveltyReport,
    reference: Reference | None = None,
    *,
    reference_amd: NDArray[Any] | None = None,
) -> Iterator[tuple[FigureSpec, Figure]]:
    """All figures of a report, one after the other.

    Parameters
    ----------
    report : NoveltyReport
        With its crystals (fresh, or ``NoveltyReport.load(folder, structures=True)``) where a
        reference is given.
    reference : Reference, optional
        Without it, the figures of prototypes and fingerprints are left out.
    reference_amd : float64, (n_reference, k), optional
        See `novelty_metric.analysis.fingerprint_analysis`.

    Raises
    ------
    InputError
        If there is a reference and the report does not hold its crystals.
    """
    sources = Sources(report, reference, reference_amd=reference_amd)
    for spec in FIGURES:
        if spec.needs is Needs.REPORT or reference is not None:
            yield spec, spec.draw(sources.of(spec))


def draw_figure(report: NoveltyReport, name: str, reference: Reference | None = None) -> Figure:
    """One figure of a report for a notebook; see `NoveltyReport.figure`."""
    known = {spec.name: spec for spec in FIGURES}
    if name not in known:
        raise InputError(f"no figure named {name!r}; {near_or_known(name, known)}")
    figure = known[name].draw(Sources(report, reference).of(known[name]))
    from novelty_metric.figures.style import to_png

    # Notebooks know the figures of pyplot alone, which keeps every one of them open.
    figure._repr_png_ = functools.partial(to_png, figure, dpi=120)  # type: ignore[attr-defined]
    return figure


class Sources:
    """The data from which the figures of a report are drawn, each made once, on first use.

    `folder` is where the report was saved, if it holds no crystals.
    """

    def __init__(
        self,
        report: NoveltyReport,
        reference: Reference | None,
        *,
        folder: Path | None = None,
        reference_amd: NDArray[Any] | None = None,
    ) -> None:
        self.report = report
        self.reference = reference
        self._folder = folder
        self._amd = reference_amd

    def of(self, spec: FigureSpec) -> Any:
        """The data of a figure; `InputError` if the reference or the crystals are missing."""
        if spec.needs is Needs.REPORT:
            return self.report
        if self.reference is None:
            raise InputError(f"the figure {spec.name} needs reference=: the reference of the run")
        return self._coverage if spec.needs is Needs.COVERAGE else self._fingerprints

    @functools.cached_property
    def _with_crystals(self) -> NoveltyReport:
        from novelty_metric.report.files import with_structures

        return self.report if self._folder is None else with_structures(self.report, self._folder)

    @functools.cached_property
    def _coverage(self) -> Any:
        from novelty_metric.analysis import prototype_coverage

        assert self.reference is not None
        return prototype_coverage(self._with_crystals, self.reference)

    @functools.cached_property
    def _fingerprints(self) -> Any:
        from novelty_metric.analysis import fingerprint_analysis

        assert self.reference is not None
        known = self._amd if self._amd is not None else _fingerprints_of(self.reference)
        return fingerprint_analysis(self._with_crystals, self.reference, reference_amd=known)


@functools.lru_cache(maxsize=1)
def _fingerprints_of(reference: Reference) -> NDArray[Any]:
    """Those of the reference, once for several runs: tens of thousands take a minute."""
    from novelty_metric.analysis import reference_fingerprints

    return reference_fingerprints(reference)
