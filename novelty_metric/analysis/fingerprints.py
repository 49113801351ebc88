"""Position of the samples among the reference crystals, in the space of AMD fingerprints.

The distance of two crystals is the Chebyshev distance of their AMD, the largest difference of an
entry (Å). AMD is taken as it is, with its unit: it tells dense crystals from open ones too. The
*local radius* of a crystal is the distance to its m-th nearest reference crystal, and small where
the reference is dense; it is measured in fingerprint space, never in a projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from novelty_metric.analysis.amd import K, fingerprints_of, reference_fingerprints
from novelty_metric.analysis.analyzed import analyzed_crystals
from novelty_metric.errors import InputError
from novelty_metric.support.statistics import Estimate
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from novelty_metric.reference import Reference
    from novelty_metric.report.novelty_report import NoveltyReport

NEIGHBOURS = 10
"""The neighbour number m of the local radius."""

FIRST_OF_HIGH_SYMMETRY = 75
"""First space group of high symmetry (tetragonal to cubic)."""


@dataclass(frozen=True, slots=True)
class Density:
    """Density of the reference around some samples, compared with chance.

    Attributes
    ----------
    symmetry : str
        ``high`` (tetragonal to cubic), ``low`` or ``all``.
    verdict : Verdict
    n : int
        Samples.
    n_reference : int
        Reference crystals of that symmetry.
    denser : Estimate or None
        Chance that a sample has more reference crystals around it (a smaller local radius) than a
        random reference crystal of the same symmetry, with its 95 % interval: 0.5 by chance, above
        it in dense regions, below it in sparse ones. None of nothing.
    """

    symmetry: str
    verdict: Verdict
    n: int
    n_reference: int
    denser: Estimate | None


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Fingerprints of the eligible samples and of the reference, for M samples and R crystals.

    Attributes
    ----------
    ids : tuple of str, (M,)
    verdicts : tuple of Verdict, (M,)
    space_groups : tuple of int, (M,)
        0 if unknown.
    samples : float64, (M, k)
        AMD (Å).
    nearest_ids : tuple of str, (M,)
        The nearest reference crystal.
    nearest : float64, (M,)
        Distance to it (Å).
    radii : float64, (M,)
        Local radius (Å). The reference crystal that a duplicate is a copy of does not count, as a
        reference crystal does not count for itself.
    reference : float64, (R, k)
    reference_radii : float64, (R,)
    reference_space_groups : int16, (R,)
    neighbours : int
        m of the local radius, less where the reference is smaller.
    """

    ids: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    space_groups: tuple[int, ...]
    samples: NDArray[np.float64]
    nearest_ids: tuple[str, ...]
    nearest: NDArray[np.float64]
    radii: NDArray[np.float64]
    reference: NDArray[np.float64]
    reference_radii: NDArray[np.float64]
    reference_space_groups: NDArray[np.int16]
    neighbours: int

    def frame(self) -> pd.DataFrame:
        """A row per eligible sample.

        Columns: ``id``, ``verdict``, ``space_group``, ``nearest_id``, ``nearest_distance`` (Å),
        ``local_radius`` (Å), ``denser`` (share of reference crystals with a larger local radius).
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "id": self.ids,
                "verdict": [verdict.value for verdict in self.verdicts],
                "space_group": self.space_groups,
                "nearest_id": self.nearest_ids,
                "nearest_distance": self.nearest,
                "local_radius": self.radii,
                "denser": _placements(self.radii, self.reference_radii),
            }
        )

    def density(self, verdict: Verdict, symmetry: str = "all") -> Density:
        """Test whether samples of a verdict lie in denser regions of the reference than by chance.

        Parameters
        ----------
        verdict : Verdict
        symmetry : str
            ``high``, ``low`` or ``all``; samples are compared with reference crystals of the same
            symmetry.

        Raises
        ------
        ValueError
            If `symmetry` is not one of these.
        """
        groups = np.array(self.space_groups, dtype=np.int64)
        ours = is_of_symmetry(groups, symmetry) & np.array(
            [v == verdict for v in self.verdicts], dtype=bool
        )
        theirs = is_of_symmetry(self.reference_space_groups, symmetry)
        radii, chance = self.radii[ours], self.reference_radii[theirs]
        return Density(symmetry, verdict, len(radii), len(chance), denser_than(radii, chance))

    def density_frame(self) -> pd.DataFrame:
        """`density` of each verdict, for all, high and low symmetry.

        Columns: ``symmetry``, ``verdict``, ``n``, ``n_reference``, ``denser``, ``low``, ``high``
        (95 % interval).
        """
        import pandas as pd

        rows = []
        for symmetry in ("all", "high", "low"):
            for verdict in Verdict:
                found = self.density(verdict, symmetry)
                share = found.denser or Estimate(np.nan, None, None)
                limits = (share.value, share.low, share.high)
                rows.append((symmetry, verdict.value, found.n, found.n_reference, *limits))
        columns = ["symmetry", "verdict", "n", "n_reference", "denser", "low", "high"]
        numbers = dict.fromkeys(("denser", "low", "high"), "float64")
        return pd.DataFrame(rows, columns=columns).astype(numbers)

    def project(
        self, method: Literal["pca", "umap"] = "pca"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Two coordinates for a plot: of the reference, (R, 2), and of the samples, (M, 2).

        Parameters
        ----------
        method : str
            ``pca``: the two directions of greatest variance of the reference (Å). ``umap``: of
            `umap-learn`, the extra ``umap``, fitted to the reference.

        Raises
        ------
        InputError
            If `umap-learn` is not installed.
        ValueError
            If there is no such method.
        """
        if method == "umap":
            try:
                import umap
            except ImportError as error:
                raise InputError(
                    'UMAP is not installed; pip install "novelty-metric[umap]", or use "pca"'
                ) from error
            fitted = umap.UMAP(metric="chebyshev", random_state=0).fit(self.reference)
            ours = fitted.transform(self.samples) if len(self.samples) else np.empty((0, 2))
            return np.asarray(fitted.embedding_, dtype=np.float64), np.asarray(ours, np.float64)
        if method != "pca":
            raise ValueError(f"no projection {method!r}; known: pca, umap")
        centre = self.reference.mean(axis=0)
        moved = self.reference - centre
        axes = np.linalg.eigh(moved.T @ moved)[1][:, :-3:-1]
        # A direction has two signs: the one along which AMD grows is taken.
        axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)
        return moved @ axes, (self.samples - centre) @ axes


def fingerprint_analysis(
    report: NoveltyReport,
    reference: Reference,
    *,
    k: int = K,
    neighbours: int = NEIGHBOURS,
    reference_amd: NDArray[np.float64] | None = None,
) -> Fingerprints:
    """Fingerprints, nearest reference crystals and local radii of the eligible samples.

    Parameters
    ----------
    report : NoveltyReport
        With its crystals: fresh, or read with ``NoveltyReport.load(folder, structures=True)``.
    reference : Reference
    k : int
        Entries of a fingerprint.
    neighbours : int
        m of the local radius.
    reference_amd : float64, (n_reference, k), optional
        From `reference_fingerprints`, to take it once for several reports.

    Raises
    ------
    InputError
        If there are eligible crystals, and the report holds none.
    """
    from scipy.spatial import cKDTree

    crystals = analyzed_crystals(report)
    fingerprints = reference_fingerprints(reference, k) if reference_amd is None else reference_amd
    tree = cKDTree(fingerprints)
    samples = fingerprints_of((record for _, record in crystals), k)
    m = max(1, min(neighbours, len(fingerprints) - 1))
    # One more than m, as one is left out: of a reference crystal itself, at no distance.
    nearest = np.arange(1, min(m + 1, len(fingerprints)) + 1)
    distances, positions = tree.query(samples, k=nearest, p=np.inf)
    reference_radii = tree.query(fingerprints, k=nearest, p=np.inf)[0][:, -1]
    radii = np.empty(len(samples))
    for row, (result, _) in enumerate(crystals):
        kept = np.ones(distances.shape[1], dtype=bool)
        if result.verdict == Verdict.DUPLICATE and distances.shape[1] > 1:
            copied = [reference.ids[i] == result.parent_id for i in positions[row]]
            # A parent that is farther than m others changes nothing.
            kept[np.argmax(copied) if any(copied) else -1] = False
        radii[row] = distances[row][kept][: min(m, kept.sum())][-1]
    return Fingerprints(
        ids=tuple(result.id for result, _ in crystals),
        verdicts=tuple(result.verdict for result, _ in crystals if result.verdict is not None),
        space_groups=tuple(result.space_group or 0 for result, _ in crystals),
        samples=samples,
        nearest_ids=tuple(reference.ids[i] for i in positions[:, 0]),
        nearest=distances[:, 0],
        radii=radii,
        reference=fingerprints,
        reference_radii=reference_radii,
        reference_space_groups=np.asarray(reference.space_groups),
        neighbours=m,
    )


def denser_than(radii: NDArray[np.float64], chance: NDArray[np.float64]) -> Estimate | None:
    """Probability that a radius is smaller than a random one of `chance`, with a 95 % interval.

    The Mann-Whitney statistic U / (m n), ties by half, with DeLong's variance (that of both
    samples) and Student's t of the smaller sample's degrees of freedom. The limits are None where
    one value says nothing of them.

    Source: E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44, 837 (1988).

    Examples
    --------
    >>> denser_than(np.array([1.0]), np.array([2.0, 3.0, 0.5, 1.0])).value
    0.625
    """
    if len(radii) == 0 or len(chance) == 0:
        return None
    ours = _placements(radii, chance)
    value = float(ours.mean())
    fewest = min(len(radii), len(chance))
    if fewest < 2:
        return Estimate(value, None, None)
    from scipy.special import stdtrit

    theirs = 1.0 - _placements(chance, radii)
    spread = np.sqrt(ours.var(ddof=1) / len(radii) + theirs.var(ddof=1) / len(chance))
    half = float(stdtrit(fewest - 1, 0.975)) * float(spread)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def _placements(radii: NDArray[np.float64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each radius, the fraction of `chance` that is larger; equal ones count half."""
    ordered = np.sort(chance)
    below = np.searchsorted(ordered, radii, side="left")
    upto = np.searchsorted(ordered, radii, side="right")
    return 1.0 - (below + upto) / (2.0 * len(ordered))


def is_of_symmetry(space_groups: NDArray[Any], symmetry: str) -> NDArray[np.bool_]:
    """Mask of the space groups of ``high``, ``low`` or ``all`` symmetry; 0 means unknown.

    Raises
    ------
    ValueError
        If `symmetry` is not one of these.
    """
    if symmetry == "all":
        return np.ones(len(space_groups), dtype=bool)
    high = space_groups >= FIRST_OF_HIGH_SYMMETRY
    if symmetry == "high":
        return high
    if symmetry == "low":
        return (space_groups > 0) & ~high
    raise ValueError(f"no symmetry {symmetry!r}; known: all, high, low")
