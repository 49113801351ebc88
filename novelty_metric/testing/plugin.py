"""The pytest plugin: options, marker, fixtures, YAML files.

pytest imports this module at every start, so it imports the standard library and pytest alone, and
does next to nothing unless a novelty test is there. What needs more is in `session` and beyond.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from novelty_metric.testing.declarations import (
    MARKER,
    MARKER_HELP,
    SECOND_MARKER,
    SESSION,
    SHORT,
    add_options,
    add_short_names,
    anything_asked,
    is_novelty_test,
    marker_name,
    option_name,
)

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.testing.regression import NoveltyRegression
    from novelty_metric.testing.session import NoveltySession
    from novelty_metric.testing.yaml_file import NoveltyFile


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Generator[None, None, None]:
    """Declare ``--novelty`` too, unless a conftest file or another plugin declares it."""
    try:
        yield
    finally:
        early_config.stash[SHORT] = add_short_names(parser)


@pytest.hookimpl(trylast=True)  # after the conftest files, which may have a marker of the name
def pytest_configure(config: pytest.Config) -> None:
    """Read the options; join the session only if novelty tests are to run."""
    help_text = f"{marker_name(config)}{MARKER_HELP}{option_name(config)}"
    config.addinivalue_line("markers", help_text)
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
    """Report a marker with invalid arguments as an error at its place, even if it does not run."""
    report = yield
    if not isinstance(collector, pytest.Module | pytest.Class):
        return report
    found = [item for item in report.result if isinstance(item, pytest.Function)]
    marked = [item for item in found if is_novelty_test(item)]
    if marked:
        from novelty_metric.testing.checks import marker_errors

        wrong = marker_errors(marked)
        if wrong:
            report.outcome = "failed"
            report.longrepr = "\n".join(wrong)
            report.result = []
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Skip the novelty tests unless they are requested."""
    if config.pluginmanager.has_plugin(SESSION):
        return
    skip = pytest.mark.skip(reason=_skipped(config))
    for item in items:
        if is_novelty_test(item):
            item.add_marker(skip)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Explain how to run and mark novelty tests in a repository that uses these names itself."""
    own = []
    if option_name(config) != "--novelty":
        own.append("--novelty is this repository's own: novelty tests run with --novelty-metric")
    if marker_name(config) != MARKER:
        own.append(f"the marker {MARKER} is this repository's own: ours is {SECOND_MARKER}")
    return f"novelty-metric: {'; '.join(own)}" if own else None


def _skipped(config: pytest.Config) -> str:
    return f"novelty test: run with {option_name(config)}"


@pytest.fixture
def novelty_regression(request: pytest.FixtureRequest) -> NoveltyRegression:
    """Checks a report against the limits of the test's marker and against its baseline.

    ``novelty_regression()`` scores the samples of the marker; ``novelty_regression(report)`` takes
    a report that the test made with `novelty_metric`. Both return the report.
    """
    return _session(request).regression(request.node)


@pytest.fixture
def novelty_metric(request: pytest.FixtureRequest) -> SubstitutionNovelty:
    """A `SubstitutionNovelty` with the settings of the test's marker, shared in the session."""
    return _session(request).metric(request.node)


def _session(request: pytest.FixtureRequest) -> NoveltySession:
    session: NoveltySession | None = request.config.pluginmanager.get_plugin(SESSION)
    if session is None:
        pytest.skip(_skipped(request.config))
    if not is_novelty_test(request.node):
        marker = marker_name(request.config)
        pytest.fail(
            f"{request.fixturename} is for tests marked @pytest.mark.{marker}(...)", pytrace=False
        )
    return session
