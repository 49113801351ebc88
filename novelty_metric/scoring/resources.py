"""The open resources of scoring: the reference with its search, the potential, the hull."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from novelty_metric.errors import InputError
from novelty_metric.relaxation.potentials import make_potential, registered
from novelty_metric.support.cores import usable_cores
from novelty_metric.support.processes import OwnContext
from novelty_metric.support.workers import WorkerDiedError, WorkerProcess

if TYPE_CHECKING:
    from novelty_metric.reference import Reference
    from novelty_metric.relaxation.base import Relaxer
    from novelty_metric.relaxation.cache import RelaxationCache
    from novelty_metric.relaxation.potentials import Potential
    from novelty_metric.scoring.rules import ScoringRules
    from novelty_metric.scoring.sample_energies import SampleEnergies
    from novelty_metric.screening.hull import Hull, HullSource
    from novelty_metric.search.engine import ParentSearch
    from novelty_metric.support.progress import ProgressCallback

HULLS = ("auto", "mp_20", "reference", "matbench_discovery", "mp", "none")
"""Hulls with a name."""


@dataclass(frozen=True, kw_only=True)
class ResourceSpec:
    """Reference, potential and hull as given by the caller; `Resources.open` opens them.

    The attributes are the parameters of `SubstitutionNovelty` of the same names.

    Raises
    ------
    InputError
        If a name is not known, or there is no worker.
    """

    reference: str | Path | Reference
    relaxer: str | Potential | Relaxer | None
    hull: str | Path | Hull | HullSource
    workers: int | None = 1
    device: str | None = None
    cache: bool | str | Path | None = True
    second_potential: str | Potential | Relaxer | None = None

    def __post_init__(self) -> None:
        hull = self.hull
        if self.relaxer == "none":
            object.__setattr__(self, "relaxer", None)
        for potential in (self.relaxer, self.second_potential):
            if isinstance(potential, str):
                registered(potential)
        if self.second_potential is not None and self.relaxer is None:
            raise InputError("second_potential= needs a first potential, but relaxer=none")
        if isinstance(hull, (str, Path)) and hull not in HULLS and not Path(hull).is_file():
            raise InputError(
                f"no hull named {str(hull)!r}; known: {', '.join(HULLS)}, or a file of entries"
            )
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}; it must be at least 1")

    @property
    def search_only(self) -> ResourceSpec:
        """The same inputs without a potential and without a hull."""
        return dataclasses.replace(self, relaxer=None, hull="none", second_potential=None)

    def open_reference(self) -> Reference:
        """The reference.

        Raises
        ------
        InputError
            If it can't be used.
        """
        from novelty_metric.reference import Reference, open_reference

        given = self.reference
        return given if isinstance(given, Reference) else open_reference(given)


@dataclass
class Resources:
    """The opened resources.

    Attributes
    ----------
    spec : ResourceSpec
        What it was opened from.
    reference : Reference
    search, parent_search : ParentSearch
        By the protocol, and by the one that parents are searched with.
    relaxer : Relaxer or None
    hull : Hull or None
    second : Resources or None
        The same search with the second potential and no hull.
    """

    spec: ResourceSpec
    reference: Reference
    search: ParentSearch
    parent_search: ParentSearch
    relaxer: Relaxer | None = None
    hull: Hull | None = None
    second: Resources | None = None
    _owns_relaxer: bool = False
    _cache: RelaxationCache | None = None
    _compilation: WorkerProcess | None = None

    @classmethod
    def open(cls, spec: ResourceSpec, rules: ScoringRules, progress: ProgressCallback) -> Resources:
        """Open everything.

        Raises
        ------
        InputError
            If the reference, the relaxer or the hull can't be used.
        """
        from novelty_metric.search.engine import ParentSearch

        reference = spec.open_reference()
        reference.require(rules.protocol)
        search = parent_search = ParentSearch(reference, rules.protocol)
        if rules.search_protocol != rules.protocol:
            parent_search = ParentSearch(reference, rules.search_protocol)
        opened = cls(spec, reference, search, parent_search)
        opened._open_relaxer()
        opened._open_second()
        opened.hull = _open_hull(
            spec.hull, reference, opened.relaxer, rules.sample_energies, progress
        )
        return opened

    @property
    def threads(self) -> int:
        """Number of threads of the search."""
        return self.spec.workers or usable_cores()

    def compile_ahead(self) -> None:
        """Start to compile the search in another process, if it is not in the cache.

        Only beside a relaxer that has processes too, whose scripts have the guard for that.
        """
        from novelty_metric.search.compiled import is_compiled

        if self._has_processes and self._compilation is None and not is_compiled():
            self._compilation = WorkerProcess(OwnContext(), _compile_search, name="compiler")

    def prepare_search(self) -> None:
        """Compile the search and build its indices."""
        from novelty_metric.search.compiled import note_compiled

        if self._compilation is not None:
            with contextlib.suppress(WorkerDiedError):  # then it is compiled here
                self._compilation.receive()
            self._end_compilation()
        self.search.prepare()
        self.parent_search.prepare()
        if self._has_processes:
            note_compiled()

    @property
    def _has_processes(self) -> bool:
        return getattr(self.relaxer, "n_workers", 1) > 1

    def _end_compilation(self) -> None:
        if self._compilation is not None:
            self._compilation.end(at_once=True)
            self._compilation = None

    def close(self) -> None:
        """Close the resources opened here."""
        self._end_compilation()
        if self.second is not None:
            self.second.close()
        if self._owns_relaxer and self.relaxer is not None:
            self.relaxer.close()
        if self._cache is not None:
            self._cache.close()

    def _open_relaxer(self) -> None:
        given: Any = self.spec.relaxer
        # A name, or a potential: how it is run is decided here.
        self._owns_relaxer = isinstance(given, str) or hasattr(given, "evaluator")
        if not self._owns_relaxer:
            self.relaxer = given
            return
        from novelty_metric.relaxation.relaxer import PotentialRelaxer

        self._cache = _relaxation_cache(self.spec.cache)
        potential = (
            make_potential(given, device=self.spec.device) if isinstance(given, str) else given
        )
        self.relaxer = PotentialRelaxer(potential, workers=self.spec.workers, cache=self._cache)

    def _open_second(self) -> None:
        given = self.spec.second_potential
        if given is None:
            return
        spec = dataclasses.replace(self.spec, relaxer=given, hull="none", second_potential=None)
        self.second = Resources(spec, self.reference, self.search, self.parent_search)
        self.second._open_relaxer()
        first, second = self.relaxer, self.second.relaxer
        assert first is not None and second is not None
        if first.info == second.info:
            raise InputError(
                f"second_potential= is the same as relaxer=: {first.info.name}; name another one"
            )


def _compile_search(connection: Connection) -> None:
    """Compile the search, for any reference, into numba's cache on disk."""
    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import open_reference
    from novelty_metric.search.engine import ParentSearch

    ParentSearch(open_reference("aflow"), Protocol.named("fast")).prepare()
    connection.send(None)


def check_sample_energies(hull: object, *, relax_samples: bool) -> None:
    """True if the samples' own energies can be used.

    Raises
    ------
    InputError
        If they can't.
    """
    if relax_samples:
        raise InputError(
            "the energies of the samples are those of the crystals as given, which relaxing "
            "changes; add relax_samples=false, or leave the energies out"
        )
    if hull == "none":
        raise InputError("the energies of the samples need a hull, and hull=none")
    if hull == "reference":
        raise InputError(
            "hull=reference is made of the potential's energies, and those of the samples don't "
            "compare with them; name a hull of density functional theory: hull=matbench_discovery, "
            "hull=mp, or entries of your own"
        )


def _open_hull(
    given: Any,
    reference: Reference,
    relaxer: Relaxer | None,
    own: SampleEnergies | None,
    progress: ProgressCallback,
) -> Hull | None:
    """The given hull; None if there is none, or no potential for its energies."""
    if hasattr(given, "e_above_hull"):
        return cast("Hull", given)
    if given == "none" or (relaxer is None and own is None):
        return None
    from novelty_metric.screening.formation_hull import auto_hull, reference_hull
    from novelty_metric.screening.hull import SAMPLES

    if own is not None:
        # hull=reference was refused for the samples' own energies
        return _for_samples(_hull_source(given), own).open(SAMPLES, progress=progress)
    assert relaxer is not None
    if given == "auto":
        return auto_hull(reference, relaxer, progress=progress)
    if given == "reference":
        return reference_hull(reference, relaxer, progress=progress)
    return _hull_source(given).open(relaxer.info.name, progress=progress)


def _hull_source(given: Any) -> HullSource:
    """The source of a hull that is given by name, file or object."""
    if given in ("auto", "mp_20"):
        from novelty_metric.screening.formation_hull import Mp20Hull

        return Mp20Hull()
    if given == "matbench_discovery":
        from novelty_metric.screening.matbench_discovery import MatbenchDiscoveryHull

        return MatbenchDiscoveryHull()
    if given == "mp" or _is_parquet(given):
        from novelty_metric.screening.materials_project import MaterialsProjectHull

        return MaterialsProjectHull(None if given == "mp" else given)
    if isinstance(given, (str, Path)):
        from novelty_metric.screening.entries import EntriesHull

        return EntriesHull(given)
    return cast("HullSource", given)


def _is_parquet(given: object) -> bool:
    """True for a file of formation energies, False for one of entries."""
    if not isinstance(given, (str, Path)) or not Path(given).is_file():
        return False
    with Path(given).open("rb") as file:
        return file.read(4) == b"PAR1"


def _for_samples(source: HullSource, own: SampleEnergies) -> HullSource:
    """The hull for the samples' energies, if it has variants for different scales."""
    asked = getattr(source, "energies", None)
    if asked is None:
        return source
    if asked not in ("auto", own.scale):
        raise InputError(f"hull.energies is {asked}, but energies_scale is {own.scale}")
    return cast("HullSource", dataclasses.replace(cast(Any, source), energies=own.scale))


def _relaxation_cache(given: bool | str | Path | None) -> RelaxationCache | None:
    if given is None or given is False:
        return None
    from novelty_metric.relaxation.cache import RelaxationCache

    return RelaxationCache() if given is True else RelaxationCache(given)
