"""Which versions of the libraries, and which machine, an answer came from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path

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


def this_machine(device: str | None = None) -> dict[str, str]:
    """What of this machine can change the time of a run, or the last digits of an energy.

    Parameters
    ----------
    device : str, optional
        Where the potential runs, such as ``cuda``; None: nothing is relaxed.
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
