"""The settings of a model: how its files are read, what it was trained on, where it is from."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.formats import FORMATS, ArrayConvention

GENERIC = "generic"
"""The model that is scored when none is named."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A config of the group ``model``; every key but the name may be left out.

    Attributes
    ----------
    name : str
    title : str
        As its authors write it.
    writes : str or None
        What it writes, in words.
    formats : tuple of str
        Formats that this can be in; empty: not known.
    format : str or None
        None: to be found out.
    columns : tuple of str
        Columns of a table to look for first.
    arrays : ArrayConvention
        What the arrays of a ``.pt`` file mean.
    samples : str or None
        What is scored unless ``samples=`` names another.
    reference : str or None
        Name or file of what it was trained on.
    relax_samples : bool
        False if its samples come relaxed.
    paper, repository, citation : str or None
    """

    name: str
    title: str = ""
    writes: str | None = None
    formats: tuple[str, ...] = ()
    format: str | None = None
    columns: tuple[str, ...] = ()
    arrays: ArrayConvention = field(default_factory=ArrayConvention)
    samples: str | None = None
    reference: str | None = "aflow"
    relax_samples: bool = True
    paper: str | None = None
    repository: str | None = None
    citation: str | None = None

    @classmethod
    def from_config(cls, content: Mapping[str, Any]) -> ModelSettings:
        """Check the composed config of a model.

        Raises
        ------
        InputError
            In one line, for the first key that is unknown or of the wrong kind.
        """
        known = [item.name for item in dataclasses.fields(cls)]
        for key in content:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = (
                    f"did you mean 'model.{close[0]}'?" if close else f"known: {', '.join(known)}"
                )
                raise InputError(f"no setting named 'model.{key}'; {hint}")
        if not isinstance(content.get("name"), str):
            raise InputError(f"model.name is {content.get('name')!r}; it must be text")
        values = dict(content)
        for key in ("writes", "format", "samples", "reference", "paper", "repository", "citation"):
            if values.get(key) is not None and not isinstance(values[key], str):
                raise InputError(f"model.{key} is {values[key]!r}; it must be text or null")
        if not isinstance(values.get("relax_samples", True), bool):
            raise InputError(
                f"model.relax_samples is {values['relax_samples']!r}; it must be true or false"
            )
        values |= {
            "title": str(values.get("title") or values["name"]),
            "columns": _names(values, "columns"),
            "formats": _names(values, "formats", FORMATS),
            "arrays": _arrays(values.get("arrays") or {}),
        }
        return cls(**values)


def _names(values: Mapping[str, Any], key: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    names = values.get(key) or []
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"model.{key} is {names!r}; it must be a list of names")
    unknown = [name for name in names if known and name not in known]
    if unknown:
        raise InputError(f"model.{key} names {unknown[0]!r}; known: {', '.join(known)}")
    return tuple(names)


def _arrays(content: Any) -> ArrayConvention:
    known = [item.name for item in dataclasses.fields(ArrayConvention)]
    if not isinstance(content, Mapping):
        raise InputError(f"model.arrays is {content!r}; it must hold {', '.join(known)}")
    for key in content:
        if key not in known:
            raise InputError(f"no setting named 'model.arrays.{key}'; known: {', '.join(known)}")
    if not isinstance(content.get("keys") or {}, Mapping):
        raise InputError(f"model.arrays.keys is {content['keys']!r}; it must map names to names")
    values = {key: str(value) for key, value in content.items() if key != "keys"}
    keys = {str(key): str(value) for key, value in (content.get("keys") or {}).items()}
    try:
        return ArrayConvention(keys=keys, **values)
    except InputError as error:
        raise InputError(f"model.{error}") from error
