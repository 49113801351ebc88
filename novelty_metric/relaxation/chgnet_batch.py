"""CHGNet for many crystals in one pass: energy, forces and stress, and nothing else.

The same network and the same weights as CHGNet's own ``CHGNet.forward``, arranged so that a
relaxation does not pay for what it never uses:

- a linear layer on concatenated features is the sum of a layer for each part, so that what belongs
  to an atom is multiplied once per atom and not once per bond, and what belongs to a bond once per
  bond and not once per angle;
- the embeddings of bonds and angles are linear, and are multiplied into the layers behind them;
- bonds and angles that occur in two directions share what does not depend on the direction;
- of the sites, bonds and angles that the symmetry of a crystal makes alike, one is evaluated;
- the gradient is taken with respect to the bond vectors; forces and stress follow from it without
  the network. No graph of the gradient is kept, no magnetic moments, and not the last angle
  update, which nothing reads.

The weights are taken from the file of the wheel by name, without an import of CHGNet's package,
which takes ASE's optimisers and matplotlib along: two thirds of the start of a process. An
architecture that is not that of the published weights 0.3.0 is refused, see `BatchedChgnet`.

Architecture: Deng et al., Nat. Mach. Intell. 5, 1031 (2023).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from novelty_metric.relaxation.base import Geometry
from novelty_metric.relaxation.bond_gradients import batch_budget, evaluations_of, reproducible
from novelty_metric.relaxation.distinct import Distinct, find_distinct
from novelty_metric.relaxation.gated_layer import NORM_EPS, Gate, Pairs, Terms
from novelty_metric.relaxation.neighbors import Neighbors, find_neighbors

if TYPE_CHECKING:
    from novelty_metric.relaxation.base import Evaluation

_SQRT_PI = math.sqrt(math.pi)

CPU_BUDGET = 4500.0
"""Bonds and angles of a batch on a processor: about a dozen crystals of ten atoms."""

GPU_BUDGET = 300_000.0
"""Bonds and angles of a batch on a GPU: about eight hundred crystals of ten atoms."""

BYTES_PER_COST = 30_000.0
"""Memory that a bond or an angle takes; 26,500 measured, on 200 crystals of MP-20."""


@dataclass(frozen=True)
class ChgnetWeights:
    """Content of a file of weights: the settings of the network, and its tensors by name."""

    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> ChgnetWeights:
        """Read a file of CHGNet's wheel; no code in it is run."""
        content = torch.load(path, map_location="cpu", weights_only=True)["model"]
        return cls(content["model_args"], content["state_dict"])


@dataclass(frozen=True)
class _AngleLayer:
    """A layer on angles: weights of its two bonds, its angle and its atom, and the gate."""

    ends: Tensor
    angle: Tensor
    center: Tensor
    bias: Tensor
    gate: Gate

    def terms(
        self,
        fixed: tuple[Tensor, Tensor],
        atoms: Tensor,
        changes: tuple[Tensor | None, Tensor | None],
        pairs: Pairs,
    ) -> Terms:
        """Terms that are added for each angle, in both directions.

        Parameters
        ----------
        fixed : two Tensors
            What the lengths of the short bonds give to this layer, and what the angles do.
        atoms : Tensor, (n_sites, 64)
        changes : two Tensors or None
            By how much the layers before have changed the features of short bonds and of angles.
        pairs : Pairs
            First bond, second bond and site of each angle.
        """
        of_short, of_angle = fixed
        bond_change, angle_change = changes
        if bond_change is not None:
            of_short = torch.addmm(of_short, bond_change, self.ends)
        own, other = of_short.chunk(2, dim=1)
        return Terms(
            pairs=pairs,
            own=own,
            other=other,
            of_pairs=(of_angle,),
            of_apex=torch.addmm(self.bias, atoms, self.center),
            product=None if angle_change is None else (angle_change, self.angle),
        )


@dataclass(frozen=True)
class _Graph:
    """Input of the network on the device: sites, bonds and angles, or one of each class.

    Attributes
    ----------
    kinds : Tensor, (n_sites,)
        Atomic numbers less one.
    first, second : Tensor, (n_bonds,)
        The sites of a bond; the short bonds come first.
    n_short : int
    left, right, apex : Tensor, (n_angles,)
        The short bonds and the site of an angle.
    sign : Tensor, (n_angles,)
    alike : _Alike or None
        How many things each stands for; None where each stands for itself.
    """

    kinds: Tensor
    first: Tensor
    second: Tensor
    n_short: int
    left: Tensor
    right: Tensor
    apex: Tensor
    sign: Tensor
    alike: _Alike | None


@dataclass(frozen=True)
class _Alike:
    """Relation of the classes of a batch to its sites, bonds and angles.

    Attributes
    ----------
    class_of_site : Tensor, (all sites,)
    sites : Tensor, (n_sites,)
        Sites of a class.
    bonds : Tensor, (n_bonds,)
        The bond, among all of them, that stands for a class.
    left, right : Tensor, (n_angles,)
        The bonds, among all of them, of the angle that stands for a class.
    per_site : Tensor, (2, n_bonds, 1)
        Bonds of a class at each site of the class of its first end, and of its second end.
    per_bond : Tensor, (2, n_angles, 1)
        Angles of a class at each bond of the class of its left bond, and of its right bond.
    """

    class_of_site: Tensor
    sites: Tensor
    bonds: Tensor
    left: Tensor
    right: Tensor
    per_site: Tensor
    per_bond: Tensor


class BatchedChgnet:
    """Energies, forces and stresses of many crystals with one CHGNet.

    Parameters
    ----------
    weights : ChgnetWeights
    device : str
    double : bool
        Work in double precision: slow, for checks.

    Notes
    -----
    On a processor, in single precision, the gated layers are compiled; see `by_torch`.

    Raises
    ------
    ValueError
        If the network has another architecture.
    """

    def __init__(
        self, weights: ChgnetWeights, device: str = "cpu", *, double: bool = False
    ) -> None:
        _check_architecture(weights)
        self.device = torch.device(device)
        self.dtype = torch.float64 if double else torch.float32
        self.reach = float(weights.settings["atom_graph_cutoff"])
        self.short = float(weights.settings["bond_graph_cutoff"])
        self._compiled = self.device.type == "cpu" and not double
        with torch.no_grad():
            self._take_weights(weights)

    # -- weights -----------------------------------------------------------------------------

    def _take_weights(self, weights: ChgnetWeights) -> None:
        of = _Part(weights.tensors)
        self._n_convolutions = int(weights.settings["n_conv"])
        basis = of["bond_basis_expansion"]
        self._radial = self._kept(_exact(basis.tensor("rbf_expansion_ag.frequencies")) / self.reach)
        self._radial_short = self._kept(
            _exact(basis.tensor("rbf_expansion_bg.frequencies")) / self.short
        )
        self._envelope = int(weights.settings["cutoff_coeff"])
        self._angular = self._kept(
            _exact(of.tensor("angle_basis_expansion.fourier_expansion.frequencies"))
        )
        self._atoms = self._kept(of.tensor("atom_embedding.embedding.weight"))
        self._references = _exact(of.tensor("composition_model.fc.weight")).numpy().ravel()
        self._take_atom_layers(of)
        self._short_weights = self._kept(_matrix(of["bond_weights_bg"]) * math.sqrt(2 / self.short))
        self._take_angle_layers(of)
        self._readout_norm = self._norm(of["readout_norm"])
        self._readout = [
            (self._kept(_matrix(layer)), self._kept(layer.tensor("bias")))
            for layer in _linear_layers(of["mlp"])
        ]

    def _take_atom_layers(self, of: _Part) -> None:
        bond_embedding = _matrix(of["bond_embedding"])
        # What is a function of a bond's length alone, for all layers in one product.
        parts = [_matrix(of["bond_weights_ag"]) * math.sqrt(2 / self.reach)]
        self._atom_centers: list[Tensor] = []
        self._atom_neighbors: list[Tensor] = []
        self._atom_bonds: list[Tensor] = []
        self._atom_biases: list[Tensor] = []
        self._atom_gates: list[Gate] = []
        self._atom_outs: list[Tensor] = []
        for number in range(self._n_convolutions):
            layer = of[f"atom_conv_layers.{number}"]
            first, bias = _first_layer(layer["twoBody_atom"])
            center, bond, neighbor = first.split(64)
            parts.append(bond_embedding @ bond * math.sqrt(2 / self.reach))
            self._atom_centers.append(self._kept(center))
            self._atom_neighbors.append(self._kept(neighbor))
            self._atom_bonds.append(self._kept(bond))
            self._atom_biases.append(self._kept(bias))
            self._atom_gates.append(self._gate(layer["twoBody_atom"]))
            self._atom_outs.append(self._kept(_matrix(_linear_layers(layer["mlp_out"])[-1])))
        self._of_length = self._kept(torch.cat(parts, dim=1))

    def _take_angle_layers(self, of: _Part) -> None:
        bond_embedding = _matrix(of["bond_embedding"])
        angle_embedding = _matrix(of["angle_embedding"]) / _SQRT_PI
        angle_parts = []
        length_parts = []
        self._bond_layers: list[_AngleLayer] = []
        self._angle_layers: list[_AngleLayer] = []
        self._bond_outs: list[Tensor] = []
        # Nothing reads what the last layer on angles gives.
        names = [f"bond_conv_layers.{number}" for number in range(self._n_convolutions - 1)]
        names += [f"angle_layers.{number}" for number in range(self._n_convolutions - 2)]
        for name in names:
            layer = of[name]
            first, bias = _first_layer(layer["twoBody_bond"])
            left, right, angle, center = first.split(64)
            angle_parts.append(angle_embedding @ angle)
            length_parts += [
                bond_embedding @ left * math.sqrt(2 / self.reach),
                bond_embedding @ right * math.sqrt(2 / self.reach),
            ]
            made = _AngleLayer(
                ends=self._kept(torch.cat([left, right], dim=1)),
                angle=self._kept(angle),
                center=self._kept(center),
                bias=self._kept(bias),
                gate=self._gate(layer["twoBody_bond"]),
            )
            if name.startswith("bond"):
                self._bond_layers.append(made)
                self._bond_outs.append(self._kept(_matrix(_linear_layers(layer["mlp_out"])[-1])))
            else:
                self._angle_layers.append(made)
        self._of_angle = self._kept(torch.cat(angle_parts, dim=1))
        self._of_short_length = self._kept(torch.cat(length_parts, dim=1))

    def _kept(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(dtype=self.dtype).to(device=self.device).contiguous()

    def _norm(self, norm: _Part) -> tuple[Tensor, Tensor]:
        return self._kept(norm.tensor("weight")), self._kept(norm.tensor("bias"))

    def _gate(self, gated: _Part) -> Gate:
        core, gate = _linear_layers(gated["mlp_core"]), _linear_layers(gated["mlp_gate"])
        return Gate(
            weights=(self._kept(_matrix(core[-1])), self._kept(_matrix(gate[-1])))
            if len(core) == 2
            else None,
            biases=(self._kept(core[-1].tensor("bias")), self._kept(gate[-1].tensor("bias"))),
            norms=torch.stack([*self._norm(gated["bn1"]), *self._norm(gated["bn2"])]),
        )

    # -- evaluation --------------------------------------------------------------------------

    def neighbors(self, geometries: Sequence[Geometry]) -> Neighbors:
        """Bonds and angles of the crystals, as CHGNet counts them."""
        return find_neighbors(
            [geometry.cell for geometry in geometries],
            [geometry.positions for geometry in geometries],
            reach=self.reach,
            short=self.short,
        )

    def compile_kernels(self) -> None:
        """Compile the search for bonds and angles, and the gated layers."""
        sites = np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
        self.evaluate([Geometry(np.array([11, 17]), 4 * np.eye(3), sites)])

    @cached_property
    def by_torch(self) -> BatchedChgnet:
        """The same without compiled layers, so that results stay the same to the last digit."""
        other = copy.copy(self)
        other._compiled = False
        return other

    @cached_property
    def budget(self) -> float:
        """Bonds and angles that are evaluated together."""
        return batch_budget(
            self.device, on_cpu=CPU_BUDGET, on_gpu=GPU_BUDGET, bytes_per_cost=BYTES_PER_COST
        )

    def cost(self, geometry: Geometry) -> float:
        """See `novelty_metric.relaxation.evaluators.Evaluator`."""
        found = self.neighbors([geometry])
        distinct = find_distinct([geometry], found)
        if distinct is None:
            return float(found.n_bonds + found.n_pairs + 1)
        return float(len(distinct.bonds.sizes) + len(distinct.angles.sizes) + 1)

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        """Energy (eV), forces (eV/Å) and stress (eV/Å³) of each crystal.

        A crystal with an atom out of the reach of all others has ``error`` set; the others are
        not touched by it.
        """
        found = self.neighbors(geometries)
        numbers = np.concatenate([geometry.numbers for geometry in geometries])
        unknown = (numbers < 1) | (numbers > len(self._references))
        kinds = np.where(unknown, 0, numbers - 1)
        site_energies, gradient = np.zeros(len(numbers)), np.zeros((found.n_bonds, 3))
        distinct = find_distinct(geometries, found)
        if found.n_bonds:
            with reproducible(self.device), torch.set_grad_enabled(not energy_only):
                site_energies, gradient = self._run(kinds, found, distinct, energy_only=energy_only)
        site_energies += self._references[kinds]
        site_energies[unknown] = math.nan
        evaluations = evaluations_of(geometries, found, site_energies, gradient)
        return evaluations if distinct is None else distinct.averaged(geometries, evaluations)

    def _run(
        self, kinds: Any, found: Neighbors, distinct: Distinct | None, *, energy_only: bool
    ) -> tuple[Any, Any]:
        """Energy of each site (eV) and its sum's gradient against each bond vector (eV/Å)."""
        # Lengths and angles are taken in double precision where the device has it: an angle near
        # 180 degrees loses half its digits otherwise.
        precise = torch.float32 if self.device.type == "mps" else torch.float64
        vectors = torch.from_numpy(found.vectors).to(dtype=precise).to(device=self.device)
        vectors.requires_grad_(not energy_only)
        graph = self._graph(kinds, found, distinct, precise)
        energies = self._site_energies(vectors, graph)
        if energy_only:
            gradient = torch.zeros_like(vectors)
        else:
            total = (energies if graph.alike is None else energies * graph.alike.sites).sum()
            (gradient,) = torch.autograd.grad(total, vectors)
        if graph.alike is not None:
            energies = energies.index_select(0, graph.alike.class_of_site)
        return (
            energies.detach().cpu().numpy().astype(np.float64),
            gradient.cpu().numpy().astype(np.float64),
        )

    def _graph(
        self, kinds: Any, found: Neighbors, distinct: Distinct | None, precise: torch.dtype
    ) -> _Graph:
        def on_device(values: Any, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.from_numpy(values).to(dtype=dtype).to(device=self.device)

        if distinct is None:
            return _Graph(
                kinds=on_device(kinds),
                first=on_device(found.first),
                second=on_device(found.second),
                n_short=found.n_short,
                left=on_device(found.left),
                right=on_device(found.right),
                apex=on_device(found.apex),
                sign=on_device(found.sign, precise),
                alike=None,
            )
        sites, bonds, angles = distinct.sites, distinct.bonds, distinct.angles
        left, right = found.left[angles.first], found.right[angles.first]
        ends = sites.of[np.stack([found.first[bonds.first], found.second[bonds.first]])]
        sides = bonds.of[np.stack([left, right])]
        return _Graph(
            kinds=on_device(kinds[sites.first]),
            first=on_device(ends[0]),
            second=on_device(ends[1]),
            n_short=distinct.n_short,
            left=on_device(sides[0]),
            right=on_device(sides[1]),
            apex=on_device(sites.of[found.apex[angles.first]]),
            sign=on_device(found.sign[angles.first], precise),
            alike=_Alike(
                class_of_site=on_device(sites.of),
                sites=on_device(sites.sizes, self.dtype),
                bonds=on_device(bonds.first),
                left=on_device(left),
                right=on_device(right),
                per_site=on_device((bonds.sizes / sites.sizes[ends])[:, :, None], self.dtype),
                per_bond=on_device((angles.sizes / bonds.sizes[sides])[:, :, None], self.dtype),
            ),
        )

    def _site_energies(self, vectors: Tensor, graph: _Graph) -> Tensor:
        n_short, left, right, alike = graph.n_short, graph.left, graph.right, graph.alike
        precise_lengths = torch.linalg.vector_norm(vectors, dim=1)
        if alike is None:
            with_angles, to_left, to_right = slice(0, n_short), left, right
            lengths = precise_lengths.to(self.dtype)
        else:
            with_angles, to_left, to_right = slice(0, len(vectors)), alike.left, alike.right
            lengths = precise_lengths.index_select(0, alike.bonds).to(self.dtype)
        basis = _radial_basis(lengths, self.reach, self._radial, self._envelope)
        # Split at once: the gradient of a slice would be a whole matrix of zeros each time.
        bond_weights, *of_length = (basis @ self._of_length).split(
            [64] + [128] * self._n_convolutions, dim=1
        )
        if alike is not None:
            bond_weights = bond_weights * alike.per_site
        atoms = self._atoms.index_select(0, graph.kinds)
        bonds = Pairs(graph.first, graph.second)

        angles_exist = len(left) > 0
        if angles_exist:
            short = slice(0, n_short)
            unit = vectors[with_angles] / precise_lengths[with_angles, None]
            weights = (
                _radial_basis(lengths[short], self.short, self._radial_short, self._envelope)
                @ self._short_weights
            )
            cosines = (unit.index_select(0, to_left) * unit.index_select(0, to_right)).sum(1)
            angles = torch.acos(cosines * graph.sign * (1 - 1e-6)).to(self.dtype)
            turned = angles[:, None] * self._angular
            angle_basis = torch.cat(
                [
                    torch.full_like(angles[:, None], 1 / math.sqrt(2)),
                    torch.sin(turned),
                    torch.cos(turned),
                ],
                dim=1,
            )
            of_angle = (angle_basis @ self._of_angle).split(128, dim=1)
            of_short = (basis[short] @ self._of_short_length).split(256, dim=1)
            pair_weights = weights.index_select(0, left) * weights.index_select(0, right)
            if alike is not None:
                pair_weights = pair_weights * alike.per_bond
            pairs = Pairs(left, right, graph.apex)
            bond_change: Tensor | None = None
            angle_change: Tensor | None = None

        for number in range(self._n_convolutions):
            messages: tuple[Tensor, ...] = (of_length[number],)
            if angles_exist and bond_change is not None:
                near, far = messages[0].split([n_short, len(messages[0]) - n_short])
                messages = torch.addmm(near, bond_change, self._atom_bonds[number]), far
            centers = torch.addmm(self._atom_biases[number], atoms, self._atom_centers[number])
            neighbors = atoms @ self._atom_neighbors[number]
            terms = Terms(bonds, centers, neighbors, messages)
            summed = self._atom_gates[number](terms, bond_weights, compiled=self._compiled)
            atoms = torch.addmm(atoms, summed, self._atom_outs[number])
            if not angles_exist or number == self._n_convolutions - 1:
                continue
            layer = self._bond_layers[number]
            terms = layer.terms(
                (of_short[number], of_angle[number]), atoms, (bond_change, angle_change), pairs
            )
            summed = layer.gate(terms, pair_weights, compiled=self._compiled)
            out = self._bond_outs[number]
            bond_change = (
                summed @ out if bond_change is None else torch.addmm(bond_change, summed, out)
            )
            if number == self._n_convolutions - 2:
                continue
            slot = len(self._bond_layers) + number
            layer = self._angle_layers[number]
            terms = layer.terms(
                (of_short[slot], of_angle[slot]), atoms, (bond_change, angle_change), pairs
            )
            update = layer.gate(terms, None, compiled=self._compiled)
            angle_change = update if angle_change is None else angle_change + update

        features = functional.layer_norm(atoms, (64,), *self._readout_norm, NORM_EPS)
        for at, (weight, bias) in enumerate(self._readout):
            if at:
                features = functional.silu(features)
            features = torch.addmm(bias, features, weight)
        return features[:, 0]


def _radial_basis(lengths: Tensor, reach: float, frequencies: Tensor, p: int) -> Tensor:
    """Bessel functions under a smooth envelope, without their constant factor."""
    scaled = lengths / reach
    power = scaled**p
    envelope = (
        1
        - (p + 1) * (p + 2) / 2 * power
        + p * (p + 2) * power * scaled
        - p * (p + 1) / 2 * power * scaled * scaled
    )
    envelope = torch.where(scaled < 1, envelope, torch.zeros_like(envelope))
    return torch.sin(lengths[:, None] * frequencies) * (envelope / lengths)[:, None]


def _check_architecture(weights: ChgnetWeights) -> None:
    """Refuse weights whose network is not the one that is written here."""
    wanted = {
        "atom_fea_dim": 64,
        "bond_fea_dim": 64,
        "angle_fea_dim": 64,
        "num_radial": 31,
        "num_angular": 31,
        "n_conv": 4,
        "atom_conv_hidden_dim": 64,
        "update_bond": True,
        "bond_conv_hidden_dim": 64,
        "update_angle": True,
        "angle_layer_hidden_dim": 0,
        "mlp_first": True,
        "is_intensive": True,
        "non_linearity": "silu",
        "gMLP_norm": "layer",
        "readout_norm": "layer",
    }
    for name, value in wanted.items():
        found = weights.settings.get(name)
        if found != value:
            raise ValueError(f"a CHGNet with {name}={found!r} is not supported; known: {value!r}")


@dataclass(frozen=True)
class _Part:
    """A part of the network: its tensors by their names in the whole of it."""

    tensors: Mapping[str, Tensor]
    name: str = ""

    def __getitem__(self, name: str) -> _Part:
        return _Part(self.tensors, f"{self.name}{name}.")

    def tensor(self, name: str) -> Tensor:
        return self.tensors[self.name + name]


def _linear_layers(part: _Part) -> list[_Part]:
    """The linear layers of a perceptron, in order; what lies between them has no weights."""
    start = f"{part.name}layers."
    numbers = {
        int(key[len(start) :].split(".")[0]) for key in part.tensors if key.startswith(start)
    }
    return [part[f"layers.{number}"] for number in sorted(numbers)]


def _matrix(linear: _Part) -> Tensor:
    """Weights of a linear layer in double precision, to be multiplied from the right."""
    return _exact(linear.tensor("weight")).T


def _exact(tensor: Tensor) -> Tensor:
    """In double precision, which not every device has."""
    return tensor.detach().cpu().double()


def _first_layer(gated: _Part) -> tuple[Tensor, Tensor]:
    """First linear layers of core and gate side by side; a gate of one layer has its bias later."""
    core, gate = _linear_layers(gated["mlp_core"])[0], _linear_layers(gated["mlp_gate"])[0]
    return (
        torch.cat([_matrix(core), _matrix(gate)], dim=1),
        torch.cat([core.tensor("bias"), gate.tensor("bias")]),
    )
