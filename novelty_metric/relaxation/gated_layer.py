"""A gated layer of CHGNet on pairs of ends: by torch, or compiled for a processor.

Both ways give the same values but for rounding. Torch works on every device and in double
precision; the compiled way is for single precision on a processor, and quicker there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from novelty_metric.relaxation import gate_kernels as kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

NORM_EPS = 1e-5
"""Added to the variance by CHGNet's layer norms: the default of torch."""

_WIDTH = kernels.WIDTH


@dataclass(frozen=True)
class Pairs:
    """Pairs of ends, each seen from its left end first and from its right end then.

    Attributes
    ----------
    left, right : Tensor, (n_pairs,)
    apex : Tensor, (n_pairs,), or None
        The site of an angle.
    """

    left: Tensor
    right: Tensor
    apex: Tensor | None = None

    @cached_property
    def ends(self) -> Tensor:
        """The end from which a pair is seen, (2 * n_pairs,)."""
        return torch.cat([self.left, self.right])

    @cached_property
    def others(self) -> Tensor:
        """The other end, (2 * n_pairs,)."""
        return torch.cat([self.right, self.left])

    @cached_property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Left, right and apex (or nothing) for the kernels."""
        apex = self.left[:0] if self.apex is None else self.apex
        return (
            self.left.contiguous().numpy(),
            self.right.contiguous().numpy(),
            apex.contiguous().numpy(),
        )


@dataclass(frozen=True)
class Terms:
    """Terms that are added before the gate; the matrices have 128 columns.

    Attributes
    ----------
    pairs : Pairs
    own, other : Tensor, (n_ends, 128)
        Of the end from which a pair is seen, and of its other end.
    of_pairs : tuple of one or two Tensors, together (n_pairs, 128)
    of_apex : Tensor, (n_sites, 128), or None
    product : two Tensors, (2 * n_pairs, 64) and (64, 128), or None
        Their product is added, row by row.
    """

    pairs: Pairs
    own: Tensor
    other: Tensor
    of_pairs: tuple[Tensor, ...]
    of_apex: Tensor | None = None
    product: tuple[Tensor, Tensor] | None = None

    def summed(self) -> Tensor:
        """The sum of the terms, (2 * n_pairs, 128), by torch."""
        pairs = self.pairs
        of_pairs = self.of_pairs[0] if len(self.of_pairs) == 1 else torch.cat(self.of_pairs)
        apex = None
        if self.of_apex is not None and pairs.apex is not None:
            apex = self.of_apex.index_select(0, pairs.apex)
        hidden = self.own.index_select(0, pairs.ends) + self.other.index_select(0, pairs.others)
        if apex is not None:
            of_pairs = of_pairs + apex
        hidden = (hidden.view(2, -1, 2 * _WIDTH) + of_pairs).view(-1, 2 * _WIDTH)
        return hidden if self.product is None else torch.addmm(hidden, *self.product)


@dataclass(frozen=True)
class Gate:
    """Second half of a gated layer.

    Attributes
    ----------
    weights : two Tensors, (64, 64), or None
        Of the core and of the gate; without them, the sums go to the norms as they are.
    biases : two Tensors, (64,)
    norms : Tensor, (4, 64)
        Scale and shift of the core's layer norm, then of the gate's.
    """

    weights: tuple[Tensor, Tensor] | None
    biases: tuple[Tensor, Tensor]
    norms: Tensor

    def __call__(self, terms: Terms, weights: Tensor | None, *, compiled: bool) -> Tensor:
        """Output of the gate.

        Parameters
        ----------
        terms : Terms
        weights : Tensor, (n_pairs, 64) or (2, n_pairs, 64), or None
            Of what is added up at the end from which a pair is seen; None: nothing is added up.
        compiled : bool
            Take the kernels: for single precision on a processor.

        Returns
        -------
        Tensor, (n_ends, 64); without `weights`, (2 * n_pairs, 64)
        """
        if compiled:
            product = None if terms.product is None else terms.product[0] @ terms.product[1]
            near, far = (terms.of_pairs[0][:0], *terms.of_pairs)[-2:]
            passed: Tensor = _Compiled.apply(
                self,
                terms.pairs,
                terms.own,
                terms.other,
                near,
                far,
                terms.of_apex,
                product,
                weights,
            )
            return passed
        passed = self._passed(terms.summed())
        if weights is None:
            return passed
        passed = (passed.view(2, -1, _WIDTH) * weights).view(-1, _WIDTH)
        return passed.new_zeros((len(terms.own), _WIDTH)).index_add(0, terms.pairs.ends, passed)

    def _passed(self, hidden: Tensor) -> Tensor:
        if self.weights is None:
            core, gate = hidden.chunk(2, dim=1)
        else:
            core, gate = functional.silu(hidden).chunk(2, dim=1)
            core = torch.addmm(self.biases[0], core, self.weights[0])
            gate = torch.addmm(self.biases[1], gate, self.weights[1])
        core_scale, core_shift, gate_scale, gate_shift = self.norms
        core = functional.layer_norm(core, (_WIDTH,), core_scale, core_shift, NORM_EPS)
        gate = functional.layer_norm(gate, (_WIDTH,), gate_scale, gate_shift, NORM_EPS)
        return functional.silu(core) * torch.sigmoid(gate)


class _Compiled(torch.autograd.Function):
    """The kernels and the products between them, with their gradients; the weights get none."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        gate: Gate,
        pairs: Pairs,
        own: Tensor,
        other: Tensor,
        near: Tensor,
        far: Tensor,
        of_apex: Tensor | None,
        product: Tensor | None,
        weights: Tensor | None,
    ) -> Tensor:
        n_rows, active = 2 * len(pairs.left), gate.weights is not None
        differentiated = any(ctx.needs_input_grad)
        rows = own.new_empty((n_rows, 2 * _WIDTH))
        n_slopes = (n_rows if differentiated else 1) if active else 0
        slopes = own.new_empty((n_slopes, 2 * _WIDTH))
        kernels.gather(
            pairs.arrays,
            (_memory(own), _memory(other)),
            (_memory(near), _memory(far), len(near)),
            _array(of_apex),
            _array(product),
            rows.numpy(),
            slopes.numpy(),
            active,
        )
        if gate.weights is not None:
            hidden, rows = rows, torch.empty_like(rows)
            for half, bias, weight in zip(_HALVES, gate.biases, gate.weights, strict=True):
                torch.addmm(bias, hidden[:, half], weight, out=rows[:, half])
        if weights is None:
            of_weights, shape = (_NOTHING, 0, 0), torch.Size((0, _WIDTH))
            out = own.new_empty((n_rows, _WIDTH))
        else:
            shape = weights.shape
            side_step = 0 if weights.dim() == 2 else shape[1] * _WIDTH
            of_weights = (*_memory(weights.reshape(-1, _WIDTH)), side_step)
            out = own.new_zeros((len(own), _WIDTH))
        kernels.pass_gate(rows.numpy(), gate.norms.numpy(), pairs.arrays, of_weights, out.numpy())
        if differentiated:
            sizes = [0 if each is None else len(each) for each in (own, near, far, of_apex)]
            ctx.kept = gate, pairs, rows, slopes, of_weights, shape, sizes
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        gate, pairs, rows, slopes, of_weights, shape, sizes = ctx.kept
        del ctx.kept  # the kernels write over it
        n_ends, n_near, n_far, n_apex = sizes
        needed = ctx.needs_input_grad
        (of_out,) = gradients
        weights = of_out.new_empty(shape)
        kernels.pass_gate_back(
            rows.numpy(),
            gate.norms.numpy(),
            pairs.arrays,
            of_weights,
            of_out.contiguous().numpy(),
            weights.view(-1, _WIDTH).numpy(),
        )
        if gate.weights is not None:
            behind, rows = rows, torch.empty_like(rows)
            for half, weight in zip(_HALVES, gate.weights, strict=True):
                torch.mm(behind[:, half], weight.T, out=rows[:, half])
        own, other = of_out.new_zeros((2, n_ends, 2 * _WIDTH))
        near, far = (of_out.new_empty((size, 2 * _WIDTH)) for size in (n_near, n_far))
        of_apex = of_out.new_zeros((n_apex, 2 * _WIDTH))
        kernels.scatter(
            rows.numpy(),
            slopes.numpy(),
            pairs.arrays,
            (own.numpy(), other.numpy()),
            (near.numpy(), far.numpy()),
            of_apex.numpy(),
            needed[7],
        )
        return (
            None,
            None,
            own,
            other,
            near,
            far,
            of_apex if needed[6] else None,
            rows if needed[7] else None,
            weights if needed[8] else None,
        )


_HALVES = slice(0, _WIDTH), slice(_WIDTH, 2 * _WIDTH)
_NOTHING = np.zeros(0, np.float32)


def _array(matrix: Tensor | None) -> NDArray[np.float32]:
    if matrix is None:
        return _NOTHING.reshape(0, 2 * _WIDTH)
    found: NDArray[np.float32] = matrix.detach().contiguous().numpy()
    return found


def _memory(matrix: Tensor) -> tuple[NDArray[np.float32], int]:
    """Memory of a matrix from its first element on, and the distance of two of its rows."""
    n_rows, width = matrix.shape
    if n_rows == 0:
        return _NOTHING, 0
    matrix = matrix.detach()
    step = matrix.stride(0)
    assert matrix.stride(1) == 1, "the columns lie side by side"
    return matrix.as_strided(((n_rows - 1) * step + width,), (1,)).numpy(), step
