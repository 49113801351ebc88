"""Which versions of the libraries an answer came from."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

ANSWER = ("novelty-metric", "pymatgen", "pymatgen-core", "spglib", "smact", "numpy", "scipy")
"""Packages that can change a search."""

RELAXATION = ("ase", "torch", "chgnet")
"""Packages that can change a relaxation."""


def installed_versions(packages: Iterable[str] = (*ANSWER, *RELAXATION)) -> dict[str, str]:
    """Installed version of each package, and of Python; a package that is missing is left out."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
