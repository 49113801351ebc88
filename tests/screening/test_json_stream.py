"""JSON read value by value, against `json.loads`."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.screening.json_stream import json_values

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Yield every scalar and empty container with its path."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        found: dict[tuple[str, ...], Any] = {}
        for name, item in items:
            found |= leaves(item, (*path, str(name)))
        return found
    return {path: value}


@given(VALUES, st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_every_value_is_read_once(
    value: Any, whole: int, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    got = [item for _, item in json_values(io.StringIO(text), whole=whole, chunk=chunk)]
    assert _scalars(got) == _scalars([value])


def _scalars(values: list[Any]) -> list[Any]:
    return [item for value in values for item in leaves(value).values()]


def test_small_containers_are_values_and_large_ones_are_streamed() -> None:
    table = {"id": {"0": "a", "1": "b"}, "entry": {"0": {"e": [1, 2]}, "1": {"e": [3]}}}
    text = json.dumps(table)
    assert list(json_values(io.StringIO(text))) == [("", table)]
    got = dict(json_values(io.StringIO(text), whole=20, chunk=7))
    assert got["entry.0"] == {"e": [1, 2]} and got["entry.1"] == {"e": [3]}
    assert got["id"] == table["id"]
    assert dict(json_values(io.StringIO("[ ]" + " " * 50), whole=1, chunk=1)) == {"": []}


def test_json_lines_are_read_in_order() -> None:
    text = '{"a": 1}\n{"a": 2}\n\n'
    assert list(json_values(io.StringIO(text), chunk=5)) == [("", {"a": 1}), ("1", {"a": 2})]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize(
    "text",
    ["", "  ", "{", '{"a": [1, 2}', "[1, 2", '{"a" 1}', "[1 2]", "nonsense", "{1: 2}", "[1,]"],
)
def test_invalid_json_is_refused(text: str, chunk: int) -> None:
    with pytest.raises(ValueError):
        list(json_values(io.StringIO(text), whole=2, chunk=chunk))


def test_number_across_two_chunks() -> None:
    assert [v for _, v in json_values(io.StringIO("[12345, 678]"), whole=1, chunk=4)] == [
        12345,
        678,
    ]
    assert [v for _, v in json_values(io.StringIO("12345"), chunk=2)] == [12345]


def test_too_deep_nesting_is_refused() -> None:
    with pytest.raises((ValueError, RecursionError)):
        list(json_values(io.StringIO("[" * 100_000)))
