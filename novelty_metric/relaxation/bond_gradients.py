"""Shared code of potentials whose network gives site energies from bond vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from novelty_metric.relaxation.base import Evaluation
from novelty_metric.relaxation.evaluators import NO_NEIGHBOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from novelty_metric.relaxation.base import Geometry
    from novelty_metric.relaxation.neighbors import Neighbors


def evaluations_of(
    geometries: Sequence[Geometry],
    found: Neighbors,
    site_energies: NDArray[np.float64],
    gradient: NDArray[np.float64],
) -> list[Evaluation]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å³) of each crystal, summed in double precision.

    Parameters
    ----------
    geometries : sequence of Geometry
    found : Neighbors
        Their bonds.
    site_energies : float64, (n_sites,)
        eV, through the batch.
    gradient : float64, (n_bonds, 3)
        Of the sum of the site energies with respect to each bond vector (eV/Å).

    Returns
    -------
    list of Evaluation
        With an error where an atom has no bond.
    """
    sizes = np.array([len(geometry.numbers) for geometry in geometries])
    owners = np.repeat(np.arange(len(geometries)), sizes)
    energies = np.zeros(len(geometries))
    np.add.at(energies, owners, site_energies)
    forces = np.zeros((len(site_energies), 3))
    np.add.at(forces, found.first, gradient)
    np.subtract.at(forces, found.second, gradient)
    virials = np.zeros((len(geometries), 3, 3))
    np.add.at(virials, found.crystal, found.vectors[:, :, None] * gradient[:, None, :])
    results = []
    starts = np.concatenate(([0], np.cumsum(sizes)))
    for at, geometry in enumerate(geometries):
        if found.n_alone[at]:
            results.append(Evaluation.failed(NO_NEIGHBOR))
            continue
        results.append(
            Evaluation(
                energy=float(energies[at]),
                forces=forces[starts[at] : starts[at + 1]],
                stress=0.5 * (virials[at] + virials[at].T) / geometry.volume,
            )
        )
    return results


def batch_budget(
    device: torch.device, *, on_cpu: float, on_gpu: float, bytes_per_cost: float
) -> float:
    """Size of a batch, in the unit of the cost of a crystal.

    On a processor as much as its caches hold. On a GPU as much as fits in half of what memory is
    free, and no more than keeps it busy.
    """
    if device.type == "cpu":
        return on_cpu
    free = float("inf")
    if device.type == "cuda":
        free = float(torch.cuda.mem_get_info(device)[0])
    return min(on_gpu, free / 2 / bytes_per_cost)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """On a GPU, have sums made in the same order every time."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warns)
