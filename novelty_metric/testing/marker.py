"""The arguments of ``@pytest.mark.novelty``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from novelty_metric.errors import InputError
from novelty_metric.testing.checks import NoveltyCheck, read_check
from novelty_metric.testing.names import marker_names


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
