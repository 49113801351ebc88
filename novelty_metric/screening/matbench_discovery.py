"""The Materials Project hull of the package ``matbench-discovery``, with its downloads.

The package is not imported. Importing version 1.3.1 takes seconds, makes folders inside
``site-packages``, and changes the defaults of matplotlib and plotly; importing its ``data`` or
``energy`` downloads files, and a download that fails is printed and then breaks elsewhere. What is
needed of it are the names of its files and the folder it keeps them in, so both find the same ones.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import importlib.util
import json
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.screening.entries import (
    EntryError,
    EntryRow,
    entry_row,
    hull_of_entries,
    read_entries,
)
from novelty_metric.screening.formation_energies import About, FormationEnergies
from novelty_metric.screening.formation_hull import FormationHull
from novelty_metric.screening.hull import Energies, Hull, KnownHull, fitting_energies
from novelty_metric.screening.materials_project import SCHEME, Material, formation_energies
from novelty_metric.screening.scales import energies_scale
from novelty_metric.support.folders import cache_folder
from novelty_metric.support.progress import ProgressCallback, no_progress

CACHE_VARIABLES = ("MBD_CACHE_DIR", "MATBENCH_DISCOVERY_CACHE_DIR")
"""Environment variables for the package's folder: later versions, and versions up to 1.3.1."""

ARTICLE = "https://figshare.com/articles/dataset/22715158"

_NAME = "matbench_discovery"
_PACKAGE = "matbench-discovery"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of the package: its path in the folder, address, and MD5 as published, if known."""

    path: str
    url: str
    md5: str


def _listed(key: str, known: DataFile) -> DataFile:
    """A file listed by the installed package; without the package, the entry known here.

    Versions up to 1.3.1 list address and name, later ones address, path and MD5.
    """
    files = _resources()
    if files is None:
        return known
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        url, name = json.loads((files / "figshare" / "1.0.0.json").read_text("utf-8"))["files"][key]
        path = f"{known.path.split('/')[0]}/{name}"
        return DataFile(path, url, known.md5 if path == known.path else "")
    with contextlib.suppress(Exception):  # YAML of strangers may break on anything
        import yaml

        one = yaml.safe_load((files / "data-files.yml").read_text("utf-8"))[key]
        return DataFile(str(one["path"]), str(one["url"]), str(one.get("md5") or ""))
    return known


def _resources() -> Any:
    """The files of the installed package, without importing it; None if it is not installed."""
    try:
        found = importlib.util.find_spec("matbench_discovery")
        return found.loader.get_resource_reader(found.name).files()  # type: ignore[union-attr]
    except (ImportError, ValueError, AttributeError):
        return None


FORMATION_ENERGIES = _listed(
    "mp_energies",
    DataFile(
        "mp/2025-02-01-mp-energies.csv.gz",
        "https://figshare.com/ndownloader/files/52080797",
        "7eb0c49fc169ba92783f2f6d0d19d741",
    ),
)
"""Formation energies of 154,718 crystals, with the MP2020 corrections: a few MB.

Made on 2023-01-10; the file of 2025-02-01 adds the symmetry of each crystal."""

_OTHER_DATE = "2023-01-10" if "2025" in FORMATION_ENERGIES.path else "2025-02-01"
_OTHER_NAME = replace(FORMATION_ENERGIES, path=f"mp/{_OTHER_DATE}-mp-energies.csv.gz")
"""The same energies under their name in other versions of the package."""

ENTRIES = _listed(
    "mp_computed_structure_entries",
    DataFile(
        "mp/2023-02-07-mp-computed-structure-entries.json.gz",
        "https://figshare.com/ndownloader/files/40344436",
        "76fc748db6b175bb80de4c276d27c235",
    ),
)
"""The entries of the diagram: 154,718 entries of the Materials Project, GGA and GGA+U."""

DIAGRAM = _listed(
    "mp_patched_phase_diagram",
    DataFile(
        "mp/2023-02-07-ppd-mp.pkl.gz",
        "https://figshare.com/ndownloader/files/48241624",
        "60d19d691fa1d338aa496a40a9641bef",
    ),
)
"""A pickled `PatchedPhaseDiagram` of pymatgen."""

ELEMENTS = _listed(
    "mp_elemental_ref_entries",
    DataFile(
        "mp/2023-02-07-mp-elemental-reference-entries.json.gz",
        "https://figshare.com/ndownloader/files/40387775",
        "6e93b6f38d6e27d6c811d3cafb23a070",
    ),
)
"""The lowest entry of each element."""

_FORMULA_COLUMNS = ("formula", "formula_pretty")
_COLUMNS = ("formation_energy_per_atom", "energy_above_hull")

_RUN_TYPES = ("", "GGA", "GGA+U")
"""Run types that the MP2020 scheme accepts."""


@dataclass(frozen=True)
class MatbenchDiscoveryHull:
    """The Materials Project of early 2023, as Matbench Discovery uses it.

    For energies with the MP2020 corrections it is made of the formation energies, a file of a few
    MB; for those without, of the computed entries that the diagram was made of. Each file is read
    where the package keeps it, or downloaded to there; the hull over them is our own. If only the
    pickled diagram is there, its entries are taken from it where the caller allows that.

    Parameters
    ----------
    energies : str
        ``auto`` takes what fits the potential: energies with the MP2020 corrections for CHGNet,
        without for MACE-MPA-0. Or ``corrected`` or ``uncorrected``.
    allow_pickle : bool
        Read the pickled diagram. A pickle can run any code when it is read.

    Notes
    -----
    Source: Riebesell et al., Nat. Mach. Intell. 7, 836 (2025); crystals of the Materials Project,
    CC BY 4.0.
    """

    energies: str = Energies.AUTO
    allow_pickle: bool = False

    def open(self, potential: str, *, progress: ProgressCallback = no_progress) -> Hull:
        """See `novelty_metric.screening.hull.HullSource.open`."""
        which = fitting_energies(potential, self.energies)
        folders = data_folders()
        entries, diagram = _found(ENTRIES, folders), _found(DIAGRAM, folders)
        if which != Energies.UNCORRECTED:
            light = _found(FORMATION_ENERGIES, folders) or _found(_OTHER_NAME, folders)
            if light is None and (which == Energies.FORMATION or not (entries or diagram)):
                light = _downloaded(FORMATION_ENERGIES, folders[0], progress)
            if light is not None:
                return _light_hull(light, which, progress)
        return self._of_entries(which, entries, diagram, folders, progress)

    def _of_entries(
        self,
        which: Energies,
        path: Path | None,
        diagram: Path | None,
        folders: list[Path],
        progress: ProgressCallback,
    ) -> KnownHull:
        from pymatgen.core import Element

        source = ENTRIES
        if path is None and diagram is not None:
            source, path = DIAGRAM, diagram
            if not self.allow_pickle:
                folder, small = path.parent.parent, FORMATION_ENERGIES
                or_small = (
                    f", or the formation energies, {small.url}, which are small, at "
                    f"{folder / small.path}"
                )
                raise InputError(
                    f"{path} is a pickle, which can run any code when it is read; add "
                    "hull.allow_pickle=true if you trust it, or put the entries it was made of, "
                    f"{ENTRIES.url}, at {folder / ENTRIES.path}"
                    f"{'' if which == Energies.UNCORRECTED else or_small}"
                )
            entries = _unpickled(path)
        else:
            path = path or _downloaded(ENTRIES, folders[0], progress)
            entries = read_entries(path, progress=progress)
        accepted = [one for one in entries if one.run_type in _RUN_TYPES]
        own = {one.key for one in accepted}
        references = _found(ELEMENTS, folders)
        added = [
            one
            for one in ([] if references is None else read_entries(references))
            if len(one.key) == 1 and one.key not in own
        ]
        return hull_of_entries(
            [*accepted, *added],
            _NAME,
            which,
            file=path.name,
            as_published=_md5(path) == source.md5,
            skipped=len(entries) - len(accepted),
            elements_from_references=[Element.from_Z(one.key[0][0]).symbol for one in added],
        )


def _light_hull(path: Path, which: Energies, progress: ProgressCallback) -> FormationHull:
    """The hull of the formation energies; the table is cached after the first reading."""
    md5 = _md5(path)
    kept = cache_folder() / "hulls" / f"{_NAME}-{md5}.parquet"
    try:
        known = FormationEnergies.read(kept)
    except InputError:
        about = About(
            name=_NAME,
            source=f"{path.name} of {ARTICLE}; crystals of the Materials Project",
            licence="CC BY 4.0",
            date="2023-01-10",
            scheme=SCHEME,
        )
        try:
            known = formation_energies(_materials(path, progress), about)
        except ValueError as error:
            raise InputError(f"{path}: {error}; remove it, and it is downloaded again") from error
        with contextlib.suppress(InputError):  # where it can't be kept, it is read again
            known.write(kept)
    published = FORMATION_ENERGIES.md5
    checked = {"as_published": md5 == published} if published else {}
    return FormationHull(known, energies_scale(which), file=path.name, **checked)


def _materials(path: Path, progress: ProgressCallback) -> Iterator[Material]:
    """The rows of the table of formation energies."""
    stage = "read formation energies"
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            formula = next((header.index(name) for name in _FORMULA_COLUMNS if name in header), -1)
            if formula < 0 or not set(_COLUMNS) <= set(header):
                wanted = f"{' or '.join(_FORMULA_COLUMNS)}, {', '.join(_COLUMNS)}"
                raise InputError(
                    f"{path}: not the table of formation energies; it lacks one of the columns "
                    f"{wanted}; remove it, and it is downloaded again"
                )
            energy, above = (header.index(name) for name in _COLUMNS)
            number = 0
            for number, row in enumerate(rows, start=1):
                if number % 10_000 == 1:
                    progress(stage, number, None)
                if len(row) != len(header):
                    raise ValueError(f"line {rows.line_num} has {len(row)} fields")
                yield Material(row[formula], _number(row[energy]), _number(row[above]))
            progress(stage, number, number)
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise InputError(
            f"{path}: damaged or cut short ({first_line(error)}); "
            "remove it, and it is downloaded again"
        ) from error


def _number(text: str) -> float:
    return float(text) if text else math.nan


def data_folders() -> list[Path]:
    """The folder of the package's files; first the one to which it would download.

    Those that the environment names; without any, the folder ``data`` of a checkout that is
    installed as editable, and ``~/.cache/matbench-discovery``.
    """
    named = [os.environ[name] for name in CACHE_VARIABLES if os.environ.get(name)]
    if named:
        return [Path(folder).expanduser() for folder in dict.fromkeys(named)]
    default = Path.home() / ".cache" / _PACKAGE
    checkout = _checkout()
    return [default] if checkout is None else [checkout / "data", default]


def _checkout() -> Path | None:
    """The package's checkout, if it is installed from one."""
    try:
        text = metadata.distribution(_PACKAGE).read_text("direct_url.json") or "{}"
        content = json.loads(text)
        if content["dir_info"]["editable"]:
            return Path(unquote(urlparse(content["url"]).path))
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        pass
    return None


def _found(wanted: DataFile, folders: list[Path]) -> Path | None:
    paths = (folder / wanted.path for folder in folders)
    return next((path for path in paths if path.exists()), None)


def _downloaded(wanted: DataFile, folder: Path, progress: ProgressCallback) -> Path:
    """The file, downloaded to the package's own place."""
    from novelty_metric.support.download import download

    path = folder / wanted.path
    stage = "download the hull"
    try:
        download(wanted.url, path, progress=lambda done, total: progress(stage, done, total))
        found = _md5(path)
    except (InputError, OSError) as error:
        reason = str(error).removeprefix(f"{wanted.url}: ")
        raise InputError(
            f"hull={_NAME} needs {path.name}, and {wanted.url} was not downloaded ({reason}); "
            f"fetch it on another machine ({f'MD5 {wanted.md5}, ' if wanted.md5 else ''}listed at "
            f"{ARTICLE}), put it at {path} and repeat the command, or name the folder "
            f"above {wanted.path} by {CACHE_VARIABLES[0]}"
        ) from error
    if wanted.md5 and found != wanted.md5:
        path.unlink()
        raise InputError(
            f"{wanted.url}: not the published {path.name}: MD5 {wanted.md5} was expected, {found} "
            "found; it was removed, the same command downloads it again"
        )
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpickled(path: Path) -> list[EntryRow]:
    """The entries of a pickled diagram of pymatgen."""
    import pickle

    try:
        with gzip.open(path, "rb") as file:
            diagram = pickle.load(file)
        return [_row(entry, at) for at, entry in enumerate(diagram.all_entries)]
    except EntryError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # a pickle can break on anything
        raise InputError(
            f"{path}: no phase diagram can be read from it ({first_line(error)}); instead, put "
            f"the entries from which it was made, {ENTRIES.url}, at "
            f"{path.parent.parent / ENTRIES.path}"
        ) from error


def _row(entry: Any, position: int) -> EntryRow:
    """The row of an entry of pymatgen; faster than `as_dict`."""
    run_type = (getattr(entry, "parameters", None) or {}).get("run_type")
    return entry_row(
        {
            "entry_id": getattr(entry, "entry_id", None),
            "composition": {str(element): n for element, n in entry.composition.items()},
            "energy": float(getattr(entry, "uncorrected_energy", entry.energy)),
            "correction": float(getattr(entry, "correction", 0.0)),
            "parameters": {"run_type": run_type},
        },
        str(position),
    )
