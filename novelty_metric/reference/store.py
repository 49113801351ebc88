"""`Reference`: the prepared training set, in memory or mapped from its file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.errors import CrystalError, InputError, StoreError
from novelty_metric.reference import arrow_file
from novelty_metric.reference.arrays import CrystalArrays
from novelty_metric.reference.manifest import (
    Manifest,
    SkippedCrystal,
    package_versions,
    preparation_settings,
    unique_ids,
)
from novelty_metric.reference.prepare import PreparedCrystal, found_symmetry, prepare

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.protocol import Protocol

Progress = Callable[[int, int | None], None]
"""Called with the number of finished crystals and the total (None if it is unknown)."""

CompositionKey = tuple[tuple[int, int], ...]
"""Atomic numbers in increasing order, each with its count in the reduced formula."""

_CACHED_STRUCTURES = 4096


class Reference(Sequence["Structure"]):
    """The training set, prepared once: reduced cells, symmetry, hashes.

    Order is that of the source and every usable row is kept, equal crystals too. All arrays are
    read-only; they are memory-mapped when the reference was opened from a file. For M crystals
    with ΣN sites in all:

    Attributes
    ----------
    name : str
        Under which a report cites it.
    crystals_hash, store_hash : str
        SHA-256 over the crystals alone; and over the prepared arrays, settings and format version.
    symprec, angle_tolerance : float
        Tolerances of the symmetry search (Å, degrees).
    ids : tuple of str, (M,)
        Unique.
    n_sites : int32, (M,)
    offsets : int64, (M + 1,)
        Sites of crystal i are ``offsets[i]:offsets[i + 1]`` of the per-site arrays.
    lattices : float64, (M, 3, 3)
        Cell vectors as rows (Å).
    frac_coords : float64, (ΣN, 3)
    numbers : uint8, (ΣN,)
        Atomic numbers.
    space_groups : int16, (M,)
        1 to 230; 0 if the symmetry could not be determined.
    wyckoff_letters : uint8, (ΣN,)
        Code point of the letter; 0 if undetermined.
    orbits : int32, (ΣN,)
        Lowest site index of the site's orbit, counted within the crystal.
    manifest : Manifest
        Hashes, settings, skipped crystals, versions.
    path : Path or None
        The file it was opened from.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> salt = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... )
    >>> reference = Reference.from_structures([salt], ids=["salt"])
    >>> len(reference), reference.space_groups.tolist(), reference.n_sites.tolist()
    (1, [225], [2])
    """

    def __init__(self, arrays: CrystalArrays, manifest: Manifest, path: Path | None = None) -> None:
        """Wrap the arrays; use `from_structures` or `open` instead."""
        self.arrays = arrays
        self.manifest = manifest
        self.path = path
        self.name = manifest.name
        self.crystals_hash = manifest.crystals_hash
        self.store_hash = manifest.store_hash
        self.symprec = float(manifest.settings["symprec"])
        self.angle_tolerance = float(manifest.settings["angle_tolerance"])
        self.ids = arrays.ids
        self.lattices = arrays.lattices
        self.offsets = arrays.offsets
        self.n_sites = np.diff(arrays.offsets).astype(np.int32)
        self.n_sites.setflags(write=False)
        self.frac_coords = arrays.frac_coords
        self.numbers = arrays.numbers
        self.space_groups = arrays.space_groups
        self.wyckoff_letters = arrays.wyckoff_letters
        self.orbits = arrays.orbits
        self._structures: OrderedDict[int, Structure] = OrderedDict()

    # --- making one ---------------------------------------------------------------------------

    @classmethod
    def from_structures(
        cls,
        structures: Iterable[Any],
        ids: Sequence[str] | None = None,
        *,
        name: str = "in-memory",
        symprec: float = 0.01,
        angle_tolerance: float = 5.0,
        progress: Progress | None = None,
    ) -> Reference:
        """Prepare crystals in memory.

        Parameters
        ----------
        structures : iterable of pymatgen Structure or ASE Atoms
            What can't be used is left out and listed in ``manifest.skipped``.
        ids : sequence of str, optional
            One per crystal; by default the positions ``"0"``, ``"1"``, … A repeated id gets
            ``__2``, ``__3``, … and an entry in ``manifest.renamed_ids``.
        name : str
        symprec : float
            Distance tolerance of the symmetry search (Å).
        angle_tolerance : float
            Its angle tolerance (degrees).
        progress : callable, optional
            Called with crystals done and crystals in all.

        Raises
        ------
        InputError
            If no crystal can be used, or there are not as many ids as crystals.
        """
        items = list(structures)
        labels = [str(index) for index in range(len(items))] if ids is None else list(ids)
        if len(labels) != len(items):
            raise InputError(
                f"{len(items)} reference crystals but {len(labels)} ids; give one each"
            )
        prepared: list[tuple[str, PreparedCrystal]] = []
        skipped: list[SkippedCrystal] = []
        for index, (label, structure) in enumerate(zip(labels, items, strict=True)):
            try:
                crystal = prepare(structure, symprec=symprec, angle_tolerance=angle_tolerance)
            except CrystalError as error:
                skipped.append(SkippedCrystal(str(label), f"crystal {index}", str(error)))
            else:
                prepared.append((str(label), crystal))
            if progress is not None:
                progress(index + 1, len(items))
        return cls.from_arrays(
            CrystalArrays.from_prepared(prepared),
            name=name,
            symprec=symprec,
            angle_tolerance=angle_tolerance,
            skipped=skipped,
        )

    @classmethod
    def from_arrays(
        cls,
        arrays: CrystalArrays,
        *,
        name: str,
        symprec: float,
        angle_tolerance: float,
        skipped: Sequence[SkippedCrystal] = (),
        source: Sequence[str] = (),
    ) -> Reference:
        """Make a reference of prepared crystals, with unique ids and hashes.

        Raises
        ------
        InputError
            If there is no crystal.
        """
        if len(arrays) == 0:
            raise InputError(_nothing_usable(name, skipped))
        ids, renamed = unique_ids(arrays.ids)
        arrays = dataclasses.replace(arrays, ids=tuple(ids))
        settings = preparation_settings(symprec, angle_tolerance)
        crystals_hash = arrays.crystals_hash()
        manifest = Manifest(
            name=name,
            crystals_hash=crystals_hash,
            store_hash=arrays.store_hash(settings, crystals_hash),
            settings=settings,
            count=len(arrays),
            read=len(arrays) + len(skipped),
            skipped=tuple(skipped),
            renamed_ids=renamed,
            source=tuple(source),
            versions=package_versions(),
        )
        return cls(arrays, manifest)

    def without(self, indices: Iterable[int]) -> Reference:
        """A reference in memory with all crystals except those at these positions.

        Raises
        ------
        InputError
            If nothing is left.
        """
        left_out = set(indices)
        kept = [index for index in range(len(self)) if index not in left_out]
        return Reference.from_arrays(
            self.arrays.take(kept),
            name=f"{self.name} without {len(left_out)}",
            symprec=self.symprec,
            angle_tolerance=self.angle_tolerance,
        )

    # --- reading it ---------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        """The crystal at this position, or a list of crystals for a slice."""
        if isinstance(index, slice):
            return [self.structure(i) for i in range(*index.indices(len(self)))]
        return self.structure(int(index))

    def __iter__(self) -> Iterator[Structure]:
        return (self.structure(index) for index in range(len(self)))

    def __repr__(self) -> str:
        return f"Reference({self.name!r}, {len(self)} crystals)"

    def structure(self, index: int) -> Structure:
        """The reduced crystal at this position.

        The object is shared between callers through a bounded cache: copy it before changing it.

        Raises
        ------
        IndexError
            If there is no such position.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"crystal {index} of a reference of {len(self)}")
        index %= len(self)
        cached = self._structures.get(index)
        if cached is not None:
            with contextlib.suppress(KeyError):  # another thread may just have dropped it
                self._structures.move_to_end(index)
            return cached
        sites = self.sites(index)
        structure = CrystalRecord(
            np.array(self.lattices[index]), self.numbers[sites], np.array(self.frac_coords[sites])
        ).to_structure()
        self._structures[index] = structure
        while len(self._structures) > _CACHED_STRUCTURES:
            with contextlib.suppress(KeyError):
                self._structures.popitem(last=False)
        return structure

    def sites(self, index: int) -> slice:
        """Range of the crystal's sites in the per-site arrays."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def composition_key(self, index: int) -> CompositionKey:
        """Reduced composition of the crystal, see `composition_key`."""
        return composition_key(self.numbers[self.sites(index)])

    def with_composition(self, key: CompositionKey) -> np.ndarray:
        """Positions of the crystals with this reduced composition, increasing (int64)."""
        return self._by_composition.get(key, _NO_INDEX)

    @cached_property
    def _by_composition(self) -> dict[CompositionKey, np.ndarray]:
        found: dict[CompositionKey, list[int]] = {}
        for index in range(len(self)):
            found.setdefault(self.composition_key(index), []).append(index)
        return {key: np.array(indices, dtype=np.int64) for key, indices in found.items()}

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {label: position for position, label in enumerate(self.ids)}

    def position(self, identifier: str) -> int:
        """Position of the crystal with this id.

        Raises
        ------
        KeyError
            If there is none.
        """
        return self._positions[identifier]

    def require(self, protocol: Protocol) -> None:
        """Refuse a protocol whose symmetry settings differ from those of this reference.

        Raises
        ------
        StoreError
            If they differ.
        """
        wanted = preparation_settings(protocol.symprec, protocol.symmetry_angle_tolerance)
        for key, value in wanted.items():
            have = self.manifest.settings.get(key)
            if have != value:
                raise StoreError(
                    f"{self._where()}: prepared with {key}={have}, but the protocol "
                    f"{protocol.name!r} asks for {key}={value}; build the reference again"
                )

    def with_symmetry(
        self, *, symprec: float, angle_tolerance: float, progress: Progress | None = None
    ) -> Reference:
        """The same crystals in memory, with symmetry determined by other tolerances.

        Parameters
        ----------
        symprec : float
            Distance tolerance (Å).
        angle_tolerance : float
            Angle tolerance (degrees).
        progress : callable, optional
            Called with crystals done and crystals in all.
        """
        space_groups = np.zeros(len(self), dtype=np.int16)
        letters = np.zeros(len(self.numbers), dtype=np.uint8)
        orbits = np.zeros(len(self.numbers), dtype=np.int32)
        for index in range(len(self)):
            sites = self.sites(index)
            found = found_symmetry(
                self.structure(index), symprec=symprec, angle_tolerance=angle_tolerance
            )
            space_groups[index], letters[sites], orbits[sites] = found
            if progress is not None:
                progress(index + 1, len(self))
        arrays = dataclasses.replace(
            self.arrays, space_groups=space_groups, wyckoff_letters=letters, orbits=orbits
        )
        return Reference.from_arrays(
            arrays,
            name=self.name,
            symprec=symprec,
            angle_tolerance=angle_tolerance,
            skipped=self.manifest.skipped,
            source=self.manifest.source,
        )

    def verify(self) -> None:
        """Compute all hashes again and search for impossible values.

        Raises
        ------
        StoreError
            If the content is not what the manifest says.
        """
        crystals_hash = self.arrays.crystals_hash()
        if crystals_hash != self.crystals_hash:
            raise self._damaged("ids or crystals were changed")
        if self.arrays.store_hash(self.manifest.settings, crystals_hash) != self.store_hash:
            raise self._damaged("its content was changed")
        flaw = self.arrays.flaw()
        if flaw is not None:
            raise self._damaged(flaw)

    def _where(self) -> str:
        return str(self.path) if self.path is not None else f"reference {self.name!r}"

    def _damaged(self, reason: str) -> StoreError:
        return StoreError(f"{self._where()}: damaged ({reason}); {arrow_file.REBUILD}")

    def __reduce__(self) -> Any:
        # Another process maps the same file instead of receiving a copy.
        if self.path is not None:
            return (Reference.open, (self.path,))
        return (Reference, (self.arrays, self.manifest))

    # --- its file -----------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the reference to an Arrow file. If this fails, no file is left.

        Raises
        ------
        InputError
            If the name does not end in ``.arrow`` or the file can't be written.
        """
        target = Path(path)
        if target.suffix != arrow_file.SUFFIX:
            raise InputError(f"{target}: a prepared reference is called NAME{arrow_file.SUFFIX}")
        arrow_file.write(target, self.arrays, self.manifest.to_json())

    @classmethod
    def open(cls, path: str | Path, *, protocol: Protocol | None = None) -> Reference:
        """Map a prepared reference from its file, and check it with its hashes.

        Hashing 24,000 crystals takes a few hundredths of a second, so that damage never passes
        for "nothing matches".

        Parameters
        ----------
        path : path
        protocol : Protocol, optional
            Also check that the reference fits it, see `require`.

        Raises
        ------
        StoreError
            If the file is missing, damaged, empty, of another kind, or of a newer format, or does
            not fit the protocol.
        """
        source = Path(path)
        arrays, text = arrow_file.read(source)
        try:
            manifest = Manifest.from_json(text)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{source}: damaged (its manifest is incomplete); {arrow_file.REBUILD}"
            ) from error
        reference = cls(arrays, manifest, source)
        if len(reference) == 0:
            raise StoreError(f"{source}: the reference contains no crystal; {arrow_file.REBUILD}")
        if manifest.count != len(reference):
            raise reference._damaged(f"{len(reference)} crystals, {manifest.count} expected")
        reference.verify()
        if protocol is not None:
            reference.require(protocol)
        return reference


_NO_INDEX = np.zeros(0, dtype=np.int64)
_NO_INDEX.setflags(write=False)


def composition_key(numbers: Iterable[int]) -> CompositionKey:
    """Reduced composition of a list of atomic numbers.

    Examples
    --------
    >>> composition_key([11, 17, 11, 17])
    ((11, 1), (17, 1))
    """
    elements, counts = np.unique(np.asarray(numbers, dtype=np.int64), return_counts=True)
    if len(elements) == 0:
        return ()
    counts = counts // np.gcd.reduce(counts)
    return tuple(zip(elements.tolist(), counts.tolist(), strict=True))


def _nothing_usable(name: str, skipped: Sequence[SkippedCrystal]) -> str:
    if not skipped:
        return f"reference {name!r}: the source contains no crystal"
    first = skipped[0]
    return (
        f"reference {name!r}: none of its {len(skipped)} crystals can be used; "
        f"the first, {first.id!r}: {first.reason}"
    )
