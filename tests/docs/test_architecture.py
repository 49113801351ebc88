"""The pages for contributors name only existing files and functions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "novelty_metric"
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PAGES = ("docs/architecture.md", "docs/extend.md", "CONTRIBUTING.md")
OF_THE_READER = ("my_format", "mine", "DIR/")
"""Files that the reader is asked to create."""
SHIMS = {"spread", "pairwise"}
KEYS_OF_FILES = {"novelty_metric.formation_energies"}
"""Metadata keys of Parquet files, which are no modules."""


def rooms_of_the_contract() -> list[str]:
    """The rooms from the bottom to the top."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = content["tool"]["importlinter"]["contracts"][0]["layers"]
    return [name.strip() for layer in reversed(layers) for name in layer.split("|")]


def test_table_of_rooms_agrees_with_the_contract() -> None:
    table = ARCHITECTURE.split("| room | what it holds |")[1].split("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    contract = [name for name in rooms_of_the_contract() if name not in SHIMS]
    place = {name: i for i, name in enumerate(contract)}
    assert set(named) == set(contract)
    layers = [sorted(place[n] for n in re.findall(r"`(\w+)`", cell)) for cell in first_cells]
    assert layers == sorted(layers)


@pytest.mark.parametrize("page", PAGES)
def test_every_named_file_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`([\w/]+(?:\.py|\.md|\.yaml|\.bib|/))[`:]", text)
    assert paths
    missing = [
        path
        for path in paths
        if not any(word in path for word in OF_THE_READER)
        and not any((base / path).exists() for base in (ROOT, PACKAGE, *PACKAGE.iterdir()))
    ]
    assert not missing


def test_every_function_named_with_its_file_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)`?: `?([\w.]+)`", ARCHITECTURE)
    assert len(named) > 5
    for path, name in named:
        source = (PACKAGE / path).read_text(encoding="utf-8")
        last = name.split(".")[-1]
        assert re.search(rf"^\s*(def|class) {last}\b", source, re.M), (path, name)


def is_defined(name: str) -> bool:
    """True if the longest part of a dotted name that is a module defines or imports the rest."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:length])
        file = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
        if file.is_file():
            source = file.read_text(encoding="utf-8")
            rest = parts[length:][:1]
            return all(re.search(rf"\b{word}\b", source) for word in rest)
    return False


def test_every_dotted_name_in_the_code_exists() -> None:
    missing = [
        (file.relative_to(ROOT).as_posix(), name)
        for file in PACKAGE.rglob("*.py")
        for name in re.findall(r"`(novelty_metric(?:\.\w+)+)`", file.read_text(encoding="utf-8"))
        if name not in KEYS_OF_FILES and not is_defined(name)
    ]
    assert not missing
