"""Versions of the libraries, and the machine, behind a result."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shlex
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

ANSWER = ("novelty-metric", "pymatgen", "pymatgen-core", "spglib", "smact", "numpy", "scipy")
"""Packages that can change a search."""

RELAXATION = ("ase", "torch", "chgnet")
"""Packages that can change a relaxation."""


def installed_versions(packages: Iterable[str] | None = None) -> dict[str, str]:
    """Installed version of each package and of Python; missing packages are left out.

    Parameters
    ----------
    packages : iterable of str, optional
        Default: those that can change a result, whose metadata are read once per process.
    """
    return _read_versions(packages) if packages is not None else dict(_versions_of_results())


@functools.cache
def _versions_of_results() -> dict[str, str]:
    return _read_versions((*ANSWER, *RELAXATION))


def _read_versions(packages: Iterable[str]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def advice_on_imports(error: ImportError) -> str:
    """Error message for an installed package that cannot be imported, with what to install.

    Compiled packages refuse a NumPy that is too old for them, and not all of them say in their
    metadata which one they need: pip can install them side by side.

    Returns
    -------
    str
        One line.
    """
    from packaging.specifiers import SpecifierSet

    needed = _requirements_below("novelty-metric")
    versions = installed_versions({requirement.name for _, requirement in needed})
    reasons = [textwrap.shorten(str(error), 120)]
    wanted: dict[str, SpecifierSet] = {}
    for package, requirement in needed:
        name, specifier = requirement.name, requirement.specifier
        installed = versions.get(name)
        if installed and not specifier.contains(installed, prereleases=True):
            reasons.append(f"{package} needs {name}{specifier}, {installed} is installed")
            wanted[name] = wanted.get(name, SpecifierSet()) & specifier
    for _, requirement in needed:  # what is newer must not be too new
        if requirement.name in wanted:
            limits = [str(part) for part in requirement.specifier if "<" in part.operator]
            wanted[requirement.name] &= SpecifierSet(",".join(limits))
    if not wanted:
        wanted["numpy" if "numpy" in str(error).lower() else "novelty-metric"] = SpecifierSet()
    names = [shlex.quote(f"{name}{specifier}") for name, specifier in wanted.items()]
    return (
        f"the installed packages do not fit one another: {'; '.join(reasons)}; "
        f"try: pip install --upgrade {' '.join(names)}"
    )


def _requirements_below(root: str) -> list[tuple[str, Requirement]]:
    """All requirements of `root` and of its dependencies, with the package that has each."""
    from packaging.requirements import Requirement

    found, waiting, seen = [], [root], {root}
    while waiting:
        name = waiting.pop()
        try:
            needed = importlib.metadata.requires(name) or []
            package = f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                found.append((package, requirement))
                if requirement.name not in seen:
                    seen.add(requirement.name)
                    waiting.append(requirement.name)
    return found


def this_machine(device: str | None = None) -> dict[str, str]:
    """Properties of this machine that can change the time of a run, or last digits of an energy.

    `device` is where the potential runs, such as ``cuda``; None: nothing is relaxed.
    """
    facts = {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count() or "unknown"),
    }
    if device is not None:
        facts["device"] = device
        if device.startswith("cuda"):
            import torch

            facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
