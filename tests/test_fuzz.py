"""Random crystals and files: no crash, no endless work, no lost crystal.

About a hundred cases by default, thousands with --slow. Every invalid crystal is scored together
with valid ones, whose verdicts must stay correct.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymatgen.core import Element, Lattice, Structure
from samples.sample_layouts import WRITERS

from novelty_metric import NoveltyReport, Sample, SubstitutionNovelty, open_reference, read_samples
from novelty_metric.errors import InputError
from novelty_metric.relaxation.potentials import AseCalculator
from novelty_metric.verdict import Verdict

MOST_CALLS = 2_000_000
"""Limit of calls of Python functions per crystal or file. The search needs about 70,000 for a
crystal, a reader about 1,000 for a file.
"""


@contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Fail if the block calls more Python functions than `calls`."""
    left = calls

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal left
        if event == "call":
            left -= 1
            assert left >= 0, f"more than {calls} calls, the last one of {frame.f_code.co_name}"

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_endless_work_is_detected() -> None:
    def go_on() -> None: ...

    with (
        pytest.raises(AssertionError, match="more than 100 calls, the last one of go_on"),
        at_most(100),
    ):
        while True:
            go_on()


# Random crystals

LENGTHS = st.one_of(
    st.floats(2.0, 12.0), st.floats(1e-3, 1e4), st.sampled_from([0.0, -4.0, 1e-12, 1e9, 1e300])
)
ANGLES = st.one_of(st.floats(60.0, 120.0), st.floats(0.5, 179.5))
COORDINATES = st.one_of(
    st.floats(0.0, 1.0),
    st.sampled_from([0.0, 0.25, 1 / 3, 0.5, -0.5, 1.0, 1e-9, 7.0, 1e5, 1e12]),
    st.just(float("nan")),
)


@st.composite
def cells(draw: st.DrawFn) -> np.ndarray:
    """Cell vectors (Å): from lengths and angles, from random numbers, or flat."""
    kind = draw(st.sampled_from(["parameters", "matrix", "flat", "cubic", "cubic"]))
    if kind == "cubic":
        return np.eye(3) * draw(st.floats(2.5, 12.0))
    if kind == "parameters":
        a, b, c = (draw(LENGTHS) for _ in range(3))
        alpha, beta, gamma = (draw(ANGLES) for _ in range(3))
        with np.errstate(all="ignore"):
            return np.array(Lattice.from_parameters(a, b, c, alpha, beta, gamma).matrix)
    matrix = np.array([[draw(st.floats(-9, 9)) for _ in range(3)] for _ in range(3)])
    if kind == "flat":
        matrix[2] = matrix[0] + draw(st.sampled_from([0.0, 1e-9, 1e-3])) * matrix[1]
    return matrix


@st.composite
def structures(draw: st.DrawFn, most: int) -> Structure:
    """A crystal of 1 to `most` sites, valid or invalid."""
    n_sites = draw(st.one_of(st.integers(1, 4), st.integers(1, min(20, most)), st.just(most)))
    elements = draw(st.lists(st.integers(1, 103), min_size=1, max_size=4))
    numbers = [elements[at % len(elements)] for at in range(n_sites)]
    if n_sites > 20 or draw(st.booleans()):
        # Atoms at least a minimum distance apart, in a cell of suitable size.
        rng = np.random.default_rng(draw(st.integers(0, 10**6)))
        per_side = int(np.ceil(n_sites ** (1 / 3)))
        grid = np.stack(np.meshgrid(*[np.arange(per_side)] * 3), -1).reshape(-1, 3)[:n_sites]
        frac_coords = (
            grid + rng.normal(0, draw(st.sampled_from([0.0, 0.05, 0.4])), grid.shape)
        ) / (per_side)
        matrix = np.eye(3) * per_side * draw(st.floats(1.5, 4.0))
    else:
        frac_coords = np.array([[draw(COORDINATES) for _ in range(3)] for _ in range(n_sites)])
        matrix = draw(cells())
    return Structure(Lattice(matrix), [Element.from_Z(z) for z in numbers], frac_coords)


@cache
def valid_crystals() -> tuple[Structure, Structure]:
    """Two crystals that are in the packaged reference."""
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    caesium = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return salt, caesium


def assert_complete(report: NoveltyReport, names: Sequence[str]) -> None:
    """Every crystal has a row, in order, with a verdict or a reason; valid ones are duplicates."""
    assert [row.id for row in report.results] == list(names)
    for row in report.results:
        assert row.verdict is not None or row.error
        assert "\n" not in (row.error or "")
        assert row.verdict is not Verdict.UNDECIDED or row.error
        assert row.seconds is None or row.seconds >= 0
    assert report.n_eligible + sum(report.left_out.values()) == len(names)
    assert 0 <= report.novel_yield <= 1
    by_name = {row.id: row for row in report.results}
    for name in ("salt", "caesium"):
        assert by_name[name].verdict is Verdict.DUPLICATE


SEARCH = SubstitutionNovelty("aflow", "fast", relaxer=None, hull="none", scope="all")
LENNARD_JONES = AseCalculator(
    {
        "_target_": "ase.calculators.lj.LennardJones",
        "sigma": 2.2,
        "epsilon": 0.1,
        "rc": 6.0,
        "smooth": True,
    },
    name="lennard-jones",
    version="1",
)


def with_valid_crystals(crystals: list[Structure]) -> list[Sample]:
    salt, caesium = valid_crystals()
    given = [Sample(str(at), crystal) for at, crystal in enumerate(crystals)]
    return [Sample("salt", salt), *given, Sample("caesium", caesium)]


def scored(metric: SubstitutionNovelty, crystals: list[Structure]) -> None:
    samples = with_valid_crystals(crystals)
    metric.reset()
    metric.update_samples(samples)
    with at_most(MOST_CALLS * len(samples)):
        report = metric.compute()
    assert_complete(report, [sample.id for sample in samples])


def check_search(crystals: list[Structure]) -> None:
    scored(SEARCH, crystals)


CROWD = st.lists(structures(most=60), min_size=4, max_size=8)


@settings(max_examples=10)
@given(CROWD)
def test_crystals_through_the_search(crystals: list[Structure]) -> None:
    check_search(crystals)


@pytest.mark.slow
@settings(max_examples=500)
@given(CROWD)
def test_thousands_of_crystals_through_the_search(crystals: list[Structure]) -> None:
    check_search(crystals)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(structures(most=300), min_size=4, max_size=8))
def test_crystals_of_hundreds_of_sites_through_the_search(crystals: list[Structure]) -> None:
    check_search(crystals)


def check_whole_path(crystals: list[Structure]) -> None:
    """With a potential without chemistry, so that cells collapse and explode."""
    with SubstitutionNovelty(
        "aflow", "fast", relaxer=LENNARD_JONES, hull="none", scope="all", cache=False
    ) as metric:
        samples = with_valid_crystals(crystals)
        metric.update_samples(samples)
        report = metric.compute(deadline=time.monotonic() + 30.0)
        assert [row.id for row in report.results] == [sample.id for sample in samples]
        for row in report.results:
            assert row.verdict is not None or row.error
            # Unfinished work never gives unmatched.
            if row.verdict is Verdict.UNMATCHED:
                assert all(tried.relaxed and tried.error is None for tried in row.parents)


@settings(max_examples=3)
@given(st.lists(structures(most=8), min_size=2, max_size=4))
def test_crystals_through_the_whole_path(crystals: list[Structure]) -> None:
    check_whole_path(crystals)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(structures(most=30), min_size=2, max_size=4))
def test_many_crystals_through_the_whole_path(crystals: list[Structure]) -> None:
    check_whole_path(crystals)


# Damaged files of every format

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "drop", "insert", "repeat", "swap"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.integers(1, 64),
    ),
    min_size=1,
    max_size=6,
)


def damaged(data: bytes, edits: Sequence[tuple[str, float, int, int]]) -> bytes:
    """The bytes, with some changed, deleted, inserted, repeated or reversed."""
    out = bytearray(data)
    for what, where, value, length in edits:
        at = int(where * len(out)) if out else 0
        piece = bytes(out[at : at + length])
        if what == "flip" and out:
            out[at] ^= value or 1
        elif what == "drop":
            del out[at : at + length]
        elif what == "insert":
            out[at:at] = bytes([value]) * length
        elif what == "repeat":
            out[at:at] = piece * 3
        else:
            out[at : at + length] = piece[::-1]
    return bytes(out)


FILES = sorted(name for name, (kind, _) in WRITERS.items() if kind != "folder")


def check_readers(name: str, edits: Sequence[tuple[str, float, int, int]]) -> None:
    write: Callable[..., Path] = WRITERS[name][1]
    with tempfile.TemporaryDirectory() as folder:
        path = write(list(valid_crystals()), Path(folder))
        path.write_bytes(damaged(path.read_bytes(), edits))
        before = sorted(Path(folder).rglob("*"))
        try:
            with at_most(MOST_CALLS):
                samples = list(read_samples(path))
            for sample in samples:
                assert (sample.structure is None) == (sample.error is not None)
                assert "\n" not in (sample.error or "")
        except InputError as error:
            assert "\n" not in str(error) and path.name in str(error)
        assert sorted(Path(folder).rglob("*")) == before


@given(st.sampled_from(FILES), EDITS)
def test_damaged_files(name: str, edits: list[tuple[str, float, int, int]]) -> None:
    check_readers(name, edits)


@pytest.mark.slow
@settings(max_examples=4000)
@given(st.sampled_from(FILES), EDITS)
def test_thousands_of_damaged_files(name: str, edits: list[tuple[str, float, int, int]]) -> None:
    check_readers(name, edits)


@given(
    st.sampled_from([".cif", ".csv", ".json", ".xyz", ".pt", ".zip"]),
    st.binary(max_size=400),
)
@example(".zip", b"PK\x05\x06" + bytes(18))
@example(".json", b"[" * 5000)
def test_random_bytes_are_no_samples(suffix: str, noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"noise{suffix}")
        path.write_bytes(noise)
        try:
            samples = list(read_samples(path))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(sample.structure is None for sample in samples)


@given(EDITS)
def test_damaged_reference_is_refused_or_readable(
    edits: list[tuple[str, float, int, int]],
) -> None:
    from novelty_metric.reference.named import reference_path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "reference.arrow")
        path.write_bytes(damaged(reference_path("aflow").read_bytes(), edits))
        try:
            reference = open_reference(path)
            for at in range(len(reference)):
                reference.structure(at)
        except InputError as error:
            assert "\n" not in str(error)
