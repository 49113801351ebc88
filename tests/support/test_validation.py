"""pydantic's errors as one clear error: reason, place, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import MaxLen, MinLen

from novelty_metric.errors import InputError
from novelty_metric.support.validation import (
    STRICT,
    AnyText,
    Count,
    Flag,
    Keys,
    Number,
    OptionalText,
    Text,
    Whole,
    adapter,
    validated,
)


@dataclass(frozen=True, kw_only=True)
class Site:
    __pydantic_config__ = STRICT
    number: Annotated[int, Whole(1, 118)]
    label: Annotated[str, Text(10, r"[A-Z][a-z]*", "Na")] | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    __pydantic_config__ = STRICT
    sites: Annotated[tuple[Site, ...], MinLen(1), MaxLen(2)]
    volume: Number
    first: Site | None = None
    periodic: Flag = True
    name: OptionalText = None
    kind: Literal["bulk", "slab"] = "bulk"
    counts: dict[AnyText, Count] | None = None
    limits: Annotated[dict[str, Any], Keys({"low": Number, "high": Number})] | None = None


def read(**changed: Any) -> Cell:
    return validated(Cell, {"sites": [{"number": 11}], "volume": 1, **changed})


def test_valid_input_is_read() -> None:
    cell = read(first={"number": 1, "label": "H"}, limits={"low": 0, "high": 1.5})
    assert cell.sites == (Site(number=11),) and cell.first == Site(number=1, label="H")
    assert (cell.volume, cell.limits) == (1.0, {"low": 0.0, "high": 1.5})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"volum": 1}, "no key named 'volum'; did you mean 'volume'?"),
        ({"first": {"numbr": 1}}, "no key named 'first.numbr'; did you mean 'number'?"),
        ({"sites": [{"number": 1, "x": 1}]}, "no key named 'sites[0].x'; known: number, label"),
        ({"limits": {"lo": 1}}, "no key named 'limits.lo'; did you mean 'low'?"),
        ({"limits": {"low": 1}}, "the key 'limits.high' is missing; null where not known"),
        ({"first": {}}, "the key 'first.number' is missing"),
        ({"first": 3}, "first is 3; it must contain the keys number, label"),
        ({"limits": 3}, "limits is 3; it must contain the keys low, high"),
        ({"sites": []}, "sites has 0 entries; it must have at least 1"),
        ({"sites": [{"number": 1}] * 3}, "sites has 3 entries; it must have at most 2"),
        ({"sites": "Na"}, "sites is 'Na'; it must be a list"),
        ({"first": {"number": 0}}, "first.number is 0; it must be a whole number, 1 to 118"),
        ({"first": {"number": True}}, "first.number is True; it must be a whole number"),
        ({"first": {"number": 1.0}}, "first.number is 1.0; it must be a whole number"),
        ({"first": {"number": 1, "label": "na"}}, "first.label is 'na'; it must be text, such as"),
        ({"first": {"number": 1, "label": "Na\n"}}, "first.label is 'Na\\n'; it must be text"),
        ({"volume": "1"}, "volume is '1'; it must be a number"),
        ({"volume": float("inf")}, "volume is inf; it must be finite"),
        ({"periodic": 1}, "periodic is 1; it must be true or false"),
        ({"name": 3}, "name is 3; it must be text or null"),
        ({"kind": "wire"}, "kind is 'wire'; known: bulk, slab"),
        ({"counts": {"Na": 0}}, "counts.Na is 0; it must be a whole number above 0"),
        ({"counts": [1]}, "counts is [1]; it must map names to values"),
        ({"volume": None, "volum": 1}, "no key named 'volum'"),  # reported first
    ],
)
def test_invalid_input_gives_one_clear_error(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**changed)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_names_are_relative_to_the_working_folder() -> None:
    with pytest.raises(InputError, match=r"no setting named 'site.numbr'; did you mean 'site.numb"):
        validated(Site, {"numbr": 1}, inside="site", key="setting")
    with pytest.raises(InputError, match=r"^it must contain the keys number, label$"):
        validated(Site, [1])


def test_schema_refuses_extra_keys_everywhere() -> None:
    schema = adapter(Cell).json_schema()
    assert (
        schema["additionalProperties"] is schema["$defs"]["Site"]["additionalProperties"] is False
    )
    limits = schema["properties"]["limits"]["anyOf"][0]
    assert limits["additionalProperties"] is False and limits["required"] == ["low", "high"]
