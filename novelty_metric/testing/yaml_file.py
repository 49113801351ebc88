"""``novelty_*.yaml``: a check without Python. One file is one test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from novelty_metric.errors import InputError
from novelty_metric.support.yaml_text import load_yaml_once
from novelty_metric.testing.names import SESSION, marker_name

if TYPE_CHECKING:
    from novelty_metric.testing.checks import NoveltyCheck

_PREFIX = "novelty_"


class NoveltyFile(pytest.File):
    """The file; at collection it is read only if novelty tests are to run."""

    def collect(self) -> Iterator[NoveltyItem]:
        """The one test of the file."""
        name = self.path.stem.removeprefix(_PREFIX) or self.path.stem
        item = NoveltyItem.from_parent(self, name=name)
        if self.config.pluginmanager.has_plugin(SESSION):
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


def read_yaml_check(path: Path) -> NoveltyCheck:
    """The check of a YAML file.

    Raises
    ------
    InputError
        In one line, if it is not a mapping, a key is unknown, repeated or of the wrong kind, or
        `samples` is missing.
    """
    import yaml

    from novelty_metric.testing.checks import read_check

    try:
        content = load_yaml_once(path.read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} can't be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path.name} must hold keys with values, such as samples: generated.zip")
    if content.get("samples") is None:
        raise InputError(f"{path.name}: the key 'samples' is missing")
    try:
        return read_check(
            content,
            folder=path.parent,
            default_model=path.stem.removeprefix(_PREFIX),
            what="key",
        )
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
