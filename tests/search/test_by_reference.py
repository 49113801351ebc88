"""Arrays that compiled functions access through one pointer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("novelty_metric.search.kernels", reason="numba is not installed")
from novelty_metric.search.kernels.by_reference import ByReference, from_kernel, to_kernel
from novelty_metric.search.kernels.compilation import compiled, internal


@dataclass(frozen=True)
class Inner(ByReference):
    counts: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True)
class Outer(ByReference):
    values: np.ndarray
    inner: Inner
    marks: np.ndarray


take = from_kernel(Outer)


def look(outer: Outer, i: int) -> int:
    return outer.inner.counts[i] + outer.marks[i]


def work(table: np.ndarray, out: np.ndarray) -> int:
    outer = take(table)
    for i in range(len(outer.inner.counts)):
        out[i] = quick_look(outer, i)
        # Written through one reference, read through the other.
        outer.inner.counts[i] += 1
        out[i] = 100 * out[i] + quick_look(outer, i)
    total = 0
    for i in range(outer.inner.cells.shape[0]):
        row = outer.inner.cells[i]
        for j in range(row.shape[0]):
            for k in range(row.shape[1]):
                total = 3 * total + row[j, k] * outer.values[k]
    return total + 1000 * outer.values.size


quick_look, quick_work = compiled(look, cache=False), compiled(work, cache=False)


def made(n: int, rng: np.random.Generator) -> Outer:
    counts, marks = rng.integers(0, 9, n), rng.integers(0, 9, n).astype(np.uint8)
    cells = rng.integers(0, 9, (2, 3, n)).astype(np.float64)
    return Outer(rng.random(n), Inner(counts, cells), marks)


def test_compiled_functions_read_and_write_the_arrays() -> None:
    rng = np.random.default_rng(4)
    for n in (1, 4, 7):
        outer = made(n, rng)
        counts = outer.inner.counts.copy()
        out = np.zeros(n, dtype=np.int64)
        answer = quick_work(to_kernel(outer), out)
        assert np.array_equal(outer.inner.counts, counts + 1)
        assert np.array_equal(out, 101 * (counts + outer.marks) + 1)
        want = 0.0
        for value in (outer.inner.cells * outer.values).ravel():
            want = 3 * want + value
        assert answer == pytest.approx(want + 1000 * n)


def test_read_only_arrays_and_parts_are_taken() -> None:
    rng = np.random.default_rng(5)
    outer = made(4, rng)
    marks = np.stack([outer.marks] * 3)[1]
    marks.flags.writeable = False
    outer = Outer(outer.values, outer.inner, marks)
    out = np.zeros(4, dtype=np.int64)
    before = outer.inner.counts + marks
    quick_work(to_kernel(outer), out)
    assert np.array_equal(out, 101 * before + 1)


@pytest.mark.parametrize(
    "values", [np.zeros(3, dtype=np.float32), np.zeros((3, 1)), np.zeros(6)[::2]]
)
def test_arrays_of_other_types_are_refused(values: np.ndarray) -> None:
    outer = made(3, np.random.default_rng(6))
    with pytest.raises(ValueError, match="Outer"):
        Outer(values, outer.inner, outer.marks)


def test_unknown_field_does_not_compile() -> None:
    outer = made(3, np.random.default_rng(7))

    def wrong(table: np.ndarray) -> int:
        return take(table).nothing  # type: ignore[attr-defined]

    with pytest.raises(Exception, match="nothing"):
        compiled(wrong, cache=False)(to_kernel(outer))


@internal
def product(number: int, other: int) -> int:
    return number * other


@internal
def power(number: int) -> int:
    return product(number, product(number, 1))


def test_internal_function_is_compiled_once_for_all_numbers() -> None:
    def sum_of_them(number: int) -> int:
        return product(number, 2) + product(5, 3) + power(number) + power(3)

    assert compiled(sum_of_them, cache=False)(4) == 8 + 15 + 16 + 9
    assert len(product.overloads) == len(power.overloads) == 1
