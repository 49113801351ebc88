"""SevenNet through its package ``sevenn``: many crystals in one pass of its own network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import Evaluation, Geometry
from novelty_metric.relaxation.evaluators import AseEvaluator, Evaluator, unknown_element
from novelty_metric.relaxation.loading import (
    ModelByName,
    best_device,
    importing,
    model_file,
    quiet,
    tensors_hash,
)
from novelty_metric.relaxation.potentials import SEVENNET

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from novelty_metric.relaxation.neighbors import Neighbors

CPU_BUDGET = 800.0
"""Number of bonds per batch on a processor: about five crystals of ten atoms."""

GPU_BUDGET = 50_000.0
"""Number of bonds per batch on a GPU."""

BYTES_PER_COST = 650_000.0
"""Memory per bond (bytes), measured on a processor: 280,000 in SevenNet-0, 640,000 in l3i5."""

MOST_BONDS = 15_000
"""Maximum number of bonds of one crystal: 4 GB in SevenNet-0. Typical crystals of 300 atoms have
5,000.
"""


@dataclass
class SevenNet(ModelByName):
    """SevenNet with the weights that its wheel carries; works offline.

    Parameters
    ----------
    model : str
        ``"7net-0"`` or ``"7net-l3i5"``, or the file of a checkpoint.
    device : str, optional
        Default: ``"cuda"`` where there is one, else ``"cpu"``.
    batched : bool
        Many crystals in one pass; False takes SevenNet's own ASE calculator, one by one.
    name : str, optional
        What reports call the model of a file. Default: made of the file's name.
    allow_pickle : bool
        Read a file of the user's own. It is a pickle, which can run any code when it is read.

    Notes
    -----
    Both models were trained on uncorrected energies of the Materials Project: a hull beside them
    must hold such energies. Source: Park et al., J. Chem. Theory Comput. 20, 4857 (2024).
    """

    registered = SEVENNET
    model: str = SEVENNET.models[0].setting
    device: str | None = None
    batched: bool = True
    name: str | None = None
    allow_pickle: bool = False

    @cached_property
    def _checkpoint(self) -> Any:
        with quiet():
            with importing(SEVENNET):
                from sevenn.checkpoint import SevenNetCheckpoint
                from sevenn.util import pretrained_name_to_path
            published = SEVENNET.model(self.model)
            try:
                checkpoint = SevenNetCheckpoint(
                    model_file(SEVENNET, self.model, allow_pickle=self.allow_pickle)
                    if published is None
                    else pretrained_name_to_path(published.setting)
                )
                if checkpoint.config.get("use_modality", False):
                    raise InputError(
                        f"relaxer.model={self.model} was trained on several sets of energies, "
                        "which is not supported; use a model of one set"
                    )
            except InputError:
                raise
            except Exception as error:  # a foreign file: anything may be wrong with it
                raise self._can_not_load(error) from error
        return checkpoint

    def _weights_hash(self) -> str:
        return tensors_hash(self._checkpoint.model_state_dict)

    def evaluator(self) -> Evaluator:
        """The batched evaluator, or SevenNet's own calculator."""
        checkpoint = self._checkpoint
        device = best_device(self.device)
        with quiet():
            try:
                network = checkpoint.build_model().to(device)
                if self.batched:
                    return BatchedSevenNet(network)
                from sevenn.calculator import SevenNetCalculator

                return AseEvaluator(
                    SevenNetCalculator(network, file_type="model_instance", device=device)
                )
            except Exception as error:  # a device, an architecture: anything may be wrong
                raise self._can_not_load(error) from error

    def _can_not_load(self, error: Exception) -> InputError:
        where = best_device(self.device)
        return InputError(f"SevenNet can't load {self.model!r} on {where!r}: {first_line(error)}")


class BatchedSevenNet:
    """Energies, forces and stresses of many crystals with one SevenNet.

    The network is SevenNet's own up to the energies of the sites. Bonds are found here, each of
    them once, and the gradient is taken with respect to their vectors; sums over sites and bonds
    are made in double precision, so that they do not depend on the rest of the batch.

    Parameters
    ----------
    network : sevenn.nn.sequential.AtomGraphSequential
        Loaded, on its device.
    double : bool
        Work in double precision: slow, for checks.
    """

    def __init__(self, network: Any, *, double: bool = False) -> None:
        import torch

        self.dtype = torch.float64 if double else torch.float32
        self._network = network.to(self.dtype).eval()
        self._network.set_is_batch_data(True)
        self._network.requires_grad_(False)
        self.device = next(network.parameters()).device
        self.reach = float(network.cutoff)
        self._kinds = np.asarray(network.z_to_onehot_tensor.cpu(), dtype=np.int64)
        self._elements = frozenset(network.type_map)

    def compile_kernels(self) -> None:
        """Compile the search for bonds."""
        from novelty_metric.relaxation.neighbors import compile_kernels

        compile_kernels()

    @cached_property
    def budget(self) -> float:
        """Number of bonds that are evaluated together."""
        from novelty_metric.relaxation.bond_gradients import batch_budget

        return batch_budget(
            self.device, on_cpu=CPU_BUDGET, on_gpu=GPU_BUDGET, bytes_per_cost=BYTES_PER_COST
        )

    def cost(self, geometry: Geometry) -> float:
        """See `novelty_metric.relaxation.evaluators.Evaluator`."""
        return float(self._neighbors([geometry]).n_bonds + 1)

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        """See `novelty_metric.relaxation.evaluators.Evaluator`.

        A crystal with an atom out of the reach of all others, or an element that SevenNet does not
        know, has ``error`` set; the others are not touched by it.
        """
        from novelty_metric.relaxation.bond_gradients import evaluations_of, reproducible

        problems = [unknown_element(geometry, self._elements) for geometry in geometries]
        known = [one for one, problem in zip(geometries, problems, strict=True) if problem is None]
        results: list[Evaluation] = []
        if known:
            found = self._neighbors(known)
            n_sites = sum(len(geometry.numbers) for geometry in known)
            site_energies, gradient = np.zeros(n_sites), np.zeros((found.n_bonds, 3))
            if found.n_bonds:
                with reproducible(self.device):
                    site_energies, gradient = self._run(known, found, energy_only=energy_only)
            results = evaluations_of(known, found, site_energies, gradient)
        evaluated = iter(results)
        return [
            next(evaluated) if problem is None else Evaluation.failed(problem)
            for problem in problems
        ]

    def _neighbors(self, geometries: Sequence[Geometry]) -> Neighbors:
        from novelty_metric.relaxation.neighbors import find_neighbors

        found = find_neighbors(
            [geometry.cell for geometry in geometries],
            [geometry.positions for geometry in geometries],
            reach=self.reach,
            short=0.0,
        )
        most = int(np.bincount(found.crystal, minlength=1).max())
        if most > MOST_BONDS:
            raise ValueError(
                f"the atoms are too crowded: {most} bonds, more than {MOST_BONDS} per crystal"
            )
        return found

    def _run(
        self, geometries: Sequence[Geometry], found: Neighbors, *, energy_only: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energy of each site (eV), and the gradient of their sum with respect to each bond vector
        (eV/Å).
        """
        import sevenn._keys as KEY
        import torch

        def index(values: Any) -> Tensor:
            return torch.as_tensor(values, dtype=torch.int64, device=self.device)

        sizes = index([len(geometry.numbers) for geometry in geometries])
        numbers = np.concatenate([geometry.numbers for geometry in geometries])
        first, second = index(found.first), index(found.second)
        vectors = torch.from_numpy(found.vectors).to(dtype=self.dtype, device=self.device)
        vectors.requires_grad_(not energy_only)
        data: dict[str, Tensor] = {
            KEY.NODE_FEATURE: index(self._kinds[numbers]),
            KEY.ATOMIC_NUMBERS: index(numbers),
            # To SevenNet a bond is an edge from each of its ends.
            KEY.EDGE_IDX: torch.stack([torch.cat([first, second]), torch.cat([second, first])]),
            KEY.EDGE_VEC: torch.cat([vectors, -vectors]),
            KEY.NUM_ATOMS: sizes,
            KEY.BATCH: torch.repeat_interleave(sizes),
        }
        with torch.set_grad_enabled(not energy_only):
            for layer in self._network.children():
                data = layer(data)
                if KEY.ATOMIC_ENERGY in data:  # what follows are sums and their gradient
                    break
            energies = data[KEY.ATOMIC_ENERGY].flatten()
            gradient = torch.zeros_like(vectors)
            if not energy_only:
                (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        return (
            energies.detach().cpu().numpy().astype(np.float64),
            gradient.cpu().numpy().astype(np.float64),
        )
