"""Kinds of values in a submission: each reads one strictly, and says so in JSON Schema.

One declaration serves both, so that the published schema can't say anything else than the code.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, get_type_hints

from novelty_metric.errors import InputError, near_or_known


class Kind(Protocol):
    """What a value may be."""

    def read(self, value: Any, where: str) -> Any:
        """The value, checked; `where` is what a complaint calls it."""

    def schema(self) -> dict[str, Any]:
        """The same in JSON Schema."""


@dataclass(frozen=True)
class Text:
    """Text of bounded length; with a pattern, the whole of it has to fit."""

    longest: int = 200
    pattern: str | None = None
    example: str | None = None

    def read(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise InputError(f"{where} is {_shown(value)}; it must be text, in quotes if need be")
        if not value.strip() or len(value) > self.longest:
            raise InputError(
                f"{where} has {len(value)} characters; it must have 1 to {self.longest}"
            )
        if any(ord(character) < 32 and character not in "\n\t" for character in value):
            raise InputError(f"{where} holds control characters; take them out")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            like = f" such as {self.example}" if self.example else f" like {self.pattern}"
            raise InputError(f"{where} is {_shown(value)}; it must be{like}")
        return value

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": self.longest}
        if self.pattern is not None:
            found["pattern"] = f"^(?:{self.pattern})$"
        return found


@dataclass(frozen=True)
class Whole:
    """A whole number within limits."""

    least: int = 0
    most: int = 10**12

    def read(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{where} is {_shown(value)}; it must be a whole number")
        if not self.least <= value <= self.most:
            raise InputError(f"{where} is {value}; it must be {self.least} to {self.most}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Number:
    """A finite number."""

    def read(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{where} is {_shown(value)}; it must be a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise InputError(f"{where} is {_shown(value)}; it must be finite")
        return number

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def read(self, value: Any, where: str) -> bool:
        if not isinstance(value, bool):
            raise InputError(f"{where} is {_shown(value)}; it must be true or false")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: tuple[Any, ...]

    def read(self, value: Any, where: str) -> Any:
        if not any(value == known and type(value) is type(known) for known in self.values):
            known = ", ".join(map(str, self.values))
            raise InputError(f"{where} is {_shown(value)}; known: {known}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


@dataclass(frozen=True)
class Maybe:
    """A value or null, for what is not known."""

    kind: Kind

    def read(self, value: Any, where: str) -> Any:
        return None if value is None else self.kind.read(value, where)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.kind.schema(), {"type": "null"}]}


@dataclass(frozen=True)
class Several:
    """A list of one kind."""

    kind: Kind
    least: int = 0
    most: int = 50

    def read(self, value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where} is {_shown(value)}; it must be a list")
        if not self.least <= len(value) <= self.most:
            raise InputError(
                f"{where} has {len(value)} entries; it must have {self.least} to {self.most}"
            )
        return tuple(self.kind.read(item, f"{where}[{i}]") for i, item in enumerate(value))

    def schema(self) -> dict[str, Any]:
        return {
            "type": "array",
            "items": self.kind.schema(),
            "minItems": self.least,
            "maxItems": self.most,
        }


@dataclass(frozen=True)
class AnyOf:
    """One of several kinds; the first that takes the value reads it."""

    kinds: tuple[Kind, ...]

    def read(self, value: Any, where: str) -> Any:
        for kind in self.kinds:
            try:
                return kind.read(value, where)
            except InputError:
                continue
        raise InputError(f"{where} is {_shown(value)}, which it can't be")

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self.kinds]}


@dataclass(frozen=True)
class Named:
    """Values of one kind by names that are not known beforehand."""

    kind: Kind
    most: int = 40
    pattern: str = r"[A-Za-z][A-Za-z0-9_.-]{0,60}"

    def read(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > self.most:
            raise InputError(f"{where} must hold at most {self.most} keys with values")
        for key in value:
            if not isinstance(key, str) or not re.fullmatch(self.pattern, key):
                raise InputError(f"{where} has a key {_shown(key)}; keys are words")
        return {key: self.kind.read(item, f"{where}.{key}") for key, item in value.items()}

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "patternProperties": {f"^(?:{self.pattern})$": self.kind.schema()},
            "additionalProperties": False,
            "maxProperties": self.most,
        }


@dataclass(frozen=True)
class Keys:
    """Exactly these keys, each of its own kind: none more, none less."""

    keys: Mapping[str, Kind]

    def read(self, value: Any, where: str) -> dict[str, Any]:
        inside = f"{where}." if where else ""
        if not isinstance(value, Mapping):
            raise InputError(f"{where or 'it'} must hold the keys {', '.join(self.keys)}")
        for key in value:
            if key not in self.keys:
                hint = near_or_known(str(key), self.keys)
                raise InputError(f"no key is named {_shown(f'{inside}{key}')}; {hint}")
        for key in self.keys:
            if key not in value:
                raise InputError(f"the key '{inside}{key}' is missing; null where not known")
        return {key: kind.read(value[key], f"{inside}{key}") for key, kind in self.keys.items()}

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {key: kind.schema() for key, kind in self.keys.items()},
            "required": list(self.keys),
            "additionalProperties": False,
        }


@dataclass(frozen=True)
class Record:
    """The keys of a dataclass whose fields are `Annotated` with their kinds."""

    made: type

    @property
    def _keys(self) -> Keys:
        hints = get_type_hints(self.made, include_extras=True)
        return Keys({name: hint.__metadata__[0] for name, hint in hints.items()})

    def read(self, value: Any, where: str) -> Any:
        return self.made(**self._keys.read(value, where))

    def schema(self) -> dict[str, Any]:
        return self._keys.schema()


def plain(value: Any) -> Any:
    """Dataclasses and tuples as the mappings and lists that they are read from."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
