"""The Materials Project hull that ``matbench-discovery`` downloads; all that is known of it.

The package is not imported. Importing version 1.3.1 takes seconds, makes folders inside
``site-packages``, and changes the defaults of matplotlib and plotly; importing its ``data`` or
``energy`` downloads files, and a download that fails is printed and then breaks elsewhere. What is
needed of it are the names of its files and the folder it keeps them in, so both find the same ones.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from novelty_metric.errors import InputError
from novelty_metric.progress import ProgressCallback, no_progress
from novelty_metric.screening.entries import (
    Entries,
    EntryError,
    entry_row,
    hull_of_entries,
    read_entries,
)
from novelty_metric.screening.hull import Energies, KnownHull, fitting_energies

CACHE_VARIABLES = ("MBD_CACHE_DIR", "MATBENCH_DISCOVERY_CACHE_DIR")
"""Name the folder of its files: in the package's later versions, and up to 1.3.1."""

ARTICLE = "https://figshare.com/articles/dataset/22715158"

_NAME = "matbench_discovery"
_PACKAGE = "matbench-discovery"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of the package: its path in the folder, address, and MD5 as published."""

    path: str
    url: str
    md5: str


ENTRIES = DataFile(
    "mp/2023-02-07-mp-computed-structure-entries.json.gz",
    "https://figshare.com/ndownloader/files/40344436",
    "76fc748db6b175bb80de4c276d27c235",
)
"""What the diagram was made of: 154,718 entries of the Materials Project, GGA and GGA+U."""

DIAGRAM = DataFile(
    "mp/2023-02-07-ppd-mp.pkl.gz",
    "https://figshare.com/ndownloader/files/48241624",
    "60d19d691fa1d338aa496a40a9641bef",
)
"""A pickled `PatchedPhaseDiagram` of pymatgen."""

ELEMENTS = DataFile(
    "mp/2023-02-07-mp-elemental-reference-entries.json.gz",
    "https://figshare.com/ndownloader/files/40387775",
    "6e93b6f38d6e27d6c811d3cafb23a070",
)
"""The lowest entry of each element."""

_RUN_TYPES = ("", "GGA", "GGA+U")
"""Of the entries that the MP2020 scheme accepts."""


@dataclass(frozen=True)
class MatbenchDiscoveryHull:
    """The Materials Project of 2023-02-07, as Matbench Discovery uses it.

    The entries that the diagram was made of are read where the package keeps them, or downloaded to
    there; the hull over them is our own. If only the pickled diagram is there, its entries are
    taken from it where the caller allows that.

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

    def open(self, potential: str, *, progress: ProgressCallback = no_progress) -> KnownHull:
        """See `novelty_metric.screening.hull.HullSource.open`."""
        which = fitting_energies(potential, self.energies)
        folders = data_folders()
        source, path = ENTRIES, _found(ENTRIES, folders)
        if path is None:
            path = _found(DIAGRAM, folders)
            if path is None:
                path = _downloaded(ENTRIES, folders[0], progress)
            else:
                source = DIAGRAM
        if source is ENTRIES:
            entries = read_entries(path, progress=progress)
        else:
            if not self.allow_pickle:
                raise InputError(
                    f"{path} is a pickle, which can run any code when it is read; add "
                    "hull.allow_pickle=true if you trust it, or put the entries it was made of, "
                    f"{ENTRIES.url}, at {path.parent.parent / ENTRIES.path}"
                )
            entries = _unpickled(path)
        entries, skipped = _accepted(entries)
        entries, added = _with_elements(entries, _found(ELEMENTS, folders))
        return hull_of_entries(
            entries,
            _NAME,
            which,
            file=path.name,
            as_published=_md5(path) == source.md5,
            skipped=skipped,
            elements_from_references=added,
        )


def data_folders() -> list[Path]:
    """Where the package keeps its files, the folder it would download to first.

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
    """The package's checkout, if that is what is installed."""
    try:
        text = metadata.distribution(_PACKAGE).read_text("direct_url.json") or "{}"
        content = json.loads(text)
        if content["dir_info"]["editable"]:
            return Path(unquote(urlparse(content["url"]).path))
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        pass
    return None


def _found(wanted: DataFile, folders: list[Path]) -> Path | None:
    return next(
        (folder / wanted.path for folder in folders if (folder / wanted.path).exists()), None
    )


def _downloaded(wanted: DataFile, folder: Path, progress: ProgressCallback) -> Path:
    """The file, downloaded to where the package would put it.

    Raises
    ------
    InputError
        If it can't be had, or is not the published one; it says where to put it by hand.
    """
    from novelty_metric.download import download

    path = folder / wanted.path
    stage = "download the hull"
    try:
        download(wanted.url, path, progress=lambda done, total: progress(stage, done, total))
        found = _md5(path)
    except (InputError, OSError) as error:
        told = str(error).removeprefix(f"{wanted.url}: ")
        raise InputError(
            f"hull={_NAME} needs {path.name}, and {wanted.url} was not downloaded ({told}); fetch "
            f"it on another machine (MD5 {wanted.md5}, listed at {ARTICLE}), put it at {path} and "
            f"give the same command again, or name the folder above {wanted.path} by "
            f"{CACHE_VARIABLES[0]}"
        ) from error
    if found != wanted.md5:
        path.unlink()
        raise InputError(
            f"{wanted.url}: not the published {path.name}: MD5 {wanted.md5} was expected, {found} "
            "found; it was removed, the same command downloads it again"
        )
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpickled(path: Path) -> Entries:
    """The entries of a pickled diagram of pymatgen."""
    import pickle

    try:
        with gzip.open(path, "rb") as file:
            diagram = pickle.load(file)
        return Entries.of([_row(entry, at) for at, entry in enumerate(diagram.all_entries)])
    except EntryError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # a pickle can break on anything
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: no phase diagram can be read from it ({told}); the entries it was made of, "
            f"{ENTRIES.url}, can stand at {path.parent.parent / ENTRIES.path} instead"
        ) from error


def _row(entry: Any, position: int) -> Any:
    """A row of `Entries.of` from an entry of pymatgen, which `as_dict` would take long over."""
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


def _accepted(entries: Entries) -> tuple[Entries, int]:
    """The entries of the functionals that the MP2020 scheme mixes, and the number of the rest."""
    kept = [i for i, run_type in enumerate(entries.run_types) if run_type in _RUN_TYPES]
    return entries.take(kept), len(entries) - len(kept)


def _with_elements(entries: Entries, path: Path | None) -> tuple[Entries, list[str]]:
    """The entries, with those elements that they lack from the package's references."""
    if path is None:
        return entries, []
    from pymatgen.core import Element

    own = {key[0][0] for key in entries.keys if len(key) == 1}
    references = read_entries(path)
    wanted = [i for i, key in enumerate(references.keys) if len(key) == 1 and key[0][0] not in own]
    added = references.take(wanted)
    symbols = [Element.from_Z(key[0][0]).symbol for key in added.keys]
    return entries.joined(added), symbols
