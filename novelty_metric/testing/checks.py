"""What a test checks: the arguments of its marker or the keys of its YAML file, themselves checked.

Standard library only: this is read at collection.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError, near_or_known
from novelty_metric.protocol import SCOPES
from novelty_metric.testing.tolerance import Tolerance, parse_tolerances

TEXTS = ("model", "relaxer", "hull", "scope", "format", "column", "device")
COUNTS = ("limit", "max_sites", "workers")
SHARES = ("min_unmatched", "max_duplicate")


@dataclass(frozen=True, kw_only=True)
class NoveltyCheck:
    """A novelty test's settings; what is None is left to the ini file, then to the metric.

    Attributes
    ----------
    model : str
        Name of the model, for tables.
    samples : path or None
        What the model wrote, in any format that `novelty_metric.samples.read_samples` knows.
    reference : str or None
        Name or file of a prepared reference.
    protocol : str, mapping or None
        Preset; or ``{"name": preset, setting: value}``.
    relaxer, hull, scope, device : str or None
    relax_samples, exhaustive : bool or None
    limit, max_sites, workers : int or None
    format, column : str or None
        Of the samples.
    min_unmatched, max_duplicate : float or None
        Shares of the eligible crystals, from 0 to 1, that must be kept whatever the baseline.
    fail : tuple of Tolerance or None
    allow_empty : bool
        A check in which no crystal is eligible passes; without it, it fails.
    """

    model: str
    samples: Path | None = None
    reference: str | None = None
    protocol: str | Mapping[str, Any] | None = None
    relaxer: str | None = None
    hull: str | None = None
    scope: str | None = None
    device: str | None = None
    relax_samples: bool | None = None
    exhaustive: bool | None = None
    limit: int | None = None
    max_sites: int | None = None
    workers: int | None = None
    format: str | None = None
    column: str | None = None
    min_unmatched: float | None = None
    max_duplicate: float | None = None
    fail: tuple[Tolerance, ...] | None = None
    allow_empty: bool = False

    @property
    def has_floor(self) -> bool:
        """Whether a share has to be kept whatever the baseline."""
        return self.min_unmatched is not None or self.max_duplicate is not None


KEYS = tuple(field.name for field in dataclasses.fields(NoveltyCheck))


def read_check(
    given: Mapping[Any, Any], *, folder: Path, default_model: str, what: str
) -> NoveltyCheck:
    """Check settings, and make paths of them.

    Parameters
    ----------
    given : mapping
    folder : Path
        Paths are relative to this one.
    default_model : str
    what : str
        What a setting is called in messages: ``argument`` or ``key``.

    Raises
    ------
    InputError
        In one line, for the first setting that is unknown or of the wrong kind.
    """
    values: dict[str, Any] = {"model": default_model}
    for name, value in given.items():
        if name not in KEYS:
            hint = near_or_known(str(name), KEYS)
            raise InputError(f"no {what} named {name!r}; {hint}")
        if value is not None:
            values[name] = _checked(name, value, folder)
    return NoveltyCheck(**values)


def _checked(name: str, value: Any, folder: Path) -> Any:
    if name == "samples":
        return _file(_path(name, value), folder)
    if name == "reference":
        text = _path(name, value)
        # A bare word is the name of a reference, unless a file is called so.
        is_path = Path(text).name != text or Path(text).suffix == ".arrow"
        return str(_file(text, folder)) if is_path else text
    if name == "protocol" and isinstance(value, Mapping):
        if not isinstance(value.get("name"), str):
            raise InputError("protocol needs a name beside its settings, such as name: fast")
        return dict(value)
    if name == "fail":
        return _tolerances(value)
    if name in (*TEXTS, "protocol"):
        if not isinstance(value, str) or not value:
            raise InputError(f"{name} is {value!r}; it must be text")
        if name == "scope" and value not in SCOPES:
            raise InputError(f"scope is {value!r}; known: {', '.join(SCOPES)}")
        return value
    if name in COUNTS:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be a whole number above 0")
        return value
    if name in SHARES:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{name} is {value!r}; it must be a share from 0 to 1")
        return float(value)
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; it must be true or false")
    return value


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise InputError(f"{name} is {value!r}; it must be a path")
    return str(os.fspath(value))


def _file(text: str, folder: Path) -> Path:
    return folder / Path(text).expanduser()


def _tolerances(value: Any) -> tuple[Tolerance, ...]:
    if not isinstance(value, str):
        raise InputError(f"fail is {value!r}; it must be text such as unmatched:-5%")
    try:
        return parse_tolerances(value)
    except ValueError as error:
        raise InputError(f"fail: {error}") from None
