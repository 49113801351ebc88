"""The settings of a model: format of its files, training set, and origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from novelty_metric.errors import InputError
from novelty_metric.samples.formats import FORMATS, ArrayConvention
from novelty_metric.support.validation import (
    STRICT,
    AnyText,
    Flag,
    MustBe,
    OptionalText,
    validated,
)

GENERIC = "generic"
"""The default model."""


def _known_formats(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise InputError(f"formats names {unknown[0]!r}; known: {', '.join(FORMATS)}")
    return names


Names = Annotated[
    tuple[AnyText, ...],
    BeforeValidator(lambda given: given or ()),
    MustBe("a list of names"),
]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A config of the group ``model``; all keys except the name are optional.

    Attributes
    ----------
    name : str
    title : str or None
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

    __pydantic_config__ = STRICT
    name: AnyText
    title: OptionalText = None
    writes: OptionalText = None
    formats: Annotated[Names, AfterValidator(_known_formats)] = ()
    format: OptionalText = None
    columns: Names = ()
    arrays: Annotated[ArrayConvention, BeforeValidator(lambda given: given or {})] = field(
        default_factory=ArrayConvention
    )
    samples: OptionalText = None
    reference: OptionalText = "aflow"
    relax_samples: Flag = True
    paper: OptionalText = None
    repository: OptionalText = None
    citation: OptionalText = None

    @classmethod
    def from_config(cls, content: Mapping[str, Any]) -> ModelSettings:
        """Check the composed config of a model.

        Raises
        ------
        InputError
            In one line, for the first key that is unknown or of the wrong kind.
        """
        given = {"name": None, **content}
        given["title"] = given.get("title") or given["name"]
        return validated(cls, given, inside="model", key="setting")
