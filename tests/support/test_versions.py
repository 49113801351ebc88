"""Incompatible installed packages give one clear error that says what to install."""

from __future__ import annotations

import importlib.metadata

import pytest

from novelty_metric.cli import main
from novelty_metric.support.versions import advice_on_imports, installed_versions

INSTALLED: dict[str, tuple[str, list[str]]] = {
    "novelty-metric": ("1.0", ["arrow>=16", "frames>=2", 'unused>=9; extra == "more"']),
    "arrow": ("26.0", []),
    "frames": ("3.1", ["numbers>=2.0.2", "absent>=1"]),
    "matrices": ("1.3", ["numbers<1"]),  # none of our packages needs it
    "numbers": ("1.26.4", []),
    "unused": ("1.0", []),
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, list[str]]]:
    """Replace the metadata of installed packages by that of a few."""
    packages = dict(INSTALLED)

    def of(name: str) -> tuple[str, list[str]]:
        if name not in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(importlib.metadata, "version", lambda name: of(name)[0])
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: of(name)[1])
    return packages


def test_error_names_an_unmet_requirement(installed: dict[str, object]) -> None:
    told = advice_on_imports(ImportError("C extension: None not built"))
    assert told == (
        "the installed packages do not fit one another: C extension: None not built; frames 3.1 "
        "needs numbers>=2.0.2, 1.26.4 is installed; try: pip install --upgrade 'numbers>=2.0.2'"
    )


def test_suggestion_meets_the_requirements_of_several_packages(
    installed: dict[str, tuple[str, list[str]]],
) -> None:
    installed["arrow"] = ("26.0", ["numbers>=2", "numbers<3"])
    told = advice_on_imports(ImportError("no"))
    assert told.endswith("pip install --upgrade 'numbers<3,>=2,>=2.0.2'")


@pytest.mark.parametrize(
    ("message", "remedy"),
    [("arrow requires NumPy 2.0,\nfound 1.26.4", "numpy"), ("no such thing", "novelty-metric")],
)
def test_package_without_metadata_gives_its_import_error(
    installed: dict[str, tuple[str, list[str]]], message: str, remedy: str
) -> None:
    installed["numbers"] = ("2.1", [])
    told = advice_on_imports(ImportError(message))
    assert " ".join(message.split()) in told
    assert told.endswith(f"try: pip install --upgrade {remedy}")


def test_installed_packages_are_compatible() -> None:
    assert " needs " not in advice_on_imports(ImportError("none"))
    assert installed_versions(["numpy"]).keys() == {"python", "numpy"}


def test_command_reports_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(text: list[str]) -> int:
        raise ImportError("arrow requires NumPy 2.0 or newer, found 1.26.4")

    monkeypatch.setattr("novelty_metric.cli._dispatch", broken)
    assert main(["score"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("novelty-metric: error: the installed packages do not fit")
    assert error.count("\n") == 1 and error.endswith("pip install --upgrade numpy\n")
