"""References by name: packaged ones, and those in the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.errors import InputError, StoreError
from novelty_metric.reference.arrow_file import SUFFIX
from novelty_metric.reference.published import PUBLISHED
from novelty_metric.support.folders import DATA_FOLDER, cache_folder

if TYPE_CHECKING:
    from novelty_metric.reference.store import Reference


PACKAGED = {"aflow": "the 288 AFLOW prototypes that pymatgen carries"}
"""The references that the package carries, with what they hold."""


def references_folder() -> Path:
    """The folder of references that were built or fetched by name.

    ``references`` in ``$NOVELTY_METRIC_CACHE``, or in the user's cache folder of the operating
    system.
    """
    return cache_folder() / "references"


def known_names() -> list[str]:
    """Names that `open_reference` accepts, including those in the user's folder."""
    folder = references_folder()
    kept = {path.stem for path in folder.glob(f"*{SUFFIX}")} if folder.is_dir() else set()
    return sorted({*kept, *PACKAGED, *PUBLISHED})


def reference_path(name: str) -> Path:
    """The path of the prepared reference with this name; it need not exist."""
    folder = DATA_FOLDER if name in PACKAGED else references_folder()
    return folder / f"{name}{SUFFIX}"


def open_reference(name_or_path: str | Path) -> Reference:
    """Open a reference by its name or its file.

    Parameters
    ----------
    name_or_path : str or path
        A known name such as ``"aflow"``, or the file of a prepared reference. A name takes
        precedence over a file of the same name in the working folder; write ``./aflow`` for the
        file.

    Raises
    ------
    InputError
        If the name is unknown, its reference is not yet prepared, or the path is a file of
        crystals.
    StoreError
        If the file is missing, damaged, empty, of another kind or of a newer format, or a
        calibration beside it is damaged or of another reference.
    """
    text = os.fspath(name_or_path)
    is_name = isinstance(name_or_path, str) and Path(text).name == text and text not in ("", ".")
    if is_name and text in known_names():
        path = reference_path(text)
        if not path.exists():
            raise InputError(_not_there(text, path))
        return _opened(path)

    if not text:
        raise InputError(f"no reference was named; known: {', '.join(known_names())}")
    path = Path(text).expanduser()
    if path.suffix == SUFFIX:
        if not path.exists():
            raise StoreError(f"{path}: no such file; {_how_to_build(path=path)}")
        return _opened(path)
    if path.exists():
        out = path.resolve().name.split(".")[0] + SUFFIX
        raise InputError(
            f"{path}: not a prepared reference; make one with "
            f"`novelty-metric reference build {path} out={out}`"
        )
    if is_name:
        raise InputError(
            f"no reference named {text!r}; known: {', '.join(known_names())}; {_how_to_build()}"
        )
    raise InputError(f"{path}: no such file; {_how_to_build()}")


def _opened(path: Path) -> Reference:
    from novelty_metric.reference.calibration import check_calibrations
    from novelty_metric.reference.store import Reference

    reference = Reference.open(path)
    check_calibrations(reference)
    return reference


def _how_to_build(*, path: Path | None = None) -> str:
    out = path if path is not None else f"FILE{SUFFIX}"
    return f"make one with `novelty-metric reference build SOURCE out={out}`"


def _not_there(name: str, path: Path) -> str:
    if name in PACKAGED:
        return f"reference {name!r}: {path} is missing; install novelty-metric again"
    return (
        f"reference {name!r} ({PUBLISHED[name].title}) is not on this machine; get it once with "
        f"`novelty-metric reference fetch {name}`, or build it as {path}"
    )
