"""Options and data for all tests."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent
HANGS_AFTER = 1200
"""Seconds after which a process counts as hanging; no test takes that long on any machine."""

FIXTURES_OF_MARKER = {
    "browser": {"open_page"},
    "lightning": {"lightning"},
    "potential": {"chgnet"},
    "processes": {"run_python", "start_python"},
    "shared": {"shared_data"},
}
"""Markers by fixture: a test that uses the fixture, directly or indirectly, gets the marker."""


def keep_space_groups() -> None:
    """Cache pymatgen's space groups, which it computes again for each crystal (Fm-3m: 0.4 s)."""
    from pymatgen.symmetry.groups import SpaceGroup

    kept: dict[int, Any] = {}
    SpaceGroup.__init__ = lambda group, *_, **__: kept.update({id(group): group})  # known already


def keep_configs() -> None:
    """Cache the packaged configs, and their merging: three quarters of Hydra's 65 ms per call.

    Hydra applies the values of a call to a copy.
    """
    from hydra._internal import config_loader_impl
    from hydra._internal.config_repository import ConfigRepository
    from hydra._internal.defaults_list import DefaultsList

    load = ConfigRepository.load_config
    list_defaults = config_loader_impl.create_defaults_list
    merge = config_loader_impl.ConfigLoaderImpl._compose_config_from_defaults_list
    packaged = {"pkg://hydra.conf", f"file://{ROOT / 'configs'}", "structured://"}
    kept: dict[Any, Any] = {}

    def keeps(repository: Any) -> bool:
        return {source.full_path() for source in repository.get_sources()} == packaged

    def load_config(repository: ConfigRepository, config_path: str) -> Any:
        if not keeps(repository):
            return load(repository, config_path)
        if config_path not in kept:
            kept[config_path] = pickle.dumps(load(repository, config_path))
        return pickle.loads(kept[config_path])  # Hydra modifies this object

    def create_defaults_list(repo: Any, config_name: Any, overrides_list: Any, **how: Any) -> Any:
        values = [
            one
            for one in overrides_list
            if not (one.is_sweep_override() or repo.group_exists(one.key_or_group))
        ]
        groups = [one for one in overrides_list if one not in values]
        if not keeps(repo) or any(one.is_sweep_override() for one in groups):
            return list_defaults(repo, config_name, overrides_list, **how)
        key = (config_name, *(one.input_line for one in groups), *how.items())
        if key not in kept:
            kept[key] = list_defaults(repo, config_name, groups, **how)
        found = kept[key]
        values += [one for one in found.config_overrides if one not in values]
        return DefaultsList(found.defaults, found.defaults_tree, values, found.overrides)

    def compose(loader: Any, defaults: Any, repo: Any) -> Any:
        if not keeps(repo):
            return merge(loader, defaults, repo)
        key = tuple(astuple(one) for one in defaults)
        if key not in kept:
            kept[key] = pickle.dumps(merge(loader, defaults, repo))
        return pickle.loads(kept[key])

    ConfigRepository.load_config = load_config
    config_loader_impl.create_defaults_list = create_defaults_list
    config_loader_impl.ConfigLoaderImpl._compose_config_from_defaults_list = compose


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the checks that take minutes")


def pytest_configure(config: pytest.Config) -> None:
    """Keep relaxations of tests out of the user's cache, and enable the caches above."""
    # Imported objects stay; ignoring them halves the time of Python's garbage collector.
    gc.disable()
    gc.set_threshold(20_000, 10, 10)
    keep_space_groups()
    keep_configs()
    os.fsync = lambda file: None  # no machine loses its power during a test
    if "NOVELTY_METRIC_CACHE" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="novelty-metric-tests-")
        os.environ["NOVELTY_METRIC_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)
    # The only place for these settings. Tests choose their own number of examples only if an
    # example is expensive.
    hypothesis_settings.register_profile(
        "novelty-metric",
        deadline=None,
        max_examples=500 if config.getoption("--slow") else 20,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.too_slow,
        ],
    )
    hypothesis_settings.load_profile("novelty-metric")
    if not config.pluginmanager.has_plugin("novelty"):
        config.addinivalue_line("markers", "novelty: the disabled plugin of this project")


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        for marker, fixtures in FIXTURES_OF_MARKER.items():
            if used & fixtures:
                item.add_marker(marker)
    if not config.pluginmanager.has_plugin("novelty"):
        off = pytest.mark.skip(reason="this project's plugin is disabled")
        for item in items:
            if "novelty" in item.keywords or item.path.parent.name == "testing":
                item.add_marker(off)
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow check: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def no_progress_lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable progress lines on standard error, which would appear on a busy machine."""
    if request.path.name != "test_progress_lines.py":
        monkeypatch.setattr("novelty_metric.terminal.progress_lines.FIRST", float("inf"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real crystals, always outside the checkout."""
    default = Path(__file__).resolve().parent.parent / "shared"
    folder = Path(os.environ.get("NOVELTY_METRIC_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set NOVELTY_METRIC_SHARED)")
    return folder


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether to test more cases of the same assertion: with --slow."""
    return bool(pytestconfig.getoption("--slow"))


@pytest.fixture(scope="session")
def lightning() -> Any:
    """Lightning, for tests that train with it."""
    return pytest.importorskip("lightning.pytorch")


@pytest.fixture(scope="session")
def chgnet() -> Any:
    """CHGNet on the CPU, for tests that evaluate it."""
    from novelty_metric.relaxation.potentials import Chgnet

    return Chgnet("cpu")


def _process_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a process that imports this checkout; `env` adds environment variables."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return {"text": True, **options, "env": environment}


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[Any]]:
    """Run Python in another process and wait for its end: `run_python("-c", code, check=True)`."""

    def run(*words: Any, check: bool = False, **options: Any) -> subprocess.CompletedProcess[Any]:
        command = [sys.executable, *map(str, words)]
        options = {"capture_output": True, **_process_options(options)}
        return subprocess.run(command, check=check, timeout=HANGS_AFTER, **options)

    return run


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Start Python in another process, which ends with the test at the latest."""
    started: list[subprocess.Popen[Any]] = []
    limits: list[threading.Timer] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, **_process_options(options))
        started.append(process)
        # The test can wait without a limit: a hanging process is killed.
        limit = threading.Timer(HANGS_AFTER, process.kill)
        limit.daemon = True
        limit.start()
        limits.append(limit)
        return process

    yield start
    for limit in limits:
        limit.cancel()
    for process in started:
        with process:  # waits for it and closes its pipes
            process.kill()


@pytest.fixture(scope="module")  # per module: while it runs, tests cannot use asyncio
def chromium() -> Iterator[Any]:
    """Headless Chromium, driven by Playwright."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine (install the package chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a local page: `open_page(path, width=1280, height=900)`.

    Further keyword arguments are options of Playwright's ``new_context``, such as
    ``color_scheme="dark"``. The test fails if a page writes an error to its console or requests
    anything from outside this machine.
    """
    problems: list[str] = []
    contexts: list[Any] = []

    def requested(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            problems.append(f"request of {request.url}")

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"{message.type} on the console: {message.text}")

    def open_one(path: Path, *, width: int = 1280, height: int = 900, **options: Any) -> Any:
        viewport = {"width": width, "height": height}
        contexts.append(chromium.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.on("request", requested)
        page.on("console", on_console)
        page.on("pageerror", lambda error: problems.append(f"error in the page: {error}"))
        page.goto(path.resolve().as_uri())
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not problems, problems
