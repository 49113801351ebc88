"""Conditions on values for pydantic, and pydantic's errors in one line of our own text.

A class is a dataclass with `STRICT` as its ``__pydantic_config__``; its fields are annotated with
the types of this module. pydantic reads it, and makes the JSON Schema of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Le, MaxLen, MinLen
from pydantic import (
    AfterValidator,
    AllowInfNan,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from novelty_metric.errors import InputError, near_or_known

STRICT = ConfigDict(extra="forbid")
"""Base class that refuses unknown keys."""
MOST = 10**12
_MUST_BE = "must_be"
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")

Model = TypeVar("Model")


@dataclass(frozen=True)
class MustBe:
    """States the condition on a value, in place of pydantic's error message."""

    what: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._validate, handler(source))

    def _validate(self, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            infinite = any(one["type"] == "finite_number" for one in error.errors())
            what = "finite" if infinite else self.what
            raise PydanticCustomError(_MUST_BE, "{what}", {"what": what}) from None


@dataclass(frozen=True)
class Text(GroupedMetadata):
    """Text of limited length; a pattern must match the whole text."""

    longest: int = 200
    pattern: str | None = None
    example: str | None = None

    def __iter__(self) -> Iterator[Any]:
        yield from (Strict(), MinLen(1), MaxLen(self.longest))
        if self.pattern is not None:
            yield Field(pattern=f"^(?:{self.pattern})$")
        yield AfterValidator(_printable)
        wanted = f"such as {self.example}" if self.example else f"1 to {self.longest} characters"
        yield MustBe(f"text, {wanted}")


def _printable(value: str) -> str:
    if not value.strip() or any(ord(one) < 32 and one not in "\n\t" for one in value):
        raise ValueError("blank, or with control characters")
    return value


@dataclass(frozen=True)
class Whole(GroupedMetadata):
    """An integer within limits."""

    least: int = 0
    most: int = MOST

    def __iter__(self) -> Iterator[BaseMetadata | Strict | MustBe]:
        yield from (Strict(), Ge(self.least), Le(self.most))
        limits = " above 0" if self.least == 1 else f", {self.least} or more"
        if self.most < MOST:
            limits = f", {self.least} to {self.most}"
        yield MustBe(f"a whole number{limits}")


@dataclass(frozen=True, eq=False)
class Keys:
    """Exactly these keys, each with its own type."""

    types: Mapping[str, Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        inside = {
            name: core_schema.typed_dict_field(handler.generate_schema(kind))
            for name, kind in self.types.items()
        }
        return core_schema.typed_dict_schema(inside, extra_behavior="forbid", total=True)


Flag = Annotated[bool, Strict(), MustBe("true or false")]
Number = Annotated[float, Strict(), AllowInfNan(False), MustBe("a number")]
Share = Annotated[float, Strict(), Ge(0), Le(1), MustBe("a share from 0 to 1")]
AnyText = Annotated[str, Strict(), MustBe("text")]
OptionalText = Annotated[Annotated[str, Strict()] | None, MustBe("text or null")]
Count = Annotated[int, Whole(1)]


def validated(
    made: type[Model],
    content: Any,
    *,
    inside: str = "",
    key: str = "key",
    context: Mapping[str, Any] | None = None,
) -> Model:
    """The content as an object of the requested dataclass, after a check.

    In messages, `inside` stands before the names of the keys, such as ``model``, and `key` is what
    a key is called. `context` is for validators that ask for it.

    Raises
    ------
    InputError
        In one line, for the first thing that is wrong; an unknown key comes before all else.
    """
    try:
        found: Model = adapter(cast("Any", made)).validate_python(content, context=context)
    except InputError as error:  # of a class that checks its own values
        raise InputError(f"{inside}.{error}" if inside else str(error)) from error
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = next((one for one in errors if one["type"] in _UNKNOWN), errors[0])
        raise InputError(_line(first, made, inside, key)) from None
    return found


@cache
def adapter(made: Any) -> TypeAdapter[Any]:
    """Pydantic's reader of a type."""
    return TypeAdapter(made)


def _line(error: ErrorDetails, made: Any, inside: str, key: str) -> str:
    """The error message, in this package's own text."""
    where = inside
    for part in error["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else part
    value, kind = error["input"], error["type"]
    if kind in _UNKNOWN:
        known = _keys(made, error["loc"][:-1])
        if inside:
            known = [f"{where.rpartition('.')[0]}.{name}" for name in known]
        name = where if inside else str(error["loc"][-1])
        return f"no {key} named {_shown(where)}; {near_or_known(name, known)}"
    if kind == "missing":
        return f"the {key} {where!r} is missing; null where not known"
    if kind == "dataclass_type" or (kind == "dict_type" and _keys(made, error["loc"])):
        what = f"{where} is {_shown(value)}; it" if where else "it"
        return f"{what} must contain the keys {', '.join(_keys(made, error['loc']))}"
    context = error.get("ctx", {})
    if kind in ("too_short", "too_long"):
        limit = context.get("min_length", context.get("max_length"))
        least = "least" if kind == "too_short" else "most"
        return f"{where} has {len(value)} entries; it must have at {least} {limit}"
    if kind == "value_error":
        return f"{where} is {_shown(value)}; {context['error']}"
    if kind == "literal_error":
        known = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"{where} is {_shown(value)}; known: {known}"
    must = {"tuple_type": "be a list", "dict_type": "map names to values"}.get(kind)
    if kind == _MUST_BE:
        must = f"be {context['what']}"
    return f"{where} is {_shown(value)}; it must {must or error['msg']}"


def _keys(made: Any, path: tuple[int | str, ...]) -> list[str]:
    """The known keys at a place within a type; empty if all keys are accepted."""
    for part in path:
        if isinstance(part, str):
            made = _with_keys(made)
            of_class = isinstance(made, type)
            made = get_type_hints(made, include_extras=True).get(part) if of_class else None
    made = _with_keys(made)
    if isinstance(made, Keys):
        return list(made.types)
    return [] if made is None else [field.name for field in fields(made)]


def _with_keys(hint: Any) -> Any:
    """The dataclass in a field, alone or in a sequence."""
    if isinstance(hint, Keys) or (isinstance(hint, type) and is_dataclass(hint)):
        return hint
    return next(filter(None, map(_with_keys, get_args(hint))), None)


def _shown(value: Any) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
