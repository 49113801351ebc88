"""The settings of a novelty test: arguments of its marker, or keys of its YAML file.

It loads pydantic: imported once a test bears the marker, or a novelty test is to run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge, MinLen
from pydantic import AllowInfNan, BeforeValidator, Strict, ValidationInfo

from novelty_metric.errors import InputError
from novelty_metric.protocol import Scope
from novelty_metric.support.validation import (
    STRICT,
    Count,
    Flag,
    MustBe,
    Share,
    validated,
)
from novelty_metric.support.yaml_text import load_yaml_once
from novelty_metric.testing.declarations import YAML_PREFIX, marker_names
from novelty_metric.testing.tolerance import Tolerance, parse_tolerances

LeastRatio = Annotated[float, Strict(), AllowInfNan(False), Ge(0), MustBe("a number of at least 0")]
Words = Annotated[str, Strict(), MinLen(1), MustBe("text")]


def _samples(value: Any, info: ValidationInfo) -> Path:
    return _file(_path("samples", value), info)


def _reference(value: Any, info: ValidationInfo) -> str:
    text = _path("reference", value)
    # A bare word is the name of a reference, unless a file is called so.
    is_path = Path(text).name != text or Path(text).suffix == ".arrow"
    return str(_file(text, info)) if is_path else text


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise InputError(f"{name} is {value!r}; it must be a path")
    return str(os.fspath(value))


def _file(text: str, info: ValidationInfo) -> Path:
    assert info.context is not None
    folder: Path = info.context["folder"]
    return folder / Path(text).expanduser()


def _protocol(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return validated(Words, value, inside="protocol")
    if not isinstance(value.get("name"), str):
        raise InputError("protocol needs a name beside its settings, such as name: fast")
    return dict(value)


def _tolerances(value: Any) -> tuple[Tolerance, ...]:
    if not isinstance(value, str):
        raise InputError(f"fail is {value!r}; it must be text such as unmatched:-5%")
    try:
        return parse_tolerances(value)
    except ValueError as error:
        raise InputError(f"fail: {error}") from None


@dataclass(frozen=True, kw_only=True)
class NoveltyCheck:
    """A novelty test's settings. For None, the ini file decides, then the metric.

    `model` is the name in tables, and the settings from `reference` to `workers` are those of
    `SubstitutionNovelty` or of its samples. Whatever the baseline says, `min_unmatched` and
    `max_duplicate` limit shares of the eligible crystals (from 0 to 1), and `min_ratio` the novelty
    ratio to real crystals. With `allow_empty`, a check without eligible crystals passes.
    """

    __pydantic_config__ = STRICT
    model: Words
    samples: Annotated[Path | None, BeforeValidator(_samples)] = None
    reference: Annotated[str | None, BeforeValidator(_reference)] = None
    protocol: Annotated[str | Mapping[str, Any] | None, BeforeValidator(_protocol)] = None
    relaxer: Words | None = None
    hull: Words | None = None
    scope: Scope | None = None
    device: Words | None = None
    relax_samples: Flag | None = None
    exhaustive: Flag | None = None
    limit: Count | None = None
    max_sites: Count | None = None
    workers: Count | None = None
    format: Words | None = None
    column: Words | None = None
    min_unmatched: Share | None = None
    max_duplicate: Share | None = None
    min_ratio: LeastRatio | None = None
    fail: Annotated[tuple[Tolerance, ...] | None, BeforeValidator(_tolerances)] = None
    allow_empty: Flag = False

    @property
    def has_floor(self) -> bool:
        """True if a limit applies regardless of the baseline."""
        return any(
            limit is not None for limit in (self.min_unmatched, self.max_duplicate, self.min_ratio)
        )


def read_check(
    given: Mapping[Any, Any], *, folder: Path, default_model: str, what: str
) -> NoveltyCheck:
    """Check settings, and convert paths.

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
    values = {name: value for name, value in given.items() if value is not None}
    return validated(
        NoveltyCheck, {"model": default_model, **values}, key=what, context={"folder": folder}
    )


def marker_check(item: pytest.Item) -> NoveltyCheck:
    """The check defined by an item's markers.

    Markers of the class and the module give what that of the function does not.

    Raises
    ------
    InputError
        If an argument is positional, unknown, or of the wrong kind.
    """
    given: dict[str, Any] = {}
    (marker,) = marker_names(item)
    for mark in item.iter_markers(marker):  # the closest first
        if mark.args:
            raise InputError(
                f"{mark.args[0]!r} was given without a name; write it as model=, samples= …; or, "
                "if the marker is your own, declare it under markers in the ini file"
            )
        given = {**mark.kwargs, **given}
    name = getattr(item, "originalname", None) or item.name
    return read_check(
        given,
        folder=item.path.parent,
        default_model=name.removeprefix("test_"),
        what="argument",
    )


def marker_errors(items: Iterable[pytest.Item]) -> list[str]:
    """An error line for each item with invalid markers."""
    wrong = []
    for item in items:
        try:
            marker_check(item)
        except InputError as error:
            _, line, name = item.reportinfo()
            where = f"{item.path.name}:{line + 1}" if line is not None else item.path.name
            (marker,) = marker_names(item)
            wrong.append(f"{where}: {name}: @pytest.mark.{marker}: {error}")
    return wrong


def read_yaml_check(path: Path) -> NoveltyCheck:
    """The check of a YAML file.

    Raises
    ------
    InputError
        In one line, if it is not a mapping, a key is unknown, repeated or of the wrong kind, or
        `samples` is missing.
    """
    import yaml

    try:
        content = load_yaml_once(path.read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} can't be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path.name} must contain keys with values, such as samples: generated.zip"
        )
    if content.get("samples") is None:
        raise InputError(f"{path.name}: the key 'samples' is missing")
    try:
        return read_check(
            content,
            folder=path.parent,
            default_model=path.stem.removeprefix(YAML_PREFIX),
            what="key",
        )
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
