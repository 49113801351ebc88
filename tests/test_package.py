"""The whole package: cost of its import, public names, docstrings."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import novelty_metric

ROOT = Path(novelty_metric.__file__).resolve().parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py"
)
HEAVY = {
    "torch",
    "lightning",
    "pymatgen",
    "pandas",
    "wandb",
    "matplotlib",
    "pyarrow",
    "scipy",
    "hydra",
}


LoadedBy = Callable[[str], set[str]]


@pytest.fixture
def loaded_by(run_python: Callable[..., Any]) -> LoadedBy:
    """Top-level modules that code imports in a new interpreter."""

    def loaded(code: str) -> set[str]:
        report = (
            "import sys; before = set(sys.modules)\n"
            f"{code}\n"
            "import json; print(json.dumps(sorted({m.partition('.')[0] for m in "
            "set(sys.modules) - before})))"
        )
        done = run_python("-c", report, check=True)
        assert done.stderr == ""
        return set(json.loads(done.stdout.splitlines()[-1]))

    return loaded


def test_import_of_the_package_loads_only_the_standard_library(
    loaded_by: LoadedBy,
) -> None:
    loaded = loaded_by("import novelty_metric")
    assert loaded - set(sys.stdlib_module_names) == {"novelty_metric"}


def test_heavy_packages_are_detected(loaded_by: LoadedBy) -> None:
    assert "numpy" in loaded_by("import numpy")


@pytest.mark.parametrize(
    "name", ["Protocol", "Verdict", "CrystalResult", "InputError", "Sample", "read_samples"]
)
def test_light_names_load_no_heavy_packages(name: str, loaded_by: LoadedBy) -> None:
    loaded = loaded_by(f"from novelty_metric import {name}")
    assert loaded - set(sys.stdlib_module_names) == {"novelty_metric"}


def test_creating_a_metric_loads_no_potential(loaded_by: LoadedBy) -> None:
    code = "import novelty_metric; novelty_metric.SubstitutionNovelty('aflow', 'paper')"
    assert not loaded_by(code) & HEAVY


def test_monitor_loads_neither_torch_nor_a_logger(loaded_by: LoadedBy) -> None:
    code = (
        "from novelty_metric.callbacks import NoveltyMonitor; import novelty_metric.loggers.wandb"
    )
    assert not loaded_by(code) & {"torch", "lightning", "wandb", "matplotlib", "ase", "pymatgen"}


def test_run_needs_no_extra(run_python: Callable[..., Any], tmp_path: Path) -> None:
    extras = ["distributed", "lightning", "pytest", "wandb"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extras}))\n"
        "from novelty_metric.cli import main\n"
        "sys.exit(main(['score', 'relaxer=none', 'limit=2', 'out=run', 'progress=false'])"
        " or main(['report', 'run']))"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_all_names_resolve() -> None:
    assert novelty_metric.__all__ == sorted(novelty_metric.__all__)
    loads = inspect.getclosurevars(novelty_metric.__getattr__).nonlocals["home"]
    assert set(novelty_metric.__all__) == set(loads)
    for name in novelty_metric.__all__:
        found = getattr(novelty_metric, name)
        assert found.__name__ == name
        assert found.__module__.startswith("novelty_metric.")


def test_dir_shows_the_public_names() -> None:
    shown = dir(novelty_metric)
    assert set(novelty_metric.__all__) <= set(shown)
    assert "__version__" in shown
    assert shown == sorted(shown)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Novelty'"):
        novelty_metric.Novelty  # noqa: B018


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from novelty_metric import *", names)
    assert set(novelty_metric.__all__) <= set(names)


def test_version_agrees_with_the_distribution() -> None:
    text = (ROOT.parent / "pyproject.toml").read_text()
    assert f'version = "{novelty_metric.__version__}"' in text


def test_every_public_name_has_a_docstring() -> None:
    for name in novelty_metric.__all__:
        found = getattr(novelty_metric, name)
        assert found.__doc__ and found.__doc__.strip(), name
        if not inspect.isclass(found):
            continue
        for member, value in vars(found).items():
            if member.startswith("_") or not callable(value):
                continue
            assert inspect.getdoc(getattr(found, member)), f"{name}.{member}"


def test_examples_in_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wrong = []
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            if error.name is not None and error.name.partition(".")[0] == "numba":
                continue  # it is not installed
            if name == "novelty_metric.callbacks.lightning" and "needs Lightning" in str(error):
                continue
            raise
        if doctest.testmod(module).failed:
            wrong.append(name)
    assert wrong == []


def test_example_of_the_metric_runs() -> None:
    from novelty_metric.metric import SubstitutionNovelty

    found = doctest.DocTestFinder(recurse=False).find(SubstitutionNovelty, "SubstitutionNovelty")
    assert len(found) == 1
    shown = [example for example in found[0].examples if example.want]
    assert [example.want for example in shown] == ["'duplicate'\n"]
