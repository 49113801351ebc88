"""The pytest plugin: options, marker, fixtures, YAML files.

pytest imports this module at every start, so it imports the standard library and pytest alone, and
does next to nothing unless a novelty test is there. What needs more is in `session` and beyond.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from novelty_metric.testing.declarations import add_options, anything_asked

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.testing.regression import NoveltyRegression
    from novelty_metric.testing.session import NoveltySession
    from novelty_metric.testing.yaml_file import NoveltyFile

MARKER = "novelty"
SESSION = "novelty-session"
SKIPPED = "novelty test: run with --novelty"
_MARKER_HELP = (
    "novelty(model, samples, reference, min_unmatched, max_duplicate, ...): a test of the novelty "
    "of generated crystals, run with --novelty"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; join the session only where novelty tests are to run."""
    config.addinivalue_line("markers", _MARKER_HELP)
    if not anything_asked(config):
        return
    from novelty_metric.testing.options import NoveltyOptions

    options = NoveltyOptions.from_config(config)
    if options.enabled:
        from novelty_metric.testing.session import NoveltySession

        config.pluginmanager.register(NoveltySession(config, options), SESSION)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> NoveltyFile | None:
    """Collect ``novelty_*.yaml``."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if not file_path.match(parent.config.getini("novelty_files")):
        return None
    from novelty_metric.testing.yaml_file import NoveltyFile

    return NoveltyFile.from_parent(parent, path=file_path)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A marker whose arguments can't be used is an error where it stands, run or not."""
    report = yield
    if not isinstance(collector, pytest.Module | pytest.Class):
        return report
    found = [item for item in report.result if isinstance(item, pytest.Function)]
    marked = [item for item in found if item.get_closest_marker(MARKER) is not None]
    if marked:
        from novelty_metric.testing.marker import marker_errors

        wrong = marker_errors(marked)
        if wrong:
            report.outcome = "failed"
            report.longrepr = "\n".join(wrong)
            report.result = []
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Skip the novelty tests unless they are asked for."""
    if config.pluginmanager.has_plugin(SESSION):
        return
    skip = pytest.mark.skip(reason=SKIPPED)
    for item in items:
        if item.get_closest_marker(MARKER) is not None:
            item.add_marker(skip)


@pytest.fixture
def novelty_regression(request: pytest.FixtureRequest) -> NoveltyRegression:
    """Holds a report against the limits of the test's marker and against its baseline.

    ``novelty_regression()`` scores the samples of the marker; ``novelty_regression(report)`` takes
    a report that the test made with `novelty_metric`. Both return the report.
    """
    return _session(request).regression(request.node)


@pytest.fixture
def novelty_metric(request: pytest.FixtureRequest) -> SubstitutionNovelty:
    """A `SubstitutionNovelty` with the settings of the test's marker, shared by the session."""
    return _session(request).metric(request.node)


def _session(request: pytest.FixtureRequest) -> NoveltySession:
    session: NoveltySession | None = request.config.pluginmanager.get_plugin(SESSION)
    if session is None:
        pytest.skip(SKIPPED)
    if request.node.get_closest_marker(MARKER) is None:
        pytest.fail(
            f"{request.fixturename} is for tests marked @pytest.mark.novelty(...)", pytrace=False
        )
    return session
