"""The steps of a gated layer between its matrix products, compiled for a processor.

A pair joins two ends and is seen from both: row ``pair`` is its view from the left end and row
``n_pairs + pair`` that from the right one. Matrices whose rows may lie apart in memory come as
their flat memory and the distance of two rows. Loops run over slices of known length, which lets
the compiler use vector instructions. Nothing here depends on the number of threads.

This module imports numba and is itself imported only on use.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.relaxation.neighbors import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Rows = tuple[NDArray[np.float32], int]
    Indices = NDArray[np.int64]

_fast = partial(
    compiled, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp", "afn"}
)
_single = np.float32

WIDTH = 64
"""Features of a gate, and of each half of the layer before it."""

_BOTH = 2 * WIDTH
_SHARE = np.float32(1 / WIDTH)
_NORM_EPS = np.float32(1e-5)


@_fast
def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), within 3e-7; the exponential is the one of Cephes' ``expf``."""
    x = min(max(-x, _single(-87.0)), _single(87.0))
    power = np.floor(x * _single(1.4426950408889634) + _single(0.5))
    rest = x - power * _single(0.693359375) + power * _single(2.12194440e-4)
    value = _single(1.9875691500e-4)
    value = value * rest + _single(1.3981999507e-3)
    value = value * rest + _single(8.3334519073e-3)
    value = value * rest + _single(4.1665795894e-2)
    value = value * rest + _single(1.6666665459e-1)
    value = value * rest + _single(5.0000001201e-1)
    value = value * rest * rest + rest + _single(1.0)
    bits = (np.int32(power) + np.int32(127)) << np.int32(23)
    return _single(1.0) / (_single(1.0) + value * np.int32(bits).view(np.float32))


@partial(_fast, inline="always")  # as a call of its own it takes as long as all the rest
def _statistics(core: Floats, gate: Floats) -> tuple[Any, Any, Any, Any]:
    """Mean of each, and one over its standard deviation."""
    core_mean, gate_mean = _single(0.0), _single(0.0)
    for k in range(WIDTH):
        core_mean += core[k]
        gate_mean += gate[k]
    core_mean *= _SHARE
    gate_mean *= _SHARE
    core_square, gate_square = _single(0.0), _single(0.0)
    for k in range(WIDTH):
        core_square += (core[k] - core_mean) * (core[k] - core_mean)
        gate_square += (gate[k] - gate_mean) * (gate[k] - gate_mean)
    core_scale = _single(1.0) / np.sqrt(core_square * _SHARE + _NORM_EPS)
    gate_scale = _single(1.0) / np.sqrt(gate_square * _SHARE + _NORM_EPS)
    return core_mean, core_scale, gate_mean, gate_scale


@_fast
def gather(  # noqa: PLR0917
    pairs: tuple[Indices, Indices, Indices],
    ends: tuple[Rows, Rows],
    of_pairs: tuple[Rows, Rows, int],
    of_apex: Floats,
    extra: Floats,
    hidden: Floats,
    slopes: Floats,
    active: bool,
) -> None:
    """Sums of what belongs to the ends, the pair and its apex, and their SiLU where `active`.

    ``of_pairs`` has two parts and the length of the first; ``of_apex`` and ``extra`` (by row) may
    be empty. ``slopes`` gets the derivatives of the SiLU; it may be one row, which is overwritten.
    """
    left, right, apex = pairs
    (own, own_step), (other, other_step) = ends
    (near, near_step), (far, far_step), n_near = of_pairs
    n_pairs = len(left)
    base = np.empty(_BOTH, np.float32)
    sums = np.empty(_BOTH, np.float32)
    for pair in range(n_pairs):
        if pair < n_near:
            of_pair = near[pair * near_step : pair * near_step + _BOTH]
        else:
            of_pair = far[(pair - n_near) * far_step : (pair - n_near) * far_step + _BOTH]
        if len(of_apex) > 0:
            at = of_apex[apex[pair]]
            for k in range(_BOTH):
                base[k] = of_pair[k] + at[k]
        else:
            for k in range(_BOTH):
                base[k] = of_pair[k]
        for side in range(2):
            i, j = (left[pair], right[pair]) if side == 0 else (right[pair], left[pair])
            of_own = own[i * own_step : i * own_step + _BOTH]
            of_other = other[j * other_step : j * other_step + _BOTH]
            row = hidden[side * n_pairs + pair]
            for k in range(_BOTH):
                sums[k] = base[k] + of_own[k] + of_other[k]
            if len(extra) > 0:
                more = extra[side * n_pairs + pair]
                for k in range(_BOTH):
                    sums[k] += more[k]
            if not active:
                for k in range(_BOTH):
                    row[k] = sums[k]
            else:
                slope = slopes[min(side * n_pairs + pair, len(slopes) - 1)]
                for k in range(_BOTH):
                    s = _sigmoid(sums[k])
                    h = sums[k] * s
                    row[k] = h
                    slope[k] = s + h - h * s


@_fast
def pass_gate(
    rows: Floats,
    norms: Floats,
    pairs: tuple[Indices, Indices, Indices],
    weights: tuple[Floats, int, int],
    out: Floats,
) -> None:
    """SiLU of the normalised core times the sigmoid of the normalised gate.

    With ``weights`` (memory, distance of two pairs, distance of the two sides), what passes is
    multiplied by them and added up at the own end of each row; else ``out`` gets it row by row.
    """
    left, right, _ = pairs
    memory, step, side_step = weights
    n_pairs = len(left)
    passed = np.empty(WIDTH, np.float32)
    for pair in range(n_pairs):
        for side in range(2):
            row = rows[side * n_pairs + pair]
            core, gate = row[:WIDTH], row[WIDTH:]
            core_mean, core_scale, gate_mean, gate_scale = _statistics(core, gate)
            for k in range(WIDTH):
                u = (core[k] - core_mean) * core_scale * norms[0, k] + norms[1, k]
                v = (gate[k] - gate_mean) * gate_scale * norms[2, k] + norms[3, k]
                passed[k] = u * _sigmoid(u) * _sigmoid(v)
            if len(memory) > 0:
                to = out[left[pair] if side == 0 else right[pair]]
                at = pair * step + side * side_step
                weight = memory[at : at + WIDTH]
                for k in range(WIDTH):
                    to[k] += passed[k] * weight[k]
            else:
                to = out[side * n_pairs + pair]
                for k in range(WIDTH):
                    to[k] = passed[k]


@_fast
def pass_gate_back(  # noqa: PLR0917
    rows: Floats,
    norms: Floats,
    pairs: tuple[Indices, Indices, Indices],
    weights: tuple[Floats, int, int],
    of_out: Floats,
    of_weights: Floats,
) -> None:
    """Gradients of `pass_gate`: in place of ``rows``, and ``of_weights`` where there are any."""
    left, right, _ = pairs
    memory, step, side_step = weights
    n_pairs = len(left)
    given = np.empty(WIDTH, np.float32)
    passed = np.empty(WIDTH, np.float32)
    x = np.empty(WIDTH, np.float32)
    y = np.empty(WIDTH, np.float32)
    of_x = np.empty(WIDTH, np.float32)
    of_y = np.empty(WIDTH, np.float32)
    for pair in range(n_pairs):
        for side in range(2):
            row = rows[side * n_pairs + pair]
            core, gate = row[:WIDTH], row[WIDTH:]
            if len(memory) > 0:
                come = of_out[left[pair] if side == 0 else right[pair]]
                at = pair * step + side * side_step
                weight = memory[at : at + WIDTH]
                for k in range(WIDTH):
                    given[k] = come[k] * weight[k]
            else:
                come = of_out[side * n_pairs + pair]
                for k in range(WIDTH):
                    given[k] = come[k]
            core_mean, core_scale, gate_mean, gate_scale = _statistics(core, gate)
            for k in range(WIDTH):
                x[k] = (core[k] - core_mean) * core_scale
                y[k] = (gate[k] - gate_mean) * gate_scale
                u = x[k] * norms[0, k] + norms[1, k]
                open_u = _sigmoid(u)
                open_v = _sigmoid(y[k] * norms[2, k] + norms[3, k])
                silu = u * open_u
                passed[k] = silu * open_v
                slope = open_u + silu - silu * open_u
                of_x[k] = slope * open_v * given[k] * norms[0, k]
                of_y[k] = silu * open_v * (_single(1.0) - open_v) * given[k] * norms[2, k]
            sum_x, sum_xx, sum_y, sum_yy = _single(0.0), _single(0.0), _single(0.0), _single(0.0)
            for k in range(WIDTH):
                sum_x += of_x[k]
                sum_xx += of_x[k] * x[k]
                sum_y += of_y[k]
                sum_yy += of_y[k] * y[k]
            for k in range(WIDTH):
                core[k] = core_scale * (of_x[k] - (sum_x + x[k] * sum_xx) * _SHARE)
                gate[k] = gate_scale * (of_y[k] - (sum_y + y[k] * sum_yy) * _SHARE)
            if len(memory) > 0:
                if side == 0 or side_step > 0:
                    of_weight = of_weights[pair if side == 0 else n_pairs + pair]
                    for k in range(WIDTH):
                        of_weight[k] = come[k] * passed[k]
                else:
                    of_weight = of_weights[pair]
                    for k in range(WIDTH):
                        of_weight[k] += come[k] * passed[k]


@_fast
def scatter(  # noqa: PLR0917
    rows: Floats,
    slopes: Floats,
    pairs: tuple[Indices, Indices, Indices],
    ends: tuple[Floats, Floats],
    of_pairs: tuple[Floats, Floats],
    of_apex: Floats,
    kept: bool,
) -> None:
    """Gradients of `gather`: sums of ``rows`` times ``slopes`` (if any); in place too if `kept`."""
    left, right, apex = pairs
    own, other = ends
    near, far = of_pairs
    n_pairs = len(left)
    both = np.empty(_BOTH, np.float32)
    part = np.empty(_BOTH, np.float32)
    for pair in range(n_pairs):
        for k in range(_BOTH):
            both[k] = 0.0
        for side in range(2):
            row = rows[side * n_pairs + pair]
            if len(slopes) > 0:
                slope = slopes[side * n_pairs + pair]
                for k in range(_BOTH):
                    part[k] = row[k] * slope[k]
                if kept:
                    for k in range(_BOTH):
                        row[k] = part[k]
            else:
                for k in range(_BOTH):
                    part[k] = row[k]
            i, j = (left[pair], right[pair]) if side == 0 else (right[pair], left[pair])
            for k in range(_BOTH):
                own[i, k] += part[k]
            for k in range(_BOTH):
                other[j, k] += part[k]
            for k in range(_BOTH):
                both[k] += part[k]
        of_pair = near[pair] if pair < len(near) else far[pair - len(near)]
        for k in range(_BOTH):
            of_pair[k] = both[k]
        if len(of_apex) > 0:
            at = of_apex[apex[pair]]
            for k in range(_BOTH):
                at[k] += both[k]
