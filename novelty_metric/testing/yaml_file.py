"""``novelty_*.yaml``: a check without Python. One file is one test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from novelty_metric.errors import InputError
from novelty_metric.testing.declarations import SESSION, YAML_PREFIX, marker_name

if TYPE_CHECKING:
    from novelty_metric.testing.checks import NoveltyCheck


class NoveltyFile(pytest.File):
    """The file; at collection it is read only if novelty tests are to run."""

    def collect(self) -> Iterator[NoveltyItem]:
        """The one test of the file."""
        name = self.path.stem.removeprefix(YAML_PREFIX) or self.path.stem
        item = NoveltyItem.from_parent(self, name=name)
        if self.config.pluginmanager.has_plugin(SESSION):
            from novelty_metric.testing.checks import read_yaml_check

            try:
                item.check = read_yaml_check(self.path)
            except InputError as error:
                raise self.CollectError(str(error)) from None
        yield item


class NoveltyItem(pytest.Item):
    """The test of a YAML file."""

    check: NoveltyCheck | None = None
    is_novelty_file = True

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.add_marker(marker_name(self.config))

    def runtest(self) -> None:
        """Do nothing: the session makes the check of every novelty test."""

    def reportinfo(self) -> tuple[Path, int, str]:
        """The place of the test: the top of its file."""
        return self.path, 0, f"novelty: {self.name}"
